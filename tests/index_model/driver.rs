//! Producers of records with ids and conditions, faults and restarts, as an input of bytes chooses them.

use super::client::{Client, Reply, decode};
use super::disk::Disk;
use super::input::Input;
use super::log::{EXPECTED_KEY_OFFSET, EXPECTED_OFFSET, Found, ID, Log, NUMBER};
use super::machine::Machine;
use super::rng::Rng;
use crate::support::batch;
use crate::support::wire::{self, FETCH, PRODUCE};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FetchRequest, ProduceRequest,
};
use millstream::config::Config;
use millstream::engine::EngineError;
use millstream::engine::indexes::newest;
use millstream::io::fault::{self, Op};
use millstream::log::batch::Codec;
use millstream::log::batch::build::{BatchBuilder, Header, RecordRef};
use millstream::log::key_hash::KeyHash;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

const TOPIC: &str = "t";
const PARTITIONS: usize = 2;
const CLIENTS: usize = 3;
const CREATE_TOPICS: i16 = 7;
const STEPS_MAX: usize = 400;
const KEYS: usize = 4;
/// A disk that cannot be read leaves ids unknown, and says so; this model's disks can.
const FAULTS: [Op; 3] = [Op::Write, Op::Reserve, Op::Sync];
const CONFIGS: &[(&str, &str)] = &[
    ("dedup.window.ms", "3600000"),
    ("conditional.append", "true"),
    ("key.index", "true"),
    ("retention.ms", "-1"),
];
/// So that the window, which goes by the clock, has every record of a run.
const NOW_MS: fn() -> i64 = millstream::io::clock::now_ms;

const STORAGE_ERROR: i16 = 56;
const OUT_OF_ORDER: i16 = 45;
const INVALID_RECORD: i16 = 87;

/// A record that was sent.
#[derive(Clone, Debug)]
struct Sent {
    number: i64,
    id: Option<u8>,
    key: Option<u8>,
    is_tombstone: bool,
    expected_key: Option<i64>,
}

/// What a client waits for.
#[derive(Clone, Debug)]
pub struct Asked {
    partition: usize,
    records: Vec<Sent>,
    expected_offset: Option<i64>,
    is_durable: bool,
    by_producer: bool,
}

impl Asked {
    /// No other batch has this.
    fn number(&self) -> i64 {
        self.records[0].number
    }

    fn has_conditions(&self) -> bool {
        let is_conditional = |record: &Sent| record.expected_key.is_some();
        self.expected_offset.is_some() || self.records.iter().any(is_conditional)
    }
}

/// The idempotent producer of a partition: it sends a batch again until it is answered.
#[derive(Default)]
struct Producer {
    next_sequence: i32,
    last: Option<(Vec<u8>, Asked)>,
    is_answered: bool,
}

#[derive(Default)]
struct Partition {
    /// What was read last. It may have grown since.
    log: Log,
    /// What was acknowledged: the batch, and its first offset.
    acknowledged: Vec<(Asked, i64)>,
    producer: Producer,
    next_id: u8,
}

pub struct Driver<'i> {
    input: Input<'i>,
    disk: Disk,
    machine: Machine,
    clients: Vec<Client<Asked>>,
    partitions: [Partition; PARTITIONS],
    next_number: i64,
    starts: u64,
    /// File operations may have failed since the last start.
    is_faulty: bool,
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
    driver.check();
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
            partitions: Default::default(),
            next_number: 0,
            starts: 1,
            is_faulty: false,
            trace: std::env::var_os("MILLSTREAM_TRACE").is_some(),
        };
        let request = wire::create_topic(TOPIC, PARTITIONS as i32, CONFIGS);
        let created: CreateTopicsResponse =
            driver.call::<CreateTopicsRequest>(&request, CREATE_TOPICS);
        assert_eq!(created.topics[0].error_code, 0, "{created:?}");
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
            0..28 => self.produce(),
            28..40 => self.produce_in_sequence(),
            40..44 => self.settle(),
            44..46 => self.break_something(),
            46..48 => {
                fault::clear();
            }
            48..50 => self.check(),
            50..52 => self.restart(),
            52..53 => self.restart_in_the_middle(),
            53..54 => self.cut_power(),
            _ => self.go_on(),
        }
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
        for client in &self.clients {
            assert!(client.asked.is_empty(), "a request is never answered");
        }
    }

    fn break_something(&mut self) {
        self.is_faulty = true;
        let op = FAULTS[self.input.below(FAULTS.len())];
        let errno = [libc::EIO, libc::ENOSPC][self.input.below(2)];
        fault::inject(op, self.input.below(8), errno, self.input.below(2) == 1);
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
        self.lose_power();
        self.start();
    }

    fn restart(&mut self) {
        self.stop();
        if self.disk.has_failed() {
            // A sync failed: what it was to write is in nobody's promise.
            self.lose_power();
        }
        self.start();
    }

    fn lose_power(&mut self) {
        for partition in &mut self.partitions {
            partition.acknowledged.retain(|(asked, _)| asked.is_durable);
        }
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

    /// A batch for a partition, as the input chooses.
    fn batch(&mut self, at: usize, with_conditions: bool) -> Asked {
        let count = 1 + self.input.below(3);
        let partition = &mut self.partitions[at];
        let mut records = Vec::new();
        for _ in 0..count {
            let mut sent = Sent {
                number: self.next_number,
                id: None,
                key: None,
                is_tombstone: false,
                expected_key: None,
            };
            self.next_number += 1;
            match self.input.below(4) {
                0 => {}
                // One that was used before, most often a short time ago.
                1 => {
                    let back = 1 + self.input.below(6) as u8;
                    sent.id = Some(partition.next_id.saturating_sub(back));
                }
                _ => {
                    sent.id = Some(partition.next_id);
                    partition.next_id = partition.next_id.saturating_add(1);
                }
            }
            if self.input.below(2) == 0 {
                let key = self.input.below(KEYS) as u8;
                sent.key = Some(key);
                sent.is_tombstone = self.input.below(4) == 0;
                if with_conditions && self.input.below(2) == 0 {
                    sent.expected_key = Some(match self.input.below(4) {
                        0 => self.input.below(20) as i64 - 1,
                        _ => partition.log.version(key),
                    });
                }
            }
            records.push(sent);
        }
        let is_expecting = with_conditions && self.input.below(4) == 0;
        let expected_offset = is_expecting.then(|| match self.input.below(4) {
            0 => self.input.below(20) as i64,
            _ => partition.log.end,
        });
        Asked {
            partition: at,
            records,
            expected_offset,
            is_durable: self.input.below(2) == 0,
            by_producer: false,
        }
    }

    fn produce(&mut self) {
        let at = self.input.below(PARTITIONS);
        if self.input.below(3) == 0 {
            // Conditions are held against what a client has read.
            self.read(at);
        }
        let with_conditions = self.input.below(2) == 0;
        let asked = self.batch(at, with_conditions);
        let codec = [Codec::None, Codec::None, Codec::Lz4][self.input.below(3)];
        let bytes = encode(&asked, BatchBuilder::default(), codec);
        self.send(bytes, asked);
    }

    /// The partition's idempotent producer sends its next batch, or the last one again.
    fn produce_in_sequence(&mut self) {
        let at = self.input.below(PARTITIONS);
        let producer = &self.partitions[at].producer;
        if let Some((bytes, asked)) = &producer.last
            && (!producer.is_answered || self.input.below(3) == 0)
        {
            let (bytes, asked) = (bytes.clone(), asked.clone());
            return self.send(bytes, asked);
        }
        let mut asked = self.batch(at, false);
        (asked.by_producer, asked.is_durable) = (true, true);
        let producer = &mut self.partitions[at].producer;
        let builder = BatchBuilder {
            producer_id: 1000 + at as i64,
            producer_epoch: 0,
            base_sequence: producer.next_sequence,
            ..BatchBuilder::default()
        };
        let bytes = encode(&asked, builder, Codec::None);
        producer.next_sequence += asked.records.len() as i32;
        producer.last = Some((bytes.clone(), asked.clone()));
        producer.is_answered = false;
        self.send(bytes, asked);
    }

    fn send(&mut self, bytes: Vec<u8>, asked: Asked) {
        self.say(format_args!("sends {asked:?}"));
        let acks = if asked.is_durable { -1 } else { 1 };
        let request = wire::produce(TOPIC, asked.partition as i32, acks, bytes);
        let client = self.input.below(CLIENTS);
        self.clients[client].send(&request, PRODUCE, Some(asked));
    }

    // ---- answers ----

    fn take_replies(&mut self) {
        for client in 0..self.clients.len() {
            while let Some((asked, reply)) = self.clients[client].receive() {
                self.take(asked.expect("nobody waits for it"), reply);
            }
        }
    }

    fn take(&mut self, asked: Asked, reply: Reply) {
        let response = wire::partition_of(decode::<ProduceRequest>(reply, PRODUCE));
        self.say(format_args!("is told {response:?} of {asked:?}"));
        let partition = &mut self.partitions[asked.partition];
        if asked.by_producer && response.error_code == 0 {
            let producer = &mut partition.producer;
            let is_last = |(_, last): &(Vec<u8>, Asked)| last.number() == asked.number();
            producer.is_answered |= producer.last.as_ref().is_some_and(is_last);
        }
        match response.error_code {
            0 => partition.acknowledged.push((asked, response.base_offset)),
            INVALID_RECORD => {
                assert!(asked.has_conditions(), "refused without a condition");
            }
            // Keys are not known yet, or the disk has failed.
            STORAGE_ERROR => assert!(self.is_faulty || asked.has_conditions(), "{asked:?}"),
            // Of a producer's last five batches only it is known where they are.
            OUT_OF_ORDER => {
                let same = |(other, _): &(Asked, i64)| other.number() == asked.number();
                let is_old = partition.acknowledged.iter().any(same);
                assert!(asked.by_producer && is_old, "what follows is out of order");
            }
            _ => panic!("{response:?}"),
        }
    }

    // ---- checks ----

    /// Reads a partition from its start, while others go on.
    fn read(&mut self, at: usize) -> i64 {
        let mut log = Log::default();
        loop {
            let request = wire::fetch(TOPIC, &[(at as i32, log.end)]);
            let reply = self.call::<FetchRequest>(&request, FETCH);
            let data = wire::fetched_partition(reply);
            assert_eq!(data.error_code, 0, "{data:?}");
            let batches = batch::split(&data.records.unwrap_or_default());
            log.read(&batches);
            if batches.is_empty() {
                self.partitions[at].log = log;
                return data.high_watermark;
            }
        }
    }

    fn check(&mut self) {
        self.settle();
        if self.is_faulty {
            return;
        }
        for at in 0..PARTITIONS {
            let end = self.read(at);
            let partition = &self.partitions[at];
            assert_eq!(
                partition.log.end, end,
                "what is readable ends before it does"
            );
            for (asked, base) in &partition.acknowledged {
                check_acknowledged(&partition.log, asked, *base);
            }
            self.check_keys(at);
            self.check_conditions(at);
        }
    }

    /// The index of keys says what the log says.
    fn check_keys(&mut self, at: usize) {
        for key in 0..KEYS as u8 {
            let expected = self.partitions[at].log.keys.get(&key).copied();
            let found = self.newest(at, key).or_else(|_| {
                // It is made when it is asked for first.
                self.machine.settle();
                self.newest(at, key)
            });
            assert_eq!(found.expect("the index is there"), expected, "key {key}");
        }
    }

    fn newest(&mut self, at: usize, key: u8) -> Result<Option<(i64, bool)>, EngineError> {
        let shard = self.input.below(self.machine.shards.len());
        let shard = &self.machine.shards[shard];
        let engine = Rc::clone(&shard.engine);
        let found = Rc::new(RefCell::new(None));
        let result = Rc::clone(&found);
        shard.spawn(async move {
            let topic = engine.topic(TOPIC).expect("it is there");
            let partition = topic.key_of(at as i32).expect("it is there");
            let newest = newest::newest(&engine, partition, KeyHash::of(&[key]), None).await;
            *result.borrow_mut() = Some(newest);
        });
        self.machine.settle();
        found.take().expect("it is answered")
    }

    /// What is expected rightly is appended, what is expected wrongly is not, and an id that is known is not stored.
    fn check_conditions(&mut self, at: usize) {
        let log = &self.partitions[at].log;
        let (end, version) = (log.end, log.version(0));
        let known = log.ids.iter().next().map(|(id, offset)| (*id, *offset));
        let one = |number, id, expected_key, expected_offset| Asked {
            partition: at,
            records: vec![Sent {
                number,
                id,
                key: Some(0),
                is_tombstone: false,
                expected_key,
            }],
            expected_offset,
            is_durable: true,
            by_producer: false,
        };
        let number = self.next_number;
        self.next_number += 1;
        let ask = |driver: &mut Self, asked: &Asked| {
            let bytes = encode(asked, BatchBuilder::default(), Codec::None);
            let request = wire::produce(TOPIC, at as i32, -1, bytes);
            let response = driver.call::<ProduceRequest>(&request, PRODUCE);
            let response = wire::partition_of(response);
            (response.error_code, response.base_offset)
        };
        let refused = (INVALID_RECORD, -1);
        let wrong = one(number, None, Some(version + 1), None);
        assert_eq!(ask(self, &wrong), refused, "a wrong version");
        let wrong = one(number, None, None, Some(end + 1));
        assert_eq!(ask(self, &wrong), refused, "a wrong offset");
        if let Some((id, offset)) = known {
            // Its conditions do not hold any more: it is the retry of an append that succeeded.
            let again = one(number, Some(id), Some(version + 1), None);
            assert_eq!(ask(self, &again), (0, offset), "an id that is known");
        }
        let right = one(number, None, Some(version), Some(end));
        assert_eq!(ask(self, &right), (0, end), "what is expected rightly");
        self.partitions[at].acknowledged.push((right, end));
    }
}

/// Each record of the batch is where it was said to be, or one with its id is.
fn check_acknowledged(log: &Log, asked: &Asked, base: i64) {
    for (place, sent) in asked.records.iter().enumerate() {
        if base >= 0 {
            let offset = base + place as i64;
            let found = log.records.get(&offset);
            let is_it = |found: &Found| {
                found.number == sent.number || (found.id.is_some() && found.id == sent.id)
            };
            assert!(found.is_some_and(is_it), "{sent:?} at {offset}: {found:?}");
        } else {
            // No one offset says where its records are, for some were there before.
            let is_there = match sent.id {
                Some(id) => log.ids.contains_key(&id),
                None => log.has(sent.number),
            };
            assert!(is_there, "{sent:?} is gone");
        }
    }
}

fn encode(asked: &Asked, builder: BatchBuilder, codec: Codec) -> Vec<u8> {
    let text = |number: i64| number.to_string().into_bytes();
    let headers: Vec<Vec<(&[u8], Vec<u8>)>> = asked
        .records
        .iter()
        .enumerate()
        .map(|(place, sent)| {
            let mut headers = vec![(NUMBER, text(sent.number))];
            headers.extend(sent.id.map(|id| (ID, vec![id])));
            let expected = asked.expected_offset.filter(|_| place == 0);
            headers.extend(expected.map(|offset| (EXPECTED_OFFSET, text(offset))));
            headers.extend(
                sent.expected_key
                    .map(|offset| (EXPECTED_KEY_OFFSET, text(offset))),
            );
            headers
        })
        .collect();
    let headers: Vec<Vec<Header<'_>>> = headers
        .iter()
        .map(|headers| {
            headers
                .iter()
                .map(|(name, value)| (*name, Some(&value[..])))
                .collect()
        })
        .collect();
    let keys: Vec<[u8; 1]> = asked
        .records
        .iter()
        .map(|sent| [sent.key.unwrap_or(0)])
        .collect();
    let now = NOW_MS();
    let records: Vec<RecordRef<'_>> = asked
        .records
        .iter()
        .zip(&headers)
        .zip(&keys)
        .map(|((sent, headers), key)| RecordRef {
            timestamp_ms: now,
            key: sent.key.map(|_| &key[..]),
            value: (!sent.is_tombstone).then_some(b"value"),
            headers,
        })
        .collect();
    let builder = BatchBuilder {
        base_timestamp: now,
        ..builder
    };
    builder
        .encode(codec, &records)
        .expect("it can be compressed")
}

/// The `nth` start of a broker in `dir`.
fn start(input: &mut Input<'_>, dir: &Path, nth: u64) -> Machine {
    let mut config = Config {
        data_dir: dir.to_owned(),
        cores: 1 + input.below(3),
        journal_bytes: 0,
        free_bytes_min: 0,
        checkpoint_bytes: 4 << 10,
        segment_grow_bytes_max: 8 << 10,
        ..Config::default()
    };
    config.topic_defaults.config.segment_bytes = 16 << 10;
    Machine::start(config, 1 + input.below(3), nth << 32)
}

fn connect(machine: &Machine) -> Vec<Client<Asked>> {
    let client = |number| Client::new(machine.connect(number));
    (0..CLIENTS).map(client).collect()
}
