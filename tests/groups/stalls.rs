//! A broker that stands still for a while: whose sessions end then.

use super::broker;
use crate::support::Broker;
use crate::support::group::*;
use kafka_protocol::messages::HeartbeatRequest;
use std::time::Duration;

const SESSION_MS: i32 = 3_000;
const STILL: Duration = Duration::from_millis(4_000);
const GROUPS: usize = 24;

/// Stops the process. All of its threads stand still when this returns.
fn freeze(broker: &Broker) {
    broker.signal("STOP");
    let tasks = format!("/proc/{}/task", broker.pid());
    crate::support::eventually("all threads stand still", || {
        std::fs::read_dir(&tasks).unwrap().all(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            let state = stat.rsplit(')').next().unwrap().trim_start();
            state.starts_with('T')
        })
    });
}

#[test]
fn sessions_of_members_whose_heartbeats_came_while_the_broker_stood_still_go_on() {
    let (_dir, broker, _wire) = broker();
    let names = (0..GROUPS).map(|number| format!("g{number}"));
    let mut members: Vec<Member> = names.map(|name| Member::new(broker.kafka, &name)).collect();
    let mut silent = Member::new(broker.kafka, "silent");
    for member in members.iter_mut().chain([&mut silent]) {
        member.settle(1);
    }
    // Only now sessions are short: what comes until the broker stands still takes no time.
    for member in members.iter_mut().chain([&mut silent]) {
        member.request.session_timeout_ms = SESSION_MS;
        member.settle(1);
    }
    freeze(&broker);
    for member in &mut members {
        let beat = heartbeat(&member.group, &member.id, member.generation);
        member.wire.send(&beat, HEARTBEAT);
    }
    // All sessions end in this time.
    std::thread::sleep(STILL);
    broker.signal("CONT");
    for member in &mut members {
        let beat = member.wire.receive::<HeartbeatRequest>(HEARTBEAT);
        assert_eq!(beat.error_code, NONE, "{}", member.group);
    }
    // Those who sent nothing are out.
    crate::support::eventually("a silent member is out", || {
        describe(&mut members[0].wire, "silent").1 == 0
    });
}
