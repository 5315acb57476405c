//! From a fetch request, and the session that it continues, to what is to be read.

use super::{FIRST_VERSION_WITH_TOPIC_ID, PartitionRequest, Request, TopicRequest};
use crate::engine::catalog::Topic;
use crate::engine::fetch::PartitionRead;
use crate::engine::fetch_sessions::{SessionError, TopicRef, Turn, Wanted, distinct};
use crate::engine::{Engine, PartitionKey};
use crate::io::clock;
use crate::kafka::error::ErrorCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

/// The epoch of every partition's one and only leader.
pub const LEADER_EPOCH: i32 = 0;
const READ_COMMITTED: i8 = 1;
/// Open a session.
const INITIAL_EPOCH: i32 = 0;
/// Do without one.
const FINAL_EPOCH: i32 = -1;

/// What a request asks for, with nothing borrowed from its frame.
pub struct Asked {
    session_id: i32,
    session_epoch: i32,
    by_id: bool,
    wanted: Vec<Wanted>,
    forgotten: Vec<(TopicRef, i32)>,
    read_committed: bool,
    min_bytes: i32,
    max_bytes: i32,
    deadline: Option<Instant>,
}

/// A fetch that is to be answered now.
pub struct Plan {
    pub scope: Scope,
    pub reads: Vec<PartitionRead>,
    /// Of each partition in scope: the place in `reads`, or why there is nothing to read.
    pub places: Vec<Result<usize, ErrorCode>>,
    pub read_committed: bool,
    pub min_bytes: usize,
    pub max_bytes: usize,
    /// `None` not to wait.
    pub deadline: Option<Instant>,
}

/// Which partitions are answered.
pub enum Scope {
    /// All that the request names.
    Full {
        partitions: Vec<Wanted>,
        /// Whether to remember them in a new session.
        opens_session: bool,
    },
    /// Those of a session of which there is something new.
    Session(Turn),
}

impl Scope {
    /// Ready when the session has moved on without this fetch.
    pub fn turn_is_over(&mut self) -> Option<&mut oneshot::Receiver<()>> {
        match self {
            Scope::Full { .. } => None,
            Scope::Session(turn) => Some(&mut turn.is_over),
        }
    }
}

impl Asked {
    pub fn new(request: &Request<'_>, version: i16) -> Asked {
        let by_id = version >= FIRST_VERSION_WITH_TOPIC_ID;
        let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
        let forgotten = request.forgotten_topics.iter().flat_map(|topic| {
            let name = topic_ref(by_id, topic.name, topic.topic_id);
            let indexes = topic.partitions.iter();
            indexes.map(move |index| (name.clone(), *index))
        });
        Asked {
            session_id: request.session_id,
            session_epoch: request.session_epoch,
            by_id,
            wanted: wanted(by_id, &request.topics),
            forgotten: forgotten.collect(),
            read_committed: request.isolation_level == READ_COMMITTED,
            min_bytes: request.min_bytes,
            max_bytes: request.max_bytes,
            deadline: (wait_ms > 0).then(|| Instant::now() + Duration::from_millis(wait_ms)),
        }
    }
}

fn wanted(by_id: bool, topics: &[TopicRequest<'_>]) -> Vec<Wanted> {
    let count = topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut wanted = Vec::with_capacity(count);
    for topic in topics {
        let name = topic_ref(by_id, topic.name, topic.topic_id);
        wanted.extend(topic.partitions.iter().map(|partition| {
            let PartitionRequest {
                index,
                current_leader_epoch,
                fetch_offset,
                partition_max_bytes,
                ..
            } = *partition;
            Wanted::new(
                name.clone(),
                index,
                current_leader_epoch,
                fetch_offset,
                partition_max_bytes,
            )
        }));
    }
    wanted
}

fn topic_ref(by_id: bool, name: &str, id: Uuid) -> TopicRef {
    match by_id {
        true => TopicRef::Id(id),
        false => TopicRef::Name(name.into()),
    }
}

/// Finds out what is to be read. The session, if there is one, moves on.
///
/// # Errors
/// When there is no such session, or it is not its turn.
pub fn plan(engine: &Engine, mut asked: Asked) -> Result<Plan, SessionError> {
    let mut finder = Finder::new(engine);
    let scope = scope(engine, &mut asked)?;
    match &scope {
        Scope::Full { partitions, .. } => finder.find_all(partitions),
        Scope::Session(turn) => {
            finder.find_all(engine.fetch_sessions.borrow_mut().partitions(turn)?);
        }
    }
    let limit = engine.config.fetch_bytes_max;
    let max_bytes = usize::try_from(asked.max_bytes).unwrap_or(0).min(limit);
    let min_bytes = usize::try_from(asked.min_bytes).unwrap_or(0);
    Ok(Plan {
        scope,
        reads: finder.reads,
        places: finder.places,
        read_committed: asked.read_committed,
        min_bytes: min_bytes.min(max_bytes),
        max_bytes,
        deadline: asked.deadline,
    })
}

/// What the request's session id and epoch mean (KIP-227).
fn scope(engine: &Engine, asked: &mut Asked) -> Result<Scope, SessionError> {
    let mut sessions = engine.fetch_sessions.borrow_mut();
    let wanted = std::mem::take(&mut asked.wanted);
    let (id, epoch) = (asked.session_id, asked.session_epoch);
    let turn = match epoch {
        INITIAL_EPOCH | FINAL_EPOCH => {
            sessions.close(id);
            None
        }
        _ => {
            let now_ms = clock::steady_ms();
            sessions.advance((id, epoch), asked.by_id, &wanted, &asked.forgotten, now_ms)?
        }
    };
    let opens_session = epoch == INITIAL_EPOCH;
    Ok(match turn {
        Some(turn) => Scope::Session(turn),
        None => Scope::Full {
            partitions: match opens_session {
                true => distinct(&wanted),
                false => wanted,
            },
            opens_session,
        },
    })
}

/// Looks up partitions. Most come topic by topic, so it remembers the last topic.
struct Finder<'a> {
    engine: &'a Engine,
    last: Option<(TopicRef, Option<Arc<Topic>>)>,
    reads: Vec<PartitionRead>,
    places: Vec<Result<usize, ErrorCode>>,
}

impl Finder<'_> {
    fn new(engine: &Engine) -> Finder<'_> {
        Finder {
            engine,
            last: None,
            reads: Vec::new(),
            places: Vec::new(),
        }
    }

    fn find_all(&mut self, partitions: &[Wanted]) {
        self.reads.reserve_exact(partitions.len());
        self.places.reserve_exact(partitions.len());
        for wanted in partitions {
            let place = self.find(wanted).map(|read| {
                self.reads.push(read);
                self.reads.len() - 1
            });
            self.places.push(place);
        }
    }

    fn find(&mut self, wanted: &Wanted) -> Result<PartitionRead, ErrorCode> {
        let unknown = match wanted.topic {
            TopicRef::Name(_) => ErrorCode::UnknownTopicOrPartition,
            TopicRef::Id(_) => ErrorCode::UnknownTopicId,
        };
        let topic = self.topic(&wanted.topic).ok_or(unknown)?;
        let index = u32::try_from(wanted.index)
            .ok()
            .filter(|index| *index < topic.partitions)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let key = PartitionKey {
            topic_id: topic.id,
            index,
        };
        check_leader_epoch(wanted.current_leader_epoch)?;
        Ok(PartitionRead {
            key,
            offset: wanted.fetch_offset,
            max_bytes: usize::try_from(wanted.max_bytes).unwrap_or(0),
        })
    }

    fn topic(&mut self, topic: &TopicRef) -> Option<&Topic> {
        if self.last.as_ref().is_none_or(|(last, _)| last != topic) {
            let found = match topic {
                TopicRef::Name(name) => self.engine.topic(name),
                TopicRef::Id(id) => self.engine.topic_by_id(*id),
            };
            self.last = Some((topic.clone(), found));
        }
        self.last.as_ref()?.1.as_deref()
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
