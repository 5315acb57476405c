//! The rules of lag, and lookups in partitions over real files.

use super::*;
use crate::config::TopicConfig;
use crate::engine::offsets;
use crate::engine::partition::AckWhen;
use crate::engine::tests::{append, append_one, create, flush, key, start};
use crate::io::reactor;
use crate::log::batch::build::BatchBuilder;
use std::collections::BTreeMap;
use uuid::Uuid;

const LONG_AGO_MS: i64 = 1_000_000_000_000;

#[test]
fn nobody_is_ahead_of_the_end() {
    assert_eq!(records_behind(3, 0, 10), 7);
    assert_eq!(records_behind(10, 0, 10), 0);
    assert_eq!(
        records_behind(12, 0, 10),
        0,
        "the partition was created again and is shorter"
    );
    assert_eq!(records_behind(3, 8, 10), 2, "the others are deleted");
}

#[test]
fn ages_are_seconds_and_never_negative() {
    assert_eq!(age_seconds(1_000, 3_500), Some(2.5));
    assert_eq!(age_seconds(9_000, 3_500), Some(0.0));
    assert_eq!(age_seconds(-1, 3_500), None);
}

fn report(left_out: u64, groups: &[(&str, u32)]) -> Arc<LagReport> {
    let topic = Arc::new(Topic {
        id: Uuid::from_u128(1),
        name: "t".to_owned(),
        partitions: 9,
        configs: BTreeMap::new(),
        config: TopicConfig::default(),
    });
    let lag = |(group, partition): &(&str, u32)| GroupLag {
        group: (*group).into(),
        topic: Arc::clone(&topic),
        partition: *partition,
        lag: Lag {
            records: 0,
            seconds: None,
            oldest: None,
        },
    };
    Arc::new(LagReport {
        lags: groups.iter().map(lag).collect(),
        left_out,
        ..LagReport::default()
    })
}

#[test]
fn an_hour_of_each_group_is_remembered() {
    let behind = |group: &str, records: i64, seconds: Option<f64>| {
        let mut lag = report(0, &[(group, 0)]).lags[0].clone();
        lag.lag.records = records;
        lag.lag.seconds = seconds;
        lag
    };
    let mut history = History::default();
    let hour = 3_600_000;
    let lags = [
        behind("a", 1, None),
        behind("a", 2, Some(5.0)),
        behind("b", 4, None),
    ];
    history.note(&lags, 10 * hour);
    // Too soon.
    history.note(&[behind("a", 9, None)], 10 * hour + 29_999);
    history.note(&[behind("a", 7, Some(1.0))], 10 * hour + 30_000);
    let of = |history: &History, group| -> Vec<(u64, i64, Option<f64>)> {
        let samples = history.of(group).into_iter();
        samples
            .map(|one| (one.timestamp_ms, one.records, one.seconds))
            .collect()
    };
    let second = (10 * hour + 30_000, 7, Some(1.0));
    assert_eq!(of(&history, "a"), [(10 * hour, 3, Some(5.0)), second]);
    assert_eq!(of(&history, "b"), [(10 * hour, 4, None)]);
    assert_eq!(of(&history, "c"), []);
    history.note(&[], 11 * hour + 1);
    assert_eq!(of(&history, "a"), [second]);
    assert_eq!(of(&history, "b"), []);
    // The clock was set back: what lies ahead of it is forgotten.
    history.note(&lags, hour);
    assert_eq!(of(&history, "a"), [(hour, 3, Some(5.0))]);
    let many: Vec<GroupLag> = (0..2000)
        .map(|n| behind(&format!("{n:04}"), 1, None))
        .collect();
    history.note(&many, 2 * hour);
    assert_eq!(of(&history, "0000").len(), 1);
    assert_eq!(of(&history, "1999"), []);
}

#[test]
fn the_first_groups_by_name_are_shown_wherever_they_live() {
    let reports = [
        report(5, &[("b", 0), ("b", 1), ("e", 0)]),
        report(0, &[]),
        report(2, &[("a", 0), ("c", 3), ("d", 0)]),
    ];
    let first = |most| {
        let (lags, left_out) = first_by_group(&reports, most);
        let names = lags.iter().map(|lag| (&*lag.group, lag.partition));
        (names.collect::<Vec<_>>(), left_out)
    };
    let all = [("a", 0), ("b", 0), ("b", 1), ("c", 3), ("d", 0), ("e", 0)];
    assert_eq!(first(6), (all.to_vec(), 7));
    assert_eq!(first(100), (all.to_vec(), 7));
    assert_eq!(first(4), (all[..4].to_vec(), 9));
    assert_eq!(first(2), (all[..2].to_vec(), 11));
    assert_eq!(first(0), (vec![], 13));
}

/// A shard with a partition.
async fn engine() -> (tempfile::TempDir, Rc<Engine>, PartitionKey) {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(dir.path(), 1).remove(0);
    let key = key(&*create(&engine, "t", 1).await, 0);
    (dir, engine, key)
}

/// Appends a batch whose first record is `seconds` later than `LONG_AGO_MS`.
async fn append_at(engine: &Rc<Engine>, key: PartitionKey, seconds: i64, values: &[&str]) {
    let batch = BatchBuilder {
        base_timestamp: LONG_AGO_MS + 1000 * seconds,
        ..BatchBuilder::default()
    };
    let appended = append(engine, key, AckWhen::Appended, &batch, values).await;
    appended.await.unwrap().unwrap();
}

async fn lag(
    engine: &Rc<Engine>,
    key: PartitionKey,
    committed: i64,
    known: Option<OldestRecord>,
) -> Lag {
    let question = Question {
        key,
        committed,
        known,
    };
    lags_here(engine, &[question]).await[0].unwrap()
}

/// The timestamp of the oldest record not committed, in milliseconds after `LONG_AGO_MS`.
async fn oldest_ms(engine: &Rc<Engine>, key: PartitionKey, committed: i64) -> i64 {
    let oldest = lag(engine, key, committed, None).await.oldest;
    oldest.unwrap().timestamp - LONG_AGO_MS
}

#[test]
fn the_oldest_record_is_found_inside_of_batches_of_any_size() {
    reactor::start(async {
        let (dir, engine, key) = engine().await;
        let large = "x".repeat(3 * READ_BYTES);
        append_at(&engine, key, 0, &["a", "b"]).await;
        append_at(&engine, key, 50, &[&large, "c"]).await;
        append_at(&engine, key, 70, &["d"]).await;
        flush(&engine);
        let again = start(dir.path(), 1).remove(0);
        // The second engine has not loaded the segment.
        for engine in [engine, again] {
            for (offset, ms) in [0, 1, 50_000, 50_001, 70_000].into_iter().enumerate() {
                assert_eq!(oldest_ms(&engine, key, offset as i64).await, ms);
            }
        }
    });
}

#[test]
fn who_has_committed_all_is_not_behind() {
    reactor::start(async {
        let (_dir, engine, key) = engine().await;
        let none = Lag {
            records: 0,
            seconds: Some(0.0),
            oldest: None,
        };
        assert_eq!(lag(&engine, key, 0, None).await, none);
        append_one(&engine, key, "a").await;
        assert_eq!(lag(&engine, key, 0, None).await, none, "not durable yet");
        flush(&engine);
        assert_eq!(lag(&engine, key, 0, None).await.records, 1);
        assert_eq!(lag(&engine, key, 1, None).await, none);
        assert_eq!(lag(&engine, key, 7, None).await, none);
    });
}

#[test]
fn deleted_records_are_no_lag_and_have_no_age() {
    reactor::start(async {
        let (_dir, engine, key) = engine().await;
        append_at(&engine, key, 0, &["a", "b", "c", "d"]).await;
        flush(&engine);
        let delete = async |offset| {
            let mut deletion = std::pin::pin!(offsets::delete_records(&engine, key, offset));
            // A flush while a job of the log is under way writes no checkpoint: one more does.
            let deleted = loop {
                tokio::select! {
                    deleted = &mut deletion => break deleted,
                    () = tokio::time::sleep(Duration::from_millis(1)) => flush(&engine),
                }
            };
            assert_eq!(deleted, Ok(offset));
        };
        delete(2).await;
        let behind = lag(&engine, key, 1, None).await;
        assert_eq!(behind.records, 2);
        assert_eq!(behind.oldest.unwrap().timestamp, LONG_AGO_MS + 2);
        delete(4).await;
        let behind = lag(&engine, key, 1, behind.oldest).await;
        assert_eq!((behind.records, behind.seconds), (0, Some(0.0)));
        // Later records have an age again.
        append_at(&engine, key, 9, &["e"]).await;
        flush(&engine);
        let behind = lag(&engine, key, 1, behind.oldest).await;
        assert_eq!(behind.oldest.unwrap().timestamp, LONG_AGO_MS + 9_000);
    });
}

#[test]
fn a_known_time_is_not_looked_up_again_while_it_is_that_of_the_same_record() {
    reactor::start(async {
        let (_dir, engine, key) = engine().await;
        append_at(&engine, key, 0, &["a", "b"]).await;
        flush(&engine);
        let era = engine.partition(key).unwrap().borrow().log.era();
        // Not the timestamp in the log, so that the test sees which one is used.
        let known = OldestRecord {
            from: 0,
            era,
            timestamp: 42,
        };
        let timestamp = async |committed, known| {
            let found = lag(&engine, key, committed, Some(known)).await;
            found.oldest.unwrap().timestamp
        };
        assert_eq!(timestamp(0, known).await, 42);
        assert_eq!(timestamp(1, known).await, LONG_AGO_MS + 1, "it moved");
        let compacted = OldestRecord {
            era: era + 1,
            ..known
        };
        assert_eq!(timestamp(0, compacted).await, LONG_AGO_MS);
    });
}

/// Appends these bytes as one batch.
async fn append_bytes(engine: &Rc<Engine>, key: PartitionKey, batch: Vec<u8>) {
    let (reply, appended) = tokio::sync::oneshot::channel();
    let append = crate::engine::partition::Append {
        header: BatchHeader::parse(&batch).unwrap(),
        batch: batch.into(),
        ack: AckWhen::Appended,
        reply,
        marks: None,
    };
    crate::engine::append::deliver(engine, vec![(key, append)]).await;
    appended.await.unwrap().unwrap();
}

#[test]
fn what_compaction_left_of_a_batch_is_passed_over() {
    reactor::start(async {
        let (_dir, engine, key) = engine().await;
        let mut left = BatchBuilder::default().build(&["a"]);
        // Ten offsets, of which the first has a record.
        left[23..27].copy_from_slice(&9_i32.to_be_bytes());
        append_bytes(&engine, key, left).await;
        append_at(&engine, key, 5, &["b"]).await;
        flush(&engine);
        assert_eq!(oldest_ms(&engine, key, 4).await, 5_000);
    });
}

#[test]
fn a_batch_that_cannot_be_unpacked_is_as_old_as_its_earliest_record() {
    reactor::start(async {
        let (_dir, engine, key) = engine().await;
        let times = BatchBuilder {
            base_timestamp: LONG_AGO_MS,
            ..BatchBuilder::default()
        };
        let mut batch = times.build(&["a", "b"]);
        // Its header says zstd, and its records are not compressed.
        batch[22] = 4;
        append_bytes(&engine, key, batch).await;
        flush(&engine);
        assert_eq!(oldest_ms(&engine, key, 1).await, 0);
    });
}
