//! DescribeLogDirs (key 35): the data directories and what lies in them (KIP-113).
//!
//! Versions: 2 is flexible, 3 adds an error for the whole, 4 the size of the volume (KIP-827).

use crate::engine::{Engine, PartitionKey};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_ERROR_CODE: i16 = 3;
const FIRST_VERSION_WITH_VOLUME_BYTES: i16 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Null: all.
    pub topics: Option<Vec<TopicRequest<'a>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<i32>,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        topics: r.nullable_array(decode_topic)?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.string()?,
        partitions: r.array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    /// From version 3.
    pub error_code: ErrorCode,
    pub results: Vec<LogDir<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDir<'a> {
    pub error_code: ErrorCode,
    /// An absolute path.
    pub log_dir: Cow<'a, str>,
    pub topics: Vec<TopicResponse<'a>>,
    /// Size of the volume; -1 if unknown. From version 4.
    pub total_bytes: i64,
    /// What the broker could still write to the volume; -1 if unknown. From version 4.
    pub usable_bytes: i64,
}

impl Default for LogDir<'_> {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::None,
            log_dir: Cow::Borrowed(""),
            topics: Vec::new(),
            total_bytes: -1,
            usable_bytes: -1,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionResponse {
    pub index: i32,
    pub size_bytes: i64,
    /// Offsets between the end of the log and the high watermark.
    pub offset_lag: i64,
    /// Whether this is a copy being made for a move between directories.
    pub is_future_key: bool,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    if version >= FIRST_VERSION_WITH_ERROR_CODE {
        w.i16(response.error_code.code());
    }
    w.array(&response.results, |w, log_dir| {
        encode_log_dir(w, log_dir, version)
    });
    w.no_tagged_fields();
}

fn encode_log_dir(w: &mut Writer, log_dir: &LogDir<'_>, version: i16) {
    w.i16(log_dir.error_code.code());
    w.string(&log_dir.log_dir);
    w.array(&log_dir.topics, encode_topic);
    if version >= FIRST_VERSION_WITH_VOLUME_BYTES {
        w.i64(log_dir.total_bytes);
        w.i64(log_dir.usable_bytes);
    }
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.string(&topic.name);
    w.array(&topic.partitions, encode_partition);
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse) {
    w.i32(partition.index);
    w.i64(partition.size_bytes);
    w.i64(partition.offset_lag);
    w.bool(partition.is_future_key);
    w.no_tagged_fields();
}

/// The partitions to tell of, by topic.
type Asked = BTreeMap<String, BTreeSet<u32>>;

/// There is one directory, and every partition is in it. One that is asked for and not there is left
/// out, as Kafka does.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let sizes = match context.engine.partition_sizes().await {
        Ok(sizes) => sizes,
        Err(error) => {
            return Response {
                error_code: (&error).into(),
                ..Response::default()
            };
        }
    };
    let topics = describe(context.engine, &asked(context.engine, request), &sizes);
    let log_dir = match context.engine.data_dir().await {
        Ok(dir) => LogDir {
            log_dir: Cow::Owned(dir.path.to_string_lossy().into_owned()),
            topics,
            total_bytes: bytes(dir.volume.total_bytes),
            usable_bytes: bytes(dir.volume.free_bytes),
            ..LogDir::default()
        },
        Err(error) => {
            tracing::warn!(%error, "the size of the data directory's volume is not known");
            LogDir {
                error_code: ErrorCode::KafkaStorageError,
                log_dir: Cow::Owned(
                    context
                        .engine
                        .config
                        .data_dir
                        .to_string_lossy()
                        .into_owned(),
                ),
                ..LogDir::default()
            }
        }
    };
    Response {
        results: vec![log_dir],
        ..Response::default()
    }
}

fn asked(engine: &Engine, request: &Request<'_>) -> Asked {
    let Some(topics) = &request.topics else {
        return engine.with_catalog(|catalog| {
            let topics = catalog.topics();
            let all = topics.map(|topic| (topic.name.clone(), (0..topic.partitions).collect()));
            all.collect()
        });
    };
    let mut asked = Asked::new();
    for topic in topics {
        let indexes = topic.partitions.iter();
        let known = indexes.filter_map(|index| engine.key_of(topic.name, *index));
        let known: Vec<u32> = known.map(|key| key.index).collect();
        if !known.is_empty() {
            asked
                .entry(topic.name.to_owned())
                .or_default()
                .extend(known);
        }
    }
    asked
}

fn describe(
    engine: &Engine,
    asked: &Asked,
    sizes: &HashMap<PartitionKey, u64>,
) -> Vec<TopicResponse<'static>> {
    let describe = |(name, indexes): (&String, &BTreeSet<u32>)| {
        let topic_id = engine.topic(name)?.id;
        let partition = |index: &u32| {
            let index = *index;
            let size = sizes.get(&PartitionKey { topic_id, index })?;
            Some(PartitionResponse {
                index: index as i32,
                size_bytes: bytes(*size),
                offset_lag: 0,
                is_future_key: false,
            })
        };
        Some(TopicResponse {
            name: Cow::Owned(name.clone()),
            partitions: indexes.iter().filter_map(partition).collect(),
        })
    };
    asked.iter().filter_map(describe).collect()
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
