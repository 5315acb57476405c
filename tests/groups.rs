//! Consumer groups, as real clients use them and frame by frame.

mod admin;
mod clients;
mod lag;
mod membership;
mod offsets;
mod restarts;
mod stalls;
mod storage;

use crate::support::Broker;
use crate::support::wire::Wire;

/// Groups do not wait for members that might come, and sessions may be short.
const FLAGS: [&str; 6] = [
    "--group-initial-rebalance-delay-ms",
    "0",
    "--group-min-session-timeout-ms",
    "100",
    "--offsets-topic-num-partitions",
    "8",
];

/// A broker with the topic `t` of four partitions.
fn broker() -> (tempfile::TempDir, Broker, Wire) {
    broker_with(&[])
}

fn broker_with(flags: &[&str]) -> (tempfile::TempDir, Broker, Wire) {
    let (dir, broker, mut wire) = crate::support::broker_with(&[&FLAGS, flags].concat());
    wire.create_topic("t", 4);
    (dir, broker, wire)
}

/// Comes back after a kill -9, at another port.
fn after_kill_9(dir: &tempfile::TempDir, broker: Broker) -> (Broker, Wire) {
    broker.kill_9();
    let broker = Broker::with(dir.path(), &FLAGS);
    let wire = Wire::connect(broker.kafka);
    (broker, wire)
}
