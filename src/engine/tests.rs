//! Engines of one or two shards on one thread, over real files; the test itself plays the commit
//! loop, so that it decides when something becomes durable.

mod failing_disk;

use super::catalog::changes::{Admin, AdminError, NewTopic};
use super::catalog::{Catalog, deletions};
use super::catalog_log::CatalogLog;
use super::fetch::{self, Fetch, Fetched, PartitionData, PartitionRead};
use super::offsets::OffsetSpec;
use super::partition::{AckWhen, Append, Appended};
use super::wake::Wake;
use super::*;
use crate::engine::catalog::changes;
use crate::engine::offsets;
use crate::engine::upkeep::closing;
use crate::engine::upkeep::opening;
use crate::engine::upkeep::retention;
use crate::io::fault::{self, Op};
use crate::io::{file, reactor};
use crate::log::Read;
use crate::log::batch::BatchHeader;
use crate::log::batch::build::BatchBuilder;
use crate::log::load::LoadJob;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot::{self, Receiver};
use tokio::time::{Instant, timeout};

pub(crate) type Answered = Receiver<Result<Appended, EngineError>>;

const SOON: Duration = Duration::from_millis(20);

/// Starts the shards of a broker over `dir`.
pub(crate) fn start(dir: &Path, shards: usize) -> Vec<Rc<Engine>> {
    let config = Arc::new(Config {
        data_dir: dir.to_owned(),
        cores: shards,
        journal_bytes: 8 << 20,
        ..Config::default()
    });
    let mut catalog = Catalog::new(config.topic_defaults.clone());
    let mut log = CatalogLog::open(dir, &mut catalog).unwrap();
    let janitor = Worker::start("janitor").unwrap();
    deletions::finish_deletions(&config, &mut catalog, &mut log, &janitor).unwrap();
    let mut admin = Some(Admin::new(log));
    let engines = mailbox::mailboxes(shards, 16).into_iter().enumerate().map(
        |(shard, (mailboxes, mailbox))| {
            let engine = Engine::new(EngineParts {
                shard,
                config: Arc::clone(&config),
                cluster_id: "test".into(),
                mailboxes,
                worker: Worker::start("worker").unwrap(),
                reader: Worker::start_yielding("reader").unwrap(),
                pace: Arc::default(),
                janitor: janitor.clone(),
                cleaner: super::upkeep::compaction::Cleaner::start().unwrap(),
                catalog: catalog.clone(),
                admin: admin.take(),
            });
            opening::open_all(&engine);
            reactor::spawn(mailbox::receive(Rc::clone(&engine), mailbox));
            engine
        },
    );
    engines.collect()
}

pub(crate) async fn create(engine: &Rc<Engine>, name: &str, partitions: u32) -> Arc<Topic> {
    let new = NewTopic {
        name: name.into(),
        partitions,
        configs: BTreeMap::new(),
    };
    changes::create_topic(engine, new, false).await.unwrap()
}

pub(crate) fn key(topic: &Topic, index: u32) -> PartitionKey {
    PartitionKey {
        topic_id: topic.id,
        index,
    }
}

pub(crate) async fn append(
    engine: &Rc<Engine>,
    key: PartitionKey,
    ack: AckWhen,
    batch: &BatchBuilder,
    values: &[&str],
) -> Answered {
    append_bytes(engine, key, ack, batch.build(values)).await
}

async fn append_bytes(
    engine: &Rc<Engine>,
    key: PartitionKey,
    ack: AckWhen,
    batch: Vec<u8>,
) -> Answered {
    let batch = Bytes::from(batch);
    let header = BatchHeader::parse(&batch).unwrap();
    let (reply, answered) = oneshot::channel();
    let append = Append {
        batch,
        header,
        ack,
        reply,
        marks: None,
    };
    super::append::deliver(engine, vec![(key, append)]).await;
    answered
}

pub(crate) async fn append_one(engine: &Rc<Engine>, key: PartitionKey, value: &str) -> i64 {
    let plain = BatchBuilder::default();
    let answered = append(engine, key, AckWhen::Appended, &plain, &[value]).await;
    answered.await.unwrap().unwrap().base_offset
}

/// One round of the commit loop.
pub(crate) fn flush(engine: &Rc<Engine>) {
    for partition in engine.partitions() {
        let Some(flush) = partition.borrow_mut().flush_begin() else {
            continue;
        };
        let result = flush
            .files
            .iter()
            .try_for_each(|file| file::sync_data(file));
        let job = partition.borrow_mut().flush_end(flush, &result);
        if let Some(job) = job {
            let result = job.run();
            partition.borrow_mut().checkpoint_done(&job, &result);
        }
    }
}

/// Runs `test` on a shard with a topic of one partition.
fn on_one_partition(test: impl AsyncFnOnce(&Rc<Engine>, PartitionKey)) {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = &start(dir.path(), 1)[0];
        let topic = create(engine, "t", 1).await;
        test(engine, key(&topic, 0)).await;
    });
}

async fn read(
    engine: &Rc<Engine>,
    key: PartitionKey,
    offset: i64,
    wake: Option<&Arc<Wake>>,
) -> Result<PartitionData, EngineError> {
    let read = PartitionRead {
        key,
        offset,
        max_bytes: 1 << 20,
    };
    read_all(engine, &[read], 1 << 20, wake).await.remove(0)
}

/// Reads once, without parking.
async fn read_all(
    engine: &Rc<Engine>,
    reads: &[PartitionRead],
    max_bytes: usize,
    wake: Option<&Arc<Wake>>,
) -> Fetched {
    let fetch = Fetch {
        reads: reads.iter().copied().map(Ok).collect(),
        min_bytes: 0,
        max_bytes,
        deadline: None,
    };
    fetch::read(engine, &fetch, wake).await
}

fn has_records(found: &Result<PartitionData, EngineError>) -> bool {
    found.as_ref().is_ok_and(|found| !found.records.is_empty())
}

/// Makes the operations of a worker's thread fail.
async fn fail(worker: &Worker, op: Op, errno: i32, sticky: bool) {
    worker
        .run(move || fault::inject(op, 0, errno, sticky))
        .await;
}

async fn heal(worker: &Worker) {
    worker.run(fault::clear).await;
}

#[test]
fn acks_1_is_answered_after_the_append_and_acks_all_after_the_flush() {
    on_one_partition(async |engine, key| {
        let plain = BatchBuilder::default();
        let one = append(engine, key, AckWhen::Appended, &plain, &["a"]).await;
        let mut all = append(engine, key, AckWhen::Durable, &plain, &["b"]).await;
        assert_eq!(one.await.unwrap().unwrap().base_offset, 0);
        assert!(timeout(SOON, &mut all).await.is_err());
        assert_eq!(read(engine, key, 0, None).await.unwrap().high_watermark, 0);
        flush(engine);
        assert_eq!(all.await.unwrap().unwrap().base_offset, 1);
        assert_eq!(read(engine, key, 0, None).await.unwrap().high_watermark, 2);
    });
}

#[test]
fn appends_that_wait_for_room_keep_their_order_across_shards() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engines = start(dir.path(), 2);
        let topic = create(&engines[1], "t", 2).await;
        let plain = BatchBuilder::default();
        for index in 0..2 {
            let mut answers = Vec::new();
            let value = "x".repeat(9000);
            for _ in 0..40 {
                let key = key(&topic, index);
                let ack = AckWhen::Appended;
                answers.push(append(&engines[0], key, ack, &plain, &[&value]).await);
            }
            for (offset, answered) in answers.into_iter().enumerate() {
                assert_eq!(answered.await.unwrap().unwrap().base_offset, offset as i64);
            }
        }
    });
}

#[test]
fn a_parked_fetch_is_woken_by_the_flush_and_not_by_the_append() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engines = start(dir.path(), 2);
        let topic = create(&engines[0], "t", 2).await;
        for index in 0..2 {
            let key = key(&topic, index);
            let wake = Arc::new(Wake::new(1));
            assert!(!has_records(&read(&engines[0], key, 0, Some(&wake)).await));
            append_one(&engines[0], key, "a").await;
            assert!(timeout(SOON, wake.woken()).await.is_err());
            flush(&engines[engines[0].owner_of(key)]);
            timeout(SOON, wake.woken()).await.unwrap();
            assert!(has_records(&read(&engines[0], key, 0, None).await));
        }
    });
}

/// A fetch that waits for more than there is looks at the partition that woke it, and at no other.
#[test]
fn a_parked_fetch_of_many_partitions_reads_again_what_woke_it() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engines = start(dir.path(), 2);
        let topic = create(&engines[0], "t", 100).await;
        for index in [3, 4] {
            append_one(&engines[0], key(&topic, index), "before").await;
        }
        engines.iter().for_each(flush);
        let fetched = |index| {
            let key = key(&topic, index);
            let partition = engines[engines[0].owner_of(key)].partition(key).unwrap();
            partition.borrow().counters.fetched_bytes
        };
        let reads = (0..100).map(|index| PartitionRead {
            key: key(&topic, index),
            offset: 0,
            max_bytes: 1 << 20,
        });
        let waits = Fetch {
            reads: reads.map(Ok).collect(),
            min_bytes: 300,
            max_bytes: 1 << 20,
            deadline: Some(Instant::now() + Duration::from_secs(60)),
        };
        let reader = Rc::clone(&engines[0]);
        let data = reactor::spawn(async move { fetch::fetch(&reader, &waits, pending()).await });
        while fetched(3) == 0 || fetched(4) == 0 {
            reactor::yield_now().await;
        }
        let once = fetched(3);
        append_one(&engines[0], key(&topic, 7), "a").await;
        engines.iter().for_each(flush);
        while fetched(7) == 0 {
            reactor::yield_now().await;
        }
        assert_eq!(
            (fetched(3), fetched(4)),
            (once, once),
            "they have nothing new"
        );
        append_one(&engines[0], key(&topic, 8), &"b".repeat(100)).await;
        engines.iter().for_each(flush);
        let data = timeout(SOON * 20, data).await.unwrap().unwrap();
        let with_records = (0..100).filter(|index| has_records(&data[*index]));
        assert_eq!(with_records.collect::<Vec<_>>(), [3, 4, 7, 8]);
    });
}

#[test]
fn reads_of_many_partitions_keep_to_the_limit_in_the_order_they_were_asked_for() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engines = start(dir.path(), 2);
        let topic = create(&engines[0], "t", 4).await;
        for index in 0..4 {
            append_one(&engines[0], key(&topic, index), &"x".repeat(1000)).await;
        }
        engines.iter().for_each(flush);
        let reads = [3, 0, 2, 1].map(|index| PartitionRead {
            key: key(&topic, index),
            offset: 0,
            max_bytes: 1 << 20,
        });
        let lengths = |data: Fetched| -> Vec<bool> { data.iter().map(has_records).collect() };
        let two = read_all(&engines[0], &reads, 2500, None).await;
        assert!(
            two[2].as_ref().unwrap().has_more,
            "what a limit kept back is there"
        );
        assert_eq!(lengths(two), [true, true, false, false]);
        let first = read_all(&engines[1], &reads, 10, None).await;
        assert_eq!(lengths(first), [true, false, false, false]);
    });
}

#[test]
fn a_read_passes_over_batches_that_compaction_emptied_but_not_over_the_end() {
    on_one_partition(async |engine, key| {
        for emptied in [true, true, false, true] {
            let batch = batch_of_one(emptied);
            let answered = append_bytes(engine, key, AckWhen::Appended, batch).await;
            answered.await.unwrap().unwrap();
        }
        flush(engine);
        for (offset, found) in [(0, 2), (1, 2), (2, 2), (3, 3)] {
            let reads = [PartitionRead {
                key,
                offset,
                max_bytes: 70,
            }];
            let data = read_all(engine, &reads, 70, None).await.remove(0).unwrap();
            let first = BatchHeader::parse(&data.records).unwrap();
            assert_eq!(first.base_offset, found, "read from {offset}");
            assert_eq!(data.has_more, found < 3);
        }
    });
}

fn batch_of_one(emptied: bool) -> Vec<u8> {
    let batch = BatchBuilder::default().build(&["a"]);
    if !emptied {
        return batch;
    }
    let mut header = BatchHeader::parse(&batch).unwrap();
    header.record_count = 0;
    header.with_records(&[])
}

#[test]
fn what_is_fetched_points_into_the_segment() {
    on_one_partition(async |engine, key| {
        append_one(engine, key, "a").await;
        flush(engine);
        let once = read(engine, key, 0, None).await.unwrap().records;
        let twice = read(engine, key, 0, None).await.unwrap().records;
        assert_eq!(once.as_ptr(), twice.as_ptr());
    });
}

#[test]
fn a_retry_gets_the_first_offset_before_and_after_a_restart() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let idempotent = BatchBuilder {
            producer_id: 7,
            producer_epoch: 0,
            base_sequence: 0,
            ..BatchBuilder::default()
        };
        let offset = async |engine: &Rc<Engine>, key| {
            let ack = AckWhen::Appended;
            let answered = append(engine, key, ack, &idempotent, &["a", "b"]).await;
            answered.await.unwrap().unwrap().base_offset
        };
        let engine = &start(dir.path(), 1)[0];
        let key = key(&*create(engine, "t", 1).await, 0);
        append_one(engine, key, "before").await;
        assert_eq!(offset(engine, key).await, 1);
        assert_eq!(offset(engine, key).await, 1);
        flush(engine);
        let again = &start(dir.path(), 1)[0];
        assert_eq!(offset(again, key).await, 1);
        assert_eq!(append_one(again, key, "after").await, 3);
    });
}

#[test]
fn a_checkpoint_without_new_records_syncs_what_it_claims() {
    on_one_partition(async |engine, key| {
        append_one(engine, key, "a").await;
        flush(engine);
        let partition = engine.partition(key).unwrap();
        partition.borrow_mut().log.want_checkpoint();
        let flush = partition.borrow_mut().flush_begin().unwrap();
        assert!(flush.makes_checkpoint() && !flush.files.is_empty());
    });
}

#[test]
fn deleting_a_topic_ends_parked_fetches_and_waiting_appends() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engines = start(dir.path(), 2);
        let topic = create(&engines[0], "t", 1).await;
        let key = key(&topic, 0);
        let plain = BatchBuilder::default();
        let wake = Arc::new(Wake::new(1));
        assert!(!has_records(&read(&engines[0], key, 0, Some(&wake)).await));
        append_one(&engines[1], key, "a").await;
        let waiting = append(&engines[1], key, AckWhen::Durable, &plain, &["b"]).await;
        changes::delete_topic(&engines[1], topic.id).await.unwrap();
        let gone = EngineError::UnknownTopicOrPartition;
        assert_eq!(waiting.await.unwrap(), Err(gone.clone()));
        timeout(SOON, wake.woken()).await.unwrap();
        assert_eq!(read(&engines[0], key, 0, None).await.unwrap_err(), gone);
    });
}

#[test]
fn what_a_deleted_topic_leaves_under_way_does_not_touch_a_new_one_of_its_name() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = &start(dir.path(), 1)[0];
        let old = create(engine, "t", 1).await;
        append_one(engine, key(&old, 0), "a").await;
        let partition = engine.partition(key(&old, 0)).unwrap();
        partition.borrow_mut().log.want_checkpoint();
        // A flush that outlives its topic.
        let flushing = partition.borrow_mut().flush_begin().unwrap();
        changes::delete_topic(engine, old.id).await.unwrap();
        let new = create(engine, "t", 1).await;
        append_one(engine, key(&new, 0), "b").await;
        let checkpoint = partition.borrow_mut().flush_end(flushing, &Ok(()));
        assert!(checkpoint.is_none());
        flush(engine);
        let again = &start(dir.path(), 1)[0];
        let kept = read(again, key(&new, 0), 0, None).await.unwrap();
        assert_eq!(kept.high_watermark, 1);
    });
}

#[test]
fn a_topic_is_deleted_after_the_removal_of_its_old_segments() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = Rc::clone(&start(dir.path(), 1)[0]);
        let topic = create(&engine, "t", 1).await;
        append_one(&engine, key(&topic, 0), "a").await;
        let partition = engine.partition(key(&topic, 0)).unwrap();
        // The janitor is busy with something large, and a removal waits behind it.
        let (go, gone) = std::sync::mpsc::channel::<()>();
        engine.janitor.start_job(move || {
            let _ = gone.recv();
        });
        partition.borrow_mut().removals = 1;
        let deleter = Rc::clone(&engine);
        let mut deletion =
            reactor::spawn(async move { changes::delete_topic(&deleter, topic.id).await });
        assert!(timeout(SOON, &mut deletion).await.is_err());
        go.send(()).unwrap();
        deletion.await.unwrap().unwrap();
    });
}

#[test]
fn a_shard_that_cannot_move_a_deleted_topic_away_does_not_keep_the_others_from_knowing() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engines = start(dir.path(), 2);
        let topic = create(&engines[1], "t", 2).await;
        for index in 0..2 {
            append_one(&engines[0], key(&topic, index), "a").await;
        }
        fail(&engines[0].workers.worker, Op::Rename, libc::EIO, true).await;
        assert!(changes::delete_topic(&engines[0], topic.id).await.is_err());
        assert!(engines.iter().all(|engine| engine.topic("t").is_none()));
        let new = NewTopic {
            name: "t".into(),
            partitions: 1,
            configs: BTreeMap::new(),
        };
        let refused = changes::create_topic(&engines[0], new, false).await;
        assert!(matches!(refused, Err(AdminError::StillDeleting(_))));
        // The next start finishes the deletion and gives the name free.
        let again = &start(dir.path(), 1)[0];
        let topic = create(again, "t", 1).await;
        assert_eq!(append_one(again, key(&topic, 0), "b").await, 0);
    });
}

#[test]
fn the_name_of_a_topic_that_was_deleted_on_a_full_disk_is_free_once_there_is_room() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = &start(dir.path(), 1)[0];
        let topic = create(engine, "t", 1).await;
        append_one(engine, key(&topic, 0), "a").await;
        // The first entry of the deletion can be written, the second cannot.
        let worker = &engine.workers.worker;
        worker
            .run(|| fault::inject(Op::Write, 1, libc::ENOSPC, false))
            .await;
        changes::delete_topic(engine, topic.id).await.unwrap();
        let deleting = || engine.with_catalog(|catalog| catalog.deleting().count());
        assert_eq!(deleting(), 1);
        changes::retry_purge(engine).await;
        assert_eq!(deleting(), 0);
        let topic = create(engine, "t", 1).await;
        assert_eq!(append_one(engine, key(&topic, 0), "b").await, 0);
    });
}

#[test]
fn who_reads_a_segment_that_retention_takes_is_told_that_the_log_starts_later() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let before = &start(dir.path(), 1)[0];
        let key = key(&*create(before, "t", 1).await, 0);
        append_one(before, key, "a").await;
        flush(before);
        // After a restart the segment is not mapped yet.
        let engine = &start(dir.path(), 1)[0];
        let partition = engine.partition(key).unwrap();
        let wanted = partition
            .borrow_mut()
            .log
            .read(0, 1, true, false, 0)
            .unwrap();
        let Read::Load(job) = wanted else {
            panic!("nothing is to be loaded");
        };
        partition.borrow_mut().log.delete_records(1).unwrap();
        while partition.borrow().log.has_sealed(0) {
            flush(engine);
            retention::enforce(engine, &partition).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(fetch::load(engine, &partition, job).await, Ok(()));
        let outcome = read(engine, key, 0, None).await;
        assert!(matches!(
            outcome,
            Err(EngineError::OffsetOutOfRange { start: 1, .. })
        ));
    });
}

#[test]
fn who_cannot_read_what_is_deleted_meanwhile_is_told_that_the_log_starts_later() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let before = &start(dir.path(), 1)[0];
        let key = key(&*create(before, "t", 1).await, 0);
        append_one(before, key, "a").await;
        flush(before);
        let engine = &start(dir.path(), 1)[0];
        let partition = engine.partition(key).unwrap();
        let (release, gate) = std::sync::mpsc::channel();
        engine.workers.worker.start_job(move || {
            let _ = gate.recv();
            fault::inject(Op::Open, 0, libc::EMFILE, true);
        });
        let delete = async {
            partition.borrow_mut().log.delete_records(1).unwrap();
            release.send(()).unwrap();
        };
        let (outcome, ()) = futures_util::join!(read(engine, key, 0, None), delete);
        assert!(matches!(outcome, Err(EngineError::OffsetOutOfRange { .. })));
        // What is still there is looked at again, though the log starts behind the segment's base.
        let job = partition.borrow_mut().log.max_timestamp().unwrap_err();
        fail(&engine.workers.worker, Op::Open, libc::EIO, true).await;
        assert_eq!(fetch::load(engine, &partition, job).await, Ok(()));
        let again = partition.borrow_mut().log.max_timestamp().unwrap_err();
        assert!(matches!(again, LoadJob::Survey { .. }));
    });
}

#[test]
fn a_lookup_by_time_finds_what_is_left_of_a_batch() {
    on_one_partition(async |engine, key| {
        let batch = BatchBuilder {
            base_timestamp: 1000,
            ..BatchBuilder::default()
        };
        let ack = AckWhen::Appended;
        let answered = append(engine, key, ack, &batch, &["a", "b", "c", "d"]).await;
        answered.await.unwrap().unwrap();
        flush(engine);
        let deletion = offsets::delete_records(engine, key, 2);
        let (deleted, ()) = tokio::join!(deletion, async { flush(engine) });
        assert_eq!(deleted, Ok(2));
        let found = offsets::find(engine, key, OffsetSpec::AtTime(0))
            .await
            .unwrap();
        assert_eq!((found.offset, found.timestamp), (2, 1002));
    });
}

#[test]
fn two_names_that_metrics_cannot_tell_apart_are_refused() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = &start(dir.path(), 1)[0];
        create(engine, "a.b", 1).await;
        for (name, collides) in [("a_b", true), ("a.b.c", false), ("a-b", false)] {
            let new = NewTopic {
                name: name.into(),
                partitions: 1,
                configs: BTreeMap::new(),
            };
            let checked = changes::create_topic(engine, new, true).await;
            let refused = matches!(checked, Err(AdminError::NameCollision(..)));
            assert_eq!(refused, collides, "{name}");
        }
    });
}

/// Between its check and its append the topic's configuration may change what is looked at of its records.
#[test]
fn an_append_that_was_checked_under_another_configuration_is_sent_again() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = start(dir.path(), 1).remove(0);
        let topic = create(&engine, "t", 1).await;
        let key = key(&topic, 0);
        let config = [("key.index".to_owned(), "true".to_owned())];
        let set = changes::set_topic_configs(&engine, topic.id, config.into(), false);
        set.await.unwrap();
        let plain = BatchBuilder::default();
        let answered = append(&engine, key, AckWhen::Appended, &plain, &["a"]).await;
        assert_eq!(answered.await.unwrap(), Err(EngineError::Reconfigured));
        assert_eq!(engine.partition(key).unwrap().borrow().offsets().end, 0);
    });
}
