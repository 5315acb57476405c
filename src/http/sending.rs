//! Records on their way into a topic: in batches, one or more for each partition, and what became of each record.

use super::precondition::Precondition;
use super::problem::Problem;
use super::read;
use super::records::Record;
use super::split::Item;
use crate::engine::Engine;
use crate::engine::append::{Appender, Appending, Policy};
use crate::engine::catalog::Topic;
use crate::engine::indexes::marks;
use crate::engine::partition::AckWhen;
use crate::io::clock;
use crate::io::reactor::Slice;
use crate::log::batch::build::{BatchBuilder, Header, RecordRef};
use crate::log::batch::{Codec, HEADER_BYTES, ProducerMark};
use crate::log::key_hash::KeyHash;
use crate::wire::partitioner::{Sticky, partition_for_key};
use bytes::Bytes;
use hyper::StatusCode;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

/// Records are stored when so many bytes of them, or so many of them, are there.
pub const GROUP_BYTES: usize = 512 << 10;
pub const GROUP_RECORDS: usize = 10_000;
/// About what a message id takes beside itself: its place, and the name of its header.
const MESSAGE_ID_MORE_BYTES: usize = 30;
/// Outcomes that are noted between two looks at the clock: each takes some nanoseconds.
const STEPS_BETWEEN_RESTS: usize = 16;
/// Groups on their way to the disk while the next one comes in.
pub const GROUPS_AHEAD: usize = 4;

/// What a request says of all of its records.
#[derive(Default)]
pub struct OfAll {
    pub key: Option<String>,
    pub partition: Option<i32>,
    pub timestamp_ms: Option<i64>,
    pub headers: Vec<(Bytes, Bytes)>,
    pub message_id: Option<MessageId>,
    /// Of one record.
    pub precondition: Option<Precondition>,
    /// Of one record.
    pub producer: Option<ProducerMark>,
}

/// The message id that a request gives its records.
pub enum MessageId {
    /// Of the one record that it has.
    Whole(String),
    /// Of many: each has its place in the request behind it.
    Each(String),
}

impl MessageId {
    fn of(&self, place: usize) -> String {
        match self {
            MessageId::Whole(id) => id.clone(),
            MessageId::Each(id) => format!("{id}-{place}"),
        }
    }

    fn bytes(&self) -> usize {
        let (MessageId::Whole(id) | MessageId::Each(id)) = self;
        id.len() + MESSAGE_ID_MORE_BYTES
    }
}

impl OfAll {
    fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + value.len() + 10);
        let id = self.message_id.as_ref().map_or(0, MessageId::bytes);
        self.key.as_ref().map_or(0, String::len) + id + headers.sum::<usize>()
    }
}

/// Where a record went.
#[derive(Clone, Debug)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// It was there before, under its message id.
    pub is_duplicate: bool,
}

/// What became of a record.
pub type Outcome = Result<Stored, Box<Problem>>;

/// The records of one batch on their way.
pub struct OnItsWay {
    partition: i32,
    records: Vec<Sent>,
    appending: Appending,
}

/// What is kept of a record that was sent.
struct Sent {
    /// Which it is of the request.
    place: usize,
    timestamp_ms: i64,
    payload: Payload,
}

/// A record's key and value, where its message id may be there already; else nothing.
type Payload = Option<(Option<KeyHash>, Option<KeyHash>)>;

fn payload(key: Option<&[u8]>, value: Option<&[u8]>) -> Payload {
    Some((key.map(KeyHash::of), value.map(KeyHash::of)))
}

/// Hands the records of one request to the engine.
pub struct Sending {
    pub engine: Rc<Engine>,
    pub topic: Arc<Topic>,
    policy: Policy,
    of_all: OfAll,
    /// What each record has of what all have.
    shared_bytes: usize,
    /// For records without a key.
    sticky: Sticky,
}

impl Sending {
    pub fn new(engine: &Rc<Engine>, topic: Arc<Topic>, ack: AckWhen, of_all: OfAll) -> Sending {
        Sending {
            engine: Rc::clone(engine),
            policy: Policy {
                ack,
                zstd: true,
                transactional: false,
            },
            shared_bytes: of_all.bytes(),
            of_all,
            sticky: Sticky::new(topic.partitions as i32),
            topic,
        }
    }

    /// The most bytes of a batch.
    pub fn limit(&self) -> usize {
        self.topic.config.max_message_bytes as usize
    }

    /// About what a record takes in a batch.
    pub fn bytes_of(&self, item: &Item) -> usize {
        item.bytes() + self.shared_bytes
    }

    /// Makes batches of records, one or more for each partition, and hands them to the engine. Each record comes with
    /// its place in the request.
    pub async fn send(&mut self, group: Vec<(usize, Item)>) -> Vec<OnItsWay> {
        let now_ms = clock::now_ms();
        let mut by_partition: BTreeMap<i32, Vec<(usize, Item)>> = BTreeMap::new();
        let mut appender = Appender::new(&self.engine, self.policy);
        let mut on_their_way = Vec::new();
        for (place, item) in group {
            let partition = self.partition_of(place, &item);
            let timestamp_ms = self.timestamp_of(&item, now_ms);
            let has_key = item.key.is_some() || self.of_all.key.is_some();
            // One that its batch would be refused for holds up no others.
            if let Err(refusal) = appender.check_record(&self.topic, has_key, timestamp_ms) {
                on_their_way.push(OnItsWay {
                    partition,
                    records: vec![Sent {
                        place,
                        timestamp_ms,
                        payload: None,
                    }],
                    appending: Appending::Refused(refusal),
                });
                continue;
            }
            by_partition
                .entry(partition)
                .or_default()
                .push((place, item));
        }
        let limit = self.limit().saturating_sub(HEADER_BYTES);
        for (partition, items) in by_partition {
            for items in within(items, self.shared_bytes, limit) {
                let (batch, records) = self.batch(&items, now_ms);
                let key = self.key_of(&items[0].1);
                let expected = self
                    .of_all
                    .precondition
                    .map(|condition| condition.expected(key));
                let adding = appender.add_if(&self.topic, partition, batch, expected);
                let appending = adding.await;
                on_their_way.push(OnItsWay {
                    partition,
                    records,
                    appending,
                });
            }
        }
        appender.send().await;
        self.sticky.advance();
        on_their_way
    }

    /// Sends records in groups, some of them ahead of those whose outcome is not known yet, and returns what became of
    /// each.
    pub async fn send_all(&mut self, items: Vec<Item>) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; items.len()];
        let mut ahead: VecDeque<Vec<OnItsWay>> = VecDeque::new();
        let (mut group, mut group_bytes) = (Vec::new(), 0);
        let mut slice = Slice::new();
        let mut items = items.into_iter().enumerate().peekable();
        while let Some((place, item)) = items.next() {
            group_bytes += self.bytes_of(&item);
            group.push((place, item));
            let is_full = group_bytes >= GROUP_BYTES || group.len() >= GROUP_RECORDS;
            if is_full || items.peek().is_none() {
                group_bytes = 0;
                ahead.push_back(self.send(mem::take(&mut group)).await);
            }
            if ahead.len() > GROUPS_AHEAD {
                let first = ahead.pop_front().unwrap_or_default();
                self.settle_all(first, &mut outcomes).await;
            }
            slice.rest().await;
        }
        for group in ahead {
            self.settle_all(group, &mut outcomes).await;
        }
        outcomes.into_iter().flatten().collect()
    }

    /// Waits for batches, and notes what became of their records.
    pub async fn settle_all(&self, batches: Vec<OnItsWay>, outcomes: &mut [Option<Outcome>]) {
        for batch in batches {
            self.settle(batch, outcomes).await;
        }
    }

    /// Waits for a batch, and notes what became of its records.
    pub async fn settle(&self, batch: OnItsWay, outcomes: &mut [Option<Outcome>]) {
        let partition = batch.partition;
        let appended = match batch.appending.outcome().await {
            Ok(appended) => appended,
            Err(refusal) => {
                let problem = Problem::from(refusal);
                for sent in batch.records {
                    outcomes[sent.place] = Some(Err(Box::new(problem.clone())));
                }
                return;
            }
        };
        let mut firsts = Firsts::default();
        let mut slice = Slice::new();
        for (at, sent) in batch.records.into_iter().enumerate() {
            let offset = appended.offset_of(at);
            let known = appended.known.as_ref().and_then(|known| known.at(at));
            let outcome = match known {
                Some(_) => {
                    let first = firsts.find(self, partition, offset).await;
                    duplicate(partition, offset, &sent, first)
                }
                None => Ok(Stored {
                    is_duplicate: appended.is_retry,
                    partition,
                    offset,
                    timestamp_ms: match appended.append_time_ms {
                        -1 => sent.timestamp_ms,
                        append_time_ms => append_time_ms,
                    },
                }),
            };
            outcomes[sent.place] = Some(outcome);
            if at % STEPS_BETWEEN_RESTS == 0 {
                slice.rest().await;
            }
        }
    }

    fn timestamp_of(&self, item: &Item, now_ms: i64) -> i64 {
        let own = item.timestamp_ms.or(self.of_all.timestamp_ms);
        own.unwrap_or(now_ms)
    }

    fn key_of<'a>(&'a self, item: &'a Item) -> Option<&'a [u8]> {
        let of_all = self.of_all.key.as_deref().map(str::as_bytes);
        item.key.as_deref().or(of_all)
    }

    /// As Kafka's clients choose: by the key, else any; a record that has a message id of the request's by that.
    fn partition_of(&self, place: usize, item: &Item) -> i32 {
        if let Some(partition) = item.partition.or(self.of_all.partition) {
            return partition;
        }
        let partitions = self.topic.partitions as i32;
        match (self.key_of(item), &self.of_all.message_id) {
            (Some(key), _) => partition_for_key(key, partitions),
            // It is sent again to the same one, which knows it.
            (None, Some(id)) => partition_for_key(id.of(place).as_bytes(), partitions),
            (None, None) => self.sticky.current(),
        }
    }

    /// The message id of the record at this place of the body: what the request says, unless its own headers do.
    fn id_of(&self, place: usize, item: &Item) -> Option<String> {
        let id = self.of_all.message_id.as_ref()?;
        let name = self.topic.config.dedup_header;
        let is_id = |(own, _): &(Bytes, _)| own.eq_ignore_ascii_case(name.as_str().as_bytes());
        let has_own = item.headers.iter().any(is_id);
        (!has_own).then(|| id.of(place))
    }

    fn builder(&self) -> BatchBuilder {
        match &self.of_all.producer {
            None => BatchBuilder::default(),
            Some(mark) => BatchBuilder {
                producer_id: mark.producer_id,
                producer_epoch: mark.epoch,
                base_sequence: mark.base_sequence,
                ..BatchBuilder::default()
            },
        }
    }

    /// A batch of these records, and what is kept of each.
    fn batch(&self, items: &[(usize, Item)], now_ms: i64) -> (Bytes, Vec<Sent>) {
        let of_all = self.of_all.headers.iter();
        let of_all = of_all.map(|(name, value)| (&name[..], Some(&value[..])));
        let of_all: Vec<Header<'_>> = of_all.collect();
        let id_name = self.topic.config.dedup_header;
        let ids = items.iter().map(|(place, item)| self.id_of(*place, item));
        let ids: Vec<Option<String>> = ids.collect();
        let of_each: Vec<Vec<Header<'_>>> = items
            .iter()
            .zip(&ids)
            .map(|((_, item), id)| {
                let own = item.headers.iter();
                let own = own.map(|(name, value)| (&name[..], value.as_deref()));
                let id = id.iter();
                let id = id.map(|id| (id_name.as_str().as_bytes(), Some(id.as_bytes())));
                of_all.iter().copied().chain(own).chain(id).collect()
            })
            .collect();
        let timestamp = |item: &Item| self.timestamp_of(item, now_ms);
        let records: Vec<RecordRef<'_>> = items
            .iter()
            .zip(&of_each)
            .map(|((_, item), headers)| RecordRef {
                timestamp_ms: timestamp(item),
                key: self.key_of(item),
                value: item.value.as_deref(),
                headers,
            })
            .collect();
        let builder = BatchBuilder {
            base_timestamp: records.first().map_or(now_ms, |first| first.timestamp_ms),
            ..self.builder()
        };
        let batch = builder.encode(Codec::None, &records);
        let has_ids = self.topic.config.dedup_window_ms > 0;
        let sent = items.iter().map(|(place, item)| Sent {
            place: *place,
            timestamp_ms: timestamp(item),
            payload: match has_ids {
                true => payload(self.key_of(item), item.value.as_deref()),
                false => None,
            },
        });
        // In memory, and without a codec, nothing fails.
        (batch.unwrap_or_default().into(), sent.collect())
    }
}

/// The batch that was read last for records that were there before: the next one is most often in it too.
#[derive(Default)]
struct Firsts {
    records: VecDeque<Record>,
}

impl Firsts {
    /// The record at an offset. `None` where it cannot be read (any more): it cannot be another then.
    async fn find(&mut self, of: &Sending, partition: i32, offset: i64) -> Option<&Record> {
        let is_here = |records: &VecDeque<Record>| {
            let ends = records.front().zip(records.back());
            ends.is_some_and(|(first, last)| (first.offset..=last.offset).contains(&offset))
        };
        if !is_here(&self.records) {
            let read = read::batch(&of.engine, &of.topic, partition, offset, None).await;
            self.records = read.unwrap_or_default().into();
        }
        let at = self
            .records
            .binary_search_by_key(&offset, |record| record.offset);
        self.records.get(at.ok()?)
    }
}

/// The outcome of a record whose message id was there before, in `first`.
fn duplicate(partition: i32, offset: i64, sent: &Sent, first: Option<&Record>) -> Outcome {
    let of_first = first.map(|first| payload(first.key.as_deref(), first.value.as_deref()));
    if of_first.is_some_and(|of_first| of_first != sent.payload) {
        let detail = format!(
            "the record with this message id at offset {offset} of partition {partition} has another key or value"
        );
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Box::new(Problem::new(status, "other-payload", detail)));
    }
    Ok(Stored {
        partition,
        offset,
        timestamp_ms: first.map_or(sent.timestamp_ms, |first| first.timestamp_ms),
        is_duplicate: true,
    })
}

/// Whether a record says what it expects. Such a one is alone in its batch: if it is not so, the others are stored
/// all the same.
fn has_condition(item: &Item) -> bool {
    let mut names = item.headers.iter().map(|(name, _)| name);
    names.any(|name| marks::is_condition(name))
}

/// Records in groups of at most `bytes`, but for one that is larger alone. Each has `shared` bytes more than its own.
fn within(items: Vec<(usize, Item)>, shared: usize, bytes: usize) -> Vec<Vec<(usize, Item)>> {
    let mut groups: Vec<Vec<(usize, Item)>> = Vec::new();
    let mut left = 0;
    for (place, item) in items {
        let size = item.bytes() + shared;
        let is_alone = has_condition(&item);
        match groups.last_mut().filter(|_| !is_alone) {
            Some(group) if size <= left => group.push((place, item)),
            _ => {
                groups.push(vec![(place, item)]);
                left = bytes;
            }
        }
        left = if is_alone {
            0
        } else {
            left.saturating_sub(size)
        };
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_at_most_the_bytes_that_a_batch_may() {
        let item = |bytes: usize| Item {
            value: Some(vec![b'x'; bytes].into()),
            ..Item::default()
        };
        let of = |sizes: &[usize]| {
            let items = sizes.iter().map(|size| item(*size)).enumerate();
            let groups = within(items.collect(), 0, 1_000);
            let places = groups.into_iter().map(|group| {
                let places = group.into_iter().map(|(place, _)| place);
                places.collect::<Vec<_>>()
            });
            places.collect::<Vec<_>>()
        };
        assert!(of(&[]).is_empty());
        assert_eq!(of(&[300, 300, 300]), [vec![0, 1], vec![2]]);
        assert_eq!(of(&[5_000, 1, 1]), [vec![0], vec![1, 2]]);
        assert_eq!(of(&[1, 5_000]), [vec![0], vec![1]]);
    }
}
