//! The limits of docs/operating.md, reached: the protocol's error or a closed connection, a counter, a
//! line in the log; and nobody else notices.

use crate::support::batch::Batch;
use crate::support::group;
use crate::support::wire::*;
use crate::support::{Broker, eventually};
use bytes::Bytes;
use kafka_protocol::messages::*;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const UNKNOWN_SERVER_ERROR: i16 = -1;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const KAFKA_STORAGE_ERROR: i16 = 56;
const GROUP_MAX_SIZE_REACHED: i16 = 81;

fn reached(broker: &Broker, knob: &str) -> f64 {
    let label = format!("limit=\"{knob}\"");
    broker.metric("millstream_limit_reached_total", &label)
}

/// It was counted, and told of in one line, however often it was reached.
fn is_told_of(broker: &Broker, knob: &str) {
    assert!(reached(broker, knob) >= 1.0, "{knob} was not counted");
    let named = format!("limit=\"{knob}\"");
    let lines = |log: &str| log.lines().filter(|line| line.contains(&named)).count();
    eventually("the operator is told", || lines(&broker.log()) > 0);
    // One in ten seconds: a test that took longer than a minute would be stuck.
    assert!(lines(&broker.log()) <= 9, "{}", broker.log());
}

#[test]
fn one_address_may_have_so_many_connections_and_open_so_many_in_a_second() {
    for (knob, flag) in [
        (
            "connections_per_address_max",
            "--connections-per-address-max",
        ),
        (
            "connection_rate_per_address_max",
            "--connection-rate-per-address-max",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::with(dir.path(), &[flag, "3"]);
        let mut wires = Vec::new();
        eventually("one is too many", || {
            wires.push(Wire::connect(broker.kafka));
            let wire = wires.last_mut().unwrap();
            wire.send(&MetadataRequest::default(), METADATA);
            wire.try_receive::<MetadataRequest>(METADATA).is_none()
        });
        assert!(wires.len() > 3, "{knob}");
        is_told_of(&broker, knob);
        let closed = broker.metric("millstream_connections_closed_total", "too_many");
        assert!(closed >= 1.0);
        assert!(wires[0].topics().is_empty(), "the first one is served");
    }
}

#[test]
fn a_request_that_trickles_in_is_given_up_and_one_that_comes_in_pieces_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--frame-timeout-ms",
        "2000",
        "--frame-bytes-per-second-min",
        "1000",
    ];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let mut dripping = TcpStream::connect(broker.kafka).unwrap();
    dripping.write_all(&1_000_000_i32.to_be_bytes()).unwrap();
    let mut half = TcpStream::connect(broker.kafka).unwrap();
    half.write_all(&[0, 0]).unwrap();
    let mut pieces = Wire::connect(broker.kafka);
    let batch = Batch::of([vec![b'x'; 1_000_000]]).encode();
    let whole = frame(&produce("t", 0, -1, batch), PRODUCE, 1);
    let mut sent = whole.chunks(whole.len() / 100);
    eventually("both are closed", || {
        let _ = dripping.write_all(&[0]);
        if let Some(piece) = sent.next() {
            pieces.stream().write_all(piece).unwrap();
        }
        broker.metric("millstream_connections_closed_total", "stalled_frame") >= 2.0
    });
    for piece in sent {
        pieces.stream().write_all(piece).unwrap();
    }
    assert!(pieces.receive_frame().is_some(), "it came fast enough");
    is_told_of(&broker, "frame_bytes_per_second_min");
}

#[test]
fn a_silent_connection_is_closed_and_one_that_waits_for_a_reply_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--connection-idle-ms", "1000"]);
    Wire::connect(broker.kafka).create_topic("t", 1);
    let mut parked = Wire::connect(broker.kafka);
    let waits = fetch("t", &[(0, 0)]).with_max_wait_ms(3_600_000);
    parked.send(&waits, FETCH);
    assert!(Wire::connect(broker.kafka).is_closed_by_broker());
    assert!(broker.metric("millstream_connections_closed_total", "idle") >= 1.0);
    Wire::connect(broker.kafka).append("t", 0, &Batch::of([b"a".to_vec()]));
    let data = fetched_partition(parked.receive::<FetchRequest>(FETCH));
    assert!(data.records.is_some_and(|records| !records.is_empty()));
}

#[test]
fn a_frame_that_is_too_large_is_counted_under_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--frame-bytes-max", "64KiB"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.stream().write_all(&65_537_i32.to_be_bytes()).unwrap();
    assert!(wire.is_closed_by_broker());
    is_told_of(&broker, "frame_bytes_max");
}

#[test]
fn connections_that_sent_large_requests_do_not_keep_their_memory() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let before = broker.own_memory_bytes();
    let batch = Batch::of([vec![b'x'; 900_000]]).encode();
    let mut wires = Vec::new();
    for _ in 0..200 {
        let mut wire = Wire::connect(broker.kafka);
        assert_eq!(wire.produce("t", 0, batch.clone()).error_code, 0);
        wires.push(wire);
    }
    let grown = broker.own_memory_bytes().saturating_sub(before);
    assert!(
        grown < 48 << 20,
        "{} connections hold {grown} bytes",
        wires.len()
    );
}

/// docs/operating.md states both bounds, for the default limits.
#[test]
fn ten_thousand_connections_hold_what_the_operator_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--connections-max", "10100"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let before = broker.own_memory_bytes();
    let batch = Batch::of([vec![b'x'; 20_000]]).encode();
    // This process and the broker hold one descriptor for each.
    let count = 10_000.min(open_files_max() as usize * 3 / 4);
    let mut wires: Vec<Wire> = (0..count).map(|_| Wire::connect(broker.kafka)).collect();
    for (number, wire) in wires.iter_mut().enumerate() {
        if number % 10 == 0 {
            assert_eq!(wire.produce("t", 0, batch.clone()).error_code, 0);
        } else {
            assert_eq!(wire.topics(), ["t"]);
        }
    }
    let idle = || broker.own_memory_bytes().saturating_sub(before) as usize;
    // About 20 KiB each in a release; what this build makes is larger.
    eventually("idle connections hold what they may", || {
        idle() < count * (32 << 10)
    });

    // Half a request of each: more than the budget of all together would let in.
    let frame = frame(
        &produce("t", 0, -1, Batch::of([vec![b'x'; 200_000]]).encode()),
        PRODUCE,
        1,
    );
    for wire in &mut wires {
        wire.stream().set_nonblocking(true).unwrap();
        let _ = wire.stream().write(&frame[..frame.len() / 2]);
    }
    for _ in 0..10 {
        assert_eq!(wire.topics(), ["t"]);
    }
    let busy = broker.own_memory_bytes();
    assert!(busy < 2_560 << 20, "{busy} bytes with {count} connections");
    drop(wires);
    eventually("what they held is given back", || idle() < 64 << 20);
}

fn open_files_max() -> u64 {
    millstream::io::process::raise_open_files().unwrap()
}

/// Each of many connections asks for much and reads nothing, or waits for what does not come.
#[test]
fn memory_that_hostile_requests_fill_is_bounded_and_who_waits_for_replies_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--inflight-bytes-max", "4MiB", "--frame-bytes-max", "2MiB"];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    for _ in 0..4 {
        wire.append("t", 0, &Batch::of([vec![b'x'; 900_000]]));
    }
    let before = broker.own_memory_bytes();
    let hostile = |offset: i64, wait_ms: i32| {
        let request = fetch("t", &[(0, offset)]).with_max_wait_ms(wait_ms);
        let frames = frame(&request, FETCH, 1).repeat(64);
        let mut stream = TcpStream::connect(broker.kafka).unwrap();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write(&frames);
        stream
    };
    let never_read: Vec<TcpStream> = (0..60).map(|_| hostile(0, 0)).collect();
    let parked: Vec<TcpStream> = (0..60).map(|_| hostile(4, 3_600_000)).collect();
    eventually("there is no memory left for them", || {
        reached(&broker, "inflight_bytes_max") > 0.0
    });
    for _ in 0..20 {
        let offset = wire.append("t", 0, &Batch::of(["x"]));
        assert!(wire.fetch("t", 0, offset).records.is_some());
    }
    is_told_of(&broker, "inflight_bytes_max");
    let used = broker.metric("millstream_inflight_bytes", "");
    assert!(used <= f64::from(4 << 20), "{used}");
    // Beside the budget: what each connection may have.
    let most = (4 << 20) + (never_read.len() + parked.len()) as u64 * (200 << 10);
    let grown = broker.own_memory_bytes().saturating_sub(before);
    assert!(grown < most, "it holds {grown} bytes more, not {most}");
    eventually("who reads nothing is closed while memory is short", || {
        broker.metric("millstream_connections_closed_total", "stalled_reply") > 0.0
    });
}

/// Requests of which half has come hold memory and wait for more of it.
#[test]
fn requests_that_stop_half_way_leave_room_for_others_and_go_when_memory_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--inflight-bytes-max",
        "16MiB",
        "--frame-bytes-max",
        "16MiB",
    ];
    let broker = Broker::with(dir.path(), &[&flags[..], &["--cores", "1"]].concat());
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let half = |_| {
        let mut stream = TcpStream::connect(broker.kafka).unwrap();
        stream.set_nonblocking(true).unwrap();
        let announced = (12_i32 << 20).to_be_bytes();
        let _ = stream.write(&[&announced[..], &[0; 4 << 20]].concat());
        stream
    };
    let mut stopped: Vec<TcpStream> = (0..20).map(half).collect();
    let more = |stopped: &mut Vec<TcpStream>| {
        for stream in stopped {
            let _ = stream.write(&[0; 1 << 20]);
        }
    };
    eventually("there is no memory left for them", || {
        more(&mut stopped);
        reached(&broker, "inflight_bytes_max") > 0.0
    });
    let small = frame(&produce("t", 0, -1, Batch::of(["x"]).encode()), PRODUCE, 1);
    let mut pieces = Wire::connect(broker.kafka);
    for piece in [&small[..20], &small[20..]] {
        pieces.stream().write_all(piece).unwrap();
        // It is to be read before the rest comes.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(pieces.receive_frame().is_some());
    wire.append("t", 0, &Batch::of([vec![b'x'; 200 << 10]]));
    eventually("the slowest are closed", || {
        broker.metric("millstream_connections_closed_total", "slow_frame") > 0.0
    });
}

#[test]
fn a_connection_is_held_back_by_its_own_limits() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--connection-inflight-requests-max", "2"];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let waits = fetch("t", &[(0, 0)]).with_max_wait_ms(3_600_000);
    for _ in 0..10 {
        wire.send(&waits, FETCH);
    }
    eventually("it is held back", || {
        reached(&broker, "connection_inflight_requests_max") > 0.0
    });
    is_told_of(&broker, "connection_inflight_requests_max");
    Wire::connect(broker.kafka).append("t", 0, &Batch::of(["a"]));
    for _ in 0..10 {
        assert!(
            fetched_partition(wire.receive::<FetchRequest>(FETCH))
                .records
                .is_some()
        );
    }
}

#[test]
fn requests_of_an_address_beyond_its_rate_wait_and_all_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--request-rate-per-address-max", "20"]);
    let mut wires = [Wire::connect(broker.kafka), Wire::connect(broker.kafka)];
    let began = Instant::now();
    for _ in 0..20 {
        for wire in &mut wires {
            wire.send(&MetadataRequest::default(), METADATA);
        }
    }
    for _ in 0..20 {
        for wire in &mut wires {
            wire.receive::<MetadataRequest>(METADATA);
        }
    }
    // A second's worth comes at once, the other half in its time.
    assert!(began.elapsed() >= Duration::from_millis(950));
    is_told_of(&broker, "request_rate_per_address_max");
}

#[test]
fn a_connections_requests_keep_to_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--connection-inflight-bytes-max", "64KiB"];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 2);
    // Whatever comes behind it keeps its place until there is a record in the other partition.
    wire.send(&fetch("t", &[(1, 0)]).with_max_wait_ms(3_600_000), FETCH);
    let batch = Batch::of([vec![b'x'; 40 << 10]]).encode();
    for _ in 0..4 {
        wire.send(&produce("t", 0, -1, batch.clone()), PRODUCE);
    }
    eventually("it is held back", || {
        reached(&broker, "connection_inflight_bytes_max") > 0.0
    });
    is_told_of(&broker, "connection_inflight_bytes_max");
    Wire::connect(broker.kafka).append("t", 1, &Batch::of(["a"]));
    let fetched = fetched_partition(wire.receive::<FetchRequest>(FETCH));
    assert!(fetched.records.is_some());
    for offset in 0..4 {
        let produced = partition_of(wire.receive::<ProduceRequest>(PRODUCE));
        assert_eq!(produced.base_offset, offset);
    }
}

#[test]
fn one_parked_fetch_too_many_is_answered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--parked-fetches-max", "1", "--cores", "1"]);
    let mut parked = Wire::connect(broker.kafka);
    parked.create_topic("t", 1);
    let waits = fetch("t", &[(0, 0)]).with_max_wait_ms(3_600_000);
    parked.send(&waits, FETCH);
    eventually("the first is parked", || {
        broker.metric("millstream_parked_fetches", "") == 1.0
    });
    let data = fetched_partition(Wire::connect(broker.kafka).call(&waits, FETCH));
    assert_eq!(data.error_code, 0);
    is_told_of(&broker, "parked_fetches_max");
}

#[test]
fn one_topic_and_one_partition_too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--topics-max", "2", "--partitions-max", "5"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("a", 3);
    let refused = wire.try_create_topic("b", 3, &[]);
    assert_eq!(refused.error_code, POLICY_VIOLATION);
    is_told_of(&broker, "partitions_max");
    wire.create_topic("b", 1);
    let refused = wire.try_create_topic("c", 1, &[]);
    assert_eq!(refused.error_code, POLICY_VIOLATION);
    is_told_of(&broker, "topics_max");
}

#[test]
fn one_group_one_member_and_one_byte_too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--groups-max",
        "2",
        "--group-metadata-bytes-max",
        "8KiB",
        "--group-initial-rebalance-delay-ms",
        "0",
        "--cores",
        "1",
    ];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    let mut join = |group: &str, bytes: usize| {
        let range = group::protocol("range", vec![0; bytes].into());
        let request = group::join(group, "").with_protocols(vec![range]);
        // Version 3: nobody is asked to come back with an id.
        wire.call(&request, 3).error_code
    };
    assert_eq!(join("g", 9000), GROUP_MAX_SIZE_REACHED);
    is_told_of(&broker, "group_metadata_bytes_max");
    assert_eq!(join("g", 4000), 0);
    assert_eq!(join("second", 10), 0);
    assert_eq!(join("third", 10), GROUP_MAX_SIZE_REACHED);
    is_told_of(&broker, "groups_max");
}

#[test]
fn a_member_that_names_very_many_protocols_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--cores", "1"]);
    let mut wire = Wire::connect(broker.kafka);
    let name = |number| group::protocol(&format!("{number:012}"), Bytes::new());
    let protocols = (0..150_000).map(name).collect();
    let request = group::join("g", "").with_protocols(protocols);
    assert_eq!(wire.call(&request, 3).error_code, INVALID_REQUEST);
    is_told_of(&broker, "group_protocols_max");
    assert_eq!(group::describe(&mut wire, "g").0, "Dead");
}

#[test]
fn more_members_than_a_group_can_have_are_not_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--group-max-size",
        "3",
        "--group-initial-rebalance-delay-ms",
        "0",
    ];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    let joined = wire.call(&group::join("g", ""), 3);
    for (count, code) in [(6, 0), (7, INVALID_REQUEST)] {
        let names: Vec<String> = (0..count).map(|number| format!("m{number}")).collect();
        let assignments: Vec<(&str, &[u8])> =
            names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        let sync = group::sync("g", &joined.member_id, 1, &assignments);
        assert_eq!(wire.call(&sync, 3).error_code, code);
        let mut leave = group::leave("g", "m", 3);
        leave.members = vec![leave.members[0].clone(); count];
        assert_eq!(wire.call(&leave, 3).error_code, code);
    }
    is_told_of(&broker, "group_max_size");
}

#[test]
fn a_reply_about_offsets_waits_for_memory_before_it_is_built() {
    const PARTITIONS: i32 = 2_000;
    const REPLY_BYTES: u64 = PARTITIONS as u64 * 4_000;
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--cores",
        "1",
        "--inflight-bytes-max",
        "32MiB",
        "--frame-bytes-max",
        "16MiB",
    ];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("big", PARTITIONS);
    let offsets: Vec<(i32, i64)> = (0..PARTITIONS).map(|index| (index, 5)).collect();
    let note = text(&"m".repeat(4_000));
    for offsets in offsets.chunks(500) {
        let mut request = group::commit("g", "big", offsets);
        for partition in &mut request.topics[0].partitions {
            partition.committed_metadata = Some(note.clone());
        }
        assert_eq!(group::commit_error(&wire.call(&request, 8)), 0);
    }
    let before = broker.own_memory_bytes();
    // So many that nobody reads would take 320 MB.
    let asked: Vec<Wire> = (0..40)
        .map(|_| {
            let mut wire = Wire::connect(broker.kafka);
            wire.send(&group::fetch_offsets_of(&[("g", None)]), 8);
            wire
        })
        .collect();
    eventually("they wait for memory", || {
        reached(&broker, "inflight_bytes_max") >= 1.0
    });
    // Whatever the others do in this time only adds to what they hold.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        let taken = broker.own_memory_bytes().saturating_sub(before);
        assert!(taken < 12 * REPLY_BYTES, "{taken}");
    }
    for mut wire in asked {
        let response = wire.receive::<OffsetFetchRequest>(8);
        let partitions = &response.groups[0].topics[0].partitions;
        assert_eq!(partitions.len(), PARTITIONS as usize);
    }
}

#[test]
fn members_that_wait_for_their_group_hold_no_memory_of_requests() {
    const METADATA_BYTES: usize = 200 << 10;
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--cores",
        "2",
        "--inflight-bytes-max",
        "4MiB",
        "--frame-bytes-max",
        "2MiB",
        // Groups that nothing is left of vanish.
        "--offsets-retention-check-interval-ms",
        "50",
        // So that they wait.
        "--group-initial-rebalance-delay-ms",
        "600000",
    ];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let waiting: Vec<Wire> = (0..40)
        .map(|number| {
            let range = group::protocol("range", vec![0; METADATA_BYTES].into());
            let name = format!("g{number}");
            let mut wire = Wire::connect(broker.kafka);
            wire.send(&group::join(&name, "").with_protocols(vec![range]), 3);
            wire
        })
        .collect();
    eventually("all are stored in their groups", || {
        broker.metric("millstream_group_bytes", "") > (40 * METADATA_BYTES) as f64
    });
    // Each was charged five times its bytes while it was decoded.
    eventually("they hold what an entry in the queue takes", || {
        broker.metric("millstream_inflight_bytes", "") <= f64::from(40 * (8 << 10))
    });
    let large = Batch::of([vec![b'x'; 900 << 10]]);
    assert_eq!(wire.append("t", 0, &large), 0);
    drop(waiting);
    eventually("they leave with their connections", || {
        broker.metric("millstream_group_bytes", "") == 0.0
    });
}

#[test]
fn a_static_member_that_comes_back_writes_no_more_than_a_groups_record_may_have() {
    const RECORD_BYTES: usize = 64 << 10;
    const RETURNS: usize = 30;
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--cores",
        "1",
        "--group-record-bytes-max",
        "64KiB",
        "--group-initial-rebalance-delay-ms",
        "0",
    ];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    let named = |instance: &str, bytes: usize| {
        let range = group::protocol("range", vec![0; bytes].into());
        group::join("g", "")
            .with_group_instance_id(Some(text(instance)))
            .with_protocols(vec![range])
    };
    let big = wire.call(&named("big", RECORD_BYTES), 5);
    assert_eq!(big.error_code, GROUP_MAX_SIZE_REACHED);
    is_told_of(&broker, "group_record_bytes_max");
    let joined = wire.call(&named("big", RECORD_BYTES / 2), 5);
    assert_eq!(joined.error_code, 0);
    let assigning = |assignment: &[u8]| {
        let sync = group::sync(
            "g",
            &joined.member_id,
            1,
            &[(&joined.member_id, assignment)],
        );
        sync.with_group_instance_id(Some(text("big")))
    };
    let synced = wire.call(&assigning(&[0; RECORD_BYTES]), 3);
    assert_eq!(synced.error_code, UNKNOWN_SERVER_ERROR);
    let again = named("big", RECORD_BYTES / 2).with_member_id(joined.member_id.clone());
    let joined_again = wire.call(&again, 5);
    let sync = assigning(b"small").with_generation_id(joined_again.generation_id);
    assert_eq!(wire.call(&sync, 3).error_code, 0);
    let written = || {
        broker.metric(
            "millstream_topic_appended_bytes_total",
            "__consumer_offsets",
        )
    };
    let before = written();
    for _ in 0..RETURNS {
        wire.send(&named("big", RECORD_BYTES / 2), 5);
    }
    for _ in 0..RETURNS {
        // A later return fences an earlier one that is not answered yet.
        wire.receive::<JoinGroupRequest>(5);
    }
    let per_return = (written() - before) as usize / RETURNS;
    assert!(per_return <= RECORD_BYTES, "{per_return}");
}

#[test]
fn what_all_groups_take_is_counted_limited_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--groups-bytes-max",
        "1MiB",
        "--group-initial-rebalance-delay-ms",
        "0",
    ];
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    let taken = || broker.metric("millstream_group_bytes", "");
    assert_eq!(taken(), 0.0);
    // Members that get an id and leave: nothing is left of them.
    let name = |number: usize| format!("{number:0>30000}");
    for number in 0..100 {
        let given = wire.call(&group::join(&name(number), ""), 4);
        assert_eq!(given.error_code, group::MEMBER_ID_REQUIRED);
        assert!(taken() > 30_000.0);
        let left = group::leave(&name(number), &given.member_id, 2);
        assert_eq!(wire.call(&left, 2).error_code, 0);
        assert_eq!(taken(), 0.0);
    }
    // Ids that nobody comes back for take room, until a group with such a name finds none.
    let given: Vec<_> = (0..100)
        .map(|number| wire.call(&group::join(&name(number), ""), 4))
        .take_while(|given| given.error_code == group::MEMBER_ID_REQUIRED)
        .collect();
    assert!((10..20).contains(&given.len()), "{}", given.len());
    assert!(taken() <= f64::from(1 << 20));
    is_told_of(&broker, "groups_bytes_max");
    let commit = group::commit(&name(99), "t", &[(0, 1)]);
    let refused = wire.call(&commit, 8);
    assert_eq!(group::commit_error(&refused), GROUP_MAX_SIZE_REACHED);
    let left = group::leave(&name(0), &given[0].member_id, 2);
    assert_eq!(wire.call(&left, 2).error_code, 0);
    assert_eq!(group::commit_error(&wire.call(&commit, 8)), 0);
    // What is there may be committed again, room or not.
    for _ in 0..100 {
        assert_eq!(group::commit_error(&wire.call(&commit, 8)), 0);
    }
}

#[test]
fn a_disk_with_less_than_what_is_to_stay_free_takes_no_records_but_still_offsets_and_deletions() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--free-bytes-min", "1000000GiB"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 1);
    for _ in 0..50 {
        let refused = wire.produce("t", 0, Batch::of(["a"]).encode());
        assert_eq!(refused.error_code, KAFKA_STORAGE_ERROR);
    }
    is_told_of(&broker, "free_bytes_min");
    assert!(broker.log().matches("no room for new records").count() <= 9);
    let committed = wire.call(&group::commit("g", "t", &[(0, 1)]), 8);
    assert_eq!(group::commit_error(&committed), 0);
    assert_eq!(wire.delete_topic("t"), 0);
    wire.create_topic("t", 1);
}

#[test]
fn one_segment_too_many_is_not_mapped_and_those_that_are_take_records() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--maps-max", "16"]);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("t", 20);
    let mut codes = Vec::new();
    for index in 0..20 {
        codes.push(
            wire.produce("t", index, Batch::of(["a"]).encode())
                .error_code,
        );
    }
    assert_eq!(codes[..16], [0; 16]);
    assert_eq!(codes[16..], [KAFKA_STORAGE_ERROR; 4]);
    assert_eq!(broker.metric("millstream_maps", ""), 16.0);
    is_told_of(&broker, "maps_max");
    assert_eq!(wire.append("t", 3, &Batch::of(["b"])), 1);
}
