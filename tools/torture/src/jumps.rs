//! A wall clock that jumps while load runs: what must go on meanwhile, and what must not.

use crate::clock::Clock;
use crate::model::Model;
use crate::record::{self, Id, Shape};
use crate::requests::{self, Configs, NONE, PRODUCE};
use crate::rng::Rng;
use crate::squeeze;
use crate::violation::{Violation, violated};
use crate::wire::{Wire, text};
use anyhow::ensure;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId, JoinGroupRequest};
use kafka_protocol::records::Compression;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How far the clock is off while load runs. Twice the most is less than the seven days that records
/// and offsets of an idle group are kept for by default.
const JUMPS_MS: [i64; 9] = [
    0,
    -MINUTE_MS,
    MINUTE_MS,
    -HOUR_MS,
    HOUR_MS,
    -DAY_MS,
    DAY_MS,
    -3 * DAY_MS,
    3 * DAY_MS,
];
/// How far it is off when a broker starts. Between two starts a producer has not been silent for the
/// day after which it may be forgotten.
const START_MS: [i64; 4] = [0, 0, -10 * HOUR_MS, 10 * HOUR_MS];
const JUMP_EVERY_MAX: Duration = Duration::from_millis(120);
/// How long the clock jumps in a cycle.
const UNREST: Duration = Duration::from_secs(2);
const PROBE: &str = "probe-time";
const SILENT_GROUP: &str = "silent";
const SILENT_FOR: Duration = Duration::from_millis(700);
/// A member that is silent is gone by then.
const GONE_MAX: Duration = Duration::from_secs(30);
const MEMBER_ID_REQUIRED: i16 = 79;
const APPEND_TIMES: [i64; 3] = [0, DAY_MS, -DAY_MS];

/// How far the clock is off when the next broker starts.
pub fn before_start(clock: &Clock, rng: &mut Rng) -> io::Result<()> {
    clock.jump(*rng.pick(&START_MS))
}

/// Lets the clock jump for a while. A member that falls silent meanwhile is thrown out neither before
/// its session is over nor long after; and in the end, by a clock that is right, all is written.
/// Returns how often it jumped.
///
/// # Errors
/// A [`Violation`], or that the broker's clock does not follow.
pub fn run(model: &Arc<Model>, broker: SocketAddr, rng: &mut Rng) -> anyhow::Result<u64> {
    check_follows(model, broker)?;
    let silent = std::thread::spawn(move || watch_silent_member(broker));
    let until = Instant::now() + UNREST;
    let mut jumps = 0;
    while !(silent.is_finished() && Instant::now() > until) && model.violation().is_none() {
        model.clock.jump(*rng.pick(&JUMPS_MS))?;
        jumps += 1;
        std::thread::sleep(rng.time(JUMP_EVERY_MAX));
    }
    model.clock.jump(0)?;
    silent.join().expect("the watch does not panic")?;
    squeeze::wait_until_writable(model, broker)?;
    Ok(jumps)
}

/// Without the feature that makes its clock jump, a broker would pass for nothing.
fn check_follows(model: &Model, broker: SocketAddr) -> anyhow::Result<()> {
    let mut wire = Wire::connect(broker)?;
    let by_append = Configs::from([(
        "message.timestamp.type".to_owned(),
        "LogAppendTime".to_owned(),
    )]);
    let created = requests::create_topic(&mut wire, PROBE, 1, &by_append)?;
    let worker = model.new_worker();
    for (number, offset_ms) in (0..).zip(APPEND_TIMES) {
        model.clock.jump(offset_ms)?;
        let shape = Shape {
            keys: None,
            value_bytes_max: 10,
        };
        let ids = [Id { worker, number }];
        let batch = record::encode((PROBE, 0), shape, &ids, None, Compression::None);
        let response = wire.call(&requests::produce(PROBE, 0, -1, batch), PRODUCE)?;
        let off_ms = requests::append_time(&response).unwrap_or(0) - record::now_ms();
        ensure!(
            created == NONE && (off_ms - offset_ms).abs() < MINUTE_MS,
            "the broker's clock cannot be made to jump: build it with `--features sabotage` \
             (it is {off_ms} ms off instead of {offset_ms})"
        );
    }
    requests::delete_topic(&mut wire, PROBE)?;
    Ok(())
}

/// Joins a group, falls silent, and waits to be thrown out.
fn watch_silent_member(broker: SocketAddr) -> Result<(), Violation> {
    let watch = || -> io::Result<Result<(), Violation>> {
        let mut wire = Wire::connect(broker)?;
        let before = Instant::now();
        if let Err(error) = join_silent(&mut wire)? {
            return Ok(refused(error));
        }
        // The session begins when the broker answers, which is not before it was asked.
        loop {
            let members = members(&mut wire)?;
            let silent_for = before.elapsed();
            match members {
                0 if silent_for >= SILENT_FOR => return Ok(Ok(())),
                0 => return Ok(thrown_out(silent_for)),
                _ if silent_for > GONE_MAX => return Ok(stays(silent_for)),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    };
    watch().unwrap_or_else(|error| violated!(Broker, "no answer to a silent member: {error}"))
}

fn refused(error: i16) -> Result<(), Violation> {
    violated!(
        Broker,
        "JoinGroup of `{SILENT_GROUP}` is answered with error {error}"
    )
}

fn thrown_out(after: Duration) -> Result<(), Violation> {
    let (after, session) = (after.as_millis(), SILENT_FOR.as_millis());
    violated!(
        Broker,
        "a member was thrown out after {after} ms; its session is {session} ms long"
    )
}

fn stays(after: Duration) -> Result<(), Violation> {
    let (after, session) = (after.as_millis(), SILENT_FOR.as_millis());
    violated!(
        Broker,
        "a member is still there after {after} ms of silence; its session is {session} ms long"
    )
}

/// The error code, if there is one.
fn join_silent(wire: &mut Wire) -> io::Result<Result<(), i16>> {
    let mut member_id = String::new();
    loop {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(SILENT_GROUP)))
            .with_member_id(text(&member_id))
            .with_session_timeout_ms(SILENT_FOR.as_millis() as i32)
            .with_rebalance_timeout_ms(SILENT_FOR.as_millis() as i32)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let joined = wire.call(&request, 9)?;
        match joined.error_code {
            NONE => return Ok(Ok(())),
            MEMBER_ID_REQUIRED => member_id = joined.member_id.to_string(),
            error => return Ok(Err(error)),
        }
    }
}

fn members(wire: &mut Wire) -> io::Result<usize> {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(SILENT_GROUP))]);
    Ok(wire.call(&request, 5)?.groups[0].members.len())
}
