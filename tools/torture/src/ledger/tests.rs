use super::*;
use crate::violation::Kind;

const WORKER: u32 = 1;

fn id(number: u32) -> Id {
    Id {
        worker: WORKER,
        number,
    }
}

/// A batch of these records at these offsets, from an idempotent producer.
fn batch(base: i64, numbers: &[u32]) -> Batch {
    let records: Vec<(i64, Id)> = (base..).zip(numbers.iter().copied().map(id)).collect();
    Batch {
        base,
        last: base + numbers.len() as i64 - 1,
        producer_id: 9,
        base_sequence: base as i32,
        bytes: 100,
        append_time: false,
        time_ms: 1_000,
        records,
    }
}

/// A log of batches without gaps.
fn log(batches: Vec<Batch>) -> Found {
    let start = batches.first().map_or(0, |batch| batch.base);
    let end = batches.last().map_or(0, |batch| batch.last + 1);
    Found {
        start,
        end,
        batches,
        now_ms: 0,
    }
}

/// Records 0 to 5 were sent in two batches; the first was acknowledged with `proof` after `cuts`.
fn ledger(proof: Proof, cuts: u64) -> Ledger {
    let mut ledger = Ledger::new(Upkeep::Keep);
    ledger.sent(&[id(0), id(1), id(2)]);
    ledger.sent(&[id(3), id(4), id(5)]);
    let first = [id(0), id(1), id(2)];
    ledger.acknowledged(&first, 0, proof, cuts).unwrap();
    ledger
}

fn check(found: Found) -> Option<Kind> {
    check_after(found, Proof::AcksAll, None)
}

fn check_after(found: Found, proof: Proof, cut: Option<u64>) -> Option<Kind> {
    let result = ledger(proof, 0).check(&found, cut);
    result.err().map(|violation| violation.kind)
}

#[test]
fn what_was_acknowledged_is_enough_and_what_was_in_doubt_may_be_there_too() {
    assert_eq!(check(log(vec![batch(0, &[0, 1, 2])])), None);
    let whole = vec![batch(0, &[0, 1, 2]), batch(3, &[3, 4, 5])];
    assert_eq!(check(log(whole)), None);
}

#[test]
fn a_lost_record_is_found() {
    assert_eq!(check(log(vec![batch(0, &[0, 1])])), Some(Kind::Lost));
    assert_eq!(check(log(vec![])), Some(Kind::Lost));
}

#[test]
fn a_power_cut_takes_what_was_not_durable_and_nobody_saw() {
    let cut = Some(1);
    assert_eq!(check_after(log(vec![]), Proof::AcksOne, cut), None);
    assert_eq!(
        check_after(log(vec![]), Proof::AcksOne, None),
        Some(Kind::Lost)
    );
    assert_eq!(
        check_after(log(vec![]), Proof::AcksAll, cut),
        Some(Kind::Lost)
    );
    assert_eq!(
        check_after(log(vec![]), Proof::Seen, cut),
        Some(Kind::Unseen)
    );
}

#[test]
fn what_was_answered_after_the_cut_promises_nothing() {
    let mut ledger = ledger(Proof::AcksAll, 1);
    assert_eq!(ledger.check(&log(vec![]), Some(1)), Ok(()));
}

#[test]
fn a_doubled_record_is_found() {
    let mut twice = batch(3, &[3, 4, 5]);
    twice.records[0].1 = id(2);
    assert_eq!(
        check(log(vec![batch(0, &[0, 1, 2]), twice])),
        Some(Kind::Doubled)
    );
    // A whole batch that was stored again: its sequence betrays it, too.
    let twice = vec![
        batch(0, &[0, 1, 2]),
        batch(3, &[3, 4, 5]),
        batch(6, &[3, 4, 5]),
    ];
    assert_eq!(check(log(twice)), Some(Kind::Doubled));
}

#[test]
fn reordered_records_are_found() {
    assert_eq!(
        check(log(vec![batch(0, &[1, 0, 2])])),
        Some(Kind::Reordered)
    );
    let batches = vec![batch(0, &[0, 1, 2]), batch(3, &[4, 3, 5])];
    assert_eq!(check(log(batches)), Some(Kind::Reordered));
}

#[test]
fn another_record_in_its_place_is_found() {
    // In the order of its worker, and yet not where it was acknowledged.
    assert_eq!(check(log(vec![batch(0, &[0, 1, 3])])), Some(Kind::Changed));
    assert_eq!(
        check(log(vec![batch(0, &[0, 1, 2, 7])])),
        Some(Kind::Stranger)
    );
}

#[test]
fn a_gap_is_found_in_offsets_and_in_sequences() {
    let mut found = log(vec![batch(0, &[0, 1, 2]), batch(4, &[3, 4, 5])]);
    assert_eq!(check(found.clone()), Some(Kind::Gap));
    found.batches.pop();
    assert_eq!(check(found), Some(Kind::Gap), "it ends before the end");
    let mut skipping = batch(3, &[3, 4, 5]);
    skipping.base_sequence = 4;
    assert_eq!(
        check(log(vec![batch(0, &[0, 1, 2]), skipping])),
        Some(Kind::Gap)
    );
}

#[test]
fn what_a_check_found_must_be_there_in_the_next() {
    let mut ledger = ledger(Proof::AcksOne, 0);
    let whole = log(vec![batch(0, &[0, 1, 2]), batch(3, &[3, 4, 5])]);
    ledger.check(&whole, Some(1)).unwrap();
    let shorter = log(vec![batch(0, &[0, 1, 2])]);
    let missing = ledger.check(&shorter, Some(2)).unwrap_err();
    assert_eq!(missing.kind, Kind::Unseen);
}

#[test]
fn what_was_in_doubt_and_not_there_must_not_come_later() {
    let mut ledger = ledger(Proof::AcksAll, 0);
    ledger
        .check(&log(vec![batch(0, &[0, 1, 2])]), None)
        .unwrap();
    let whole = log(vec![batch(0, &[0, 1, 2]), batch(3, &[3, 4, 5])]);
    let late = ledger.check(&whole, None).unwrap_err();
    assert_eq!(late.kind, Kind::Stranger);
    // But its producer may send it again.
    ledger.sent(&[id(3), id(4), id(5)]);
    assert_eq!(ledger.check(&whole, None), Ok(()));
}

#[test]
fn a_reader_that_gets_another_record_than_before_is_told() {
    let mut ledger = ledger(Proof::AcksAll, 0);
    assert_eq!(ledger.seen(&[batch(0, &[0, 1, 2])], 0), Ok(3));
    let changed = ledger.seen(&[batch(0, &[3])], 0).unwrap_err();
    assert_eq!(changed.kind, Kind::Changed);
    let moved = ledger.seen(&[batch(5, &[2])], 0).unwrap_err();
    assert_eq!(moved.kind, Kind::Doubled);
}

#[test]
fn a_retry_that_is_acknowledged_without_its_offset_must_be_there_all_the_same() {
    let mut ledger = ledger(Proof::AcksAll, 0);
    ledger
        .acknowledged(&[id(3)], -1, Proof::AcksAll, 0)
        .unwrap();
    let without = log(vec![batch(0, &[0, 1, 2])]);
    let lost = ledger.check(&without, None).unwrap_err();
    assert_eq!(lost.kind, Kind::Lost);
}

#[test]
fn the_start_moves_only_as_far_as_records_were_deleted() {
    let found = log(vec![batch(1, &[1, 2])]);
    assert_eq!(check(found.clone()), Some(Kind::Start));
    let mut ledger = ledger(Proof::AcksAll, 0);
    ledger.starts.asked(1);
    assert_eq!(ledger.clone().check(&found, None), Ok(()));
    ledger.starts.answered(&1, 0);
    let back = log(vec![batch(0, &[0, 1, 2])]);
    assert_eq!(ledger.check(&back, None).unwrap_err().kind, Kind::Start);
}

#[test]
fn retention_that_takes_too_much_is_found() {
    let mut ledger = Ledger::new(Upkeep::Retain { bytes: 200 });
    let ids: Vec<Id> = (0..6).map(id).collect();
    ledger.sent(&ids);
    let rest = log(vec![batch(4, &[4]), batch(5, &[5])]);
    assert_eq!(ledger.clone().check(&rest, None), Ok(()));
    let less = log(vec![batch(5, &[5])]);
    assert_eq!(ledger.check(&less, None).unwrap_err().kind, Kind::Start);
}

/// Records 0 to 5 of one second, of which only the last two are found by a clock that shows `now_ms`.
fn expired(upkeep: Upkeep, now_ms: i64) -> Option<Kind> {
    let mut ledger = Ledger::new(upkeep);
    let ids: Vec<Id> = (0..6).map(id).collect();
    ledger.sent(&ids);
    ledger.acknowledged(&ids, 0, Proof::AcksAll, 0).unwrap();
    ledger.dated(&ids, 1_000);
    let rest = Found {
        now_ms,
        ..log(vec![batch(4, &[4, 5])])
    };
    let result = ledger.check(&rest, None);
    result.err().map(|violation| violation.kind)
}

#[test]
fn a_record_that_goes_before_its_time_is_found() {
    let upkeep = Upkeep::Expire { ms: 500 };
    assert_eq!(expired(upkeep, 1_501), None);
    assert_eq!(expired(upkeep, 1_500), Some(Kind::Start));
    let upkeep = Upkeep::Compact {
        keys: 1_000_000,
        tombstones_go: true,
        expires_ms: Some(500),
    };
    assert_eq!(expired(upkeep, 1_501), None);
    assert_eq!(expired(upkeep, 1_500), Some(Kind::Start));
}

#[test]
fn the_newest_of_a_key_may_go_by_its_age_and_only_by_that() {
    let (_, values) = of_key(0);
    let upkeep = Upkeep::Compact {
        keys: 2,
        tombstones_go: false,
        expires_ms: Some(500),
    };
    let mut ledger = Ledger::new(upkeep);
    let ids: Vec<Id> = values[..2].iter().copied().map(id).collect();
    ledger.sent(&ids);
    ledger.acknowledged(&ids, 0, Proof::AcksAll, 0).unwrap();
    ledger.dated(&ids, 1_000);
    let empty = |start, now_ms| Found {
        start,
        end: 2,
        batches: Vec::new(),
        now_ms,
    };
    assert_eq!(ledger.clone().check(&empty(2, 1_501), None), Ok(()));
    let young = ledger.clone().check(&empty(2, 1_400), None).unwrap_err();
    assert_eq!(young.kind, Kind::Start);
    let lost = ledger.check(&empty(0, 1_501), None).unwrap_err();
    assert_eq!(lost.kind, Kind::Lost);
}

/// Ids of one key of two, those that are tombstones and those that are not.
fn of_key(key: u32) -> (Vec<u32>, Vec<u32>) {
    let own = (0..200).filter(|number| id(*number).key(2) == key);
    own.partition(|number| id(*number).is_tombstone())
}

fn compacted(tombstones_go: bool, numbers: &[u32]) -> Ledger {
    let mut ledger = Ledger::new(Upkeep::Compact {
        keys: 2,
        tombstones_go,
        expires_ms: None,
    });
    let ids: Vec<Id> = numbers.iter().copied().map(id).collect();
    ledger.sent(&ids);
    ledger.acknowledged(&ids, 0, Proof::AcksAll, 0).unwrap();
    ledger
}

fn compacted_log(end: i64, records: &[(i64, u32)]) -> Found {
    let records = records
        .iter()
        .map(|(offset, number)| (*offset, id(*number)));
    let all = Batch {
        last: end - 1,
        records: records.collect(),
        ..batch(0, &[0])
    };
    Found {
        start: 0,
        end,
        batches: vec![all],
        now_ms: 0,
    }
}

#[test]
fn compaction_may_take_all_but_the_newest_of_each_key() {
    let (_, values) = of_key(0);
    let ledger = compacted(false, &values[..3]);
    let newest = compacted_log(3, &[(2, values[2])]);
    assert_eq!(ledger.clone().check(&newest, None), Ok(()));
    let older = compacted_log(3, &[(1, values[1])]);
    assert_eq!(
        ledger.clone().check(&older, None).unwrap_err().kind,
        Kind::Lost
    );
    let none = compacted_log(3, &[]);
    assert_eq!(
        ledger.clone().check(&none, None).unwrap_err().kind,
        Kind::Lost
    );
}

#[test]
fn a_deleted_key_goes_only_where_tombstones_do_and_never_comes_back() {
    let (tombstones, values) = of_key(0);
    let value = values[0];
    let tombstone = *tombstones.iter().find(|number| **number > value).unwrap();
    let (gone, back) = (compacted_log(2, &[]), compacted_log(2, &[(0, value)]));
    let kept = compacted(false, &[value, tombstone]).check(&gone, None);
    assert_eq!(kept.unwrap_err().kind, Kind::Lost);
    let mut ledger = compacted(true, &[value, tombstone]);
    assert_eq!(
        ledger.clone().check(&back, None).unwrap_err().kind,
        Kind::Lost
    );
    ledger.check(&gone, None).unwrap();
    assert_eq!(ledger.check(&back, None).unwrap_err().kind, Kind::Stranger);
}

#[test]
fn a_retry_may_be_acknowledged_after_its_key_was_deleted() {
    let (tombstones, values) = of_key(0);
    let value = values[0];
    let tombstone = *tombstones.iter().find(|number| **number > value).unwrap();
    let gone = compacted_log(2, &[]);
    let acknowledged_late = |others: &[u32]| {
        let mut ledger = compacted(true, &[]);
        let ids: Vec<Id> = others.iter().copied().map(id).collect();
        ledger.sent(&ids);
        ledger.sent(&[id(value)]);
        ledger.check(&gone, None).unwrap();
        ledger.sent(&[id(value)]);
        ledger
            .acknowledged(&[id(value)], 0, Proof::AcksAll, 0)
            .unwrap();
        ledger.check(&gone, None)
    };
    assert_eq!(acknowledged_late(&[tombstone]), Ok(()));
    assert_eq!(acknowledged_late(&[]).unwrap_err().kind, Kind::Lost);
}

#[test]
fn what_retention_took_may_come_again_when_the_power_is_cut_and_nowhere_else() {
    let sent: Vec<Id> = (0..6).map(id).collect();
    let mut ledger = Ledger::new(Upkeep::Retain { bytes: 0 });
    ledger.sent(&sent);
    let taken = Found {
        start: 3,
        ..log(vec![batch(3, &[3, 4, 5])])
    };
    ledger.check(&taken, None).unwrap();
    let back = log(vec![batch(0, &[0, 1, 2]), batch(3, &[3, 4, 5])]);
    assert_eq!(ledger.clone().check(&back, Some(1)), Ok(()));
    let elsewhere = log(vec![batch(3, &[3, 4, 5]), batch(6, &[0])]);
    let elsewhere = Found {
        start: 3,
        ..elsewhere
    };
    assert!(ledger.check(&elsewhere, Some(1)).is_err());
}
