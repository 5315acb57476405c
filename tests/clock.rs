//! A wall clock that jumps under a running broker: what is idle or waits counts the time that passes,
//! and only timestamps are held against what the clock shows.

use crate::support::batch::Batch;
use crate::support::group::{OFFSET_COMMIT, commit, commit_error, committed, group_of};
use crate::support::wire::Wire;
use crate::support::{Broker, command, eventually, own_address};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const NONE: i16 = 0;

/// The file that says how far a broker's clock is off.
struct Clock(PathBuf);

impl Clock {
    fn new(dir: &Path) -> Clock {
        let clock = Clock(dir.join("offset"));
        clock.jump_to(0);
        clock
    }

    fn jump_to(&self, offset_ms: i64) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, offset_ms.to_string()).unwrap();
        std::fs::rename(&next, &self.0).unwrap();
    }

    fn broker(&self, data_dir: &Path) -> Broker {
        let flags = [
            "--offsets-retention-ms=604800000",
            "--offsets-retention-check-interval-ms=20",
            "--cores",
            "1",
            "--retention-check-interval-ms=20",
            "--producer-id-expiration-ms=86400000",
        ];
        let mut command = command(own_address(), data_dir, &flags);
        command.env("MILLSTREAM_CLOCK_OFFSET", &self.0);
        Broker::from_command(command)
    }
}

fn real_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_millis() as i64
}

/// Retention that has deleted a record which was there before it began has been round everywhere.
fn await_upkeep(wire: &mut Wire, old_ms: i64) {
    for _ in 0..2 {
        let offset = wire.append("expires", 0, &Batch::at_times(&[old_ms]));
        eventually("the record is deleted", || {
            wire.offset("expires", 0, -2) > offset
        });
    }
}

#[test]
fn a_jump_forward_expires_records_and_forgets_no_producer() {
    let dirs = tempfile::tempdir().unwrap();
    let clock = Clock::new(dirs.path());
    let broker = clock.broker(&dirs.path().join("data"));
    let mut wire = Wire::connect(broker.kafka);
    let expires = [("retention.ms", "3600000")];
    wire.try_create_topic("expires", 1, &expires);
    wire.create_topic("kept", 1);
    let now_ms = real_ms();
    let young = wire.append("expires", 0, &Batch::at_times(&[now_ms]));
    let id = wire.new_producer_id();
    let first = Batch::of(["a", "b"]).by(id, 0, 0);
    let base_offset = wire.append("kept", 0, &first);

    clock.jump_to(2 * DAY_MS);
    eventually("the record is as old as the clock says", || {
        wire.offset("expires", 0, -2) > young
    });
    await_upkeep(&mut wire, now_ms);
    assert_eq!(wire.append("kept", 0, &first), base_offset, "a retry");
    assert_eq!(wire.values("kept", 0).len(), 2);
}

#[test]
fn a_jump_back_stops_nothing_and_deletes_nothing() {
    let dirs = tempfile::tempdir().unwrap();
    let clock = Clock::new(dirs.path());
    let broker = clock.broker(&dirs.path().join("data"));
    let mut wire = Wire::connect(broker.kafka);
    wire.try_create_topic("expires", 1, &[("retention.ms", "3600000")]);
    let days_ago_ms = real_ms() - 2 * DAY_MS;
    clock.jump_to(-2 * DAY_MS);
    let young = wire.append("expires", 0, &Batch::at_times(&[days_ago_ms]));
    // Old for this clock too.
    wire.try_create_topic("old", 1, &[("retention.ms", "3600000")]);
    let old = wire.append("old", 0, &Batch::at_times(&[days_ago_ms - 2 * HOUR_MS]));
    eventually("what is old is deleted", || wire.offset("old", 0, -2) > old);
    assert_eq!(wire.offset("expires", 0, -2), young);
}

#[test]
fn what_is_committed_on_a_machine_that_found_its_clock_late_is_not_old_at_the_next_start() {
    let dirs = tempfile::tempdir().unwrap();
    let data_dir = dirs.path().join("data");
    let clock = Clock::new(dirs.path());
    clock.jump_to(-30 * DAY_MS);
    let broker = clock.broker(&data_dir);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let commit_of = |wire: &mut Wire, group: &str| {
        let request = commit(group, "t", &[(0, 5)]);
        assert_eq!(commit_error(&wire.call(&request, OFFSET_COMMIT)), NONE);
    };
    commit_of(&mut wire, "before");
    clock.jump_to(0);
    commit_of(&mut wire, "after");
    broker.stop();
    let broker = clock.broker(&data_dir);
    let mut wire = Wire::connect(broker.kafka);
    eventually("what has an old date is gone", || {
        committed(&mut wire, "before", "t", 0) == -1
    });
    assert_eq!(committed(&mut wire, "after", "t", 0), 5);
}

#[test]
fn no_jump_throws_a_member_out() {
    let dirs = tempfile::tempdir().unwrap();
    let clock = Clock::new(dirs.path());
    let broker = clock.broker(&dirs.path().join("data"));
    let mut members = group_of(broker.kafka, "g", 2);
    for offset_ms in [DAY_MS, -DAY_MS, 0, 3 * DAY_MS, 0] {
        clock.jump_to(offset_ms);
        for member in &mut members {
            assert_eq!(member.heartbeat(), NONE, "the clock is {offset_ms} ms off");
        }
    }
}
