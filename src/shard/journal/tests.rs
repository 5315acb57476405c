//! The commit loop with a journal that fails, over real files.

use super::{PARTITION_BYTES_MAX, PIECE_BYTES, sync};
use crate::engine::append;
use crate::engine::catalog::Topic;
use crate::engine::partition::{AckWhen, Append};
use crate::engine::tests::{Answered, create, key, start};
use crate::engine::{Engine, EngineError, SharedPartition};
use crate::io::fault::{self, Op};
use crate::io::reactor;
use crate::log::batch::BatchHeader;
use crate::log::batch::build::BatchBuilder;
use crate::shard::commit;
use bytes::Bytes;
use futures_util::poll;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

const PARTITIONS: u32 = 4;

/// Appends a record to each partition at once; nothing is flushed before the first is awaited.
async fn append_to_all(engine: &Rc<Engine>, topic: &Topic) -> Vec<Answered> {
    append_values(engine, topic, "value").await
}

async fn append_values(engine: &Rc<Engine>, topic: &Topic, value: &str) -> Vec<Answered> {
    append_to(engine, topic, 0..PARTITIONS, value).await
}

async fn append_to(
    engine: &Rc<Engine>,
    topic: &Topic,
    partitions: Range<u32>,
    value: &str,
) -> Vec<Answered> {
    let mut answers = Vec::new();
    let mut appends = Vec::new();
    for index in partitions {
        let batch = Bytes::from(BatchBuilder::default().build(&[value]));
        let (reply, answered) = oneshot::channel();
        let append = Append {
            header: BatchHeader::parse(&batch).unwrap(),
            batch,
            ack: AckWhen::Durable,
            reply,
            marks: None,
        };
        appends.push((key(topic, index), append));
        answers.push(answered);
    }
    append::deliver(engine, appends).await;
    answers
}

async fn answers(answered: Vec<Answered>) -> Vec<Result<i64, EngineError>> {
    let mut results = Vec::new();
    for answer in answered {
        results.push(answer.await.unwrap().map(|appended| appended.base_offset));
    }
    results
}

/// A shard whose journal is in use, and the offset that comes next in each partition.
async fn journaling(dir: &std::path::Path) -> (Rc<Engine>, std::sync::Arc<Topic>, i64) {
    let engine = start(dir, 1).remove(0);
    let topic = create(&engine, "t", PARTITIONS).await;
    reactor::spawn(commit::run(Rc::clone(&engine)));
    for next in 0.. {
        let appended = append_to_all(&engine, &topic).await;
        assert_eq!(answers(appended).await, vec![Ok(next); PARTITIONS as usize]);
        if engine.stats.journal_groups.get() > 0 {
            return (engine, topic, next + 1);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    unreachable!()
}

#[test]
fn when_the_journal_cannot_be_written_the_segments_are_synced_and_nobody_notices() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, topic, next) = journaling(dir.path()).await;
        // One write to each segment, and then the one to the journal.
        let appended = append_to_all(&engine, &topic).await;
        fault::inject(Op::Write, 0, libc::EIO, false);
        assert_eq!(answers(appended).await, vec![Ok(next); PARTITIONS as usize]);
        assert!(fault::clear());
        let groups = engine.stats.journal_groups.get();
        assert_eq!(engine.stats.journal_errors.get(), 1);
        let later = append_to_all(&engine, &topic).await;
        assert_eq!(
            answers(later).await,
            vec![Ok(next + 1); PARTITIONS as usize]
        );
        assert_eq!(
            engine.stats.journal_groups.get(),
            groups,
            "it is not used again"
        );
        // What it had is brought to the segments.
        while engine.partitions().iter().any(|partition| {
            let log = &partition.borrow().log;
            log.synced_offset() < log.offsets().durable
        }) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn when_a_sync_of_the_journal_fails_the_segments_are_synced() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, topic, next) = journaling(dir.path()).await;
        let appended = append_to_all(&engine, &topic).await;
        fault::inject(Op::Sync, 0, libc::EIO, false);
        assert_eq!(answers(appended).await, vec![Ok(next); PARTITIONS as usize]);
        assert!(fault::clear());
        assert_eq!(engine.stats.journal_errors.get(), 1);
        assert_eq!(engine.stats.flush_errors.get(), 0);
    });
}

#[test]
fn when_the_segments_fail_too_everyone_is_told() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, topic, _) = journaling(dir.path()).await;
        let appended = append_to_all(&engine, &topic).await;
        fault::inject(Op::Sync, 0, libc::EIO, true);
        let failed = Err(EngineError::StorageFailed);
        assert_eq!(answers(appended).await, vec![failed; PARTITIONS as usize]);
        fault::clear();
    });
}

#[test]
fn a_half_that_is_full_again_soon_grows() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, topic, _) = journaling(dir.path()).await;
        let half = dir.path().join("journal/shard-0-0.journal");
        let bytes = || std::fs::metadata(&half).unwrap().len();
        let first = bytes();
        let value = "v".repeat(30_000);
        for _ in 0..1_000 {
            let appended = append_values(&engine, &topic, &value).await;
            assert!(answers(appended).await.iter().all(Result::is_ok));
            if bytes() > first {
                return;
            }
        }
        panic!("a half still has {first} bytes");
    });
}

/// Has more in the journal for one partition than a write-back writes at once, writes it back, and returns the
/// partition.
async fn write_back_in_pieces(fails: bool) -> SharedPartition {
    let dir = tempfile::tempdir().unwrap();
    let (engine, topic, _) = journaling(dir.path()).await;
    let value = "v".repeat(100_000);
    for _ in 0..15 {
        let appended = append_to(&engine, &topic, 0..1, &value).await;
        assert!(answers(appended).await.iter().all(Result::is_ok));
    }
    let partition = engine.partition(key(&topic, 0)).unwrap();
    let write_back = partition.borrow().log.write_back_begin().unwrap();
    let bytes = write_back.last.end - write_back.last.start;
    assert!(bytes > PIECE_BYTES, "{bytes} are one piece");
    if fails {
        fault::inject(Op::Sync, 0, libc::EIO, false);
    }
    sync(&engine, &partition, write_back).await;
    assert!(fault::clear(), "no fault waits to strike");
    partition
}

#[test]
fn a_write_back_of_many_bytes_goes_in_pieces_and_fails_with_any_of_them() {
    reactor::start(async {
        let partition = write_back_in_pieces(false).await;
        let log = &partition.borrow().log;
        assert_eq!(log.synced_offset(), log.offsets().durable);
    });
    reactor::start(async {
        let partition = write_back_in_pieces(true).await;
        let log = &partition.borrow().log;
        // The sync after it would have succeeded.
        assert!(log.is_poisoned());
        assert!(log.synced_offset() < log.offsets().durable);
    });
}

#[test]
fn a_flush_and_a_write_back_of_one_log_wait_for_their_turn_at_its_files() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, topic, _) = journaling(dir.path()).await;
        let large = "v".repeat(PARTITION_BYTES_MAX + 1);
        let partition = engine.partition(key(&topic, 0)).unwrap();
        let appended = append_to_all(&engine, &topic).await;
        assert!(answers(appended).await.iter().all(Result::is_ok));
        let turn = partition.borrow().log.sync_turn();
        let held = turn.lock().await;
        let write_back = partition.borrow().log.write_back_begin().unwrap();
        let mut write_back = std::pin::pin!(sync(&engine, &partition, write_back));
        assert!(poll!(&mut write_back).is_pending());
        let mut flushed = append_to(&engine, &topic, 0..1, &large).await;
        let durable = partition.borrow().log.offsets().durable;
        for _ in 0..20 {
            assert!(poll!(&mut write_back).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let offsets = partition.borrow().log.offsets();
        assert_eq!((offsets.durable, offsets.end), (durable, durable + 1));
        drop(held);
        write_back.await;
        assert_eq!(
            flushed.remove(0).await.unwrap().unwrap().base_offset,
            durable
        );
        let log = &partition.borrow().log;
        assert_eq!(log.synced_offset(), durable + 1);
    });
}

#[test]
fn a_partition_that_is_written_to_has_one_open_file() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, topic, _) = journaling(dir.path()).await;
        let appended = append_to_all(&engine, &topic).await;
        assert!(answers(appended).await.iter().all(Result::is_ok));
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let of_segments = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = std::fs::read_link(entry.ok()?.path()).ok()?;
            let is_here = path.parent()?.parent() == Some(dir.path());
            (is_here && path.extension()? == "log").then_some(path)
        };
        let open: Vec<_> = open.filter_map(of_segments).collect();
        assert_eq!(open.len(), PARTITIONS as usize, "{open:?}");
    });
}
