//! Fetch: from a request, and the session that it continues, to one call of the engine, and from what
//! was read to the reply.

use super::{
    FIRST_VERSION_WITH_TOPIC_ID, PartitionResponse, Request, Response, TopicRequest, TopicResponse,
};
use crate::engine::catalog::Topic;
use crate::engine::fetch::{self, Fetch, PartitionData, PartitionRead};
use crate::engine::fetch_sessions::{
    Distinct, News, SessionError, SessionStep, TopicNames, TopicRef, Wanted,
};
use crate::engine::{Engine, EngineError};
use crate::io::reactor::{self, STEPS_FEW, Slice};
use crate::io::{clock, process};
use crate::kafka::Context;
use crate::kafka::answer::{Answer, Handled};
use crate::wire::types::Records;
use crate::wire::{Reader, SHORT_BYTES, Slices, Wire, WireError, encode_long};
use std::borrow::Cow;
use std::collections::HashSet;
use std::future::pending;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const READ_COMMITTED: i8 = 1;
/// A request of more partitions than this is answered once for each, however often it names it.
const NAMED_AS_OFTEN_AS_LIKED: usize = 32;
/// Partitions that are looked up, or answered, before others may pass.
const AT_ONCE: usize = 4096;
/// Open a session.
const INITIAL_EPOCH: i32 = 0;
/// Do without one.
const FINAL_EPOCH: i32 = -1;

/// The longest that a fetch waits for records, in milliseconds, whatever its client asks for.
const WAIT_MS_MAX: u64 = 300_000;

/// What a request asks for, with nothing borrowed from its frame.
struct Asked {
    session_id: i32,
    session_epoch: i32,
    by_id: bool,
    wanted: Vec<Wanted>,
    /// Each of them is there once.
    is_distinct: bool,
    forgotten: HashSet<(TopicRef, i32)>,
    read_committed: bool,
    min_bytes: i32,
    max_bytes: i32,
    deadline: Option<Instant>,
}

/// Which partitions are answered.
enum Scope {
    /// All that the request names.
    Full {
        partitions: Vec<Wanted>,
        /// To remember them in a new session: the names of topics that they have by their ids.
        opens_session: Option<TopicNames>,
    },
    /// Those of a session of which there is something new.
    Session(SessionStep),
}

/// Copies what is asked for. All else happens when the reply's turn has come, so that the requests
/// of a connection find their session in the order in which they were sent.
///
/// # Errors
/// When the body is malformed.
pub async fn handle(context: &Context<'_>, body: &mut Reader<'_>) -> Result<Handled, WireError> {
    let version = context.version;
    let throttle_time_ms = context.throttle_time_ms;
    let engine = Rc::clone(context.engine);
    let asked = if body.remaining() > SHORT_BYTES {
        Box::pin(Asked::read_long(&engine, body, version)).await?
    } else {
        Asked::read(body, version)?
    };
    let mut writer = context.reply();
    // Not `Context::later`: a future within another is copied once more.
    Ok(Handled::Later(Box::pin(async move {
        let is_long = asked.wanted.len() > STEPS_FEW;
        let response = answer(&engine, asked).await;
        let mut response = response.unwrap_or_else(|error| Response {
            error_code: error.into(),
            ..Response::default()
        });
        response.throttle_time_ms = throttle_time_ms;
        if is_long {
            encode_long(response, &mut writer, version).await;
        } else {
            response.encode(&mut writer, version);
        }
        Answer::of(writer)
    })))
}

async fn answer(engine: &Rc<Engine>, mut asked: Asked) -> Result<Response<'static>, SessionError> {
    let mut scope = scope(engine, &mut asked)?;
    let mut reads = Vec::new();
    while !find_more(engine, &scope, &mut reads)? {
        reactor::take_turn().await;
    }
    let max_bytes = usize::try_from(asked.max_bytes).unwrap_or(0);
    let max_bytes = max_bytes.min(engine.config.fetch_bytes_max);
    let min_bytes = usize::try_from(asked.min_bytes).unwrap_or(0);
    let fetch = Fetch {
        reads,
        min_bytes: min_bytes.min(max_bytes),
        max_bytes,
        deadline: asked.deadline,
    };
    let fetched = fetch::fetch(engine, &fetch, step_is_over(&mut scope)).await;
    let mut fetched = fetched.into_iter();
    let mut reply = Reply::new(engine, asked.read_committed);
    while !reply.add_more(&mut scope, &mut fetched)? {
        reactor::take_turn().await;
    }
    Ok(finish(reply, scope))
}

/// Returns when the session, if there is one, has moved on without this fetch.
async fn step_is_over(scope: &mut Scope) {
    match scope {
        // Nothing is sent: the other end is dropped.
        Scope::Session(step) => drop((&mut step.is_over).await),
        Scope::Full { .. } => pending().await,
    }
}

impl Asked {
    /// Reads a short request.
    fn read(body: &mut Reader<'_>, version: i16) -> Result<Asked, WireError> {
        let request = Request::decode(body, version)?;
        let by_id = version >= FIRST_VERSION_WITH_TOPIC_ID;
        let named = request.topics.iter().map(|topic| topic.partitions.len());
        let mut wanted = Vec::with_capacity(named.sum());
        for topic in &request.topics {
            wanted.extend(wanted_of(by_id, topic));
        }
        let forgotten = request.forgotten_topics.iter().flat_map(|topic| {
            let name = topic_ref(by_id, topic.name, topic.topic_id);
            let indexes = topic.partitions.iter();
            indexes.map(move |index| (name.clone(), *index))
        });
        let forgotten = forgotten.collect();
        Ok(Asked::new(&request, by_id, wanted, forgotten))
    }

    async fn read_long(
        engine: &Engine,
        body: &mut Reader<'_>,
        version: i16,
    ) -> Result<Asked, WireError> {
        let request = Request::decode_in_slices(body, version, &mut Slices::new()).await?;
        let by_id = version >= FIRST_VERSION_WITH_TOPIC_ID;
        let mut slice = Slice::new();
        let named = request.topics.iter().map(|topic| topic.partitions.len());
        let mut wanted = Distinct::new(named.sum());
        for topic in &request.topics {
            for one in wanted_of(by_id, topic) {
                wanted.add(one);
                slice.rest().await;
            }
        }
        let named = request
            .forgotten_topics
            .iter()
            .map(|topic| topic.partitions.len());
        // No session has more.
        let forgotten_max = engine.config.fetch_session_partitions_max;
        let mut forgotten = HashSet::with_capacity(named.sum::<usize>().min(forgotten_max));
        for topic in &request.forgotten_topics {
            let name = topic_ref(by_id, topic.name, topic.topic_id);
            for index in &topic.partitions {
                if forgotten.len() < forgotten_max {
                    forgotten.insert((name.clone(), *index));
                }
                slice.rest().await;
            }
        }
        Ok(Asked {
            is_distinct: true,
            ..Asked::new(&request, by_id, wanted.into_partitions(), forgotten)
        })
    }

    fn new(
        request: &Request<'_>,
        by_id: bool,
        wanted: Vec<Wanted>,
        forgotten: HashSet<(TopicRef, i32)>,
    ) -> Asked {
        let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
        let wait_ms = wait_ms.min(WAIT_MS_MAX);
        Asked {
            session_id: request.session_id,
            session_epoch: request.session_epoch,
            by_id,
            wanted,
            is_distinct: false,
            forgotten,
            read_committed: request.isolation_level == READ_COMMITTED,
            min_bytes: request.min_bytes,
            max_bytes: request.max_bytes,
            deadline: (wait_ms > 0).then(|| Instant::now() + Duration::from_millis(wait_ms)),
        }
    }
}

/// The partitions of one topic that a request names.
fn wanted_of(by_id: bool, topic: &TopicRequest<'_>) -> impl Iterator<Item = Wanted> {
    let name = topic_ref(by_id, topic.name, topic.topic_id);
    topic.partitions.iter().map(move |partition| {
        Wanted::new(
            name.clone(),
            partition.index,
            partition.current_leader_epoch,
            partition.fetch_offset,
            partition.partition_max_bytes,
        )
    })
}

fn topic_ref(by_id: bool, name: &str, id: Uuid) -> TopicRef {
    if by_id {
        TopicRef::Id(id)
    } else {
        TopicRef::Name(name.into())
    }
}

/// What the request's session id and epoch mean (KIP-227). The session, if there is one, moves on.
///
/// # Errors
/// When there is no such session, or it is at another epoch.
fn scope(engine: &Engine, asked: &mut Asked) -> Result<Scope, SessionError> {
    let mut sessions = engine.fetch_sessions.borrow_mut();
    let wanted = mem::take(&mut asked.wanted);
    let forgotten = mem::take(&mut asked.forgotten);
    let (id, epoch) = (asked.session_id, asked.session_epoch);
    let step = match epoch {
        INITIAL_EPOCH | FINAL_EPOCH => {
            sessions.close(id);
            None
        }
        _ => {
            let now_ms = clock::steady_ms();
            sessions.advance((id, epoch), asked.by_id, &wanted, &forgotten, now_ms)?
        }
    };
    Ok(match step {
        Some(step) => {
            sessions.remember_names(step.id, names_of(engine, &wanted));
            Scope::Session(step)
        }
        None if epoch == INITIAL_EPOCH => Scope::Full {
            opens_session: Some(names_of(engine, &wanted)),
            partitions: if asked.is_distinct {
                wanted
            } else {
                distinct(wanted)
            },
        },
        None => Scope::Full {
            opens_session: None,
            partitions: if wanted.len() > NAMED_AS_OFTEN_AS_LIKED && !asked.is_distinct {
                distinct(wanted)
            } else {
                wanted
            },
        },
    })
}

fn distinct(wanted: Vec<Wanted>) -> Vec<Wanted> {
    let mut distinct = Distinct::new(wanted.len());
    wanted.into_iter().for_each(|one| distinct.add(one));
    distinct.into_partitions()
}

/// The names of the topics that are named by their ids and exist.
fn names_of(engine: &Engine, wanted: &[Wanted]) -> TopicNames {
    let mut names = TopicNames::new();
    for id in wanted.iter().filter_map(|wanted| wanted.topic.id()) {
        if !names.contains_key(&id)
            && let Some(topic) = engine.topic_by_id(id)
        {
            names.insert(id, topic.name.as_str().into());
        }
    }
    names
}

/// Looks up partitions. Most come topic by topic, so it remembers the last topic.
struct Finder<'a> {
    engine: &'a Engine,
    /// That the session, if there is one, remembers.
    names: &'a TopicNames,
    last: Option<(TopicRef, Option<Arc<Topic>>)>,
}

/// Looks up the partitions that come next; of a session those that it has now. True when all are found.
///
/// # Errors
/// When another fetch has continued or closed the session since.
fn find_more(
    engine: &Engine,
    scope: &Scope,
    found: &mut Vec<Result<PartitionRead, EngineError>>,
) -> Result<bool, SessionError> {
    let mut sessions = engine.fetch_sessions.borrow_mut();
    let none = TopicNames::new();
    let (partitions, names) = match scope {
        Scope::Full { partitions, .. } => (&partitions[..], &none),
        Scope::Session(step) => sessions.named_partitions(step)?,
    };
    let mut finder = Finder {
        engine,
        names,
        last: None,
    };
    let left = partitions.get(found.len()..).unwrap_or_default();
    found.reserve_exact(left.len());
    let next = left.iter().take(AT_ONCE);
    found.extend(next.map(|wanted| finder.find(wanted)));
    Ok(left.len() <= AT_ONCE)
}

impl Finder<'_> {
    fn find(&mut self, wanted: &Wanted) -> Result<PartitionRead, EngineError> {
        let name = &wanted.topic;
        if self.last.as_ref().is_none_or(|(last, _)| last != name) {
            let found = match name {
                TopicRef::Name(name) => self.engine.topic(name),
                TopicRef::Id(id) => self.engine.topic_by_id(*id),
            };
            self.last = Some((name.clone(), found));
        }
        let topic = self.last.as_ref().and_then(|(_, topic)| topic.as_ref());
        let topic = topic.ok_or_else(|| self.missing(name))?;
        let key = topic.key_of(wanted.index);
        let key = key.ok_or(EngineError::UnknownTopicOrPartition)?;
        fetch::check_leader_epoch(wanted.current_leader_epoch)?;
        Ok(PartitionRead {
            key,
            offset: wanted.fetch_offset,
            max_bytes: usize::try_from(wanted.max_bytes).unwrap_or(0),
        })
    }

    /// As Kafka tells it: where the session knows the name that an id had, it asks for that topic first.
    fn missing(&self, topic: &TopicRef) -> EngineError {
        let TopicRef::Id(id) = topic else {
            return EngineError::UnknownTopicOrPartition;
        };
        match self.names.get(id) {
            None => EngineError::UnknownTopicId,
            Some(name) if self.engine.topic(name).is_some() => EngineError::InconsistentTopicId,
            Some(_) => EngineError::UnknownTopicOrPartition,
        }
    }
}

/// The reply, whose partitions a new session remembers.
fn finish(reply: Reply<'_>, scope: Scope) -> Response<'static> {
    let mut sessions = reply.engine.fetch_sessions.borrow_mut();
    let session_id = match scope {
        Scope::Full {
            partitions,
            opens_session,
        } => opens_session.map_or(0, |names| {
            let now_ms = clock::steady_ms();
            let opened = sessions.open(partitions, now_ms, process::random_u64);
            let id = opened.unwrap_or(0);
            sessions.remember_names(id, names);
            id
        }),
        Scope::Session(step) => {
            if reply.has_records {
                sessions.rotate(&step);
            }
            step.id
        }
    };
    Response {
        session_id,
        topics: reply.topics,
        ..Response::default()
    }
}

/// A reply in the making.
struct Reply<'a> {
    engine: &'a Engine,
    read_committed: bool,
    /// Partitions that were looked at.
    seen: usize,
    topics: Vec<TopicResponse<'static>>,
    has_records: bool,
}

impl<'a> Reply<'a> {
    fn new(engine: &'a Engine, read_committed: bool) -> Reply<'a> {
        Reply {
            engine,
            read_committed,
            seen: 0,
            topics: Vec::new(),
            has_records: false,
        }
    }

    /// Adds the partitions that come next. What the client is told is noted in its session. True when nothing is
    /// left.
    ///
    /// # Errors
    /// When the session has moved on since it was read: the data is not for its client.
    fn add_more(
        &mut self,
        scope: &mut Scope,
        fetched: &mut impl ExactSizeIterator<Item = Result<PartitionData, EngineError>>,
    ) -> Result<bool, SessionError> {
        let mut sessions;
        let (partitions, is_session) = match scope {
            Scope::Full { partitions, .. } => (&mut partitions[..], false),
            Scope::Session(step) => {
                sessions = self.engine.fetch_sessions.borrow_mut();
                (sessions.partitions(step)?, true)
            }
        };
        // A session must not move on between what is noted in it and the reply, and has little that is new.
        let most = if is_session { usize::MAX } else { AT_ONCE };
        let next = partitions.iter_mut().skip(self.seen).take(most);
        for (wanted, found) in next.zip(fetched.by_ref()) {
            self.add(wanted, found, !is_session);
            self.seen += 1;
        }
        Ok(fetched.len() == 0)
    }

    /// Adds a partition if there is something new about it, or if `always`: to the last topic's entry, if
    /// it is of that topic.
    fn add(
        &mut self,
        wanted: &mut Wanted,
        found: Result<PartitionData, EngineError>,
        always: bool,
    ) {
        let response = respond_partition(wanted.index, found, self.read_committed);
        if response.error_code.is_error() {
            self.engine.stats.error(response.error_code.name());
        }
        let news = News {
            high_watermark: response.high_watermark,
            log_start_offset: response.log_start_offset,
            has_records: !response.records.0.is_empty(),
            is_error: response.error_code.is_error(),
        };
        self.has_records |= news.has_records;
        if !wanted.tell(news) && !always {
            return;
        }
        let (name, topic_id) = match &wanted.topic {
            TopicRef::Name(name) => (&**name, Uuid::nil()),
            TopicRef::Id(id) => ("", *id),
        };
        match self.topics.last_mut() {
            Some(last) if last.name == name && last.topic_id == topic_id => {
                last.partitions.push(response);
            }
            _ => self.topics.push(TopicResponse {
                name: Cow::Owned(name.to_owned()),
                topic_id,
                partitions: vec![response],
            }),
        }
    }
}

fn respond_partition(
    index: i32,
    found: Result<PartitionData, EngineError>,
    read_committed: bool,
) -> PartitionResponse {
    let aborted_transactions = read_committed.then(Vec::new);
    match found {
        Err(error) => PartitionResponse {
            index,
            error_code: (&error).into(),
            aborted_transactions,
            ..PartitionResponse::default()
        },
        Ok(data) => PartitionResponse {
            index,
            high_watermark: data.high_watermark,
            // Without transactions all that is durable is stable.
            last_stable_offset: data.high_watermark,
            log_start_offset: data.log_start_offset,
            aborted_transactions,
            records: Records(data.records),
            ..PartitionResponse::default()
        },
    }
}
