//! Groups of real consumers: librdkafka decides when to join, to assign and to commit.

use super::{FLAGS, broker};
use crate::support::batch::Batch;
use crate::support::group::{Member, VERY_LONG_MS, committed, describe};
use crate::support::wire::*;
use crate::support::{Broker, HANG, eventually};
use bytes::Buf;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer,
};
use rdkafka::message::Message;
use rdkafka::{ClientContext, TopicPartitionList};
use std::collections::BTreeMap;
use std::net::SocketAddr;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;

fn config(broker: SocketAddr, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.to_string())
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("heartbeat.interval.ms", "50")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100");
    config
}

/// How often each record was processed, by partition and offset.
#[derive(Default)]
struct Processed(Mutex<BTreeMap<(i32, i64), usize>>);

impl Processed {
    fn note(&self, partition: i32, offset: i64) {
        let mut all = self.0.lock().unwrap();
        *all.entry((partition, offset)).or_default() += 1;
    }

    fn has_all(&self, records: i64) -> bool {
        self.0.lock().unwrap().len() as i64 == records * i64::from(PARTITIONS)
    }
}

/// Consumes the topic `t` until it is told to leave; every record is committed once it is processed.
fn consume(broker: SocketAddr, processed: &Processed, leave: &AtomicBool) {
    let consumer: BaseConsumer = config(broker, "g").create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    while !leave.load(Ordering::Relaxed) {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else {
            continue;
        };
        processed.note(message.partition(), message.offset());
        // Whoever has lost the partition meanwhile is refused, and the next owner does it again.
        let _ = consumer.commit_message(&message, CommitMode::Sync);
    }
}

/// How many partitions a consumer was given and had to give back.
#[derive(Default)]
struct Owned {
    assigned: AtomicUsize,
    revoked: AtomicUsize,
}

impl Owned {
    fn count(&self) -> usize {
        let assigned = self.assigned.load(Ordering::SeqCst);
        assigned - self.revoked.load(Ordering::SeqCst)
    }
}

struct Watched(Arc<Owned>);

impl ClientContext for Watched {}

impl ConsumerContext for Watched {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.0.assigned.fetch_add(list.count(), Ordering::SeqCst),
            Rebalance::Revoke(list) => self.0.revoked.fetch_add(list.count(), Ordering::SeqCst),
            Rebalance::Error(error) => panic!("{error}"),
        };
    }
}

/// As [`consume`], and keeps what it owns over rebalances as far as it may (KIP-429).
fn consume_cooperatively(
    broker: SocketAddr,
    processed: &Processed,
    leave: &AtomicBool,
    owned: Arc<Owned>,
) {
    let mut config = config(broker, "g");
    config.set("partition.assignment.strategy", "cooperative-sticky");
    let consumer: BaseConsumer<Watched> = config.create_with_context(Watched(owned)).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    while !leave.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            processed.note(message.partition(), message.offset());
            let _ = consumer.commit_message(&message, CommitMode::Sync);
        }
    }
}

fn produce_everywhere(wire: &mut Wire, records: i64) {
    for index in 0..PARTITIONS {
        let values = (0..records).map(|number| number.to_string());
        wire.append("t", index, &Batch::of(values));
    }
}

/// Waits until all that was produced is processed and committed.
fn await_all(wire: &mut Wire, processed: &Processed, records: i64) {
    eventually("all records are processed", || processed.has_all(records));
    eventually("all records are committed", || {
        (0..PARTITIONS).all(|index| committed(wire, "g", "t", index) == records)
    });
}

/// Whoever comes next starts after what was committed.
fn nothing_is_processed_again(broker: SocketAddr, wire: &mut Wire, records: i64) {
    produce_everywhere(wire, 1);
    let consumer: BaseConsumer = config(broker, "g").create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    let mut seen = Vec::new();
    let until = Instant::now() + HANG;
    while seen.len() < PARTITIONS as usize {
        assert!(Instant::now() < until, "only {seen:?}");
        if let Some(message) = consumer.poll(Duration::from_millis(20)) {
            let message = message.unwrap();
            seen.push((message.partition(), message.offset()));
        }
    }
    seen.sort();
    let expected: Vec<(i32, i64)> = (0..PARTITIONS).map(|index| (index, records)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn members_that_come_go_and_die_process_every_record() {
    let (_dir, broker, mut wire) = broker();
    let processed = Processed::default();
    let leave = [const { AtomicBool::new(false) }; 3];
    std::thread::scope(|scope| {
        let start = |member: usize| {
            let (processed, leave) = (&processed, &leave[member]);
            let address = broker.kafka;
            scope.spawn(move || consume(address, processed, leave))
        };
        start(0);
        let second = start(1);
        produce_everywhere(&mut wire, 50);
        await_all(&mut wire, &processed, 50);
        start(2);
        eventually("the third has joined", || {
            describe(&mut wire, "g") == ("Stable".to_owned(), 3)
        });
        produce_everywhere(&mut wire, 50);
        await_all(&mut wire, &processed, 100);
        leave[1].store(true, Ordering::Relaxed);
        second.join().unwrap();
        eventually("the second has left", || {
            describe(&mut wire, "g") == ("Stable".to_owned(), 2)
        });
        produce_everywhere(&mut wire, 50);
        await_all(&mut wire, &processed, 150);

        // One more takes partitions over and dies without a word.
        let mut mortal = Member::new(broker.kafka, "g");
        mortal.request.session_timeout_ms = 1000;
        mortal.request.rebalance_timeout_ms = VERY_LONG_MS;
        let assigned = loop {
            if mortal.id.is_empty() {
                mortal.get_id();
            }
            mortal.send_join();
            if mortal.receive_join().error_code != 0 {
                // It was too slow: from the beginning.
                mortal = Member::new(broker.kafka, "g");
                mortal.request.session_timeout_ms = 1000;
                continue;
            }
            let synced = mortal.sync(&[]);
            if synced.error_code == 0 {
                break synced.assignment;
            }
        };
        let mut topics = &assigned[2..];
        assert_eq!(topics.get_i32(), 1, "it has partitions of one topic");
        drop(mortal);
        produce_everywhere(&mut wire, 50);
        await_all(&mut wire, &processed, 200);
        for leave in &leave {
            leave.store(true, Ordering::Relaxed);
        }
    });
    assert_eq!(describe(&mut wire, "g"), ("Empty".to_owned(), 0));
    nothing_is_processed_again(broker.kafka, &mut wire, 200);
}

#[test]
fn cooperative_consumers_give_back_only_what_others_take_over() {
    let owned: [Arc<Owned>; 2] = Default::default();
    let [first, second] = &owned;
    let (_dir, broker, mut wire) = broker();
    let processed = Processed::default();
    let leave = [const { AtomicBool::new(false) }; 2];
    let all = PARTITIONS as usize;
    std::thread::scope(|scope| {
        let start = |member: usize| {
            let (processed, leave) = (&processed, &leave[member]);
            let owned = Arc::clone(&owned[member]);
            let address = broker.kafka;
            scope.spawn(move || consume_cooperatively(address, processed, leave, owned))
        };
        start(0);
        eventually("the first has everything", || first.count() == all);
        produce_everywhere(&mut wire, 50);
        let leaving = start(1);
        eventually("the second has its share", || second.count() == all / 2);
        assert_eq!(first.revoked.load(Ordering::SeqCst), all / 2);
        produce_everywhere(&mut wire, 50);
        await_all(&mut wire, &processed, 100);
        leave[1].store(true, Ordering::Relaxed);
        leaving.join().unwrap();
        eventually("the first has everything again", || first.count() == all);
        assert_eq!(first.revoked.load(Ordering::SeqCst), all / 2);
        produce_everywhere(&mut wire, 50);
        await_all(&mut wire, &processed, 150);
        leave[0].store(true, Ordering::Relaxed);
    });
    nothing_is_processed_again(broker.kafka, &mut wire, 150);
}

#[tokio::test]
async fn a_consumer_resumes_where_its_group_has_committed() {
    let (_dir, broker, mut wire) = broker();
    wire.create_topic("one", 1);
    wire.append(
        "one",
        0,
        &Batch::of((0..100).map(|number| number.to_string())),
    );
    for run in 0..4 {
        let consumer: StreamConsumer = config(broker.kafka, "resuming").create().unwrap();
        consumer.subscribe(&["one"]).unwrap();
        for number in 0..25 {
            let message = tokio::time::timeout(HANG, consumer.recv()).await.unwrap();
            let message = message.unwrap();
            assert_eq!(message.offset(), run * 25 + number);
            if number == 24 {
                consumer.commit_message(&message, CommitMode::Sync).unwrap();
            }
        }
    }
    assert_eq!(committed(&mut wire, "resuming", "one", 0), 100);
}

#[test]
fn a_consumer_without_a_subscription_commits_too() {
    let (_dir, broker, mut wire) = broker();
    let consumer: BaseConsumer = config(broker.kafka, "standalone").create().unwrap();
    let mut list = TopicPartitionList::new();
    let offset = rdkafka::Offset::Offset(42);
    list.add_partition_offset("t", 1, offset).unwrap();
    consumer.assign(&list).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    let found = consumer.committed(HANG).unwrap();
    assert_eq!(found.find_partition("t", 1).unwrap().offset(), offset);
    assert_eq!(committed(&mut wire, "standalone", "t", 1), 42);
    assert_eq!(describe(&mut wire, "standalone"), ("Empty".to_owned(), 0));
}

#[test]
fn real_consumers_form_their_group_again_after_kill_9_in_the_middle_of_a_rebalance() {
    let (dir, broker, mut wire) = broker();
    let address = broker.kafka;
    let processed = Processed::default();
    let leave = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| consume(address, &processed, &leave));
        }
        produce_everywhere(&mut wire, 50);
        await_all(&mut wire, &processed, 50);
        eventually("three members", || {
            describe(&mut wire, "g") == ("Stable".to_owned(), 3)
        });
        // A newcomer makes the group rebalance, and does not go on before the broker is gone.
        let mut newcomer = Member::new(address, "g");
        newcomer.get_id();
        newcomer.send_join();
        eventually("a rebalance begins", || {
            describe(&mut wire, "g").0 != "Stable"
        });
        broker.kill_9();
        let broker = Broker::at(address, dir.path(), &FLAGS);
        let mut wire = Wire::connect(broker.kafka);
        for index in 0..PARTITIONS {
            assert_eq!(committed(&mut wire, "g", "t", index), 50);
        }
        drop(newcomer);
        produce_everywhere(&mut wire, 50);
        await_all(&mut wire, &processed, 100);
        leave.store(true, Ordering::Relaxed);
        // The threads end before the broker does.
        eventually("all have left", || describe(&mut wire, "g").1 == 0);
        nothing_is_processed_again(broker.kafka, &mut wire, 100);
    });
}
