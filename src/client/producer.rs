//! Records gathered into batches and delivered to the leaders of their partitions.
//!
//! With `acks=all` the producer is idempotent: it has an id from the broker and numbers its records
//! per partition, so that a batch that is sent again after a lost reply is stored once. A batch keeps
//! its bytes and its numbers through all attempts, and a partition has one batch under way at a time.

use super::offsets::by_leader;
use super::records::{self, Header, NewRecord};
use super::{Client, Connection, Error, REQUEST_TIMEOUT_MS, Result, Topic, kafka_error_with};
use crate::kafka::data::produce::{PartitionRequest, PartitionResponse, Request, TopicRequest};
use crate::kafka::error::ErrorCode;
use crate::kafka::txn::init_producer_id;
use crate::log::batch::Codec;
use crate::log::batch::build::BatchBuilder;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What may wait in memory, in bytes, before everything is sent.
const PENDING_BYTES_MAX: usize = 32 << 20;
/// How long to wait for a topic that the broker may be creating.
const CREATION_WAIT: Duration = Duration::from_secs(3);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// From the next version on, Produce names topics by their ids.
const PRODUCE_VERSION_MAX: i16 = 12;

/// When the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never: errors go unseen.
    None,
    /// When the leader has appended the records. A retry can store them twice.
    Leader,
    /// When they are as safe as the topic makes them. A retry stores them once.
    All,
}

/// How records are to be delivered.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When the broker answers.
    pub acks: Acks,
    /// How batches are compressed.
    pub codec: Codec,
    /// The size at which a batch is sent, before compression. One larger record makes a batch.
    pub batch_bytes: usize,
    /// How long a batch is tried for.
    pub timeout: Duration,
    /// Headers of every record.
    pub headers: Vec<Header>,
    /// Is told why, once, when the first attempt to deliver something fails and others follow.
    pub on_trouble: fn(&str),
}

/// Where a record came from, for error messages.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file.
    pub source: Arc<str>,
    /// The line, from 1.
    pub line: u64,
}

/// What the broker has acknowledged (with [`Acks::None`]: what was sent).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Gathers records and delivers them.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    topic: Topic,
    settings: Settings,
    identity: Option<Identity>,
    pending: BTreeMap<i32, Batch>,
    pending_bytes: usize,
    leaders_used: BTreeSet<i32>,
    totals: Totals,
}

/// An idempotent producer's id, and the sequence number of the next record of each partition.
#[derive(Debug)]
struct Identity {
    id: i64,
    epoch: i16,
    next: HashMap<i32, i32>,
}

/// Records of one partition; encoded once they are on their way.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<NewRecord>,
    origins: Vec<Origin>,
    /// A bound on the encoded size before compression.
    bytes: usize,
    base_sequence: i32,
    encoded: Bytes,
}

/// Batches under way, by partition, in order.
type Queues = BTreeMap<i32, VecDeque<Batch>>;

/// The result of one attempt to deliver a partition's first batch.
#[derive(Debug, PartialEq, Eq)]
enum Delivery {
    Done,
    TooLarge,
    /// Worth another attempt.
    Passing(String),
    Fatal(ErrorCode, String),
}

impl Producer {
    /// Finds (or has the broker create) the topic, and gets a producer id if `acks` is all.
    pub fn open(mut client: Client, topic: &str, settings: Settings) -> Result<Producer> {
        let wait = settings.timeout.min(CREATION_WAIT);
        let topic = client.await_topic(topic, true, wait, |topic| !topic.partitions.is_empty())?;
        let identity = match settings.acks {
            Acks::All => identify(&mut client, settings.timeout)?,
            Acks::None | Acks::Leader => None,
        };
        Ok(Producer {
            client,
            topic,
            settings,
            identity,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            leaders_used: BTreeSet::new(),
            totals: Totals::default(),
        })
    }

    /// How many partitions the topic has: at least one.
    pub fn partitions(&self) -> i32 {
        self.topic.partitions.len() as i32
    }

    /// What has been delivered so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether records wait for [`flush`](Producer::flush).
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether `record` fits in what is being gathered for `partition`; if not, flush first.
    pub fn has_room(&self, partition: i32, record: &NewRecord) -> bool {
        let bytes = records::record_bytes_max(record, &self.settings.headers);
        let batch = self.pending.get(&partition);
        let batch_fits = batch.is_none_or(|b| b.bytes + bytes <= self.settings.batch_bytes);
        batch_fits && (self.pending.is_empty() || self.pending_bytes + bytes <= PENDING_BYTES_MAX)
    }

    /// Adds a record to what is being gathered. Nothing is sent.
    pub fn add(&mut self, partition: i32, record: NewRecord, origin: Origin) {
        let bytes = records::record_bytes_max(&record, &self.settings.headers);
        let batch = self.pending.entry(partition).or_default();
        batch.bytes += bytes;
        batch.records.push(record);
        batch.origins.push(origin);
        self.pending_bytes += bytes;
    }

    /// Sends everything gathered and waits until the broker has acknowledged it.
    pub fn flush(&mut self) -> Result<()> {
        self.pending_bytes = 0;
        let mut queues = Queues::new();
        for (partition, mut batch) in std::mem::take(&mut self.pending) {
            batch.base_sequence = self.take_sequences(partition, batch.records.len());
            self.encode(&mut batch)?;
            queues.insert(partition, VecDeque::from([batch]));
        }
        self.deliver(queues)
    }

    /// Flushes. With [`Acks::None`], also makes sure that the broker has read all that was sent.
    pub fn finish(&mut self) -> Result<()> {
        self.flush()?;
        if self.settings.acks != Acks::None {
            return Ok(());
        }
        for leader in std::mem::take(&mut self.leaders_used) {
            let confirmed = self.client.broker(leader).and_then(Connection::round_trip);
            confirmed.map_err(|error| Error::Unconfirmed(Box::new(error)))?;
        }
        Ok(())
    }

    fn take_sequences(&mut self, partition: i32, count: usize) -> i32 {
        let Some(identity) = &mut self.identity else {
            return -1;
        };
        let next = identity.next.entry(partition).or_default();
        let base = *next;
        *next = sequence_after(base, count);
        base
    }

    fn encode(&self, batch: &mut Batch) -> Result<()> {
        let mut producer = BatchBuilder::default();
        if let Some(identity) = &self.identity {
            producer.producer_id = identity.id;
            producer.producer_epoch = identity.epoch;
            producer.base_sequence = batch.base_sequence;
        }
        let Settings { headers, codec, .. } = &self.settings;
        let encoded = records::encode(&batch.records, headers, &producer, *codec);
        batch.encoded = encoded.map_err(|why| Error::Compress { codec: *codec, why })?;
        Ok(())
    }

    fn deliver(&mut self, mut queues: Queues) -> Result<()> {
        let mut deadline = Instant::now() + self.settings.timeout;
        let mut backoff = BACKOFF_MIN;
        let mut is_told = false;
        while !queues.is_empty() {
            let delivered = self.totals.records;
            let Some(trouble) = self.attempt(&mut queues)? else {
                continue;
            };
            if self.totals.records > delivered {
                (deadline, backoff) = (Instant::now() + self.settings.timeout, BACKOFF_MIN);
            }
            if Instant::now() + backoff > deadline {
                let tried_ms = self.settings.timeout.as_millis();
                return Err(Error::GivenUp { tried_ms, trouble });
            }
            if !is_told {
                (self.settings.on_trouble)(&trouble);
                is_told = true;
            }
            sleep(backoff);
            backoff = (backoff * 2).min(BACKOFF_MAX);
            self.refresh_topic()?;
        }
        Ok(())
    }

    /// Sends the first batch of every queue once. Returns what stands in the way of one of them, if
    /// another attempt may help.
    fn attempt(&mut self, queues: &mut Queues) -> Result<Option<String>> {
        let mut trouble = None;
        for (leader, partitions) in by_leader(&self.topic, queues.keys().copied()) {
            let deliveries = match leader {
                Some(leader) => self.send(leader, &partitions, queues)?,
                None => all_passing(&partitions, "the partition has no leader"),
            };
            for (partition, delivery) in deliveries {
                trouble = self.settle(partition, delivery, queues)?.or(trouble);
            }
        }
        Ok(trouble)
    }

    fn send(
        &mut self,
        leader: i32,
        partitions: &[i32],
        queues: &Queues,
    ) -> Result<Vec<(i32, Delivery)>> {
        match self.exchange(leader, partitions, queues) {
            Err(error) if error.is_connection() => Ok(all_passing(partitions, &error.to_string())),
            result => result,
        }
    }

    /// One Produce request, and what becomes of each partition in it.
    fn exchange(
        &mut self,
        leader: i32,
        partitions: &[i32],
        queues: &Queues,
    ) -> Result<Vec<(i32, Delivery)>> {
        let connection = self.client.broker(leader)?;
        let version = connection.version::<Request>(PRODUCE_VERSION_MAX)?;
        let batch_of = |&index: &i32| {
            let records = queues.get(&index)?.front()?.encoded.clone();
            let records = Some(records);
            Some(PartitionRequest { index, records })
        };
        let topic = TopicRequest {
            name: &self.topic.name,
            partitions: partitions.iter().filter_map(batch_of).collect(),
            ..TopicRequest::default()
        };
        let request = Request {
            transactional_id: None,
            acks: self.settings.acks.on_the_wire(),
            timeout_ms: REQUEST_TIMEOUT_MS,
            topics: vec![topic],
        };
        if self.settings.acks == Acks::None {
            connection.send_unanswered(&request, version)?;
            self.leaders_used.insert(leader);
            return Ok(partitions.iter().map(|&p| (p, Delivery::Done)).collect());
        }
        let reply = connection.call_at(&request, version)?;
        let topics = reply.topics.into_iter();
        let replies: Vec<_> = topics.flat_map(|topic| topic.partitions).collect();
        let deliveries = partitions.iter().map(|&p| (p, delivery_of(p, &replies)));
        Ok(deliveries.collect())
    }

    /// Acts on the result for the first batch of `partition`.
    fn settle(
        &mut self,
        partition: i32,
        delivery: Delivery,
        queues: &mut Queues,
    ) -> Result<Option<String>> {
        let Some(queue) = queues.get_mut(&partition) else {
            return Ok(None);
        };
        match delivery {
            Delivery::Passing(why) => return Ok(Some(why)),
            Delivery::Fatal(code, why) => {
                return Err(Error::Refused {
                    records: queue.front().map(Batch::lines).unwrap_or_default(),
                    topic: self.topic.name.clone(),
                    partition,
                    code,
                    why,
                });
            }
            Delivery::Done => {
                let batch = queue.pop_front().unwrap_or_default();
                self.totals.records += batch.records.len() as u64;
                self.totals.bytes += batch.payload_bytes();
            }
            Delivery::TooLarge => {
                let batch = queue.pop_front().unwrap_or_default();
                self.settings.batch_bytes = (batch.bytes / 2).max(1);
                for half in self.halves(batch)?.into_iter().rev() {
                    queue.push_front(half);
                }
            }
        }
        if queue.is_empty() {
            queues.remove(&partition);
        }
        Ok(None)
    }

    /// Splits a batch that the broker found too large. Fails on a single record.
    fn halves(&self, mut first: Batch) -> Result<[Batch; 2]> {
        let middle = first.records.len() / 2;
        if middle == 0 {
            return Err(Error::TooLarge {
                record: first.lines(),
                bytes: first.payload_bytes(),
                topic: self.topic.name.clone(),
            });
        }
        let mut second = Batch {
            records: first.records.split_off(middle),
            origins: first.origins.split_off(middle),
            base_sequence: match self.identity {
                Some(_) => sequence_after(first.base_sequence, middle),
                None => -1,
            },
            ..Batch::default()
        };
        for half in [&mut first, &mut second] {
            let sizes = half.records.iter();
            half.bytes = sizes
                .map(|r| records::record_bytes_max(r, &self.settings.headers))
                .sum();
            self.encode(half)?;
        }
        Ok([first, second])
    }

    /// Looks for new leaders. A broker that cannot be reached now is left to the next attempt.
    fn refresh_topic(&mut self) -> Result<()> {
        let name = self.topic.name.clone();
        match self.client.metadata(Some(&[&name]), false) {
            Ok(mut topics) => {
                if let Some(topic) = topics.pop().filter(|topic| !topic.error.is_error()) {
                    self.topic = topic;
                }
                Ok(())
            }
            Err(error) if error.is_connection() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Batch {
    /// The lines that it holds, such as `line 3 of a.txt` or `lines 3 to 9 of a.txt`.
    fn lines(&self) -> String {
        match (self.origins.first(), self.origins.last()) {
            (Some(first), Some(last)) if first.source != last.source => {
                let (from, to) = (&first.source, &last.source);
                format!(
                    "what is between line {} of {from} and line {} of {to}",
                    first.line, last.line
                )
            }
            (Some(first), Some(last)) if first.line != last.line => {
                format!(
                    "a batch from lines {} to {} of {}",
                    first.line, last.line, first.source
                )
            }
            (Some(first), _) => format!("line {} of {}", first.line, first.source),
            _ => String::new(),
        }
    }

    fn payload_bytes(&self) -> u64 {
        let bytes = |record: &NewRecord| {
            record.value.len() as u64 + record.key.as_ref().map_or(0, |key| key.len() as u64)
        };
        self.records.iter().map(bytes).sum()
    }
}

impl Acks {
    /// As Produce says it.
    pub fn on_the_wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Gets a producer id; None from a broker too old to have them.
fn identify(client: &mut Client, timeout: Duration) -> Result<Option<Identity>> {
    let deadline = Instant::now() + timeout;
    let request = init_producer_id::Request {
        transaction_timeout_ms: REQUEST_TIMEOUT_MS,
        ..init_producer_id::Request::default()
    };
    loop {
        let connection = client.any()?;
        if !connection.serves::<init_producer_id::Request>() {
            return Ok(None);
        }
        let reply = connection.call(&request)?;
        match reply.error_code {
            ErrorCode::None => {
                return Ok(Some(Identity {
                    id: reply.producer_id,
                    epoch: reply.producer_epoch,
                    next: HashMap::new(),
                }));
            }
            code if code.is_retriable() && Instant::now() < deadline => sleep(BACKOFF_MIN),
            code => return Err(Error::NoProducerId { code }),
        }
    }
}

fn all_passing(partitions: &[i32], why: &str) -> Vec<(i32, Delivery)> {
    partitions
        .iter()
        .map(|&partition| (partition, Delivery::Passing(why.to_owned())))
        .collect()
}

fn delivery_of(partition: i32, replies: &[PartitionResponse<'_>]) -> Delivery {
    let Some(reply) = replies.iter().find(|reply| reply.index == partition) else {
        return Delivery::Passing(format!("the reply leaves out partition {partition}"));
    };
    match reply.error_code {
        ErrorCode::None | ErrorCode::DuplicateSequenceNumber => Delivery::Done,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => Delivery::TooLarge,
        code if code.is_retriable() => {
            Delivery::Passing(kafka_error_with(code, reply.error_message.as_deref()))
        }
        code => Delivery::Fatal(code, kafka_error_with(code, explanation(reply))),
    }
}

/// What the broker says of a batch it refuses: of its first bad record, or of the batch.
fn explanation<'a>(reply: &'a PartitionResponse<'_>) -> Option<&'a str> {
    let mut of_records = reply.record_errors.iter();
    let of_record = of_records.find_map(|error| error.message.as_deref());
    of_record.or(reply.error_message.as_deref())
}

/// The sequence number `count` records after `base`: 0 follows the largest.
fn sequence_after(base: i32, count: usize) -> i32 {
    ((base as u64 + count as u64) % (i32::MAX as u64 + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero_after_the_largest() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn replies_become_outcomes() {
        let delivery = |error_code| {
            let reply = PartitionResponse {
                index: 3,
                error_code,
                ..PartitionResponse::default()
            };
            delivery_of(3, &[reply])
        };
        assert_eq!(delivery(ErrorCode::None), Delivery::Done);
        assert_eq!(delivery(ErrorCode::DuplicateSequenceNumber), Delivery::Done);
        assert_eq!(delivery(ErrorCode::MessageTooLarge), Delivery::TooLarge);
        let (retriable, last) = (
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::OutOfOrderSequenceNumber,
        );
        assert!(matches!(delivery(retriable), Delivery::Passing(_)));
        assert!(matches!(delivery(last), Delivery::Fatal(..)));
        assert!(matches!(delivery_of(4, &[]), Delivery::Passing(_)));
    }

    #[test]
    fn a_batch_names_its_lines() {
        let (a, b): (Arc<str>, Arc<str>) = ("a.txt".into(), "b.txt".into());
        let batch = |origins: Vec<Origin>| Batch {
            records: vec![NewRecord {
                timestamp_ms: 0,
                key: Some(Bytes::from("key")),
                value: Bytes::from("value"),
                headers: Vec::new(),
            }],
            origins,
            ..Batch::default()
        };
        let at = |source: &Arc<str>, line| Origin {
            source: source.clone(),
            line,
        };
        assert_eq!(batch(vec![at(&a, 3)]).lines(), "line 3 of a.txt");
        assert_eq!(
            batch(vec![at(&a, 3), at(&a, 9)]).lines(),
            "a batch from lines 3 to 9 of a.txt"
        );
        assert!(
            batch(vec![at(&a, 3), at(&b, 1)])
                .lines()
                .contains("line 1 of b.txt")
        );
        assert_eq!(batch(vec![]).payload_bytes(), 8);
    }
}
