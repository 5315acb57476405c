//! Consumer groups: a tenant of the coordinator runtime.
//!
//! A group's home is a partition of `__consumer_offsets`. What must survive is written there, in Kafka's
//! record format ([`records`]), and is durable before it is answered.
//!
//! - [`classic`]: the state machine of one group, without clock and I/O.
//! - [`offsets`]: the offsets that one group committed, likewise.
//! - `membership`, `admin`, `commits`: what clients ask, by kind of request.
//! - `memory`: the bytes that clients make groups take.
//! - [`lag`]: how far groups are behind the ends of partitions.

mod admin;
pub mod classic;
mod commits;
pub mod config;
pub mod consumer_protocol;
pub mod error;
pub mod lag;
mod membership;
mod memory;
pub mod offsets;
pub mod records;
#[cfg(test)]
mod tests;

pub use admin::ListedGroup;

use super::parked::Parked;
use super::runtime::{InternalTopic, Runtime, Tenant};
use super::timers::{Due, Timers};
use crate::engine::catalog::Catalog;
use crate::engine::mailbox::{Mailbox, Mailboxes};
use crate::engine::{Engine, PartitionKey};
use crate::io::clock;
use crate::io::reactor::{self, Slice};
use classic::group::Group;
use classic::messages::{Action, GroupSnapshot, PersistId, Reply};
use config::GroupConfig;
use error::GroupError;
use lag::{History, LagReport};
use memory::{GROUP_BYTES, Memory};
use offsets::GroupOffsets;
use records::StoredGroups;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use uuid::Uuid;

/// The topic that groups and their offsets are stored in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// As in Kafka.
const OFFSETS_TOPIC_CONFIGS: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.bytes", "104857600"),
];
/// Offsets of deleted topics that are ended with one batch.
const ORPHANS_AT_ONCE: usize = 1000;

/// One shard's groups.
pub struct Groups {
    runtime: Runtime<Groups>,
    config: Arc<GroupConfig>,
    /// By name, in whose order lag is measured.
    hosted: RefCell<BTreeMap<String, HostedGroup>>,
    /// Homes and topics for which a change of offsets failed: the file may have the change.
    failed: RefCell<HashSet<(PartitionKey, Uuid)>>,
    parked: Parked<Reply>,
    timers: Timers,
    memory: Memory,
    lag: RefCell<Arc<LagReport>>,
    lag_history: RefCell<History>,
}

/// A group that lives on this shard.
struct HostedGroup {
    group: Group,
    offsets: GroupOffsets,
    home: PartitionKey,
    /// What was counted of it last.
    counted_bytes: usize,
}

impl HostedGroup {
    fn new(group: Group, offsets: GroupOffsets, home: PartitionKey) -> HostedGroup {
        HostedGroup {
            group,
            offsets,
            home,
            counted_bytes: 0,
        }
    }

    /// Bytes that a group takes without members and offsets. Its name is a key of two maps.
    fn bytes_of_new(group_id: &str) -> usize {
        GROUP_BYTES + 2 * group_id.len()
    }

    /// Counts what it takes now.
    fn count_in(&mut self, group_id: &str, memory: &Memory) {
        let own_bytes = HostedGroup::bytes_of_new(group_id);
        let bytes = own_bytes + self.group.bytes() + self.offsets.bytes();
        memory.change(self.counted_bytes, bytes);
        self.counted_bytes = bytes;
    }
}

impl Groups {
    /// `all_bytes` is what the groups of all shards take together.
    pub fn new(
        engine: &Rc<Engine>,
        mailboxes: (Mailboxes<Groups>, Mailbox<Groups>),
        all_bytes: Arc<AtomicUsize>,
    ) -> Rc<Groups> {
        let topic = InternalTopic {
            name: OFFSETS_TOPIC,
            holds: "groups",
            partitions: engine.config.offsets_topic_num_partitions,
            configs: OFFSETS_TOPIC_CONFIGS,
        };
        let config = GroupConfig::of_broker(&engine.config);
        let groups = Rc::new(Groups {
            runtime: Runtime::new(engine, topic, mailboxes),
            memory: Memory::new(all_bytes, config.groups_bytes_max),
            config: Arc::new(config),
            hosted: RefCell::default(),
            failed: RefCell::default(),
            parked: Parked::default(),
            timers: Timers::default(),
            lag: RefCell::new(Arc::new(LagReport::before_the_first(engine.shard))),
            lag_history: RefCell::default(),
        });
        engine.listeners.add(&groups);
        groups
    }

    /// Bytes of memory that the groups of all shards take.
    pub fn all_bytes(&self) -> usize {
        self.memory.all_bytes()
    }

    fn engine(&self) -> &Rc<Engine> {
        &self.runtime.engine
    }

    /// Runs `act` on the shard that a group lives on; `absent` is the answer while there is no group at all.
    async fn at_home<R, F>(
        self: &Rc<Self>,
        group_id: &str,
        absent: Result<R, GroupError>,
        act: impl FnOnce(Rc<Groups>) -> F + Send + 'static,
    ) -> Result<R, GroupError>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, GroupError>> + 'static,
    {
        match self.runtime.home_of(group_id) {
            Some(home) => self.runtime.call(self, home, act).await,
            None => absent,
        }
    }

    // ---- events and actions ----

    /// Runs an event on a group, which is created when it is not there, and does the actions.
    fn with_group<R>(
        self: &Rc<Self>,
        group_id: &str,
        home: PartitionKey,
        event: impl FnOnce(&mut HostedGroup, i64, &mut Vec<Action>) -> R,
    ) -> R {
        let now_ms = clock::steady_ms();
        let mut actions = Vec::new();
        let result = {
            let mut hosted = self.hosted.borrow_mut();
            let hosted = hosted.entry(group_id.to_owned()).or_insert_with(|| {
                let group = Group::new(Arc::clone(&self.config), now_ms);
                HostedGroup::new(group, GroupOffsets::default(), home)
            });
            let result = event(hosted, now_ms, &mut actions);
            hosted.count_in(group_id, &self.memory);
            self.timers.set(group_id, hosted.group.next_deadline());
            result
        };
        self.show_bytes();
        for action in actions {
            self.act(group_id, home, action);
        }
        self.forget_if_idle(group_id);
        result
    }

    /// Likewise; `None` when there is no such group.
    fn with_known_group<R>(
        self: &Rc<Self>,
        group_id: &str,
        event: impl FnOnce(&mut HostedGroup, i64, &mut Vec<Action>) -> R,
    ) -> Option<R> {
        let home = self.hosted.borrow().get(group_id)?.home;
        Some(self.with_group(group_id, home, event))
    }

    fn has_group(&self, group_id: &str) -> bool {
        self.hosted.borrow().contains_key(group_id)
    }

    /// A group that has nothing to lose is not kept.
    fn forget_if_idle(&self, group_id: &str) {
        let is_idle = self.hosted.borrow().get(group_id).is_some_and(|hosted| {
            hosted.group.is_idle() && hosted.offsets.is_empty() && hosted.group.generation() == 0
        });
        if is_idle {
            self.forget(group_id);
        }
    }

    fn forget(&self, group_id: &str) {
        let forgotten = self.hosted.borrow_mut().remove(group_id);
        let bytes = forgotten.map_or(0, |hosted| hosted.counted_bytes);
        self.memory.change(bytes, 0);
        self.show_bytes();
        self.timers.set(group_id, None);
    }

    fn show_bytes(&self) {
        let gauge = &self.engine().stats.group_bytes;
        gauge.set(self.memory.own_bytes() as u64);
    }

    fn act(self: &Rc<Self>, group_id: &str, home: PartitionKey, action: Action) {
        match action {
            Action::Reply(token, reply) => self.parked.answer(token, reply),
            Action::Persist(id, snapshot) => self.persist(group_id, home, id, &snapshot),
        }
    }

    fn persist(
        self: &Rc<Self>,
        group_id: &str,
        home: PartitionKey,
        id: PersistId,
        snapshot: &GroupSnapshot,
    ) {
        let record = records::group_record(group_id, Some(snapshot));
        let written = self.runtime.write(home, record.map(|record| vec![record]));
        let groups = Rc::clone(self);
        let group_id = group_id.to_owned();
        reactor::spawn(async move {
            let is_durable = written.await;
            groups.with_known_group(&group_id, |hosted, now_ms, out| {
                hosted.group.persist_done(id, is_durable, now_ms, out);
            });
        });
    }

    // ---- start, timers, stop ----

    /// Lets the sessions of all members begin: from now on clients can reach the broker. Another shard's
    /// start may have taken longer than a session.
    pub fn begin_sessions(&self) {
        let now_ms = clock::steady_ms();
        for hosted in self.hosted.borrow_mut().values_mut() {
            hosted.group.serve(now_ms);
        }
    }

    /// Starts what groups do without being asked: timeouts, expiry of offsets, measuring lag.
    pub fn run_timers(self: &Rc<Self>) {
        let groups = Rc::clone(self);
        reactor::spawn(async move {
            loop {
                let due = groups.timers.next_due().await;
                groups.time_out(due).await;
            }
        });
        let config = &self.engine().config;
        let expire_every = Duration::from_millis(config.offsets_retention_check_interval_ms);
        let groups = Rc::clone(self);
        let expire = async move || groups.expire_offsets().await;
        reactor::spawn(clock::every(expire_every, expire));
        // 0 turns it off.
        let measure_every = Duration::from_millis(config.lag_interval_ms);
        if !measure_every.is_zero() {
            let groups = Rc::clone(self);
            let measure = async move || groups.measure_lag().await;
            reactor::spawn(clock::every(measure_every, measure));
        }
    }

    /// Runs the timers of groups. Before a group holds it against members that they sent nothing in time,
    /// all that they did send is read: after a stall of this process or of the machine their heartbeats lie
    /// in the sockets, while every deadline has passed.
    async fn time_out(self: &Rc<Self>, due: Due) {
        let mut slice = Slice::new();
        let mut ended = Vec::new();
        for group_id in due.names {
            let deadline_ms = self.with_known_group(&group_id, |hosted, _, _| {
                // The deadlines of most have moved on.
                hosted.group.next_deadline()
            });
            if deadline_ms
                .flatten()
                .is_some_and(|at_ms| at_ms <= due.now_ms)
            {
                ended.push(group_id);
            }
            slice.rest().await;
        }
        if ended.is_empty() {
            return;
        }
        self.runtime.await_arrived(self).await;
        for group_id in ended {
            self.with_known_group(&group_id, |hosted, _, out| {
                hosted.group.tick(due.now_ms, out);
            });
            slice.rest().await;
        }
    }

    /// Answers all parked requests: the broker stops, and clients are to find the coordinator again. From
    /// now on this shard's groups take no requests.
    pub fn unload(self: &Rc<Self>) {
        let ids: Vec<String> = self.hosted.borrow().keys().cloned().collect();
        for group_id in ids {
            self.with_known_group(&group_id, |hosted, _, out| hosted.group.unload(out));
        }
    }
}

impl Groups {
    /// Deletes offsets of topics that are gone: group, topic and partition of each. Until that is durable no new topic
    /// may have such a name, for the next start would find the offsets and take them for its own.
    fn end_orphans(self: &Rc<Self>, home: PartitionKey, orphans: &[(String, String, u32)]) {
        let names: BTreeSet<String> = orphans.iter().map(|(_, name, _)| name.clone()).collect();
        let hold = |catalog: &Catalog| {
            names
                .iter()
                .for_each(|name| catalog.held_names().hold(name))
        };
        self.engine().with_catalog(hold);
        let gone = orphans.iter().filter_map(|(group_id, name, index)| {
            records::offset_record(group_id, name, *index, None).ok()
        });
        let gone: Result<_, GroupError> = Ok(gone.collect());
        let written = self.runtime.write(home, gone);
        let groups = Rc::clone(self);
        reactor::spawn(async move {
            if !written.await {
                // The next start tries again.
                return;
            }
            let release = |catalog: &Catalog| {
                names
                    .iter()
                    .for_each(|name| catalog.held_names().release(name))
            };
            groups.engine().with_catalog(release);
        });
    }
}

impl Tenant for Groups {
    type Stored = StoredGroups;

    fn runtime(&self) -> &Runtime<Groups> {
        &self.runtime
    }

    fn apply(stored: &mut StoredGroups, key: &[u8], value: Option<&[u8]>) {
        stored.apply(key, value);
    }

    fn adopt(self: &Rc<Self>, home: PartitionKey, stored: StoredGroups) {
        let now_ms = clock::steady_ms();
        let mut orphans = Vec::new();
        let mut hosted = self.hosted.borrow_mut();
        for (group_id, stored) in stored.groups {
            let config = Arc::clone(&self.config);
            let group = match stored.snapshot {
                Some(snapshot) => Group::restore(config, snapshot, now_ms),
                None => Group::new(config, now_ms),
            };
            let offsets = stored.offsets.into_iter();
            let offsets = offsets.filter_map(|((name, index), offset)| {
                let Some(topic) = self.engine().topic(&name) else {
                    // A stop came between the end of the topic and that of its offsets.
                    orphans.push((group_id.clone(), name, index));
                    return None;
                };
                let key = PartitionKey {
                    topic_id: topic.id,
                    index,
                };
                Some((key, offset))
            });
            let offsets = GroupOffsets::restore(offsets);
            self.timers.set(&group_id, group.next_deadline());
            let mut group = HostedGroup::new(group, offsets, home);
            group.count_in(&group_id, &self.memory);
            hosted.insert(group_id, group);
        }
        drop(hosted);
        self.show_bytes();
        // In parts that make a batch of a sane size each.
        for orphans in orphans.chunks(ORPHANS_AT_ONCE) {
            self.end_orphans(home, orphans);
        }
    }
}

/// As in Kafka, the empty name is no group's, but offsets may be stored under it.
fn check_group_id(group_id: &str) -> Result<(), GroupError> {
    if group_id.is_empty() {
        return Err(GroupError::InvalidGroupId);
    }
    Ok(())
}
