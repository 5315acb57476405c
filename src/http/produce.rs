//! Records in.

use super::activity::Activity;
use super::answer::{self, Answer};
use super::coding::Unpacker;
use super::outcome::{self, OnItsWay, Outcome, Sent, payload};
use super::precondition::Precondition;
use super::problem::Problem;
use super::query;
use super::request::Asked;
use super::split::{Item, Malformed, Split, Splitter};
use crate::engine::Engine;
use crate::engine::append::{Appender, Appending, Policy};
use crate::engine::catalog::{Topic, changes};
use crate::engine::indexes::Wanted;
use crate::engine::indexes::marks;
use crate::engine::partition::AckWhen;
use crate::io::clock;
use crate::io::reactor::Slice;
use crate::log::batch::build::{BatchBuilder, Header, RecordRef};
use crate::log::batch::{Codec, HEADER_BYTES};
use crate::net::budget::Share;
use crate::wire::partitioner::{Sticky, partition_for_key};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Request headers that begin like this become headers of the record.
const RECORD_HEADER: &str = "kafka-header-";
/// The request header that has the message id of its records.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MESSAGE_ID_BYTES_MAX: usize = 1 << 10;
/// What every CloudEvent in binary mode has.
const CLOUD_EVENT: &str = "ce-specversion";
/// Bodies that mean more than one record, or more than their bytes: to store them as they are would be
/// wrong.
const OTHER_KINDS: &[&str] = &["application/cloudevents", "application/vnd.", "multipart/"];
/// Records of a body are stored when so many bytes of them, or so many of them, are there.
const GROUP_BYTES: usize = 512 << 10;
const GROUP_RECORDS: usize = 10_000;
/// Groups on their way to the disk while the next one comes in.
const GROUPS_AHEAD: usize = 4;
/// The most records of a body, and of them the most that cannot be read.
const RECORDS_MAX: usize = 1 << 20;
const MALFORMED_MAX: usize = 1_000;
/// About what is noted of one of those.
const MALFORMED_BYTES: usize = 512;
/// Of a body that is not wanted any more.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(10);
/// JSON may write a byte with this many.
const JSON_FACTOR: usize = 6;
/// What the outcome of a record takes in memory.
const OUTCOME_BYTES: usize = size_of::<Outcome>();

/// What a request says of all of its records.
struct Intake {
    engine: Rc<Engine>,
    topic: Arc<Topic>,
    policy: Policy,
    key: Option<String>,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    headers: HeaderMap,
    /// Of the one record; of many, each has its place in the body behind it.
    message_id: Option<String>,
    precondition: Option<Precondition>,
    /// The body is one record.
    is_one: bool,
    /// What each record has of all these.
    shared_bytes: usize,
    activity: Activity,
    /// For records without a key.
    sticky: Sticky,
}

/// `POST /t/{topic}`: the body is the value of one record, or with `split`, or as NDJSON, many.
///
/// Parameters: `key`, `partition`, `timestamp` (ms, or RFC 3339), `acks` (`all`, the default, or `1`), `split` (`lines`
/// or `json`).
pub async fn post(mut asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    let key = asked.query.text("key");
    let partition = asked.query.number("partition")?;
    let form = "milliseconds since 1970, or a time as in 2026-01-31T10:00:00Z";
    let timestamp_ms = asked.query.take("timestamp", form, query::moment)?;
    let acks = asked.query.take("acks", "all or 1", |text| match text {
        "all" | "-1" => Some(AckWhen::Durable),
        "1" => Some(AckWhen::Appended),
        _ => None,
    })?;
    let split = asked
        .query
        .take("split", "lines or json", |text| match text {
            "lines" => Some(Split::Lines),
            "json" => Some(Split::Json),
            _ => None,
        })?;
    let split = kind_of(&asked.headers, split)?;
    let message_id = message_id(&asked.headers)?;
    let precondition = Precondition::of(&asked.headers, key.is_some())?;
    if let Some(precondition) = precondition {
        precondition.expected(key.as_deref().map(str::as_bytes))?;
    }
    if precondition.is_some() && split.is_some() {
        let detail = "If-Match is about one record, and the body has many: their headers can say what they expect";
        return Err(Problem::bad_request(detail));
    }
    let topic = changes::find_or_create_topic(&engine, &asked.params[0]).await?;
    if precondition.is_some() && key.is_none() && partition.is_none() && topic.partitions > 1 {
        let detail = "If-Match is about a partition: say ?partition= or ?key=";
        return Err(Problem::bad_request(detail));
    }
    if matches!(precondition, Some(Precondition::Key(_))) && !indexes_keys(&topic) {
        let detail = format!(
            "{} does not know its keys: set key.index or conditional.append to true",
            topic.name
        );
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Problem::new(status, "no-key-index", detail));
    }
    let shared_bytes = key.as_ref().map_or(0, String::len)
        + message_id.as_ref().map_or(0, |id| id.len() + 30)
        + headers_bytes(&asked.headers);
    let intake = Intake {
        shared_bytes,
        policy: Policy {
            ack: acks.unwrap_or(AckWhen::Durable),
            zstd: true,
            transactional: false,
        },
        sticky: Sticky::new(topic.partitions as i32),
        engine,
        topic,
        key,
        partition,
        timestamp_ms,
        headers: asked.headers,
        message_id,
        precondition,
        is_one: split.is_none(),
        activity: asked.activity,
    };
    match split {
        None => intake.one(asked.body).await,
        Some(split) => intake.many(asked.body, split).await,
    }
}

fn indexes_keys(topic: &Topic) -> bool {
    Wanted::of(&topic.config).is_some_and(|wanted| wanted.keys)
}

/// # Errors
/// 400 for an id that is no text, or too long.
fn message_id(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(id) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let id = id.to_str().ok().map(str::trim);
    let id = id.filter(|id| !id.is_empty() && id.len() <= MESSAGE_ID_BYTES_MAX);
    let wrong = || {
        let detail = format!("Idempotency-Key is a text of up to {MESSAGE_ID_BYTES_MAX} bytes");
        Problem::bad_request(detail)
    };
    id.map(|id| Some(id.to_owned())).ok_or_else(wrong)
}

/// What the headers of a request add to each of its records.
fn headers_bytes(headers: &HeaderMap) -> usize {
    let named = headers.iter();
    let named = named.filter(|(name, _)| name.as_str().starts_with(RECORD_HEADER));
    named
        .map(|(name, value)| name.as_str().len() + value.len() + 10)
        .sum()
}

/// How a body is taken apart.
///
/// # Errors
/// 415 for what is neither one record nor many.
fn kind_of(headers: &HeaderMap, split: Option<Split>) -> Result<Option<Split>, Problem> {
    let refuse = |detail| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(Problem::new(status, "unsupported-media-type", detail))
    };
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let kind = String::from_utf8_lossy(kind.unwrap_or_default()).to_ascii_lowercase();
    if OTHER_KINDS.iter().any(|other| kind.starts_with(other)) {
        return refuse(format!("{kind} is not supported"));
    }
    if headers.contains_key(CLOUD_EVENT) {
        return refuse("CloudEvents are not supported".to_owned());
    }
    let is_ndjson = kind.split(';').next().map(str::trim) == Some(answer::NDJSON);
    match split {
        None => Ok(is_ndjson.then_some(Split::NdJson)),
        Some(_) if is_ndjson => refuse(format!("{kind} is split already: leave split away")),
        Some(split) => Ok(Some(split)),
    }
}

impl Intake {
    async fn one(mut self, body: Incoming) -> Result<Answer, Problem> {
        // Held until the record is on its way.
        let mut memory = self.engine.memory.share();
        let limit = self.topic.config.max_message_bytes as usize;
        let item = Item {
            value: Some(self.whole(body, limit, &mut memory).await?),
            ..Item::default()
        };
        let on_its_way = self.send(vec![(0, item)]).await?;
        let mut outcomes = vec![None];
        for batch in on_its_way {
            outcome::settle(&self.engine, &self.topic, batch, &mut outcomes).await;
        }
        match outcomes.pop().flatten() {
            Some(Ok(stored)) => {
                let body = format!("{}\n", stored.to_json(&self.topic));
                Ok(answer::of(StatusCode::OK, answer::JSON, body))
            }
            Some(Err(problem)) => Err(*problem),
            None => Err(Problem::bad_request("there is no record")),
        }
    }

    /// Reads a body, and takes memory for it as it comes.
    ///
    /// # Errors
    /// 413 for more than `limit` bytes; 400 when the client breaks off.
    async fn whole(
        &self,
        mut body: Incoming,
        limit: usize,
        memory: &mut Share,
    ) -> Result<Bytes, Problem> {
        let mut unpacker = Unpacker::of(&self.headers)?;
        let mut whole = BytesMut::new();
        let mut slice = Slice::new();
        let mut since_touched = 0;
        let mut is_too_large = body.size_hint().lower() > limit as u64;
        while !is_too_large && let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::broken_off(0))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            since_touched += data.len();
            if since_touched >= self.engine.config.frame_bytes_min() {
                since_touched = 0;
                self.activity.touch();
            }
            // Twice: once here, once in the batch.
            let held = unpacker.bytes() + 2 * (whole.len() + data.len());
            memory.grow(held).await;
            let is_plain = matches!(unpacker, Unpacker::Plain);
            if is_plain && whole.is_empty() && body.is_end_stream() && data.len() <= limit {
                return Ok(data);
            }
            let mut packed = &data[..];
            while !packed.is_empty() && !is_too_large {
                let step = unpacker.step(&mut packed)?;
                is_too_large = whole.len() + step.len() > limit;
                whole.extend_from_slice(&step);
                memory.grow(unpacker.bytes() + 2 * whole.len()).await;
                slice.rest().await;
            }
        }
        if !is_too_large {
            whole.extend_from_slice(&unpacker.end()?);
        }
        if is_too_large || whole.len() > limit {
            discard(body).await;
            let detail = format!("the body has more than the {limit} bytes of max.message.bytes");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Problem::new(status, "too-large", detail));
        }
        Ok(whole.freeze())
    }

    /// Stores the records of a body group by group, while it comes in.
    async fn many(mut self, mut body: Incoming, split: Split) -> Result<Answer, Problem> {
        let mut memory = self.engine.memory.share();
        let limit = self.topic.config.max_message_bytes as usize;
        let written = if split == Split::Lines {
            1
        } else {
            JSON_FACTOR
        };
        let mut splitter = Splitter::new(split, limit.saturating_mul(written));
        let mut outcomes: Vec<Option<Outcome>> = Vec::new();
        let mut on_their_way: VecDeque<(usize, Vec<OnItsWay>)> = VecDeque::new();
        let (mut ahead_bytes, mut malformed, mut is_ended) = (0, 0, false);
        let (mut group, mut group_bytes) = (Vec::new(), 0);
        let mut slice = Slice::new();
        let mut is_all = false;
        let mut since_touched = 0;
        let mut unpacker = Unpacker::of(&self.headers)?;
        let broken_off = |outcomes: &[Option<Outcome>]| Problem::broken_off(outcomes.len());
        while !is_all {
            let frame = body.frame().await.transpose();
            let frame = frame.map_err(|_| broken_off(&outcomes))?;
            let data = match frame.map(|frame| frame.into_data()) {
                Some(Ok(data)) => data,
                Some(Err(_)) => continue,
                None => {
                    is_all = true;
                    let rest = unpacker
                        .end()
                        .map_err(|problem| problem.after(outcomes.len()))?;
                    rest.into()
                }
            };
            // A body may take as long as it comes fast enough.
            since_touched += data.len();
            if since_touched >= self.engine.config.frame_bytes_min() {
                since_touched = 0;
                self.activity.touch();
            }
            let mut packed = &data[..];
            loop {
                if is_all {
                    splitter.push(mem::take(&mut packed));
                } else {
                    let step = unpacker.step(&mut packed);
                    splitter.push(&step.map_err(|problem| problem.after(outcomes.len()))?);
                }
                let is_last = is_all && packed.is_empty();
                while let Some(next) = splitter.next(is_last) {
                    let place = outcomes.len();
                    match next {
                        Ok(item) => {
                            outcomes.push(None);
                            group_bytes += item.bytes() + self.shared_bytes;
                            group.push((place, item));
                        }
                        Err(Malformed { why, is_end }) => {
                            outcomes.push(Some(Err(Box::new(Problem::malformed(place, &why)))));
                            malformed += 1;
                            is_ended |= is_end;
                        }
                    }
                    if outcomes.len() >= RECORDS_MAX || malformed >= MALFORMED_MAX {
                        let why = format!(
                            "a body has at most {RECORDS_MAX} records, and {MALFORMED_MAX} that cannot be read"
                        );
                        let last = Problem::malformed(outcomes.len(), &why);
                        outcomes.push(Some(Err(Box::new(last))));
                        is_ended = true;
                    }
                    if group_bytes >= GROUP_BYTES || group.len() >= GROUP_RECORDS {
                        let bytes = mem::take(&mut group_bytes);
                        ahead_bytes += bytes;
                        let sent = self.send(mem::take(&mut group)).await?;
                        on_their_way.push_back((bytes, sent));
                    }
                    if on_their_way.len() > GROUPS_AHEAD {
                        ahead_bytes -= self.settle_first(&mut on_their_way, &mut outcomes).await;
                    }
                    slice.rest().await;
                    if is_ended {
                        break;
                    }
                }
                is_all |= is_ended;
                // Each group twice: as it came, and as batches.
                let held = splitter.bytes_kept() + 2 * group_bytes + ahead_bytes;
                let noted = outcomes.len() * OUTCOME_BYTES + malformed * MALFORMED_BYTES;
                memory.grow(unpacker.bytes() + held + noted).await;
                slice.rest().await;
                if packed.is_empty() || is_all {
                    break;
                }
            }
        }
        on_their_way.push_back((0, self.send(group).await?));
        while !on_their_way.is_empty() {
            self.settle_first(&mut on_their_way, &mut outcomes).await;
        }
        if is_ended {
            discard(body).await;
        }
        let mut answer = self.answer(outcomes)?;
        answer.body_mut().hold(memory);
        Ok(answer)
    }

    /// 200 when all records are stored, 207 when some are, else what is wrong with the first; that nothing happened
    /// it says only if that is true of all.
    fn answer(&self, outcomes: Vec<Option<Outcome>>) -> Result<Answer, Problem> {
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        if stored == 0 {
            let problems = outcomes.into_iter().filter_map(Result::err);
            let first = problems.reduce(|first, other| Box::new(first.beside(&other)));
            let none = || Problem::bad_request("there is no record in the body");
            return Err(first.map_or_else(none, |first| *first));
        }
        let status = if stored == outcomes.len() {
            StatusCode::OK
        } else {
            StatusCode::MULTI_STATUS
        };
        let topic = Arc::clone(&self.topic);
        let outcomes = outcomes.into_iter().map(move |outcome| match outcome {
            Ok(stored) => stored.to_json(&topic),
            Err(problem) => problem.to_json(),
        });
        let pieces = answer::gathered(answer::array(outcomes));
        Ok(answer::in_pieces(status, answer::JSON, pieces))
    }

    /// Makes batches of records, one or more for each partition, and hands them to the engine.
    async fn send(&mut self, group: Vec<(usize, Item)>) -> Result<Vec<OnItsWay>, Problem> {
        let now_ms = clock::now_ms();
        let mut by_partition: BTreeMap<i32, Vec<(usize, Item)>> = BTreeMap::new();
        let mut appender = Appender::new(&self.engine, self.policy);
        let mut on_their_way = Vec::new();
        for (place, item) in group {
            let partition = self.partition_of(&item);
            let timestamp_ms = self.timestamp_of(&item, now_ms);
            let has_key = item.key.is_some() || self.key.is_some();
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
        let limit = self.topic.config.max_message_bytes as usize;
        for (partition, items) in by_partition {
            for items in within(items, self.shared_bytes, limit.saturating_sub(HEADER_BYTES)) {
                let (batch, records) = self.batch(&items, now_ms);
                let key = self.key_of(&items[0].1);
                let expected = self.precondition.map(|condition| condition.expected(key));
                let expected = expected.transpose()?;
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
        Ok(on_their_way)
    }

    fn key_of<'i>(&'i self, item: &'i Item) -> Option<&'i [u8]> {
        let own = item.key.as_deref();
        own.or(self.key.as_deref().map(str::as_bytes))
    }

    /// Waits for the first group, and returns its bytes.
    async fn settle_first(
        &self,
        on_their_way: &mut VecDeque<(usize, Vec<OnItsWay>)>,
        outcomes: &mut [Option<Outcome>],
    ) -> usize {
        let (bytes, batches) = on_their_way.pop_front().unwrap_or_default();
        for batch in batches {
            outcome::settle(&self.engine, &self.topic, batch, outcomes).await;
        }
        bytes
    }

    fn timestamp_of(&self, item: &Item, now_ms: i64) -> i64 {
        item.timestamp_ms.or(self.timestamp_ms).unwrap_or(now_ms)
    }

    /// As Kafka's clients choose: by the key, else any.
    fn partition_of(&self, item: &Item) -> i32 {
        if let Some(partition) = item.partition.or(self.partition) {
            return partition;
        }
        match self.key_of(item) {
            Some(key) => partition_for_key(key, self.topic.partitions as i32),
            None => self.sticky.current(),
        }
    }

    /// The message id of the record at this place of the body: what the request says, unless its own headers do.
    fn id_of(&self, place: usize, item: &Item) -> Option<String> {
        let id = self.message_id.as_ref()?;
        let name = self.topic.config.dedup_header;
        let is_id = |(own, _): &(Bytes, _)| own.eq_ignore_ascii_case(name.as_str().as_bytes());
        if item.headers.iter().any(is_id) {
            return None;
        }
        Some(if self.is_one {
            id.clone()
        } else {
            format!("{id}-{place}")
        })
    }

    /// A batch of these records, and what is kept of each.
    fn batch(&self, items: &[(usize, Item)], now_ms: i64) -> (Bytes, Vec<Sent>) {
        let of_all = self.headers.iter().filter_map(|(name, value)| {
            // HTTP's names have no case: these are small.
            let name = name.as_str().strip_prefix(RECORD_HEADER)?;
            Some((name.as_bytes(), Some(value.as_bytes())))
        });
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
            ..BatchBuilder::default()
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

/// Reads what is left of a body that is not wanted, within bounds: many clients read no answer before they
/// have sent everything.
async fn discard(mut body: Incoming) {
    let mut left = DISCARDED_BYTES_MAX;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(bytes);
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(DISCARD_TIME, rest).await;
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
