//! A small load, in one order, that makes a broker do every kind of thing with its files.

use crate::history::History;
use crate::ledger::{Proof, Upkeep};
use crate::load::admin::change;
use crate::load::consumer::{Position, poll};
use crate::load::session::Session;
use crate::load::{Context, End, WHEN_FULL};
use crate::model::{Model, Topic, TopicState, add, lock};
use crate::record::{self, Id, Shape};
use crate::requests::{self, Configs, NONE, OFFSET_COMMIT, PRODUCE, UNKNOWN_TOPIC_OR_PARTITION};
use crate::violation::violated;
use crate::wire::Wire;
use bytes::Bytes;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::records::Compression;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How much of everything a life of the broker meets.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    rounds: usize,
    /// Batches to all partitions of one topic, one right after the other.
    burst: usize,
}

/// All kinds of work.
pub const WHOLE: Extent = Extent {
    rounds: 3,
    burst: 4,
};
/// The same, and so much at once that the journal's halves change places and are written back.
pub const JOURNALED: Extent = Extent {
    rounds: 3,
    burst: 24,
};
/// What shows that a start has done its work.
pub const SHORT: Extent = Extent {
    rounds: 1,
    burst: 2,
};
/// Longer than `segment.ms`, so that the next round rolls.
const PAUSE: Duration = Duration::from_millis(12);
/// How often something that is refused is tried again: a fault that strikes once has passed then.
const TRIES: usize = 3;
/// How often a read is.
const READ_TRIES: usize = 20;
const READ_PAUSE: Duration = Duration::from_millis(5);
const BATCH_RECORDS: u32 = 8;
/// Of the topic's values so many are just less than a flush by the journal takes.
const BURST_RECORDS: u32 = 22;
/// A second producer sends its batch this much after the first, while that one is flushed.
const APART: Duration = Duration::from_micros(300);
/// Of these values so many are half a segment or more: what retention takes is written over.
const LARGE_BATCH_RECORDS: u32 = 16;
const GROUP: &str = "script";
const TOPIC_ALREADY_EXISTS: i16 = 36;
const DOOMED: &str = "doomed";
const BULK: &str = "bulk";

/// Name, partitions, bytes of a value, what becomes of the records.
const TOPICS: [(&str, i32, u32, Upkeep); 6] = [
    ("keep", 1, 60, Upkeep::Keep),
    (BULK, 4, 4_000, Upkeep::Keep),
    ("trim", 1, 60, Upkeep::Trim),
    ("retain", 1, 65_000, Upkeep::Retain { bytes: 20_000 }),
    ("compact", 1, 60, COMPACT),
    (DOOMED, 1, 60, Upkeep::Keep),
];
const KEYS: u32 = 10;
const COMPACT: Upkeep = Upkeep::Compact {
    keys: KEYS,
    tombstones_go: false,
    expires_ms: None,
};

/// What goes on from one life of the broker to the next.
pub struct Script {
    model: Arc<Model>,
    senders: HashMap<Key, Sender>,
}

/// Topic, partition, and which of two producers that send to it at once.
type Key = (String, i32, Lane);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    First,
    Second,
}

/// What is sent in one go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batches {
    /// A batch to every partition.
    All,
    /// A larger one to each partition of one topic.
    Burst,
}

/// The producer of one partition.
struct Sender {
    topic: Arc<Topic>,
    index: i32,
    worker: u32,
    next_number: u32,
    mode: Mode,
    lane: Lane,
    /// What an idempotent producer sends again until it is acknowledged.
    pending: Option<(Vec<Id>, Bytes)>,
    /// It is to be sent in this go.
    is_prepared: bool,
}

#[derive(Clone, Copy)]
enum Mode {
    Idempotent { id: Option<i64>, sequence: i32 },
    Plain { acks: i16 },
}

/// What the fault allows.
#[derive(Clone, Copy)]
pub struct Leave<'a> {
    /// Requests may be refused.
    pub to_refuse: bool,
    /// Whether reads may be, however often they are tried.
    pub to_refuse_reads: &'a dyn Fn() -> bool,
}

impl Script {
    pub fn new(model: &Arc<Model>) -> Script {
        Script {
            model: Arc::clone(model),
            senders: HashMap::new(),
        }
    }

    /// The same producers, with another account of what was promised to them.
    pub fn fork(&self, model: &Arc<Model>) -> Script {
        let senders = self.senders.iter().filter_map(|(key, sender)| {
            let topic = lock(&model.topics).get(&key.0).cloned()?;
            let pending = sender.pending.clone();
            Some((
                key.clone(),
                Sender {
                    topic,
                    pending,
                    ..*sender
                },
            ))
        });
        Script {
            senders: senders.collect(),
            model: Arc::clone(model),
        }
    }

    /// Runs the load once, from the topics' creation (of those that are not there) to the end.
    pub fn run(&mut self, context: &Context, extent: Extent, leave: Leave<'_>) -> Result<(), End> {
        let mut wires = [
            Wire::connect(context.broker)?,
            Wire::connect(context.broker)?,
        ];
        for round in 0..extent.rounds {
            self.create_topics(&mut wires[0], leave)?;
            self.produce(&mut wires, Batches::All, leave)?;
            if round == 0 {
                for _ in 0..extent.burst {
                    self.produce(&mut wires, Batches::Burst, leave)?;
                }
            }
            let wire = &mut wires[0];
            self.read(context, wire, leave)?;
            std::thread::sleep(PAUSE);
            allowed(self.commit(wire), leave)?;
            match round {
                0 => allowed(self.trim(wire), leave)?,
                1 => allowed(self.delete(wire), leave)?,
                _ => allowed(self.grow(wire), leave)?,
            }
        }
        self.produce(&mut wires, Batches::All, leave)?;
        self.read(context, &mut wires[0], leave)
    }

    fn create_topics(&mut self, wire: &mut Wire, leave: Leave<'_>) -> Result<(), End> {
        for (name, partitions, value_bytes_max, upkeep) in TOPICS {
            if lock(&self.model.topics).contains_key(name) {
                continue;
            }
            let create = || create_topic(&self.model, wire, name, partitions, upkeep);
            if tried(create, leave)? {
                let keys = matches!(upkeep, Upkeep::Compact { .. }).then_some(KEYS);
                let shape = Shape {
                    keys,
                    value_bytes_max,
                };
                let topic = Arc::new(Topic::new(name, upkeep, shape, partitions));
                lock(&self.model.topics).insert(name.to_owned(), topic);
            }
        }
        self.add_senders();
        Ok(())
    }

    /// A producer for each partition that has none; those of topics that are gone are dropped.
    fn add_senders(&mut self) {
        let topics = self.model.topics();
        let is_there =
            |sender: &Sender| topics.iter().any(|topic| Arc::ptr_eq(topic, &sender.topic));
        self.senders.retain(|_, sender| is_there(sender));
        for topic in &topics {
            for index in 0..topic.ledgers().len() as i32 {
                for lane in lanes(topic) {
                    let key = (topic.name.clone(), index, *lane);
                    let worker = self.model.new_worker();
                    let sender = || Sender::new(topic, index, *lane, worker);
                    self.senders.entry(key).or_insert_with(sender);
                }
            }
        }
    }

    /// Sends a batch of each producer, all with acks=all in one request, and those of second producers
    /// while the first ones' are flushed. Nothing follows until all are answered.
    fn produce(
        &mut self,
        wires: &mut [Wire; 2],
        batches: Batches,
        leave: Leave<'_>,
    ) -> Result<(), End> {
        self.senders
            .retain(|_, sender| !sender.topic.doomed.load(Ordering::SeqCst));
        let is_burst = batches == Batches::Burst;
        for sender in self.senders.values_mut() {
            if !is_burst || sender.topic.name == BULK {
                let prepared = sender.prepare(&mut wires[0], batches, &self.model);
                allowed(prepared, leave)?;
            }
        }
        let [first, second] = [Lane::First, Lane::Second].map(|lane| self.ready(lane, -1));
        for (wire, keys) in wires.iter_mut().zip([&first, &second]) {
            let batches = self.batches(keys);
            if !batches.is_empty() {
                wire.send(&requests::produce_all(&batches, -1), PRODUCE)?;
                std::thread::sleep(APART);
            }
        }
        for (wire, keys) in wires.iter_mut().zip([&first, &second]) {
            if !keys.is_empty() {
                let response = wire.receive::<ProduceRequest>(PRODUCE)?;
                self.take_answers(keys, &response, leave)?;
            }
        }
        let unsafely = self.ready(Lane::First, 1);
        let batches = self.batches(&unsafely);
        if !batches.is_empty() {
            let response = wires[0].call(&requests::produce_all(&batches, 1), PRODUCE)?;
            self.take_answers(&unsafely, &response, leave)?;
        }
        Ok(())
    }

    /// Whose batches are to be sent with these acks.
    fn ready(&self, lane: Lane, acks: i16) -> Vec<Key> {
        let is_ready = |(key, sender): &(&Key, &Sender)| {
            key.2 == lane && sender.mode.acks() == acks && sender.is_prepared
        };
        let mut keys: Vec<Key> = self
            .senders
            .iter()
            .filter(is_ready)
            .map(|(key, _)| key.clone())
            .collect();
        keys.sort_by_key(|(topic, index, _)| (topic.clone(), *index));
        keys
    }

    fn batches(&self, keys: &[Key]) -> Vec<(&str, i32, Bytes)> {
        let senders = keys.iter().filter_map(|key| self.senders.get(key));
        senders.filter_map(Sender::batch).collect()
    }

    fn take_answers(
        &mut self,
        keys: &[Key],
        response: &ProduceResponse,
        leave: Leave<'_>,
    ) -> Result<(), End> {
        for key in keys {
            if let Some(sender) = self.senders.get_mut(key) {
                allowed(sender.take_answer(response, &self.model), leave)?;
            }
        }
        Ok(())
    }

    /// Everything that can be read, from where each partition was read to before.
    fn read(&self, context: &Context, wire: &mut Wire, leave: Leave<'_>) -> Result<(), End> {
        for topic in self.model.topics() {
            for (index, ledger) in (0..).zip(topic.ledgers()) {
                let next = lock(&ledger).seen_end();
                let Some(position) = Position::new(&topic, index, next) else {
                    continue;
                };
                read_to_end(context, wire, position, leave)?;
            }
        }
        Ok(())
    }

    /// The group's offsets: as far as each partition was read.
    fn commit(&self, wire: &mut Wire) -> Result<(), End> {
        for topic in self.model.topics() {
            let Some(ledger) = topic
                .ledger(0)
                .filter(|_| !topic.doomed.load(Ordering::SeqCst))
            else {
                continue;
            };
            let offset = lock(&ledger).seen_end();
            let key = (GROUP.to_owned(), topic.name.clone(), 0);
            let mut commits = lock(&self.model.commits);
            let history = commits
                .entry(key.clone())
                .or_insert_with(|| History::new(-1));
            history.asked(offset);
            drop(commits);
            let offsets = [(topic.name.clone(), 0, offset)];
            let response =
                wire.call(&requests::commit(GROUP, ("", -1), &offsets), OFFSET_COMMIT)?;
            let error = response.topics[0].partitions[0].error_code;
            if error != NONE {
                return Err(End::Refused(error, "OffsetCommit".to_owned()));
            }
            if let Some(history) = lock(&self.model.commits).get_mut(&key) {
                history.answered(&offset, 0);
            }
            add(&self.model.tally.commits, 1);
        }
        Ok(())
    }

    fn trim(&self, wire: &mut Wire) -> Result<(), End> {
        let Some(ledger) = self.ledger("trim", 0) else {
            return Ok(());
        };
        let offset = lock(&ledger).seen_end() - 1;
        if offset <= *lock(&ledger).starts.newest() {
            return Ok(());
        }
        lock(&ledger).starts.asked(offset);
        match requests::delete_records(wire, "trim", 0, offset)? {
            NONE => lock(&ledger).starts.answered(&offset, 0),
            error => return Err(End::Refused(error, "DeleteRecords".to_owned())),
        }
        Ok(())
    }

    /// Deletes a topic; the next round creates it again.
    fn delete(&self, wire: &mut Wire) -> Result<(), End> {
        let topic = lock(&self.model.topics).get(DOOMED).cloned();
        let Some(topic) = topic else {
            return Ok(());
        };
        topic.doomed.store(true, Ordering::SeqCst);
        change(&self.model, DOOMED, None, "DeleteTopics", || {
            requests::delete_topic(wire, DOOMED)
        })?;
        self.model.forget(DOOMED);
        Ok(())
    }

    /// One partition more.
    fn grow(&self, wire: &mut Wire) -> Result<(), End> {
        let state = lock(&self.model.catalog)
            .get("keep")
            .and_then(|history| history.newest().clone());
        let topic = lock(&self.model.topics).get("keep").cloned();
        let (Some(mut state), Some(topic)) = (state, topic) else {
            return Ok(());
        };
        state.partitions += 1;
        let count = state.partitions;
        change(&self.model, "keep", Some(state), "CreatePartitions", || {
            requests::set_partitions(wire, "keep", count)
        })?;
        topic.grow(count);
        Ok(())
    }

    fn ledger(
        &self,
        topic: &str,
        index: i32,
    ) -> Option<Arc<std::sync::Mutex<crate::ledger::Ledger>>> {
        lock(&self.model.topics).get(topic)?.ledger(index)
    }
}

impl Sender {
    fn new(topic: &Arc<Topic>, index: i32, lane: Lane, worker: u32) -> Sender {
        // Every kind meets every kind of topic with several partitions.
        let mode = match (topic.name.as_str(), index % 4) {
            _ if lane == Lane::Second => Mode::Plain { acks: -1 },
            (BULK, 1) => Mode::Plain { acks: -1 },
            (BULK, 2) => Mode::Plain { acks: 1 },
            _ => Mode::Idempotent {
                id: None,
                sequence: 0,
            },
        };
        Sender {
            topic: Arc::clone(topic),
            index,
            worker,
            next_number: 0,
            mode,
            lane,
            pending: None,
            is_prepared: false,
        }
    }

    /// The next batch, unless one is to be sent again.
    fn prepare(&mut self, wire: &mut Wire, batches: Batches, model: &Model) -> Result<(), End> {
        if let Mode::Idempotent { id: id @ None, .. } = &mut self.mode {
            *id = Some(new_producer_id(wire, model)?);
        }
        let worker = self.worker;
        if self.pending.is_none() {
            let count = match self.topic.upkeep {
                _ if self.lane == Lane::Second => 1,
                Upkeep::Retain { .. } => LARGE_BATCH_RECORDS,
                _ if batches == Batches::Burst => BURST_RECORDS,
                _ => BATCH_RECORDS,
            };
            let numbers = self.next_number..self.next_number + count;
            let ids: Vec<Id> = numbers.map(|number| Id { worker, number }).collect();
            self.next_number += count;
            let place = (self.topic.name.as_str(), self.index);
            let producer = self.mode.next(count as i32);
            let batch = record::encode(place, self.topic.shape, &ids, producer, Compression::None);
            self.pending = Some((ids, batch));
        }
        if let (Some((ids, _)), Some(ledger)) = (&self.pending, self.topic.ledger(self.index)) {
            lock(&ledger).sent(ids);
            add(&model.tally.sent, ids.len() as u64);
        }
        self.is_prepared = true;
        Ok(())
    }

    fn batch(&self) -> Option<(&str, i32, Bytes)> {
        let (_, batch) = self.pending.as_ref()?;
        Some((&self.topic.name, self.index, batch.clone()))
    }

    fn take_answer(&mut self, response: &ProduceResponse, model: &Model) -> Result<(), End> {
        self.is_prepared = false;
        let own = response
            .responses
            .iter()
            .filter(|topic| *topic.name.0 == *self.topic.name);
        let mut own = own.flat_map(|topic| &topic.partition_responses);
        let Some(answer) = own.find(|answer| answer.index == self.index) else {
            let (topic, index) = (&self.topic.name, self.index);
            return Err(unanswered(topic, index).expect_err("always").into());
        };
        let proof = match self.mode.acks() {
            1 => Proof::AcksOne,
            _ => Proof::AcksAll,
        };
        if answer.error_code == NONE
            && let (Some((ids, _)), Some(ledger)) =
                (self.pending.take(), self.topic.ledger(self.index))
        {
            add(&model.tally.acknowledged, ids.len() as u64);
            let noted = lock(&ledger).acknowledged(&ids, answer.base_offset, proof, 0);
            return Ok(noted.map_err(|violation| violation.at(&self.topic.name))?);
        }
        if matches!(self.mode, Mode::Plain { .. }) {
            self.pending = None;
        }
        let what = format!("a batch to {}-{}", self.topic.name, self.index);
        Err(End::Refused(answer.error_code, what))
    }
}

/// Two producers send to the topics that keep all.
fn lanes(topic: &Topic) -> &'static [Lane] {
    match topic.upkeep {
        Upkeep::Keep => &[Lane::First, Lane::Second],
        _ => &[Lane::First],
    }
}

impl Mode {
    fn acks(self) -> i16 {
        match self {
            Mode::Idempotent { .. } => -1,
            Mode::Plain { acks } => acks,
        }
    }

    /// Who sends the next so many records.
    fn next(&mut self, records: i32) -> Option<record::Producer> {
        let Mode::Idempotent {
            id: Some(id),
            sequence,
        } = self
        else {
            return None;
        };
        let producer = record::Producer {
            id: *id,
            sequence: *sequence,
        };
        *sequence += records;
        Some(producer)
    }
}

fn create_topic(
    model: &Model,
    wire: &mut Wire,
    name: &str,
    partitions: i32,
    upkeep: Upkeep,
) -> Result<(), End> {
    let configs = configs(name, upkeep);
    let state = TopicState {
        partitions,
        configs: configs.clone(),
    };
    change(model, name, Some(state), "CreateTopics", || {
        let error = requests::create_topic(wire, name, partitions, &configs)?;
        // One that was refused before may be there.
        let asked = |of: &History<Option<TopicState>>| of.allowed(None).flatten().count();
        let asked_before = lock(&model.catalog)
            .get(name)
            .is_some_and(|of| asked(of) > 1);
        Ok(if error == TOPIC_ALREADY_EXISTS && asked_before {
            NONE
        } else {
            error
        })
    })
}

fn configs(name: &str, upkeep: Upkeep) -> Configs {
    // The others roll with each round, this one with each life.
    let segment_ms = if name == BULK { "86400000" } else { "10" };
    let mut configs = vec![("segment.ms", segment_ms), ("index.interval.bytes", "512")];
    match upkeep {
        Upkeep::Retain { .. } => configs.push(("retention.bytes", "20000")),
        Upkeep::Compact { .. } => configs.extend([
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("delete.retention.ms", "86400000"),
        ]),
        Upkeep::Keep | Upkeep::Trim | Upkeep::Expire { .. } => {}
    }
    let configs = configs.into_iter();
    configs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn new_producer_id(wire: &mut Wire, model: &Model) -> Result<i64, End> {
    let id = requests::producer_id(wire)?
        .map_err(|error| End::Refused(error, "InitProducerId".to_owned()))?;
    model.new_producer_id(id)?;
    Ok(id)
}

fn read_to_end(
    context: &Context,
    wire: &mut Wire,
    position: Position,
    leave: Leave<'_>,
) -> Result<(), End> {
    let (topic, index) = (Arc::clone(&position.topic), position.index);
    let mut positions = vec![position];
    let mut tries = 0;
    loop {
        let read = match requests::list_offset(wire, &topic.name, index, true)? {
            Ok(end)
                if positions
                    .first()
                    .is_none_or(|position| position.next >= end) =>
            {
                return Ok(());
            }
            Ok(_) => poll(context, wire, &mut Session::none(), &mut positions, 0),
            Err(UNKNOWN_TOPIC_OR_PARTITION) if topic.doomed.load(Ordering::SeqCst) => return Ok(()),
            Err(error) => Err(End::Refused(
                error,
                format!("ListOffsets of {}-{index}", topic.name),
            )),
        };
        match read {
            Err(End::Refused(error, _)) if leave.to_refuse && WHEN_FULL.contains(&error) => {
                tries += 1;
                std::thread::sleep(READ_PAUSE);
                match (leave.to_refuse_reads)() {
                    true => return Ok(()),
                    false if tries == READ_TRIES => return read,
                    false => {}
                }
            }
            read => read?,
        }
    }
}

/// Whether it was done within a few tries.
fn tried(mut ask: impl FnMut() -> Result<(), End>, leave: Leave<'_>) -> Result<bool, End> {
    for _ in 0..TRIES {
        match ask() {
            Err(End::Refused(error, _)) if leave.to_refuse && WHEN_FULL.contains(&error) => {}
            answer => return answer.map(|()| true),
        }
    }
    Ok(false)
}

/// A refusal that the fault allows is as good as an answer.
fn allowed(answer: Result<(), End>, leave: Leave<'_>) -> Result<(), End> {
    match answer {
        Err(End::Refused(error, _)) if leave.to_refuse && WHEN_FULL.contains(&error) => Ok(()),
        answer => answer,
    }
}

fn unanswered(topic: &str, index: i32) -> Result<(), crate::violation::Violation> {
    violated!(Broker, "a Produce reply says nothing of {topic}-{index}")
}
