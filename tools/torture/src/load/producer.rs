//! Producers: idempotent ones, which send again what was not answered, and plain ones, which
//! never do.

use super::{Context, End};
use crate::ledger::{Ledger, Proof};
use crate::model::{Model, Topic, add, lock};
use crate::record::{self, Id};
use crate::requests::{self, NONE, PRODUCE, UNKNOWN_TOPIC_OR_PARTITION};
use crate::rng::Rng;
use crate::wire::Wire;
use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::records::Compression;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many partitions it has at first; new ones come to it later.
pub const PARTITIONS_MAX: usize = 4;
/// A producer looks for new partitions before one batch in so many.
const ADOPT_IN: usize = 60;
const BATCH_RECORDS_MAX: usize = 20;
/// As many as an idempotent producer may have in flight to a partition.
const IN_FLIGHT_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Idempotent,
    Plain { acks: i16 },
}

/// One producer. An idempotent one goes on from cycle to cycle.
pub struct Producer {
    worker: u32,
    mode: Mode,
    id: Option<i64>,
    next_number: u32,
    parts: Vec<Part>,
    /// Topics that this connection has sent to without asking for an answer.
    reached: Vec<Arc<Topic>>,
}

/// A partition that it produces to.
struct Part {
    topic: Arc<Topic>,
    index: i32,
    ledger: Arc<Mutex<Ledger>>,
    next_sequence: i32,
    /// Oldest first. Those before `answered` are, and those from `next` on are yet to be sent.
    batches: VecDeque<Sent>,
    answered: usize,
    next: usize,
    /// The topic is gone.
    gone: bool,
}

struct Sent {
    ids: Vec<Id>,
    batch: Bytes,
    answered: Option<u64>,
}

impl Producer {
    pub fn new(worker: u32, mode: Mode) -> Producer {
        Producer {
            worker,
            mode,
            id: None,
            next_number: 0,
            parts: Vec::new(),
            reached: Vec::new(),
        }
    }

    /// After a fault: what was answered before the cut (or at all, without one) is done with; the
    /// rest is sent again. Topics that are gone are given up.
    pub fn settle(&mut self, cut: Option<u64>, model: &Model) {
        let topics = lock(&model.topics);
        let is_there = |part: &Part| {
            let topic = topics.get(&part.topic.name);
            topic.is_some_and(|topic| Arc::ptr_eq(topic, &part.topic))
        };
        self.parts.retain(is_there);
        let done = |sent: &Sent| {
            sent.answered
                .is_some_and(|at| cut.is_none_or(|cut| at < cut))
        };
        for part in &mut self.parts {
            match self.mode {
                Mode::Idempotent => part.batches.retain(|sent| !done(sent)),
                Mode::Plain { .. } => part.batches.clear(),
            }
            // An answer that the cut overtook is as if it had never come.
            part.batches
                .iter_mut()
                .for_each(|sent| sent.answered = None);
            (part.answered, part.next) = (0, 0);
        }
    }

    /// Takes some partitions more, up to so many.
    pub fn take_partitions(&mut self, model: &Model, rng: &mut Rng, most: usize) {
        let mut free = Vec::new();
        for topic in model.topics().into_iter().filter(|topic| !topic.apart) {
            for (index, ledger) in (0..).zip(topic.ledgers()) {
                let has = |part: &Part| Arc::ptr_eq(&part.ledger, &ledger);
                if !self.parts.iter().any(has) {
                    free.push((Arc::clone(&topic), index, ledger));
                }
            }
        }
        while self.parts.len() < most && !free.is_empty() {
            let (topic, index, ledger) = free.swap_remove(rng.below(free.len()));
            self.parts.push(Part::new(topic, index, ledger));
        }
    }

    /// Produces until the connection ends or a batch is refused. What was not acknowledged by then
    /// comes first in the next run.
    pub fn run(&mut self, context: &Context, rng: &mut Rng) -> Result<(), End> {
        let mut wire = Wire::connect(context.broker)?;
        self.reached.clear();
        let mut in_flight = VecDeque::new();
        let ended = self.produce(context, &mut wire, &mut in_flight, rng);
        match &ended {
            Err(End::Connection(_)) if self.may_be_cut_off(&context.model) => return Ok(()),
            Err(End::Refused(..)) => {
                self.drain(context, &mut wire, in_flight)?;
                self.settle(None, &context.model);
            }
            _ => {}
        }
        ended
    }

    /// Takes the answers that are still due; behind a batch that was refused, others are too.
    fn drain(
        &mut self,
        context: &Context,
        wire: &mut Wire,
        in_flight: VecDeque<usize>,
    ) -> Result<(), End> {
        for part in in_flight {
            match self.receive(wire, part, &context.model) {
                Err(End::Refused(..)) => {}
                answer => answer?,
            }
        }
        Ok(())
    }

    /// Without an answer, the only way to say that a batch is refused is to close the connection.
    fn may_be_cut_off(&self, model: &Model) -> bool {
        // Of one that it has let go since, too: the broker may answer later.
        let mut topics = self.reached.iter();
        let refuses = model.may_refuse() || topics.any(|topic| topic.doomed.load(Ordering::SeqCst));
        self.mode.acks() == 0 && refuses
    }

    fn produce(
        &mut self,
        context: &Context,
        wire: &mut Wire,
        in_flight: &mut VecDeque<usize>,
        rng: &mut Rng,
    ) -> Result<(), End> {
        if self.mode == Mode::Idempotent && self.id.is_none() {
            self.id = Some(self.new_id(wire, &context.model)?);
        }
        let window = 1 + rng.below(IN_FLIGHT_MAX);
        let pause = *rng.pick(&[200, 1000, 4000]);
        while let Some(part) = self.pick(rng) {
            if context.model.is_resting() {
                return self.rest(wire, in_flight, &context.model, rng);
            }
            if rng.one_in(ADOPT_IN) {
                self.take_partitions(&context.model, rng, PARTITIONS_MAX + 2);
            }
            self.send(wire, part, &context.model, rng)?;
            std::thread::sleep(rng.time(Duration::from_micros(pause)));
            if self.mode != (Mode::Plain { acks: 0 }) {
                in_flight.push_back(part);
            }
            if in_flight.len() >= window
                && let Some(part) = in_flight.pop_front()
            {
                self.receive(wire, part, &context.model)?;
            }
        }
        Ok(())
    }

    /// Waits until nothing is under way.
    fn rest(
        &mut self,
        wire: &mut Wire,
        in_flight: &mut VecDeque<usize>,
        model: &Model,
        rng: &mut Rng,
    ) -> Result<(), End> {
        while let Some(part) = in_flight.pop_front() {
            self.receive(wire, part, model)?;
        }
        // On a full disk nothing else would be taken either.
        if self.mode.acks() == 0 && !model.may_refuse() {
            // What has no answer came before what has.
            let mode = std::mem::replace(&mut self.mode, Mode::Plain { acks: -1 });
            let answered = self.ask_each(wire, model, rng);
            self.mode = mode;
            return answered;
        }
        Ok(())
    }

    /// Sends a batch to each partition, and waits for its answer.
    fn ask_each(&mut self, wire: &mut Wire, model: &Model, rng: &mut Rng) -> Result<(), End> {
        for part in 0..self.parts.len() {
            if !self.parts[part].gone {
                self.send(wire, part, model, rng)?;
                self.receive(wire, part, model)?;
            }
        }
        Ok(())
    }

    fn new_id(&self, wire: &mut Wire, model: &Model) -> Result<i64, End> {
        let id = requests::producer_id(wire)?
            .map_err(|error| End::Refused(error, "InitProducerId".to_owned()))?;
        model.new_producer_id(id)?;
        Ok(id)
    }

    fn pick(&self, rng: &mut Rng) -> Option<usize> {
        let mut parts = (0..self.parts.len()).filter(|part| !self.parts[*part].gone);
        let count = parts.clone().count();
        (count > 0).then(|| parts.nth(rng.below(count)))?
    }

    fn send(
        &mut self,
        wire: &mut Wire,
        at: usize,
        model: &Model,
        rng: &mut Rng,
    ) -> Result<(), End> {
        if self.parts[at].next == self.parts[at].batches.len() {
            self.new_batch(at, rng);
        }
        let part = &mut self.parts[at];
        let sent = &part.batches[part.next];
        part.next += 1;
        lock(&part.ledger).sent(&sent.ids);
        add(&model.tally.sent, sent.ids.len() as u64);
        let acks = self.mode.acks();
        let request = requests::produce(&part.topic.name, part.index, acks, sent.batch.clone());
        match acks {
            0 => {
                part.answered = part.next;
                if !self
                    .reached
                    .iter()
                    .any(|topic| Arc::ptr_eq(topic, &part.topic))
                {
                    self.reached.push(Arc::clone(&part.topic));
                }
                wire.send_unanswered(&request, PRODUCE)?;
            }
            _ => wire.send(&request, PRODUCE)?,
        }
        Ok(())
    }

    fn new_batch(&mut self, at: usize, rng: &mut Rng) {
        let count = 1 + rng.below(BATCH_RECORDS_MAX) as u32;
        let worker = self.worker;
        let numbers = self.next_number..self.next_number + count;
        let ids: Vec<Id> = numbers.map(|number| Id { worker, number }).collect();
        self.next_number += count;
        let part = &mut self.parts[at];
        let sequence = part.next_sequence;
        let producer = self.id.map(|id| record::Producer { id, sequence });
        let compression = *rng.pick(&[Compression::None, Compression::None, Compression::Lz4]);
        let (place, shape) = ((part.topic.name.as_str(), part.index), part.topic.shape);
        let batch = record::encode(place, shape, &ids, producer, compression);
        part.next_sequence += count as i32;
        let answered = None;
        part.batches.push_back(Sent {
            ids,
            batch,
            answered,
        });
    }

    fn receive(&mut self, wire: &mut Wire, at: usize, model: &Model) -> Result<(), End> {
        let response = wire.receive::<ProduceRequest>(PRODUCE)?;
        let cuts = model.cuts();
        let (error, base) = requests::produced(&response);
        let proof = match self.mode.acks() {
            1 => Proof::AcksOne,
            _ => Proof::AcksAll,
        };
        let part = &mut self.parts[at];
        let (worker, mode, id) = (self.worker, self.mode, self.id);
        let place = format!(
            "worker {worker} ({mode:?}, producer id {id:?}) at {}-{}",
            part.topic.name, part.index
        );
        match part.take_answer(error, base, proof, cuts, requests::append_time(&response)) {
            Ok(acknowledged) => add(&model.tally.acknowledged, acknowledged),
            Err(End::Violated(violation)) => return Err(violation.at(place).into()),
            Err(End::Refused(error, what)) => {
                return Err(End::Refused(error, format!("{place}: {what}")));
            }
            Err(end) => return Err(end),
        }
        Ok(())
    }
}

impl Mode {
    fn acks(self) -> i16 {
        match self {
            Mode::Idempotent => -1,
            Mode::Plain { acks } => acks,
        }
    }
}

impl Part {
    fn new(topic: Arc<Topic>, index: i32, ledger: Arc<Mutex<Ledger>>) -> Part {
        Part {
            topic,
            index,
            ledger,
            next_sequence: 0,
            batches: VecDeque::new(),
            answered: 0,
            next: 0,
            gone: false,
        }
    }

    /// The answer to the oldest batch that has none; returns how many records are acknowledged.
    fn take_answer(
        &mut self,
        error: i16,
        base: i64,
        proof: Proof,
        cuts: u64,
        append_time_ms: Option<i64>,
    ) -> Result<u64, End> {
        let sent = &mut self.batches[self.answered];
        self.answered += 1;
        match error {
            NONE => {}
            UNKNOWN_TOPIC_OR_PARTITION if self.topic.doomed.load(Ordering::SeqCst) => {
                self.gone = true;
                return Ok(0);
            }
            _ => {
                let first = sent.ids[0];
                return Err(End::Refused(error, format!("the batch from {first} on")));
            }
        }
        sent.answered = Some(cuts);
        let time_ms = append_time_ms.unwrap_or_else(|| record::time_of(&sent.batch));
        let mut ledger = lock(&self.ledger);
        ledger.acknowledged(&sent.ids, base, proof, cuts)?;
        ledger.dated(&sent.ids, time_ms);
        Ok(sent.ids.len() as u64)
    }
}
