//! DescribeLogDirs (key 35): the data directories and what lies in them (KIP-113).
//!
//! Version 4 adds the size of the volume (KIP-827).

use crate::engine::reports;
use crate::engine::{Engine, PartitionKey};
use crate::io::reactor::Slice;
use crate::kafka::topics::{TopicRequest, TopicResponse};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

message! {
    DescribeLogDirs 1..=4, flexible 2..;

    Request<'a> {
        /// Null: all.
        topics: Option<Vec<TopicRequest<'a, i32>>>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode [3..],
        results: Vec<LogDir<'a>>,
    }

    LogDir<'a> {
        error_code: ErrorCode,
        /// An absolute path.
        log_dir: Cow<'a, str>,
        topics: Vec<TopicResponse<'a, PartitionResponse>>,
        /// Size of the volume; -1 if unknown.
        total_bytes: i64 [4..] = -1,
        /// What the broker could still write to the volume; -1 if unknown.
        usable_bytes: i64 [4..] = -1,
    }

    #[derive(Copy)]
    PartitionResponse {
        index: i32,
        size_bytes: i64,
        /// Offsets between the end of the log and the high watermark.
        offset_lag: i64,
        /// Whether this is a copy being made for a move between directories.
        is_future_key: bool,
    }
}

/// The partitions to describe, by topic.
type Asked = BTreeMap<String, BTreeSet<u32>>;

/// What a partition takes in the lists that are made, and as it is written.
const PARTITION_BYTES: usize = size_of::<PartitionResponse>() + 192;

/// What the reply takes at most, in bytes: the sizes of all partitions are looked up in any case.
pub fn reply_bytes(context: &Context<'_>, _: &Request<'_>) -> usize {
    let partitions = context.engine.with_catalog(|all| all.partition_count());
    partitions * PARTITION_BYTES
}

/// There is one directory, and every partition is in it. One that is asked for and not there is left
/// out, as Kafka does.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let engine = context.engine;
    let sizes = match reports::partition_sizes(engine).await {
        Ok(sizes) => sizes,
        Err(error) => {
            return Response {
                error_code: error.into(),
                ..Response::default()
            };
        }
    };
    let log_dir = match reports::data_dir(engine).await {
        Ok(dir) => LogDir {
            log_dir: Cow::Owned(dir.path.to_string_lossy().into_owned()),
            topics: describe(engine, &asked(engine, request).await, &sizes).await,
            total_bytes: bytes(dir.volume.total_bytes),
            usable_bytes: bytes(dir.volume.free_bytes),
            ..LogDir::default()
        },
        Err(error) => {
            tracing::warn!(%error, "the size of the data directory's volume is not known");
            let path = &engine.config.data_dir;
            LogDir {
                error_code: ErrorCode::KafkaStorageError,
                log_dir: Cow::Owned(path.to_string_lossy().into_owned()),
                ..LogDir::default()
            }
        }
    };
    Response {
        results: vec![log_dir],
        ..Response::default()
    }
}

async fn asked(engine: &Engine, request: &Request<'_>) -> Asked {
    let Some(topics) = &request.topics else {
        return engine.with_catalog(|catalog| {
            let topics = catalog.topics();
            let all = topics.map(|topic| (topic.name.clone(), (0..topic.partitions).collect()));
            all.collect()
        });
    };
    let mut asked = Asked::new();
    let mut slice = Slice::new();
    for topic in topics {
        for index in &topic.partitions {
            if let Some(key) = engine.key_of(topic.name, *index) {
                let indexes = asked.entry(topic.name.to_owned()).or_default();
                indexes.insert(key.index);
            }
            slice.rest().await;
        }
    }
    asked
}

async fn describe(
    engine: &Engine,
    asked: &Asked,
    sizes: &HashMap<PartitionKey, u64>,
) -> Vec<TopicResponse<'static, PartitionResponse>> {
    let mut topics = Vec::with_capacity(asked.len());
    let mut slice = Slice::new();
    for (name, indexes) in asked {
        let Some(topic_id) = engine.topic(name).map(|topic| topic.id) else {
            continue;
        };
        let mut partitions = Vec::with_capacity(indexes.len());
        for &index in indexes {
            if let Some(size) = sizes.get(&PartitionKey { topic_id, index }) {
                partitions.push(PartitionResponse {
                    index: index as i32,
                    size_bytes: bytes(*size),
                    ..PartitionResponse::default()
                });
            }
            slice.rest().await;
        }
        topics.push(TopicResponse {
            name: Cow::Owned(name.clone()),
            partitions,
        });
    }
    topics
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
