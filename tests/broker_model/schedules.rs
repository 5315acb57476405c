//! What shards promise each other, in many orders of running them: on one thread, one poll of a shard,
//! one job of a worker, one flush after the other, as a seed chooses. Mailboxes take one call, so that
//! they are full most of the time.

use super::disk::Disk;
use super::machine::Machine;
use super::rng::Rng;
use bytes::Bytes;
use millstream::config::Config;
use millstream::engine::append::deliver;
use millstream::engine::catalog::Topic;
use millstream::engine::catalog::changes::{self, NewTopic};
use millstream::engine::partition::{AckWhen, Append};
use millstream::engine::{Engine, PartitionKey};
use millstream::log::batch::BatchHeader;
use millstream::log::batch::build::BatchBuilder;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tokio::sync::oneshot;

const SHARDS: usize = 3;
const ORDERS: u64 = 100;
const TOPICS_EACH: usize = 3;
const APPENDS_EACH: i64 = 12;

#[test]
fn a_change_of_the_catalog_is_on_every_shard_when_it_is_answered() {
    in_many_orders(|engines, shard| async move {
        let everywhere = |name: &str| {
            engines
                .iter()
                .filter(|one| one.topic(name).is_some())
                .count()
        };
        let mine = &engines[shard];
        for number in 0..TOPICS_EACH {
            let name = format!("topic-{shard}-{number}");
            let topic = create(mine, &name).await;
            assert_eq!(everywhere(&name), SHARDS);
            changes::set_partitions(mine, topic.id, 4, false)
                .await
                .unwrap();
            for one in &engines {
                assert_eq!(one.topic(&name).unwrap().partitions, 4);
            }
            // Whoever owns the newest partition has opened it.
            let next = &engines[(shard + 1) % SHARDS];
            assert_eq!(append(next, key(&topic, 3), 0).await.await.unwrap(), Ok(0));
            if number % 2 == 0 {
                changes::delete_topic(mine, topic.id).await.unwrap();
                assert_eq!(everywhere(&name), 0);
            }
        }
    });
}

#[test]
fn two_that_create_the_same_topic_get_one_and_one_refusal() {
    let created = Rc::new(Cell::new(0));
    let count = Rc::clone(&created);
    in_many_orders(move |engines, shard| {
        let count = Rc::clone(&count);
        async move {
            let result = changes::create_topic(&engines[shard], new_topic("same"), false).await;
            count.set(count.get() + usize::from(result.is_ok()));
            assert_eq!(
                engines
                    .iter()
                    .filter(|one| one.topic("same").is_some())
                    .count(),
                SHARDS
            );
        }
    });
    assert_eq!(created.get(), ORDERS as usize);
}

#[test]
fn appends_from_one_place_arrive_in_the_order_they_were_sent() {
    in_many_orders(|engines, shard| async move {
        let mine = &engines[shard];
        let topic = create(mine, &format!("order-{shard}")).await;
        let mut answers = Vec::new();
        for number in 0..APPENDS_EACH {
            for index in 0..topic.partitions {
                answers.push((number, append(mine, key(&topic, index), number).await));
            }
        }
        for (number, answered) in answers {
            assert_eq!(answered.await.unwrap(), Ok(number));
        }
    });
}

#[test]
fn producer_ids_are_given_once() {
    let given: Rc<RefCell<BTreeSet<(u64, i64)>>> = Rc::default();
    let round = Rc::new(Cell::new(0));
    in_many_orders(move |engines, shard| {
        let (given, round) = (Rc::clone(&given), Rc::clone(&round));
        if shard == 0 {
            round.set(round.get() + 1);
        }
        let round = round.get();
        async move {
            for _ in 0..5 {
                let id = changes::new_producer_id(&engines[shard]).await.unwrap();
                assert!(
                    given.borrow_mut().insert((round, id)),
                    "{id} was given twice"
                );
            }
        }
    });
}

/// Runs two tasks of each shard to their end, in many orders. Whatever the order, all come to an end,
/// and all shards have the same catalog then.
fn in_many_orders<F: Future<Output = ()> + 'static>(
    mut task: impl FnMut(Vec<Rc<Engine>>, usize) -> F,
) {
    for seed in 1..=ORDERS {
        let mut rng = Rng::new(seed);
        let disk = Disk::new();
        let mut machine = Machine::start(config(disk.root()), 1, seed << 32);
        let engines: Vec<_> = machine
            .shards
            .iter()
            .map(|one| Rc::clone(&one.engine))
            .collect();
        let unfinished = Rc::new(Cell::new(SHARDS));
        for shard in 0..SHARDS {
            let (work, left) = (task(engines.clone(), shard), Rc::clone(&unfinished));
            machine.shards[shard].spawn(async move {
                work.await;
                left.set(left.get() - 1);
            });
        }
        while machine.step(rng.below(64) as usize) {}
        assert_eq!(unfinished.get(), 0, "seed {seed}: somebody waits for ever");
        let catalogs: BTreeMap<_, _> = engines
            .iter()
            .map(|one| {
                (
                    one.with_catalog(|it| format!("{:?}", it.entries())),
                    one.shard,
                )
            })
            .collect();
        assert_eq!(
            catalogs.len(),
            1,
            "seed {seed}: shards have different catalogs"
        );
    }
}

fn config(dir: &std::path::Path) -> Config {
    Config {
        data_dir: dir.to_owned(),
        cores: SHARDS,
        journal_bytes: 0,
        free_bytes_min: 0,
        ..Config::default()
    }
}

fn new_topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: 3,
        configs: BTreeMap::new(),
    }
}

async fn create(engine: &Rc<Engine>, name: &str) -> Topic {
    let topic = changes::create_topic(engine, new_topic(name), false)
        .await
        .unwrap();
    Topic::clone(&topic)
}

fn key(topic: &Topic, index: u32) -> PartitionKey {
    PartitionKey {
        topic_id: topic.id,
        index,
    }
}

/// The answer is the base offset.
async fn append(
    engine: &Rc<Engine>,
    key: PartitionKey,
    number: i64,
) -> oneshot::Receiver<Result<i64, String>> {
    let batch = Bytes::from(BatchBuilder::default().build(&[number.to_string()]));
    let header = BatchHeader::parse(&batch).unwrap();
    let (reply, answered) = oneshot::channel();
    let ack = if number % 2 == 0 {
        AckWhen::Durable
    } else {
        AckWhen::Appended
    };
    let append = Append {
        batch,
        header,
        ack,
        reply,
        marks: None,
    };
    deliver(engine, vec![(key, append)]).await;
    let (told, tell) = oneshot::channel();
    tokio::task::spawn_local(async move {
        let result = answered.await.expect("an answer");
        let result = result.map(|appended| appended.base_offset);
        let _ = told.send(result.map_err(|error| error.to_string()));
    });
    tell
}
