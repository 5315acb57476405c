//! One consumer instance: what its client asks of it.

use super::settings::{Reset, Settings};
use super::state::{Position, State, Wanted};
use crate::coordinator::groups::Groups;
use crate::engine::catalog::Topic;
use crate::engine::offsets::OffsetSpec;
use crate::engine::{Engine, PartitionKey};
use crate::http::gather::{Amount, read_on};
use crate::http::problem::Problem;
use crate::http::reading::{self, Cursor, Filter, Reader};
use crate::http::records::Record;
use crate::http::rest::error::refusal;
use crate::http::rest::schemas::kind::Kind;
use crate::http::rest::schemas::{Decoded, Schemas};
use crate::io::reactor::Slice;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout_at};

/// A read waits at least this long for the group to say which partitions are the instance's: a new group waits
/// `group_initial_rebalance_delay_ms` for more members.
const ASSIGNMENT_WAIT: Duration = Duration::from_secs(10);
/// A read waits at least this long for records: with less it would not even look.
const WAIT_MIN: Duration = Duration::from_millis(50);

/// A record that was read, and where.
pub type Found = (Arc<Topic>, i32, Record);

/// A consumer instance. All of it happens on one shard.
pub struct Instance {
    pub group: String,
    pub name: String,
    pub settings: Settings,
    pub engine: Rc<Engine>,
    pub groups: Rc<Groups>,
    pub state: RefCell<State>,
    /// The state is another than it was: who waits looks again.
    pub changed: Notify,
    /// Why it cannot be a member of its group, as of the last try.
    pub failure: RefCell<Option<Problem>>,
    is_closed: Cell<bool>,
    last_used: Cell<Instant>,
    /// Its client has asked for it in this run of the broker.
    has_client: Cell<bool>,
    /// Reads come one after the other.
    reading: Mutex<()>,
}

impl Instance {
    pub fn new(
        (group, name): (String, String),
        settings: Settings,
        engine: &Rc<Engine>,
        groups: &Rc<Groups>,
    ) -> Instance {
        Instance {
            group,
            name,
            settings,
            engine: Rc::clone(engine),
            groups: Rc::clone(groups),
            state: RefCell::default(),
            changed: Notify::new(),
            failure: RefCell::default(),
            is_closed: Cell::new(false),
            last_used: Cell::new(Instant::now()),
            has_client: Cell::new(false),
            reading: Mutex::new(()),
        }
    }

    /// Its client is there.
    pub fn touch(&self) {
        self.has_client.set(true);
        self.last_used.set(Instant::now());
    }

    /// For how long its client has asked nothing.
    pub fn idle(&self) -> Duration {
        self.last_used.get().elapsed()
    }

    /// Whether its client was there within this time.
    pub fn is_in_use(&self, within: Duration) -> bool {
        self.has_client.get() && self.idle() < within
    }

    /// It is gone: who waits is told so.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.changed.notify_waiters();
    }

    /// Other partitions, or `None` while it is not known which.
    pub fn set(&self, positions: Option<BTreeMap<PartitionKey, Position>>) {
        self.state.borrow_mut().set(positions);
        self.changed.notify_waiters();
    }

    /// The topics that it subscribes to.
    pub fn topics(&self) -> Vec<String> {
        let state = self.state.borrow();
        match &state.wanted {
            Wanted::Topics(topics) => topics.clone(),
            Wanted::Pattern(_) => state.topics.clone(),
            Wanted::Nothing | Wanted::Partitions => Vec::new(),
        }
    }

    /// The partitions that it reads.
    pub fn partitions(&self) -> Vec<(String, i32)> {
        let state = self.state.borrow();
        let positions = state.positions.iter();
        let named = positions.map(|(key, position)| {
            let topic = position.topic.name.clone();
            (topic, key.index as i32)
        });
        let mut named: Vec<_> = named.collect();
        named.sort_unstable();
        named
    }

    // ---- reading ----

    /// Records from where the last read ended, as soon as there is one. The first read waits for the group to say
    /// which partitions it has. Where the format has schemas they are decoded; a read ends before one that cannot be,
    /// and fails where that is the first.
    ///
    /// # Errors
    /// 404 when the instance goes meanwhile; 409 while it reads nothing; 408 for a record that cannot be decoded, which
    /// the next read begins with again; and why the group, a partition or the registry fails.
    pub async fn read(
        &self,
        amount: &Amount,
        schemas: Option<(Kind, Arc<Schemas>)>,
    ) -> Result<Vec<Found>, Problem> {
        let _alone = self.reading.lock().await;
        if self.settings.auto_commit {
            // It fails while the group rebalances: then what is not committed is read again, by whoever has it then.
            let _ = self.commit_all().await;
        }
        let wait = amount.wait.unwrap_or_default().max(WAIT_MIN);
        if !self.await_assignment(wait).await? {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + wait;
        loop {
            self.touch();
            let changed = self.changed.notified();
            if self.is_closed.get() {
                return Err(refusal("unknown-instance", "the instance was deleted"));
            }
            let found = tokio::select! {
                found = self.read_once(amount, deadline, &schemas) => found?,
                () = changed => None,
            };
            if let Some(found) = found {
                self.touch();
                return Ok(found);
            }
            if Instant::now() >= deadline || self.engine.is_stopping() {
                return Ok(Vec::new());
            }
        }
    }

    /// `None` where partitions or positions changed meanwhile.
    async fn read_once(
        &self,
        amount: &Amount,
        deadline: Instant,
        schemas: &Option<(Kind, Arc<Schemas>)>,
    ) -> Result<Option<Vec<Found>>, Problem> {
        let (epoch, cursors) = {
            let mut state = self.state.borrow_mut();
            (state.epoch, state.cursors())
        };
        if cursors.is_empty() {
            // There are more members than partitions, or the group rebalances.
            tokio::time::sleep_until(deadline).await;
            return Ok(Some(Vec::new()));
        }
        let (topics, mut cursors): (Vec<_>, Vec<_>) = cursors.into_iter().unzip();
        let amount = Amount {
            wait: Some(deadline.saturating_duration_since(Instant::now())),
            ..*amount
        };
        let mut memory = self.engine.memory.share();
        let mut reader = Reader::new(&self.engine, Filter::default());
        let mut found = match read_on(&mut reader, &mut cursors, &amount, &mut memory).await {
            Ok(found) => found,
            Err(problem) => {
                self.mend(problem).await?;
                return Ok(None);
            }
        };
        if let Some((kind, schemas)) = schemas {
            found = decoded(schemas, *kind, found, &topics, &mut cursors).await?;
        }
        let mut state = self.state.borrow_mut();
        if state.epoch != epoch {
            return Ok(None);
        }
        let found = found.into_iter().map(|(place, record)| {
            let topic = Arc::clone(&topics[place]);
            (topic, cursors[place].index, record)
        });
        let found = found.collect();
        state.advance(&cursors);
        Ok(Some(found))
    }

    /// What can be done where a read failed: positions that the log has not go to where the instance is to begin,
    /// topics that are gone are left.
    async fn mend(&self, problem: Problem) -> Result<(), Problem> {
        let (epoch, mut positions) = {
            let state = self.state.borrow();
            (state.epoch, state.positions.clone())
        };
        let mut mended = false;
        let mut slice = Slice::new();
        let mut gone = Vec::new();
        for (key, position) in &mut positions {
            slice.rest().await;
            if self.engine.topic_by_id(key.topic_id).is_none() {
                gone.push(*key);
                continue;
            }
            let start = reading::at(&self.engine, *key, OffsetSpec::Earliest).await?;
            let end = reading::at(&self.engine, *key, OffsetSpec::Latest).await?;
            if !(start..=end).contains(&position.next) {
                position.next = match self.settings.reset {
                    Reset::Earliest => start,
                    Reset::Latest => end,
                    Reset::None => return Err(problem),
                };
                mended = true;
            }
        }
        for key in &gone {
            positions.remove(key);
        }
        if !mended && gone.is_empty() {
            return Err(problem);
        }
        let mut state = self.state.borrow_mut();
        if state.epoch == epoch {
            state.set(Some(positions));
        }
        Ok(())
    }

    /// Waits until the instance knows its partitions; false when it takes too long.
    ///
    /// # Errors
    /// 409 where it asked for nothing; 404 when it goes meanwhile.
    pub async fn await_assignment(&self, wait: Duration) -> Result<bool, Problem> {
        let deadline = Instant::now() + wait.max(ASSIGNMENT_WAIT);
        loop {
            let changed = self.changed.notified();
            if self.is_closed.get() {
                return Err(refusal("unknown-instance", "the instance was deleted"));
            }
            {
                let state = self.state.borrow();
                if state.wanted == Wanted::Nothing {
                    let detail = "Illegal state: Consumer is not subscribed to any topics or assigned any partitions";
                    return Err(refusal("illegal-state", detail));
                }
                if state.is_assigned {
                    return Ok(true);
                }
            }
            if let Some(problem) = &*self.failure.borrow() {
                return Err(problem.clone());
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Ok(false);
            }
        }
    }
}

/// Decodes records, each with the place of its cursor, up to one that cannot be decoded: cursors go back to what is not
/// decoded.
///
/// # Errors
/// Why the first one is not; no cursor counts then.
async fn decoded(
    schemas: &Arc<Schemas>,
    kind: Kind,
    found: Vec<(usize, Record)>,
    topics: &[Arc<Topic>],
    cursors: &mut [Cursor],
) -> Result<Vec<(usize, Record)>, Problem> {
    let places: Vec<(usize, i64)> = found
        .iter()
        .map(|(place, record)| (*place, record.offset))
        .collect();
    let records = found.into_iter().map(|(_, record)| record).collect();
    let Decoded { records, failure } = schemas.decode(kind, records).await;
    if let (Some(failure), true, Some((place, offset))) =
        (failure, records.is_empty(), places.first())
    {
        let partition = cursors[*place].index;
        return Err(failure.problem(&topics[*place].name, partition, *offset));
    }
    // The last that is set is the first of its partition.
    for (place, offset) in places.iter().skip(records.len()).rev() {
        cursors[*place].next = *offset;
    }
    let places = places.into_iter().map(|(place, _)| place);
    Ok(places.zip(records).collect())
}
