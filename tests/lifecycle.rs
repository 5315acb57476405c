//! How a broker starts, refuses to start, and stops.

use crate::support::batch::Batch;
use crate::support::wire::*;
use crate::support::{Broker, eventually, own_address, refused_start, refused_start_at};
use kafka_protocol::messages::*;
use std::net::TcpListener;
use std::path::Path;

#[test]
fn the_ready_line_says_where_and_how_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/by/the/broker");
    let broker = Broker::with(&data, &["--cores", "1", "--durability", "os"]);
    for part in [
        env!("CARGO_PKG_VERSION"),
        &format!("kafka {}", broker.kafka),
        &format!("http {}", broker.http),
        &format!("data {}", data.display()),
        "cores 1",
        "durability os",
    ] {
        assert!(broker.ready.contains(part), "{part}: {}", broker.ready);
    }
    eventually("the operator is told", || {
        broker.log().contains("a power cut loses")
    });
}

/// As Docker's default seccomp profile does: the calls of io_uring end with EPERM.
fn forbid_io_uring() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let calls = [425, 426, 427].map(|call| (call, Vec::new()));
    let (allow, refuse) = (SeccompAction::Allow, SeccompAction::Errno(1));
    let target = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(calls.into(), allow, refuse, target).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

#[test]
fn where_a_sandbox_forbids_io_uring_epoll_serves_unless_the_operator_wants_none() {
    let dir = tempfile::tempdir().unwrap();
    // Only this thread and what it starts are in the sandbox.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            forbid_io_uring();
            let said = refused_start(dir.path(), &["--reactor", "uring"]);
            assert!(
                said.contains("seccomp profile forbids io_uring_setup"),
                "{said}"
            );
            assert!(said.contains("--reactor auto or epoll"), "{said}");
            let broker = Broker::with(dir.path(), &["--reactor", "auto"]);
            assert!(broker.ready.contains("reactor epoll"), "{}", broker.ready);
            assert_eq!(broker.metric("millstream_info", "reactor=\"epoll\""), 1.0);
            assert!(broker.log().contains("epoll is used instead"));
            let mut wire = Wire::connect(broker.kafka);
            wire.create_topic("t", 1);
            assert_eq!(wire.append("t", 0, &Batch::of(["in a container"])), 0);
            broker.kill_9();
            let broker = Broker::with(dir.path(), &["--reactor", "epoll"]);
            let mut wire = Wire::connect(broker.kafka);
            assert_eq!(wire.append("t", 0, &Batch::of(["again"])), 1);
        });
    });
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let said = refused_start(dir.path(), &[]);
    assert!(said.contains("another broker uses the data directory"));
    assert!(said.contains(&dir.path().display().to_string()), "{said}");
    assert_eq!(wire.append("t", 0, &Batch::of(["still here"])), 0);
    broker.kill_9();
    // A lock that its holder's end releases: nothing to clean up by hand.
    let broker = Broker::start(dir.path());
    assert_eq!(Wire::connect(broker.kafka).values("t", 0), [b"still here"]);
}

#[test]
fn a_port_in_use_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind(own_address()).unwrap();
    let taken = holder.local_addr().unwrap();
    let said = refused_start_at(taken, dir.path(), &[]);
    assert!(
        said.contains(&format!("cannot listen on {taken}")),
        "{said}"
    );
    assert!(said.contains("--listen"), "{said}");
    let at_http = taken.to_string();
    let said = refused_start(dir.path(), &["--http", &at_http]);
    assert!(
        said.contains(&format!("cannot listen on {taken}")),
        "{said}"
    );
    assert!(said.contains("--http"), "{said}");
    drop(holder);

    // Another broker is no exception, though shards of one broker share a port.
    let first = Broker::start(dir.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let said = refused_start_at(first.kafka, elsewhere.path(), &[]);
    assert!(said.contains("--listen"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_made_or_written_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for data in [file.join("data"), file] {
        let said = refused_start(&data, &[]);
        assert!(said.contains("data directory"), "{said}");
        assert!(said.contains(&data.display().to_string()), "{said}");
    }
    // Nobody, root included, writes into /proc.
    let said = refused_start(Path::new("/proc/1"), &[]);
    assert!(said.contains("the data directory /proc/1"), "{said}");
}

#[test]
fn a_directory_of_a_newer_format_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    Broker::start(dir.path()).stop();
    let format = dir.path().join("format");
    let ours = std::fs::read_to_string(&format).unwrap();
    let newer = ours.replace("\"version\":1", "\"version\":999");
    assert_ne!(ours, newer);
    std::fs::write(&format, &newer).unwrap();
    let catalog = std::fs::read(dir.path().join("catalog.log")).unwrap();
    let said = refused_start(dir.path(), &[]);
    assert!(said.contains("has format 999"), "{said}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), newer);
    assert_eq!(
        std::fs::read(dir.path().join("catalog.log")).unwrap(),
        catalog
    );
    std::fs::write(&format, "not json").unwrap();
    let said = refused_start(dir.path(), &[]);
    assert!(said.contains("is not a data directory"), "{said}");
}

#[test]
fn a_directory_full_of_something_else_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let said = refused_start(dir.path(), &[]);
    assert!(said.contains("it is not empty"), "{said}");
    assert!(!dir.path().join("format").exists());
    let kept = std::fs::read_to_string(dir.path().join("thesis.txt"));
    assert_eq!(kept.unwrap(), "years of work");
}

#[test]
fn sighup_reloads_the_log_level_and_other_signals_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "log_level = \"warn\"\n").unwrap();
    let config = file.to_str().unwrap();
    let broker = Broker::with(&dir.path().join("data"), &["--config", config]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("untold", 1);
    std::fs::write(&file, "log_level = \"info\"\n").unwrap();
    broker.signal("HUP");
    eventually("it says what it reloaded", || {
        broker.log().contains("log_level is reloaded")
    });
    wire.create_topic("told", 1);
    // Its log arrives by a pipe, a moment after the reply.
    eventually("it logs the new topic", || {
        broker.log().contains("topic=\"told\"")
    });
    assert!(!broker.log().contains("topic=\"untold\""));
    std::fs::write(&file, "log_level = [1]\n").unwrap();
    broker.signal("HUP");
    eventually("it says why it did not", || {
        broker.log().contains("those in force stay")
    });
    broker.signal("USR1");
    broker.signal("USR2");
    wire.create_topic("still-told", 1);
    broker.signal("TERM");
    let (status, log) = broker.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn sigterm_sigint_and_sigquit_end_it_with_status_0_and_what_was_answered_stays() {
    for signal in ["TERM", "INT", "QUIT"] {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(dir.path());
        let mut wire = Wire::connect(broker.kafka);
        wire.create_topic("t", 4);
        let mut parked = Wire::connect(broker.kafka);
        let request = fetch("t", &[(0, 0)])
            .with_min_bytes(100 << 20)
            .with_max_wait_ms(3_600_000);
        parked.send(&request, FETCH);
        eventually("the fetch is parked", || {
            broker.metric("millstream_parked_fetches", "") == 1.0
        });
        // A pipeline of requests, stopped in the middle.
        const REQUESTS: usize = 60;
        for place in 0..REQUESTS {
            let batch = Batch::of([vec![place as u8; 5000]]).encode();
            wire.send(&produce("t", place as i32 % 4, -1, batch), PRODUCE);
        }
        wire.receive::<ProduceRequest>(PRODUCE);
        broker.signal(signal);
        let mut acknowledged = 1;
        while let Some(response) = wire.try_receive::<ProduceRequest>(PRODUCE) {
            let partition = partition_of(response);
            match partition.error_code {
                0 => acknowledged += 1,
                code => panic!("a reply of {code}: {partition:?}"),
            }
        }
        let reply = parked.try_receive::<FetchRequest>(FETCH);
        let data = fetched_partition(reply.expect("the reply leaves before the end"));
        assert_eq!(data.error_code, 0);
        let (status, log) = broker.wait();
        assert_eq!(status.code(), Some(0), "SIG{signal}:\n{log}");
        assert!(log.contains("stopped"), "{log}");
        assert!(!log.contains("ERROR"), "{log}");

        let broker = Broker::start(dir.path());
        let mut wire = Wire::connect(broker.kafka);
        let values: Vec<Vec<Vec<u8>>> = (0..4).map(|index| wire.values("t", index)).collect();
        for place in 0..acknowledged {
            let value = &values[place % 4][place / 4];
            assert_eq!(value, &vec![place as u8; 5000], "acknowledged, then lost");
        }
    }
}

#[test]
fn a_signal_right_after_the_ready_line_is_a_clean_stop_too() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        Broker::start(dir.path()).stop();
    }
}

#[test]
fn a_client_that_never_lets_go_does_not_keep_it_from_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--shutdown-timeout-ms", "200"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    for _ in 0..8 {
        wire.append("t", 0, &Batch::of([vec![b'x'; 1_000_000]]));
    }
    // Asks for much and reads nothing, so that its replies cannot leave.
    for _ in 0..10 {
        wire.send(&fetch("t", &[(0, 0)]), FETCH);
    }
    let _idle: Vec<Wire> = (0..20).map(|_| Wire::connect(broker.kafka)).collect();
    broker.stop();
}

#[test]
fn a_clean_stop_of_many_partitions_leaves_nothing_to_read_again() {
    const PARTITIONS: i32 = 600;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", PARTITIONS);
    let value = |index: i32| index.to_string();
    for index in 0..PARTITIONS {
        let batch = Batch::of([value(index)]).encode();
        wire.send(&produce("t", index, -1, batch), PRODUCE);
    }
    for _ in 0..PARTITIONS {
        let response = wire.receive::<ProduceRequest>(PRODUCE);
        assert_eq!(partition_of(response).error_code, 0);
    }
    broker.stop();
    let broker = Broker::start(dir.path());
    let found = format!("partitions={PARTITIONS} scanned_bytes=0 cut_bytes=0");
    eventually("all is told to be in order", || {
        broker.log().contains(&found)
    });
    let mut wire = Wire::connect(broker.kafka);
    for index in 0..PARTITIONS {
        assert_eq!(wire.values("t", index), [value(index).into_bytes()]);
    }
}

#[test]
fn the_number_of_cores_changes_nothing_that_a_client_sees() {
    const PARTITIONS: i32 = 8;
    let dir = tempfile::tempdir().unwrap();
    let mut id = 0;
    let mut before = None;
    for (run, cores) in ["2", "1", "3", "1", "2"].into_iter().enumerate() {
        let broker = Broker::with(dir.path(), &["--cores", cores]);
        let mut wire = Wire::connect(broker.kafka);
        if run == 0 {
            wire.create_topic("t", PARTITIONS);
            id = wire.new_producer_id();
        }
        // What the last run wrote is a retry now, whoever owns the partition.
        for index in 0..PARTITIONS {
            for sequence in (run as i32 - 1).max(0)..=run as i32 {
                let time = 1_000_000 + i64::from(sequence) * 10;
                let batch = Batch::at_times(&[time]).by(id, 0, sequence);
                let offset = wire.append("t", index, &batch);
                assert_eq!(offset, i64::from(sequence), "{cores} cores");
            }
        }
        let seen = everything(&mut wire, PARTITIONS, run as i32 + 1);
        if let Some(before) = before.replace(seen.clone()) {
            let start: Vec<_> = seen.iter().map(|all| all[..run].to_vec()).collect();
            assert_eq!(start, before, "{cores} cores");
        }
        // The second time right after a kill: recovery does not depend on it either.
        if run % 2 == 0 {
            broker.stop();
        } else {
            broker.kill_9();
        }
    }
}

/// Of each partition: each record's batch, byte by byte, and the offset found for its time.
fn everything(wire: &mut Wire, partitions: i32, records: i32) -> Vec<Vec<(Vec<u8>, i64)>> {
    let partition = |index: i32| {
        let batches = wire.read_from("t", index, 0);
        assert_eq!(batches.len(), records as usize);
        assert_eq!(wire.offset("t", index, -1), i64::from(records));
        assert_eq!(wire.offset("t", index, -2), 0);
        let found = |sequence: i64| {
            let at_time = wire.offset("t", index, 1_000_000 + sequence * 10 - 5);
            assert_eq!(at_time, sequence);
            at_time
        };
        let found: Vec<i64> = (0..i64::from(records)).map(found).collect();
        let bytes = batches.into_iter().map(|batch| batch.bytes);
        bytes.zip(found).collect()
    };
    (0..partitions).map(partition).collect()
}
