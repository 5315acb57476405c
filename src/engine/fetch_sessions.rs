//! Incremental fetch sessions (KIP-227): what a consumer fetches again and again is remembered, so
//! that it names a partition only when something about it changes, and is told of one only when
//! there is something new.
//!
//! These are the rules of one shard's sessions: no I/O, and the time comes from the caller.

use super::catalog::TOPIC_NAME_BYTES_MAX;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use thiserror::Error;
use tokio::sync::oneshot;
use uuid::Uuid;

/// The epoch of the first fetch that continues a session, and of the one after `i32::MAX`.
const FIRST_EPOCH: i32 = 1;

/// Why a fetch cannot continue a session. Each means for the client: open a new one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SessionError {
    #[error("there is no such session on this shard")]
    Unknown,
    #[error("the session is at another epoch")]
    WrongEpoch,
    #[error("the session names topics the other way")]
    OtherNaming,
    #[error("there is no room for what the session grew by, so it was closed")]
    NoRoom,
}

/// What one shard's sessions may take up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub sessions: usize,
    /// Of all sessions together.
    pub partitions: usize,
    /// A session that was not used for longer than this gives way to a new one.
    pub eviction_ms: i64,
}

/// A topic, as the client refers to it: throughout a session in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    Name(Rc<str>),
    Id(Uuid),
}

impl TopicRef {
    /// Longer names than a topic can have are not worth remembering.
    fn may_exist(&self) -> bool {
        match self {
            TopicRef::Name(name) => name.len() <= TOPIC_NAME_BYTES_MAX,
            TopicRef::Id(_) => true,
        }
    }

    /// The id, if that is how the client refers to it.
    pub fn id(&self) -> Option<Uuid> {
        match self {
            TopicRef::Name(_) => None,
            TopicRef::Id(id) => Some(*id),
        }
    }
}

/// The names that topics had when a session first named them by their ids.
pub type TopicNames = HashMap<Uuid, Rc<str>>;

/// A partition's name in a session.
type Key<'a> = (&'a TopicRef, i32);

/// A partition that a client wants, and what the last answer said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub topic: TopicRef,
    pub index: i32,
    /// -1 skips the check.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// Bytes.
    pub max_bytes: i32,
    told: News,
}

/// What an answer says about a partition. With an error both offsets are -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub has_records: bool,
    pub is_error: bool,
}

impl News {
    const NONE: News = News {
        high_watermark: -1,
        log_start_offset: -1,
        has_records: false,
        is_error: false,
    };
}

// The docs of `fetch_session_partitions_max` say what a partition takes.
const _: () = assert!(size_of::<Wanted>() <= 72);

impl Wanted {
    /// No answer has named it yet.
    pub fn new(
        topic: TopicRef,
        index: i32,
        current_leader_epoch: i32,
        fetch_offset: i64,
        max_bytes: i32,
    ) -> Wanted {
        Wanted {
            topic,
            index,
            current_leader_epoch,
            fetch_offset,
            max_bytes,
            told: News::NONE,
        }
    }

    fn key(&self) -> Key<'_> {
        (&self.topic, self.index)
    }

    /// Notes what the answer says; false when the client knows it already, so that it can be left out.
    pub fn tell(&mut self, news: News) -> bool {
        let before = std::mem::replace(&mut self.told, news);
        news.has_records
            || news.is_error
            || news.high_watermark != before.high_watermark
            || news.log_start_offset != before.log_start_offset
    }

    /// The client wants something else of the same partition.
    fn update(&mut self, wanted: &Wanted) {
        self.current_leader_epoch = wanted.current_leader_epoch;
        self.fetch_offset = wanted.fetch_offset;
        self.max_bytes = wanted.max_bytes;
    }
}

struct Session {
    /// That the next fetch must have.
    epoch: i32,
    by_id: bool,
    partitions: Vec<Wanted>,
    /// Of topics that the partitions belong to: no more than there are partitions.
    names: TopicNames,
    last_used_ms: i64,
    /// When it is dropped, the fetch that continued the session last learns that it is not the last any more.
    _step: Option<oneshot::Sender<()>>,
}

impl Session {
    /// Forgets the names of topics that it has no partition of.
    fn drop_names(&mut self) {
        if self.names.is_empty() {
            return;
        }
        let ids = self.partitions.iter().filter_map(|one| one.topic.id());
        let used: HashSet<Uuid> = ids.collect();
        self.names.retain(|id, _| used.contains(id));
        self.names.shrink_to(2 * self.names.len());
    }
}

/// The right to answer one fetch of a session.
#[derive(Debug)]
pub struct SessionStep {
    pub id: i32,
    epoch: i32,
    /// Ready when the session has moved on, or ended: the answer will be an error.
    pub is_over: oneshot::Receiver<()>,
}

/// One shard's sessions.
pub struct FetchSessions {
    limits: Limits,
    sessions: HashMap<i32, Session>,
    /// The time of the last use and id: the first is the first to give way.
    by_use: BTreeSet<(i64, i32)>,
    partition_count: usize,
    evictions: u64,
}

impl FetchSessions {
    pub fn new(limits: Limits) -> FetchSessions {
        FetchSessions {
            limits,
            sessions: HashMap::new(),
            by_use: BTreeSet::new(),
            partition_count: 0,
            evictions: 0,
        }
    }

    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// Of all sessions together.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// Sessions that were closed to make room, or for lack of it.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Opens a session of distinct partitions, whose client was told what they say. `None` when
    /// there is no room, or nothing to remember. `random` is asked until it brings a free id.
    pub fn open(
        &mut self,
        mut partitions: Vec<Wanted>,
        now_ms: i64,
        mut random: impl FnMut() -> u64,
    ) -> Option<i32> {
        let by_id = matches!(partitions.first()?.topic, TopicRef::Id(_));
        if !may_all_exist(&partitions) || !self.make_room(partitions.len(), now_ms) {
            return None;
        }
        partitions.shrink_to_fit();
        let id = loop {
            let id = (random() & i32::MAX as u64) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let session = Session {
            epoch: FIRST_EPOCH,
            by_id,
            partitions,
            names: TopicNames::new(),
            last_used_ms: now_ms,
            _step: None,
        };
        self.put(id, session);
        Some(id)
    }

    /// Keeps the names of topics for as long as the session has partitions of theirs, so that it can tell a
    /// topic that was created again from one that never was.
    pub fn remember_names(&mut self, id: i32, names: TopicNames) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !names.is_empty()
        {
            session.names.extend(names);
            session.drop_names();
        }
    }

    /// Closes a session, if there is such a one.
    pub fn close(&mut self, id: i32) {
        self.take(id);
    }

    /// Continues a session: checks its epoch, then adds or updates the partitions that
    /// are `wanted` and removes those `forgotten`. With none left the session is closed: `None`.
    pub fn advance(
        &mut self,
        (id, epoch): (i32, i32),
        by_id: bool,
        wanted: &[Wanted],
        forgotten: &HashSet<(TopicRef, i32)>,
        now_ms: i64,
    ) -> Result<Option<SessionStep>, SessionError> {
        let session = self.sessions.get(&id).ok_or(SessionError::Unknown)?;
        if session.epoch != epoch {
            return Err(SessionError::WrongEpoch);
        }
        if session.by_id != by_id {
            return Err(SessionError::OtherNaming);
        }
        // While it is changed it is out of the books, so it is not evicted for itself either.
        let mut session = self.take(id).ok_or(SessionError::Unknown)?;
        add(&mut session.partitions, wanted);
        if !forgotten.is_empty() {
            forget(&mut session.partitions, forgotten);
            session.drop_names();
        }
        if session.partitions.is_empty() {
            return Ok(None);
        }
        if !may_all_exist(wanted) || !self.make_room(session.partitions.len(), now_ms) {
            self.evictions += 1;
            return Err(SessionError::NoRoom);
        }
        let (step, is_over) = oneshot::channel();
        session.epoch = next_epoch(epoch);
        session.last_used_ms = now_ms;
        session._step = Some(step);
        let step = SessionStep {
            id,
            epoch: session.epoch,
            is_over,
        };
        self.put(id, session);
        Ok(Some(step))
    }

    /// The partitions of a session that has not moved on since this step, in the order in which they are to
    /// be read.
    ///
    /// # Errors
    /// When another fetch has continued or closed the session since.
    pub fn partitions(&mut self, step: &SessionStep) -> Result<&mut [Wanted], SessionError> {
        let session = self.sessions.get_mut(&step.id);
        let session = session.ok_or(SessionError::Unknown)?;
        if session.epoch == step.epoch {
            Ok(&mut session.partitions)
        } else {
            Err(SessionError::WrongEpoch)
        }
    }

    /// As [`partitions`](Self::partitions), to read, with the names of topics that it has by their ids.
    ///
    /// # Errors
    /// When another fetch has continued or closed the session since.
    pub fn named_partitions(
        &mut self,
        step: &SessionStep,
    ) -> Result<(&[Wanted], &TopicNames), SessionError> {
        self.partitions(step)?;
        let session = self.sessions.get(&step.id).ok_or(SessionError::Unknown)?;
        Ok((&session.partitions, &session.names))
    }

    /// Puts the partitions that have just brought records behind the others, so that a limit on a
    /// reply's bytes starves none.
    pub fn rotate(&mut self, step: &SessionStep) {
        if let Some(session) = self.sessions.get_mut(&step.id) {
            session
                .partitions
                .sort_by_key(|wanted| wanted.told.has_records);
        }
    }

    /// Whether one more session fits, if need be after closing those that were not used for long.
    fn make_room(&mut self, partitions: usize, now_ms: i64) -> bool {
        let limits = self.limits;
        if partitions > limits.partitions {
            return false;
        }
        while self.sessions.len() >= limits.sessions
            || self.partition_count + partitions > limits.partitions
        {
            match self.by_use.first().copied() {
                Some((used_ms, id)) if now_ms - used_ms > limits.eviction_ms => self.close(id),
                _ => return false,
            }
            self.evictions += 1;
        }
        true
    }

    fn put(&mut self, id: i32, session: Session) {
        self.partition_count += session.partitions.len();
        self.by_use.insert((session.last_used_ms, id));
        self.sessions.insert(id, session);
    }

    fn take(&mut self, id: i32) -> Option<Session> {
        let session = self.sessions.remove(&id)?;
        self.partition_count -= session.partitions.len();
        self.by_use.remove(&(session.last_used_ms, id));
        Some(session)
    }
}

/// Each partition once, where it was named first and as it was named last.
pub struct Distinct {
    partitions: Vec<Wanted>,
    places: HashMap<(TopicRef, i32), usize>,
}

impl Distinct {
    /// Of a request that names so many.
    pub fn new(named: usize) -> Distinct {
        Distinct {
            partitions: Vec::new(),
            // To grow moves all of them at once.
            places: HashMap::with_capacity(named),
        }
    }

    pub fn add(&mut self, wanted: Wanted) {
        match self.places.entry((wanted.topic.clone(), wanted.index)) {
            Entry::Occupied(place) => self.partitions[*place.get()].update(&wanted),
            Entry::Vacant(place) => {
                place.insert(self.partitions.len());
                self.partitions.push(wanted);
            }
        }
    }

    pub fn into_partitions(self) -> Vec<Wanted> {
        self.partitions
    }
}

/// Updates the partitions that are there already and adds the others, in their order.
fn add(partitions: &mut Vec<Wanted>, wanted: &[Wanted]) {
    if wanted.is_empty() {
        return;
    }
    let keys = wanted.iter().map(Wanted::key);
    let places: HashMap<Key<'_>, usize> = keys.zip(0..).collect();
    let mut known = vec![false; wanted.len()];
    for partition in partitions.iter_mut() {
        if let Some(&place) = places.get(&partition.key()) {
            partition.update(&wanted[place]);
            known[place] = true;
        }
    }
    let new = wanted
        .iter()
        .enumerate()
        .filter(|(place, wanted)| !known[*place] && places[&wanted.key()] == *place);
    partitions.extend(new.map(|(_, wanted)| wanted.clone()));
}

fn forget(partitions: &mut Vec<Wanted>, forgotten: &HashSet<(TopicRef, i32)>) {
    partitions.retain(|one| !forgotten.contains(&(one.topic.clone(), one.index)));
    // A limit on partitions is one on memory.
    partitions.shrink_to(2 * partitions.len());
}

fn may_all_exist(wanted: &[Wanted]) -> bool {
    wanted.iter().all(|wanted| wanted.topic.may_exist())
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(FIRST_EPOCH)
}

#[cfg(test)]
mod tests;
