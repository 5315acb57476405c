//! Clients, faults and restarts, as an input of bytes chooses them, beside the model.

use super::client::{Client, Reply, decode};
use super::disk::Disk;
use super::input::Input;
use super::machine::Machine;
use super::model::{Certain, Partition, value};
use super::requests::{self as ask, *};
use super::rng::Rng;
use crate::support::batch::{self, Batch};
use crate::support::wire::{self, FETCH, LIST_OFFSETS, PRODUCE};
use kafka_protocol::messages::*;
use millstream::config::Config;
use millstream::engine::catalog::changes;
use millstream::engine::upkeep::retention;
use millstream::io::fault::{self, Op};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

/// Topics that the model follows. The first is never deleted.
const TOPICS: [&str; 2] = ["t0", "t1"];
const PARTITIONS: i32 = 2;
/// Topics that come and go while the others are used; only their error codes are looked at.
const FLEETING: [&str; 2] = ["u0", "u1"];
const CLIENTS: usize = 3;
/// The client whose requests may wait for ever: it joins groups, whose timers nobody runs.
const RESTLESS: usize = CLIENTS;
const SEGMENT_BYTES: u32 = 16 << 10;
const STEPS_MAX: usize = 400;
const FAULTS: [Op; 6] = [
    Op::Open,
    Op::Write,
    Op::Reserve,
    Op::Sync,
    Op::Rename,
    Op::Remove,
];

pub type Place = (&'static str, i32);

/// What a client waits for.
#[derive(Debug)]
pub enum Asked {
    Produce {
        at: Place,
        number: u32,
        acks: i16,
        /// It came from the place's idempotent producer.
        by_producer: bool,
        /// It must be refused.
        is_gap: bool,
        is_large: bool,
    },
    Fetch {
        at: Place,
        offset: i64,
        certain: Certain,
    },
    Offset {
        at: Place,
        timestamp: i64,
        certain: Certain,
    },
    DeleteRecords {
        at: Place,
    },
    Commit {
        group: usize,
        offset: i64,
        /// No commit had been taken.
        is_early: bool,
    },
    Committed {
        group: usize,
        least: i64,
    },
    ProducerId,
    Fleeting(fn(Reply) -> i16),
}

/// A producer that sends the same batch again until it is acknowledged.
pub struct Producer {
    id: i64,
    next_sequence: i32,
    last: Option<(u32, i32, Vec<u8>)>,
    pub is_waiting: bool,
}

#[derive(Default)]
pub struct Group {
    pub acknowledged: i64,
    pub sent: i64,
}

pub struct Driver<'i> {
    input: Input<'i>,
    disk: Disk,
    machine: Machine,
    pub clients: Vec<Client<Asked>>,
    pub partitions: BTreeMap<Place, Partition>,
    pub producers: BTreeMap<Place, Producer>,
    pub groups: [Group; CLIENTS],
    pub producer_ids: BTreeSet<i64>,
    batches: u32,
    starts: u64,
    /// File operations may have failed since the last start.
    pub is_faulty: bool,
    /// A commit was taken: the groups' topic is on all shards.
    pub has_groups: bool,
    /// A change of the second topic failed: what became of it is not known before the next start.
    is_torn: bool,
    trace: bool,
}

/// Does what the input says, and holds the broker against the model.
pub fn run(input: &[u8]) {
    fault::clear();
    let mut driver = Driver::new(input);
    for _ in 0..STEPS_MAX {
        if driver.input.0.is_empty() {
            break;
        }
        driver.step();
    }
    driver.restart();
    driver.check_everything();
}

impl<'i> Driver<'i> {
    fn new(input: &'i [u8]) -> Driver<'i> {
        let disk = Disk::new();
        let mut input = Input(input);
        let machine = start(&mut input, disk.root(), 1);
        let mut driver = Driver {
            input,
            disk,
            clients: connect(&machine),
            machine,
            partitions: BTreeMap::new(),
            producers: BTreeMap::new(),
            groups: Default::default(),
            producer_ids: BTreeSet::new(),
            batches: 0,
            starts: 1,
            trace: std::env::var_os("MILLSTREAM_TRACE").is_some(),
            is_faulty: false,
            has_groups: false,
            is_torn: false,
        };
        TOPICS.iter().for_each(|topic| driver.create(topic));
        driver
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            eprintln!("{:4} {what}", self.input.0.len());
        }
    }

    fn step(&mut self) {
        let what = self.input.below(64);
        self.say(format_args!("step {what}"));
        match what {
            0..14 => self.produce(),
            14..24 => self.produce_in_sequence(),
            24..32 => self.fetch(),
            32..35 => self.list_offset(),
            35..37 => self.delete_records(),
            37..40 => self.commit(),
            40..42 => self.fetch_committed(),
            42..43 => self.ask_producer_id(),
            43..49 => self.do_something_fleeting(),
            49..51 => self.maintain(),
            51..53 => self.settle(),
            53..54 => self.recreate(),
            54..55 => self.grow(),
            55..57 => self.break_something(),
            57..58 => self.mend(),
            58..59 => self.check_everything(),
            59..60 => self.restart(),
            60..61 => self.restart_in_the_middle(),
            61..62 => self.cut_power(),
            _ => self.go_on(),
        }
        // Between two requests anything from nothing to much goes on.
        if self.input.below(2) == 0 {
            self.go_on();
        }
    }

    // ---- the machine ----

    fn go_on(&mut self) {
        for _ in 0..self.input.below(24) {
            let choice = self.input.byte();
            self.machine.step(choice);
        }
        self.take_replies();
    }

    /// All that was asked is answered: nothing waits for ever.
    fn settle(&mut self) {
        self.machine.settle();
        self.take_replies();
        for client in &self.clients[..CLIENTS] {
            assert!(client.asked.is_empty(), "a request is never answered");
        }
    }

    fn maintain(&mut self) {
        let shard = self.input.below(self.machine.shards.len());
        let shard = &self.machine.shards[shard];
        let engine = Rc::clone(&shard.engine);
        let what = self.input.below(3);
        shard.spawn(async move {
            match what {
                0 => retention::round(&engine).await,
                1 => retention::close_idle(&engine).await,
                _ => changes::retry_purge(&engine).await,
            }
        });
    }

    fn break_something(&mut self) {
        self.is_faulty = true;
        let op = FAULTS[self.input.below(FAULTS.len())];
        let errno = [libc::EIO, libc::ENOSPC][self.input.below(2)];
        fault::inject(op, self.input.below(8), errno, self.input.below(2) == 1);
    }

    fn mend(&mut self) {
        fault::clear();
    }

    /// The process ends at some operation on a file, and does not know it yet.
    fn restart_in_the_middle(&mut self) {
        self.is_faulty = true;
        fault::stop_after(self.input.below(16));
        self.go_on();
        self.restart();
    }

    fn cut_power(&mut self) {
        self.stop();
        let seed = (0..4).fold(0, |seed, _| seed << 8 | self.input.byte() as u64);
        self.disk.cut_power(&mut Rng::new(seed));
        self.partitions.values_mut().for_each(Partition::lose_power);
        self.start();
    }

    /// Kills the broker and starts it again, perhaps with another number of shards.
    fn restart(&mut self) {
        self.stop();
        if self.disk.has_failed() {
            // A sync failed: what it was to write is in nobody's promise.
            self.partitions.values_mut().for_each(Partition::lose_power);
        }
        self.start();
    }

    fn stop(&mut self) {
        self.clients.clear();
        self.machine.shards.clear();
        fault::clear();
    }

    fn start(&mut self) {
        self.is_faulty = false;
        self.disk.close_files();
        self.starts += 1;
        self.machine = start(&mut self.input, self.disk.root(), self.starts);
        self.clients = connect(&self.machine);
        for producer in self.producers.values_mut() {
            producer.is_waiting = false;
        }
        if std::mem::take(&mut self.is_torn) {
            self.call(&ask::delete_topic(TOPICS[1]), DELETE_TOPICS);
            self.create(TOPICS[1]);
        }
    }

    // ---- topics ----

    fn create(&mut self, topic: &'static str) {
        let request = wire::create_topic(topic, PARTITIONS, &[]);
        let code = self.call(&request, CREATE_TOPICS).topics[0].error_code;
        if code != 0 {
            assert!(self.is_faulty, "{topic} is not created: {code}");
            self.is_torn = true;
            return;
        }
        for index in 0..PARTITIONS {
            self.partitions.insert((topic, index), Partition::default());
        }
    }

    /// Deletes the second topic and makes one of the same name.
    fn recreate(&mut self) {
        if self.is_torn {
            return;
        }
        self.settle();
        self.partitions.retain(|(topic, _), _| *topic != TOPICS[1]);
        self.producers.retain(|(topic, _), _| *topic != TOPICS[1]);
        let code = self
            .call(&ask::delete_topic(TOPICS[1]), DELETE_TOPICS)
            .responses[0]
            .error_code;
        assert!(code == 0 || self.is_faulty, "not deleted: {code}");
        match code {
            0 => self.create(TOPICS[1]),
            _ => self.is_torn = true,
        }
    }

    fn grow(&mut self) {
        if self.is_torn {
            return;
        }
        let count = self.partitions.range((TOPICS[1], 0)..).count() as i32;
        if count >= 4 {
            return;
        }
        let request = ask::set_partitions(TOPICS[1], count + 1);
        let code = self.call(&request, CREATE_PARTITIONS).results[0].error_code;
        assert!(code == 0 || self.is_faulty, "no partition more: {code}");
        match code {
            0 => drop(
                self.partitions
                    .insert((TOPICS[1], count), Partition::default()),
            ),
            _ => {
                self.is_torn = true;
                self.partitions.retain(|(topic, _), _| *topic != TOPICS[1]);
                self.producers.retain(|(topic, _), _| *topic != TOPICS[1]);
            }
        }
    }

    /// A request whose answer is waited for.
    fn call<R: kafka_protocol::protocol::Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> R::Response {
        self.settle();
        self.clients[0].send(request, version, None);
        self.machine.settle();
        let (_, reply) = self.clients[0].receive().expect("an answer");
        decode::<R>(reply, version)
    }

    // ---- records ----

    fn place(&mut self) -> Place {
        let places: Vec<Place> = self.partitions.keys().copied().collect();
        places[self.input.below(places.len())]
    }

    fn produce(&mut self) {
        let at = self.place();
        let acks = [-1, 1][self.input.below(2)];
        let (number, batch) = self.batch(at, &[0, 60, 2000, 7000]);
        let bytes = batch.encode();
        let asked = Asked::Produce {
            at,
            number,
            acks,
            by_producer: false,
            is_gap: false,
            is_large: bytes.len() > SEGMENT_BYTES as usize,
        };
        self.send(&wire::produce(at.0, at.1, acks, bytes), PRODUCE, asked);
    }

    fn batch(&mut self, at: Place, sizes: &[usize]) -> (u32, Batch) {
        let number = self.batches;
        self.batches += 1;
        let size = sizes[self.input.below(sizes.len())];
        let records = 1 + self.input.below(3);
        let values = (0..records).map(|place| value(number, place, size));
        self.partitions
            .get_mut(&at)
            .expect("it is there")
            .send(number, records);
        (number, Batch::of(values))
    }

    /// The place's idempotent producer sends its next batch, the last one again, or one too far.
    fn produce_in_sequence(&mut self) {
        let at = self.place();
        let id = 1_000_000 + self.producers.len() as i64 + 100 * i64::from(self.batches);
        let producer = self.producers.entry(at).or_insert(Producer {
            id,
            next_sequence: 0,
            last: None,
            is_waiting: false,
        });
        let (id, sequence) = (producer.id, producer.next_sequence);
        let partition = &self.partitions[&at];
        let last = producer.last.clone();
        let is_acknowledged = last
            .as_ref()
            .is_none_or(|last| partition.was_acknowledged(last.0));
        let is_free = is_acknowledged && !producer.is_waiting;
        match (self.input.below(4), last) {
            (0, Some(_)) if is_free => {
                let (number, batch) = self.batch(at, &[10]);
                let bytes = batch.by(id, 0, sequence + 5).encode();
                self.send_by_producer(at, number, bytes, true);
            }
            (1..3, _) | (_, None) if is_free => {
                let (number, batch) = self.batch(at, &[0, 500]);
                let records = batch.records.len() as i32;
                let bytes = batch.by(id, 0, sequence).encode();
                let producer = self.producers.get_mut(&at).expect("it is there");
                producer.last = Some((number, sequence, bytes.clone()));
                producer.next_sequence += records;
                producer.is_waiting = true;
                self.send_by_producer(at, number, bytes, false);
            }
            (_, Some((number, _, bytes))) => self.send_by_producer(at, number, bytes, false),
            _ => {}
        }
    }

    fn send_by_producer(&mut self, at: Place, number: u32, bytes: Vec<u8>, is_gap: bool) {
        let asked = Asked::Produce {
            at,
            number,
            acks: -1,
            by_producer: true,
            is_gap,
            is_large: false,
        };
        self.send(&wire::produce(at.0, at.1, -1, bytes), PRODUCE, asked);
    }

    fn fetch(&mut self) {
        let at = self.place();
        let certain = self.partitions[&at].certain();
        let offset = match self.input.below(8) {
            0 => certain.start,
            1 => certain.durable,
            _ => self.input.below(certain.durable.clamp(0, 200) as usize + 4) as i64 - 1,
        };
        let asked = Asked::Fetch {
            at,
            offset,
            certain,
        };
        self.send(&wire::fetch(at.0, &[(at.1, offset)]), FETCH, asked);
    }

    fn list_offset(&mut self) {
        let at = self.place();
        let timestamp = -1 - self.input.below(2) as i64;
        let certain = self.partitions[&at].certain();
        let asked = Asked::Offset {
            at,
            timestamp,
            certain,
        };
        self.send(
            &ask::list_offsets(at.0, at.1, timestamp),
            LIST_OFFSETS,
            asked,
        );
    }

    fn delete_records(&mut self) {
        let at = self.place();
        let durable = self.partitions[&at].durable;
        let offset = match self.input.below(8) {
            0 => -1,
            _ => self.input.below(durable.clamp(0, 200) as usize + 2) as i64,
        };
        let partition = self.partitions.get_mut(&at).expect("it is there");
        let may_reach = if offset < 0 { i64::MAX } else { offset };
        partition.start_max = partition.start_max.max(may_reach);
        let asked = Asked::DeleteRecords { at };
        self.send(
            &ask::delete_records(at.0, at.1, offset),
            DELETE_RECORDS,
            asked,
        );
    }

    // ---- groups and what is fleeting ----

    /// Each client commits for a group of its own, in which its commits are in order.
    fn commit(&mut self) {
        let group = self.input.below(CLIENTS);
        self.groups[group].sent += 1;
        let offset = self.groups[group].sent;
        let request = ask::commit(&format!("g{group}"), TOPICS[0], offset);
        self.clients[group].send(
            &request,
            OFFSET_COMMIT,
            Some(Asked::Commit {
                group,
                offset,
                is_early: !self.has_groups,
            }),
        );
    }

    fn fetch_committed(&mut self) {
        let group = self.input.below(CLIENTS);
        let least = self.groups[group].acknowledged;
        let request = ask::committed(&format!("g{group}"), TOPICS[0]);
        self.send(&request, OFFSET_FETCH, Asked::Committed { group, least });
    }

    fn ask_producer_id(&mut self) {
        self.send(
            &ask::init_producer_id(),
            INIT_PRODUCER_ID,
            Asked::ProducerId,
        );
    }

    fn do_something_fleeting(&mut self) {
        let topic = FLEETING[self.input.below(FLEETING.len())];
        let what = self.input.below(6);
        let number = self.input.below(4) as i32;
        let client = &mut self.clients[RESTLESS];
        let fleeting = |look: fn(Reply) -> i16| Some(Asked::Fleeting(look));
        match what {
            0 | 1 => client.send(
                &wire::create_topic(topic, number + 1, &[]),
                CREATE_TOPICS,
                fleeting(|reply| {
                    decode::<CreateTopicsRequest>(reply, CREATE_TOPICS).topics[0].error_code
                }),
            ),
            2 => client.send(
                &ask::delete_topic(topic),
                DELETE_TOPICS,
                fleeting(|reply| {
                    decode::<DeleteTopicsRequest>(reply, DELETE_TOPICS).responses[0].error_code
                }),
            ),
            3 => client.send(
                &ask::set_config(topic, "retention.bytes", "20000"),
                ALTER_CONFIGS,
                fleeting(|reply| {
                    decode::<AlterConfigsRequest>(reply, ALTER_CONFIGS).responses[0].error_code
                }),
            ),
            4 => client.send(
                &wire::produce(topic, number, -1, Batch::of(["x".repeat(3000)]).encode()),
                PRODUCE,
                fleeting(|reply| {
                    wire::partition_of(decode::<ProduceRequest>(reply, PRODUCE)).error_code
                }),
            ),
            _ => client.send(
                &ask::join("joined", ""),
                JOIN_GROUP,
                fleeting(|reply| decode::<JoinGroupRequest>(reply, JOIN_GROUP).error_code),
            ),
        }
    }

    // ---- answers ----

    fn send<R: kafka_protocol::protocol::Request>(
        &mut self,
        request: &R,
        version: i16,
        asked: Asked,
    ) {
        let client = self.input.below(CLIENTS);
        self.clients[client].send(request, version, Some(asked));
    }

    fn take_replies(&mut self) {
        for client in 0..self.clients.len() {
            while let Some((asked, reply)) = self.clients[client].receive() {
                let asked = asked.expect("nobody waits for it");
                self.say(format_args!("{client}: {asked:?}: {reply:?}"));
                self.take(asked, reply);
            }
        }
    }

    /// Reads every partition from its start to its end.
    fn check_everything(&mut self) {
        self.settle();
        if self.is_faulty {
            return;
        }
        let places: Vec<Place> = self.partitions.keys().copied().collect();
        for at in places {
            self.check(at);
        }
    }

    fn check(&mut self, at: Place) {
        let mut response = self.call(&ask::list_offsets(at.0, at.1, -2), LIST_OFFSETS);
        let start = response.topics.remove(0).partitions.remove(0).offset;
        let partition = self.partition(at);
        assert!((partition.start..=partition.start_max).contains(&start));
        let mut next = start;
        loop {
            let reply = self.call(&wire::fetch(at.0, &[(at.1, next)]), FETCH);
            let data = wire::fetched_partition(reply);
            assert_eq!(data.error_code, 0, "{data:?}");
            let records = batch::split(&data.records.unwrap_or_default());
            let partition = self.partition(at);
            partition.fetched(next, data.high_watermark, &records);
            let Some(last) = records.last() else {
                assert!(next >= data.high_watermark, "nothing below the end");
                assert!(data.high_watermark >= partition.durable);
                return partition.check_complete(start, data.high_watermark);
            };
            next = last.next_offset();
        }
    }
}

/// The `nth` start of a broker in `dir`.
fn start(input: &mut Input<'_>, dir: &Path, nth: u64) -> Machine {
    let mut config = Config {
        data_dir: dir.to_owned(),
        cores: 1 + input.below(3),
        journal_bytes: 0,
        free_bytes_min: 0,
        offsets_topic_num_partitions: 2,
        checkpoint_bytes: 4 << 10,
        segment_grow_bytes_max: 8 << 10,
        ..Config::default()
    };
    config.topic_defaults.config.segment_bytes = SEGMENT_BYTES;
    // The batches' timestamps are old.
    config.topic_defaults.config.retention_ms = -1;
    Machine::start(config, 1 + input.below(3), nth << 32)
}

fn connect(machine: &Machine) -> Vec<Client<Asked>> {
    let client = |number| Client::new(machine.connect(number));
    (0..=RESTLESS).map(client).collect()
}
