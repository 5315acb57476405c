//! A disk that is full: a tmpfs of a few megabytes that only the broker sees.

use crate::support::batch::Batch;
use crate::support::wire::*;
use crate::support::{Broker, command, eventually, own_address};
use std::path::Path;
use std::process::{Command, Stdio};

const KAFKA_STORAGE_ERROR: i16 = 56;
const SIZE: &str = "size=24m";

/// A command that runs `inner` with a small tmpfs mounted at `dir`, for itself alone.
fn with_small_disk(dir: &Path, inner: &Command) -> Command {
    let mut command = Command::new("unshare");
    command
        // As an ordinary user this needs a user namespace; for root it does no harm.
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(format!(
            "mount -t tmpfs -o {SIZE} tmpfs \"$0\" && exec \"$@\""
        ))
        .arg(dir)
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn a_full_disk_refuses_producers_for_now_keeps_reading_and_recovers_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let probe = with_small_disk(dir.path(), &Command::new("true")).output();
    match probe {
        Ok(output) if output.status.success() => {}
        refused => {
            println!("skipped: a tmpfs cannot be mounted here: {refused:?}");
            return;
        }
    }
    let serve = command(own_address(), dir.path(), &["--free-bytes-min", "1MiB"]);
    let mut broker = Broker::from_command(with_small_disk(dir.path(), &serve));
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("ballast", 1);
    wire.create_topic("t", 1);
    let large = Batch::of([vec![b'x'; 500_000]]);
    for _ in 0..16 {
        wire.append("ballast", 0, &large);
    }
    let mut stored = 0;
    let refused = loop {
        let response = wire.produce("t", 0, large.encode());
        match response.error_code {
            0 => stored += 1,
            _ => break response,
        }
        assert!(stored < 100, "the disk never gets full");
    };
    assert_eq!(refused.error_code, KAFKA_STORAGE_ERROR, "{refused:?}");
    assert!(stored > 5, "{stored}");
    // It stays so while the disk is full, and whoever reads is not disturbed.
    assert_eq!(
        wire.produce("t", 0, large.encode()).error_code,
        KAFKA_STORAGE_ERROR
    );
    for _ in 0..100 {
        wire.produce("t", 0, large.encode());
    }
    // One line in ten seconds.
    let lines = broker.log().matches("no room for new records").count();
    assert!((1..=9).contains(&lines), "{}", broker.log());
    assert_eq!(wire.values("t", 0).len(), stored);
    assert_eq!(wire.values("ballast", 0).len(), 16);
    assert_eq!(broker.get("/healthz").0, 200);
    assert_eq!(wire.delete_topic("ballast"), 0, "deletes go on");
    wire.create_topic("ballast", 1);
    let mut offset = None;
    eventually("there is room again", || {
        let response = wire.produce("t", 0, large.encode());
        match response.error_code {
            0 => offset = Some(response.base_offset),
            code => assert_eq!(code, KAFKA_STORAGE_ERROR),
        }
        offset.is_some()
    });
    assert_eq!(offset, Some(stored as i64), "what was refused left no gap");
    assert_eq!(wire.values("t", 0).len(), stored + 1);
    assert!(broker.is_running());
    broker.stop();
}
