//! Appending records: the checks of a batch, and the call to its partition.
//!
//! An [`Appender`] takes the batches of one request. Each is checked when it is added; those that
//! pass enter their partitions together, in the order in which they were added. A batch that was
//! refused holds none of the others up.

mod records;

use super::catalog::Topic;
use super::indexes::marks::{BadCondition, Expected, Marks};
use super::partition::{AckWhen, Append, Appended};
use super::{Engine, EngineError, PartitionKey};
use crate::config::{TimestampType, TopicConfig};
use crate::io::clock;
use crate::io::reactor::Slice;
use crate::log::batch::{self, BatchError, BatchHeader, Codec};
use crate::log::records::RecordsError;
use bytes::Bytes;
use std::mem;
use std::rc::Rc;
use thiserror::Error;
use tokio::sync::oneshot;

/// Appends that enter their partitions without letting others pass.
const AT_ONCE: usize = 64;

/// On which terms batches are appended.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub ack: AckWhen,
    /// Batches may be compressed with zstd. Requests of older versions must not use it (KIP-110).
    pub zstd: bool,
    /// The producer says that the batches belong to a transaction.
    pub transactional: bool,
}

/// Why a batch is not appended.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error("clients may not write to internal topics")]
    InternalTopic,
    #[error("there is no record batch")]
    NoBatch,
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("this version of the request may not use zstd")]
    Zstd,
    #[error("this broker does not support transactions")]
    Transactional,
    #[error("the batch claims the broker's own timestamps")]
    ClaimsAppendTime,
    #[error("a timestamp is further from the broker's clock than the topic allows")]
    TimestampTooFar,
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("record {0} of the batch has another offset")]
    RecordOffset(usize),
    /// The places of the first such records in the batch.
    #[error("one or more records have no key; this topic is compacted")]
    WithoutKey(Vec<i32>),
    #[error(transparent)]
    Condition(#[from] BadCondition),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A batch that was added: refused, or on its way.
pub enum Appending {
    Refused(Refusal),
    Waiting(oneshot::Receiver<Result<Appended, EngineError>>),
}

impl Appending {
    /// Waits until the batch is appended, or durable, as its policy says.
    ///
    /// # Errors
    /// When it is not appended.
    pub async fn outcome(self) -> Result<Appended, Refusal> {
        match self {
            Appending::Refused(refusal) => Err(refusal),
            Appending::Waiting(answered) => {
                let answer = answered.await.unwrap_or(Err(EngineError::Stopping));
                answer.map_err(Refusal::Engine)
            }
        }
    }
}

impl From<EngineError> for Appending {
    fn from(error: EngineError) -> Appending {
        Appending::Refused(error.into())
    }
}

/// Takes the batches of one request in.
pub struct Appender<'e> {
    engine: &'e Rc<Engine>,
    policy: Policy,
    now_ms: i64,
    /// Others had their turn since.
    has_waited: bool,
    accepted: Vec<(PartitionKey, Append)>,
}

impl Appender<'_> {
    pub fn new(engine: &Rc<Engine>, policy: Policy) -> Appender<'_> {
        Appender {
            engine,
            policy,
            now_ms: clock::now_ms(),
            has_waited: false,
            accepted: Vec::new(),
        }
    }

    /// Checks the batch for a topic's partition. It enters the partition with [`send`](Self::send).
    pub async fn add(&mut self, topic: &Topic, index: i32, batch: Bytes) -> Appending {
        self.add_if(topic, index, batch, None).await
    }

    /// The same, to be appended only if what is expected is so.
    pub async fn add_if(
        &mut self,
        topic: &Topic,
        index: i32,
        mut batch: Bytes,
        expected: Option<Expected>,
    ) -> Appending {
        let Some(key) = topic.key_of(index) else {
            return EngineError::UnknownTopicOrPartition.into();
        };
        let mut header = match self.check(topic, &batch) {
            Ok(header) => header,
            Err(refusal) => return Appending::Refused(refusal),
        };
        let mut marks = None;
        if records::are_needed(&topic.config, &header) {
            self.has_waited = true;
            match self.check_records(topic, &mut batch, &mut header).await {
                Ok(found) => marks = found.map(Box::new),
                Err(refusal) => return Appending::Refused(refusal),
            }
        }
        if let Some(expected) = expected {
            marks.get_or_insert_default().expect(expected);
        }
        let (reply, answered) = oneshot::channel();
        let append = Append {
            batch,
            header,
            ack: self.policy.ack,
            reply,
            marks,
        };
        self.accepted.push((key, append));
        Appending::Waiting(answered)
    }

    fn check(&self, topic: &Topic, batch: &[u8]) -> Result<BatchHeader, Refusal> {
        if topic.is_internal() {
            return Err(Refusal::InternalTopic);
        }
        if batch.is_empty() {
            return Err(Refusal::NoBatch);
        }
        let header = batch::check_produced(batch, topic.config.max_message_bytes as usize)?;
        if header.codec() == Some(Codec::Zstd) && !self.policy.zstd {
            return Err(Refusal::Zstd);
        }
        if self.policy.transactional || header.is_transactional() {
            return Err(Refusal::Transactional);
        }
        if header.is_log_append_time() {
            return Err(Refusal::ClaimsAppendTime);
        }
        // The header's own timestamps rather than each record's.
        let max = header.base_timestamp.max(header.max_timestamp);
        self.check_times(&topic.config, header.base_timestamp, max)?;
        Ok(header)
    }

    fn check_times(&self, config: &TopicConfig, min: i64, max: i64) -> Result<(), Refusal> {
        check_times(config, self.now_ms, min, max)
    }

    /// Whether a record could be in a batch for this topic: for who makes the batches, so that one record that
    /// could not holds up no others.
    ///
    /// # Errors
    /// What its batch would be refused for.
    pub fn check_record(
        &self,
        topic: &Topic,
        has_key: bool,
        timestamp_ms: i64,
    ) -> Result<(), Refusal> {
        if topic.is_internal() {
            return Err(Refusal::InternalTopic);
        }
        if topic.config.cleanup_policy.compacts() && !has_key {
            return Err(Refusal::WithoutKey(vec![0]));
        }
        self.check_times(&topic.config, timestamp_ms, timestamp_ms)
    }

    /// Checks every record, notes what it says of itself where the topic looks at that, has the header say the max timestamp that they have, as Kafka does, and the
    /// topic's codec.
    async fn check_records(
        &self,
        topic: &Topic,
        batch: &mut Bytes,
        header: &mut BatchHeader,
    ) -> Result<Option<Marks>, Refusal> {
        let checked = records::check(self.engine, topic, batch, header).await?;
        let times = checked.times;
        self.check_times(&topic.config, times.min, times.max)?;
        let is_true = header.max_timestamp == times.max;
        if let Some(recompressed) = checked.recompressed {
            *batch = recompressed.into();
            *header = BatchHeader::parse(batch)?;
        } else if topic.config.message_timestamp_type == TimestampType::CreateTime && !is_true {
            *batch = batch::with_max_timestamp(batch, times.max);
            header.max_timestamp = times.max;
        }
        Ok(checked.marks)
    }

    /// Hands the batches that were accepted to their partitions; see [`deliver`].
    pub async fn send(self) {
        // One batch that was taken in at once is appended at the time when it came: the clock is not read again.
        let is_now = self.accepted.len() == 1 && !self.has_waited;
        let now_ms = is_now.then_some(self.now_ms);
        deliver_at(self.engine, self.accepted, now_ms).await;
    }
}

/// `message.timestamp.before.max.ms` and `.after.max.ms` (KIP-937).
fn check_times(config: &TopicConfig, now_ms: i64, min: i64, max: i64) -> Result<(), Refusal> {
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let age = now_ms.saturating_sub(min);
    let lead = max.saturating_sub(now_ms);
    let is_too_old = min >= 0 && age > config.message_timestamp_before_max_ms;
    if is_too_old || lead > config.message_timestamp_after_max_ms {
        return Err(Refusal::TimestampTooFar);
    }
    Ok(())
}

/// Sends checked batches to their partitions, in order. Returns when all are sent, which may mean to wait
/// for a full mailbox of another shard; the answers come through the replies.
pub async fn deliver(engine: &Rc<Engine>, appends: Vec<(PartitionKey, Append)>) {
    deliver_at(engine, appends, None).await;
}

/// The same; those of this shard at a time (ms) that was read already, if there is one.
async fn deliver_at(
    engine: &Rc<Engine>,
    appends: Vec<(PartitionKey, Append)>,
    now_ms: Option<i64>,
) {
    let mut remote: Vec<Vec<(PartitionKey, Append)>> = Vec::new();
    let mut slice = (appends.len() > AT_ONCE).then(Slice::new);
    for (key, append) in appends {
        let owner = engine.owner_of(key);
        if owner == engine.shard {
            let now_ms = now_ms.unwrap_or_else(clock::now_ms);
            deliver_here(engine, key, append, now_ms);
            if let Some(slice) = &mut slice {
                slice.rest().await;
            }
            continue;
        }
        remote.resize_with(engine.mailboxes.shard_count(), Vec::new);
        remote[owner].push((key, append));
    }
    for (shard, appends) in remote.into_iter().enumerate() {
        let mut left = appends;
        while !left.is_empty() {
            let later = left.split_off(left.len().min(AT_ONCE));
            let some = mem::replace(&mut left, later);
            let run = move |engine: &Rc<Engine>| {
                for (key, append) in some {
                    deliver_here(engine, key, append, clock::now_ms());
                }
            };
            engine.mailboxes.send(shard, Box::new(run)).await;
        }
    }
}

/// Appends a batch that the broker built itself to a partition of this shard. It is not checked; the
/// outcome comes when it is durable.
pub fn append_own(engine: &Rc<Engine>, key: PartitionKey, batch: Bytes) -> Appending {
    let header = match BatchHeader::parse(&batch) {
        Ok(header) => header,
        Err(error) => return Appending::Refused(error.into()),
    };
    let (reply, answered) = oneshot::channel();
    let append = Append {
        batch,
        header,
        ack: AckWhen::Durable,
        reply,
        marks: None,
    };
    deliver_here(engine, key, append, clock::now_ms());
    Appending::Waiting(answered)
}

fn deliver_here(engine: &Rc<Engine>, key: PartitionKey, append: Append, now_ms: i64) {
    if engine.appends_ended.get() {
        let _ = append.reply.send(Err(EngineError::Stopping));
        return;
    }
    let Some(partition) = engine.partition(key) else {
        let _ = append.reply.send(Err(EngineError::UnknownTopicOrPartition));
        return;
    };
    let due = partition.borrow_mut().append(append, now_ms);
    engine.mark_due(&partition, due);
}
