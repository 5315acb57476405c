//! From what was read to the reply. What the client is told is noted in its session.

use super::plan::{Plan, Scope};
use super::{PartitionResponse, Response, TopicResponse};
use crate::engine::Engine;
use crate::engine::fetch::PartitionData;
use crate::engine::fetch_sessions::{News, SessionError, TopicRef, Wanted};
use crate::io::{clock, process};
use crate::kafka::error::ErrorCode;
use std::borrow::Cow;
use uuid::Uuid;

/// The reply, with what was read for each of the plan's reads.
///
/// # Errors
/// When the session has moved on since the plan was made: what was read is not for its client.
pub fn respond(
    engine: &Engine,
    plan: Plan,
    data: Vec<PartitionData>,
) -> Result<Response<'static>, SessionError> {
    let mut sessions = engine.fetch_sessions.borrow_mut();
    let mut data: Vec<Option<PartitionData>> = data.into_iter().map(Some).collect();
    let found = plan.places.into_iter().map(|place| {
        place.and_then(|place| data[place].take().ok_or(ErrorCode::UnknownServerError))
    });
    let mut reply = Reply::new(engine, plan.read_committed);
    let session_id = match plan.scope {
        Scope::Full {
            mut partitions,
            opens_session,
        } => {
            for (wanted, found) in partitions.iter_mut().zip(found) {
                reply.add(wanted, found, true);
            }
            let opened = opens_session
                .then(|| sessions.open(partitions, clock::steady_ms(), process::random_u64));
            opened.flatten().unwrap_or(0)
        }
        Scope::Session(turn) => {
            for (wanted, found) in sessions.partitions(&turn)?.iter_mut().zip(found) {
                reply.add(wanted, found, false);
            }
            if reply.has_records {
                sessions.rotate(&turn);
            }
            turn.id
        }
    };
    Ok(Response {
        throttle_time_ms: 0,
        error_code: ErrorCode::None,
        session_id,
        topics: reply.topics,
        node_endpoints: Vec::new(),
    })
}

/// A reply in the making.
struct Reply<'a> {
    engine: &'a Engine,
    read_committed: bool,
    topics: Vec<TopicResponse<'static>>,
    has_records: bool,
}

impl Reply<'_> {
    fn new(engine: &Engine, read_committed: bool) -> Reply<'_> {
        Reply {
            engine,
            read_committed,
            topics: Vec::new(),
            has_records: false,
        }
    }

    /// Adds a partition if there is something new about it, or if `always`.
    fn add(&mut self, wanted: &mut Wanted, found: Result<PartitionData, ErrorCode>, always: bool) {
        let response = respond_partition(wanted.index, found, self.read_committed);
        if response.error_code.is_error() {
            self.engine.stats.error(response.error_code.name());
        }
        let news = News {
            high_watermark: response.high_watermark,
            log_start_offset: response.log_start_offset,
            has_records: !response.records.is_empty(),
            is_error: response.error_code.is_error(),
        };
        self.has_records |= news.has_records;
        if wanted.tell(news) || always {
            self.topic(&wanted.topic).partitions.push(response);
        }
    }

    /// The topic's entry, if it is the last, or a new one.
    fn topic(&mut self, topic: &TopicRef) -> &mut TopicResponse<'static> {
        let (name, topic_id) = match topic {
            TopicRef::Name(name) => (&**name, Uuid::nil()),
            TopicRef::Id(id) => ("", *id),
        };
        let last = self.topics.last();
        if last.is_none_or(|last| last.name != name || last.topic_id != topic_id) {
            self.topics.push(TopicResponse {
                name: Cow::Owned(name.to_owned()),
                topic_id,
                partitions: Vec::new(),
            });
        }
        let last = self.topics.len() - 1;
        &mut self.topics[last]
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
