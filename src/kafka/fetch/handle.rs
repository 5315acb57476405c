//! Fetch: reads what there is, or parks until the high watermark brings more.

use super::{PartitionRequest, PartitionResponse, Request, Response, TopicRequest, TopicResponse};
use crate::engine::fetch::{PartitionData, PartitionRead};
use crate::engine::stats;
use crate::engine::{Engine, PartitionKey};
use crate::kafka::dispatch::{Answer, Outcome};
use crate::kafka::error::ErrorCode;
use crate::kafka::header::RequestHeader;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

const READ_COMMITTED: i8 = 1;
/// The epoch of every partition's one and only leader.
pub const LEADER_EPOCH: i32 = 0;

/// A fetch that was taken in.
struct Plan {
    topics: Vec<PlannedTopic>,
    reads: Vec<PartitionRead>,
    /// For the fetch as a whole.
    error: ErrorCode,
    read_committed: bool,
    min_bytes: usize,
    max_bytes: usize,
    deadline: Option<Instant>,
}

struct PlannedTopic {
    name: String,
    topic_id: Uuid,
    partitions: Vec<PlannedPartition>,
}

struct PlannedPartition {
    index: i32,
    /// The place in `reads`, or why there is nothing to read.
    read: Result<usize, ErrorCode>,
}

/// Plans the reads; reading and waiting happen when the reply's turn has come.
pub fn handle(engine: &Rc<Engine>, header: &RequestHeader<'_>, request: &Request<'_>) -> Outcome {
    let plan = plan(engine, request);
    let engine = Rc::clone(engine);
    let version = header.api_version;
    let mut writer = header.reply();
    Outcome::Later(Box::pin(async move {
        let data = read(&engine, &plan).await;
        let response = respond(&engine, plan, data);
        super::encode(&response, version, &mut writer);
        Answer::Reply(writer.finish())
    }))
}

fn plan(engine: &Engine, request: &Request<'_>) -> Plan {
    let limit = engine.config.fetch_bytes_max;
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(limit);
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let mut plan = Plan {
        topics: Vec::with_capacity(request.topics.len()),
        reads: Vec::new(),
        error: session_error(request),
        read_committed: request.isolation_level == READ_COMMITTED,
        min_bytes: usize::try_from(request.min_bytes)
            .unwrap_or(0)
            .min(max_bytes),
        max_bytes,
        deadline: (wait_ms > 0).then(|| Instant::now() + Duration::from_millis(wait_ms)),
    };
    if plan.error.is_error() {
        return plan;
    }
    for topic in &request.topics {
        let planned = plan_topic(engine, topic, &mut plan.reads);
        plan.topics.push(planned);
    }
    plan
}

/// Every fetch is answered in full with session 0, which any client takes for "no sessions here"
/// (KIP-227). So none can be referred to.
fn session_error(request: &Request<'_>) -> ErrorCode {
    match (request.session_id, request.session_epoch) {
        (_, -1 | 0) => ErrorCode::None,
        (0, _) => ErrorCode::InvalidFetchSessionEpoch,
        _ => ErrorCode::FetchSessionIdNotFound,
    }
}

fn plan_topic(
    engine: &Engine,
    request: &TopicRequest<'_>,
    reads: &mut Vec<PartitionRead>,
) -> PlannedTopic {
    let by_id = !request.topic_id.is_nil();
    let (topic, unknown) = match by_id {
        true => (
            engine.topic_by_id(request.topic_id),
            ErrorCode::UnknownTopicId,
        ),
        false => (
            engine.topic(request.name),
            ErrorCode::UnknownTopicOrPartition,
        ),
    };
    let mut plan_partition = |partition: &PartitionRequest| {
        let topic = topic.as_ref().ok_or(unknown)?;
        let index = u32::try_from(partition.index)
            .ok()
            .filter(|index| *index < topic.partitions)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        check_leader_epoch(partition.current_leader_epoch)?;
        reads.push(PartitionRead {
            key: PartitionKey {
                topic_id: topic.id,
                index,
            },
            offset: partition.fetch_offset,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        });
        Ok(reads.len() - 1)
    };
    PlannedTopic {
        name: request.name.to_owned(),
        topic_id: request.topic_id,
        partitions: request
            .partitions
            .iter()
            .map(|partition| PlannedPartition {
                index: partition.index,
                read: plan_partition(partition),
            })
            .collect(),
    }
}

/// Holds the epoch that a client believes in against ours (KIP-320); -1 skips the check.
pub fn check_leader_epoch(epoch: i32) -> Result<(), ErrorCode> {
    match epoch {
        -1 | LEADER_EPOCH => Ok(()),
        newer if newer > LEADER_EPOCH => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Err(ErrorCode::FencedLeaderEpoch),
    }
}

/// Reads until there is enough, something is wrong, or the time is up.
async fn read(engine: &Rc<Engine>, plan: &Plan) -> Vec<PartitionData> {
    let refused = plan.topics.iter().any(|topic| {
        let mut partitions = topic.partitions.iter();
        partitions.any(|partition| partition.read.is_err())
    });
    let at_once = plan.error.is_error() || refused || plan.reads.is_empty();
    let Some(deadline) = plan.deadline.filter(|_| !at_once && may_park(engine)) else {
        return engine.read(&plan.reads, plan.max_bytes, None).await;
    };
    let mut parked = None;
    loop {
        // A new one each time: partitions drop the watchers of the old one as dead.
        let wake = Arc::new(Notify::new());
        let data = engine.read(&plan.reads, plan.max_bytes, Some(&wake)).await;
        let bytes: usize = data.iter().map(PartitionData::len).sum();
        let failed = data.iter().any(|partition| partition.records.is_err());
        // What a limit kept back is there already: waiting would bring nothing.
        let limited = bytes > 0 && data.iter().any(|partition| partition.has_more);
        if failed || limited || bytes >= plan.min_bytes || engine.is_stopping() {
            return data;
        }
        parked.get_or_insert_with(|| Parked::new(engine));
        tokio::select! {
            () = wake.notified() => {}
            () = engine.stopped() => {}
            () = sleep_until(deadline) => return data,
        }
    }
}

/// Over the limit a fetch is answered with what there is; the client asks again.
fn may_park(engine: &Engine) -> bool {
    (engine.stats.parked_fetches.get() as usize) < engine.config.parked_fetches_max
}

/// Counts a parked fetch for as long as it lives.
struct Parked(Rc<Engine>);

impl Parked {
    fn new(engine: &Rc<Engine>) -> Parked {
        stats::add(&engine.stats.parked_fetches, 1);
        Parked(Rc::clone(engine))
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        stats::sub(&self.0.stats.parked_fetches, 1);
    }
}

fn respond(engine: &Engine, plan: Plan, data: Vec<PartitionData>) -> Response<'static> {
    let mut data: Vec<Option<PartitionData>> = data.into_iter().map(Some).collect();
    let read_committed = plan.read_committed;
    let mut respond_partition = |partition: &PlannedPartition| {
        let found = partition
            .read
            .and_then(|place| data[place].take().ok_or(ErrorCode::UnknownServerError));
        let response = respond_partition(partition.index, found, read_committed);
        if response.error_code.is_error() {
            engine.stats.error(response.error_code.name());
        }
        response
    };
    let topics = plan.topics.into_iter().map(|topic| TopicResponse {
        partitions: topic
            .partitions
            .iter()
            .map(&mut respond_partition)
            .collect(),
        name: Cow::Owned(topic.name),
        topic_id: topic.topic_id,
    });
    Response {
        throttle_time_ms: 0,
        error_code: plan.error,
        session_id: 0,
        topics: topics.collect(),
        node_endpoints: Vec::new(),
    }
}

fn respond_partition(
    index: i32,
    found: Result<PartitionData, ErrorCode>,
    read_committed: bool,
) -> PartitionResponse {
    let (error_code, high_watermark, log_start_offset, records) = match found {
        Err(code) => (code, -1, -1, None),
        Ok(data) => match data.records {
            Err(error) => ((&error).into(), -1, -1, None),
            Ok(records) => (
                ErrorCode::None,
                data.high_watermark,
                data.log_start_offset,
                Some(records).filter(|records| !records.is_empty()),
            ),
        },
    };
    PartitionResponse {
        index,
        error_code,
        high_watermark,
        // Without transactions all that is durable is stable.
        last_stable_offset: high_watermark,
        log_start_offset,
        diverging_epoch: None,
        current_leader: None,
        snapshot_id: None,
        aborted_transactions: read_committed.then(Vec::new),
        preferred_read_replica: -1,
        records: Vec::from_iter(records),
    }
}
