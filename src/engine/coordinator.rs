//! The group coordinator: brings the groups of `groups` together with clients, clocks and the disk.
//!
//! A group belongs to a partition of `__consumer_offsets`, by its name, and lives on the shard that
//! owns that partition. All that must survive is written there, in Kafka's record format
//! (`offsets_topic`), and is durable before it is answered.

mod loading;
mod offsets;
#[cfg(test)]
mod tests;

use super::admin::{AdminError, NewTopic};
use super::catalog::{OFFSETS_TOPIC, Topic};
use super::groups::group::Group;
use super::groups::messages::{
    Action, GroupDescription, GroupSnapshot, JoinReply, JoinRequest, LeaveResult, LeavingMember,
    PersistId, Reply, SyncReply, SyncRequest, Token,
};
use super::groups::offsets::GroupOffsets;
use super::groups::{GroupConfig, GroupError};
use super::offsets_format::FormatError;
use super::offsets_topic::{self, Record};
use super::partition::{AckWhen, Append};
use super::{Engine, EngineError, PartitionKey};
use crate::config::Config;
use crate::io::clock;
use crate::io::limits;
use crate::log::batch::BatchHeader;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

/// Offsets of vanished topics that are ended with one batch.
const ORPHANS_AT_ONCE: usize = 1000;

/// One shard's groups.
pub struct Coordinator {
    config: Arc<GroupConfig>,
    /// By name, in whose order lag is measured.
    groups: RefCell<BTreeMap<String, Slot>>,
    /// Partitions of `__consumer_offsets` that could not be read.
    unread: RefCell<HashSet<PartitionKey>>,
    /// Topics of whose offsets a change failed, and the partition that it was for: the file may have it.
    failed: RefCell<HashSet<(PartitionKey, Uuid)>>,
    parked: RefCell<HashMap<Token, oneshot::Sender<Reply>>>,
    next_token: Cell<u64>,
    /// When a group wants its timers looked at, soonest first; stale entries are harmless.
    timers: RefCell<BinaryHeap<Reverse<(i64, String)>>>,
    timers_changed: Notify,
}

struct Slot {
    group: Group,
    offsets: GroupOffsets,
    /// The partition of `__consumer_offsets` that the group is stored in.
    home: PartitionKey,
    /// When the group's entry among the timers is due.
    armed_ms: Option<i64>,
}

impl Slot {
    fn new(group: Group, offsets: GroupOffsets, home: PartitionKey) -> Slot {
        Slot {
            group,
            offsets,
            home,
            armed_ms: None,
        }
    }
}

impl Coordinator {
    pub fn new(config: &Config) -> Coordinator {
        Coordinator {
            config: Arc::new(GroupConfig {
                initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms as i64,
                session_timeout_min_ms: config.group_min_session_timeout_ms as i64,
                session_timeout_max_ms: config.group_max_session_timeout_ms as i64,
                group_max_size: config.group_max_size,
                group_metadata_bytes_max: config.group_metadata_bytes_max,
                offset_metadata_bytes_max: config.offset_metadata_bytes_max,
                offset_retention_ms: config.offsets_retention_ms as i64,
                ..GroupConfig::default()
            }),
            groups: RefCell::default(),
            unread: RefCell::default(),
            failed: RefCell::default(),
            parked: RefCell::default(),
            next_token: Cell::new(0),
            timers: RefCell::default(),
            timers_changed: Notify::new(),
        }
    }

    fn park(&self) -> (Token, oneshot::Receiver<Reply>) {
        let token = Token(self.next_token.get());
        self.next_token.set(token.0 + 1);
        let (sender, receiver) = oneshot::channel();
        self.parked.borrow_mut().insert(token, sender);
        (token, receiver)
    }
}

/// A request that waits for its group. When it is dropped unanswered, the client is gone, and the
/// group is told.
struct Parked {
    engine: Rc<Engine>,
    group_id: String,
    token: Token,
}

impl Drop for Parked {
    fn drop(&mut self) {
        let waiting = self.engine.groups.parked.borrow_mut().remove(&self.token);
        if waiting.is_some() {
            let token = self.token;
            self.engine
                .with_known_group(&self.group_id, |slot, now_ms, out| {
                    slot.group.remove_token(token, now_ms, out);
                });
        }
    }
}

/// A group in a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: String,
    pub description: GroupDescription,
}

impl Engine {
    // ---- where a group lives ----

    /// The partition that a group is stored in; `None` while nobody used groups yet.
    pub fn home_of_group(&self, group_id: &str) -> Option<PartitionKey> {
        let topic = self.topic(OFFSETS_TOPIC)?;
        Some(home_in(&topic, group_id))
    }

    /// Creates `__consumer_offsets` when it is not there yet.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn ensure_offsets_topic(self: &Rc<Self>) -> Result<Arc<Topic>, AdminError> {
        if let Some(topic) = self.topic(OFFSETS_TOPIC) {
            return Ok(topic);
        }
        let new = NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: self.config.offsets_topic_num_partitions,
            configs: offsets_topic::topic_configs(),
        };
        match self.create_internal_topic(new).await {
            Err(AdminError::TopicExists(_)) => {
                self.topic(OFFSETS_TOPIC).ok_or(AdminError::UnknownTopic)
            }
            other => other,
        }
    }

    /// Runs `act` on the shard that a group lives on; `absent` is the answer while nobody has used
    /// groups yet.
    async fn at_home<T, F>(
        self: &Rc<Self>,
        group_id: &str,
        absent: Result<T, GroupError>,
        act: impl FnOnce(Rc<Engine>, PartitionKey) -> F + Send + 'static,
    ) -> Result<T, GroupError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, GroupError>> + 'static,
    {
        match self.home_of_group(group_id) {
            Some(home) => self.run_at(home, act).await,
            None => absent,
        }
    }

    async fn run_at<T, F>(
        self: &Rc<Self>,
        home: PartitionKey,
        act: impl FnOnce(Rc<Engine>, PartitionKey) -> F + Send + 'static,
    ) -> Result<T, GroupError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, GroupError>> + 'static,
    {
        let answer = self.call(self.owner_of(home), move |engine| async move {
            engine.check_coordinates(home)?;
            act(engine, home).await
        });
        answer.await.unwrap_or(Err(GroupError::NotCoordinator))
    }

    /// When the broker stops, its groups are unloaded: a member is not unknown because of that, and
    /// a join would wait for nobody. Nothing is known of groups whose partition could not be read.
    fn check_coordinates(&self, home: PartitionKey) -> Result<(), GroupError> {
        match self.is_stopping() || self.groups.unread.borrow().contains(&home) {
            true => Err(GroupError::NotCoordinator),
            false => Ok(()),
        }
    }

    /// The partition that a group is to be stored in, made when there is none yet.
    async fn find_home(self: &Rc<Self>, group_id: &str) -> Result<PartitionKey, GroupError> {
        let topic = self.ensure_offsets_topic().await.map_err(|error| {
            offsets_topic::tell_not_written(&error, "cannot be created; groups cannot be served");
            GroupError::CoordinatorNotAvailable
        })?;
        Ok(home_in(&topic, group_id))
    }

    /// Runs an event whose answer may take minutes, on the shard that the group lives on. A client
    /// that is gone is no longer waited for.
    async fn park_at_home(
        self: &Rc<Self>,
        group_id: String,
        event: impl FnOnce(&Rc<Engine>, &str, PartitionKey, Token) -> Result<(), GroupError>
        + Send
        + 'static,
    ) -> Result<Reply, GroupError> {
        check_group_id(&group_id)?;
        let home = self.find_home(&group_id).await?;
        let answer = self.call_while_wanted(self.owner_of(home), move |engine| async move {
            engine.check_coordinates(home)?;
            let (token, reply) = engine.groups.park();
            let parked = Parked {
                engine: Rc::clone(&engine),
                group_id: group_id.clone(),
                token,
            };
            event(&engine, &group_id, home, token)?;
            let reply = reply.await.map_err(|_| GroupError::NotCoordinator);
            drop(parked);
            reply
        });
        answer.await.unwrap_or(Err(GroupError::NotCoordinator))
    }

    // ---- membership ----

    /// A member joins a group; answered when the group's members are complete.
    pub async fn join_group(
        self: &Rc<Self>,
        group_id: String,
        request: JoinRequest,
    ) -> Result<JoinReply, GroupError> {
        let event = move |engine: &Rc<Engine>, group_id: &str, home, token| {
            engine.check_group_limit(group_id)?;
            engine.with_group(group_id, home, |slot, now_ms, out| {
                slot.group.join(request, token, now_ms, out);
            });
            Ok(())
        };
        match self.park_at_home(group_id, event).await? {
            Reply::Join(joined) => joined,
            Reply::Sync(_) => Err(GroupError::NotCoordinator),
        }
    }

    fn check_group_limit(&self, group_id: &str) -> Result<(), GroupError> {
        let groups = self.groups.groups.borrow();
        let most = self
            .config
            .groups_max
            .div_ceil(self.mailboxes.shard_count());
        if groups.contains_key(group_id) || groups.len() < most {
            return Ok(());
        }
        limits::GROUPS.reached(format_args!("{group_id:?}"));
        Err(GroupError::GroupMaxSizeReached)
    }

    /// A member asks for its assignment; answered when the leader's is durable.
    pub async fn sync_group(
        self: &Rc<Self>,
        group_id: String,
        request: SyncRequest,
    ) -> Result<SyncReply, GroupError> {
        let event = move |engine: &Rc<Engine>, group_id: &str, _, token| {
            let known = engine.with_known_group(group_id, |slot, now_ms, out| {
                slot.group.sync(request, token, now_ms, out);
            });
            known.ok_or(GroupError::UnknownMemberId)
        };
        match self.park_at_home(group_id, event).await? {
            Reply::Sync(synced) => synced,
            Reply::Join(_) => Err(GroupError::NotCoordinator),
        }
    }

    /// A member shows that it is alive.
    pub async fn heartbeat(
        self: &Rc<Self>,
        group_id: String,
        member_id: String,
        instance_id: Option<String>,
        generation: i32,
    ) -> Result<(), GroupError> {
        check_group_id(&group_id)?;
        self.at_home(
            &group_id.clone(),
            Err(GroupError::UnknownMemberId),
            move |engine, _| async move {
                let beat = engine.with_known_group(&group_id, |slot, now_ms, _| {
                    let instance_id = instance_id.as_deref();
                    slot.group
                        .heartbeat(&member_id, instance_id, generation, now_ms)
                });
                beat.unwrap_or(Err(GroupError::UnknownMemberId))
            },
        )
        .await
    }

    /// Members leave a group.
    pub async fn leave_group(
        self: &Rc<Self>,
        group_id: String,
        members: Vec<LeavingMember>,
    ) -> Result<Vec<LeaveResult>, GroupError> {
        check_group_id(&group_id)?;
        self.at_home(
            &group_id.clone(),
            Err(GroupError::UnknownMemberId),
            move |engine, _| async move {
                let left = engine.with_known_group(&group_id, |slot, now_ms, out| {
                    slot.group.leave(members, now_ms, out)
                });
                left.unwrap_or(Err(GroupError::UnknownMemberId))
            },
        )
        .await
    }

    // ---- administration ----

    /// Deletes a group that has no members, with its offsets.
    pub async fn delete_group(self: &Rc<Self>, group_id: String) -> Result<(), GroupError> {
        self.at_home(
            &group_id.clone(),
            Err(GroupError::GroupIdNotFound),
            move |engine, home| async move {
                let deleted = engine.with_known_group(&group_id, |slot, _, _| {
                    slot.group.delete()?;
                    Ok(slot.offsets.keys())
                });
                let keys = deleted.unwrap_or(Err(GroupError::GroupIdNotFound))?;
                let records = engine.tombstones(&group_id, &keys).and_then(|mut records| {
                    records.push(offsets_topic::group_record(&group_id, None)?);
                    Ok(records)
                });
                let written = engine.write(home, records, clock::steady_ms());
                let ok = written.await.unwrap_or(false);
                engine.end_deletion(&group_id, ok)
            },
        )
        .await
    }

    /// While its end is on its way to the disk, a group is dead and keeps its place: so the one that
    /// is there afterwards is the same.
    fn end_deletion(self: &Rc<Self>, group_id: &str, ok: bool) -> Result<(), GroupError> {
        if ok {
            self.groups.groups.borrow_mut().remove(group_id);
            return Ok(());
        }
        // A group that was unloaded meanwhile has only left the memory.
        if !self.is_stopping() {
            self.with_known_group(group_id, |slot, _, _| slot.group.delete_failed());
        }
        Err(GroupError::NotCoordinator)
    }

    /// What DescribeGroups shows of a group; `None` when there is no such group.
    pub async fn describe_group(
        self: &Rc<Self>,
        group_id: String,
    ) -> Result<Option<GroupDescription>, GroupError> {
        check_group_id(&group_id)?;
        self.at_home(&group_id.clone(), Ok(None), move |engine, _| async move {
            let groups = engine.groups.groups.borrow();
            Ok(groups.get(&group_id).map(|slot| slot.group.describe()))
        })
        .await
    }

    /// All groups of all shards.
    pub async fn list_groups(self: &Rc<Self>) -> Vec<ListedGroup> {
        let mut listed = Vec::new();
        for shard in 0..self.mailboxes.shard_count() {
            let found = self.call(shard, |engine| async move {
                let groups = engine.groups.groups.borrow();
                let list = groups.iter().map(|(group_id, slot)| ListedGroup {
                    group_id: group_id.clone(),
                    description: slot.group.describe(),
                });
                list.collect::<Vec<_>>()
            });
            listed.extend(found.await.unwrap_or_default());
        }
        listed.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        listed
    }

    // ---- the machinery ----

    fn has_group(&self, group_id: &str) -> bool {
        self.groups.groups.borrow().contains_key(group_id)
    }

    /// Runs an event on a group, which is made when it is not there, and does what follows.
    fn with_group<T>(
        self: &Rc<Self>,
        group_id: &str,
        home: PartitionKey,
        event: impl FnOnce(&mut Slot, i64, &mut Vec<Action>) -> T,
    ) -> T {
        let now_ms = clock::steady_ms();
        let mut actions = Vec::new();
        let result = {
            let mut groups = self.groups.groups.borrow_mut();
            let slot = groups.entry(group_id.to_owned()).or_insert_with(|| {
                let group = Group::new(Arc::clone(&self.groups.config), now_ms);
                Slot::new(group, GroupOffsets::default(), home)
            });
            let result = event(slot, now_ms, &mut actions);
            self.groups.arm(group_id, slot);
            result
        };
        for action in actions {
            self.act(group_id, home, action, now_ms);
        }
        self.forget_if_idle(group_id);
        result
    }

    fn with_known_group<T>(
        self: &Rc<Self>,
        group_id: &str,
        event: impl FnOnce(&mut Slot, i64, &mut Vec<Action>) -> T,
    ) -> Option<T> {
        let home = self.groups.groups.borrow().get(group_id)?.home;
        Some(self.with_group(group_id, home, event))
    }

    /// A group that nothing would be lost of takes no room.
    fn forget_if_idle(&self, group_id: &str) {
        let mut groups = self.groups.groups.borrow_mut();
        let idle = groups.get(group_id).is_some_and(|slot| {
            slot.group.is_idle() && slot.offsets.is_empty() && slot.group.generation() == 0
        });
        if idle {
            groups.remove(group_id);
        }
    }

    fn act(self: &Rc<Self>, group_id: &str, home: PartitionKey, action: Action, now_ms: i64) {
        match action {
            Action::Reply(token, reply) => {
                if let Some(sender) = self.groups.parked.borrow_mut().remove(&token) {
                    // The client may be gone.
                    let _ = sender.send(reply);
                }
            }
            Action::Persist(id, snapshot) => self.persist(group_id, home, id, &snapshot, now_ms),
        }
    }

    fn persist(
        self: &Rc<Self>,
        group_id: &str,
        home: PartitionKey,
        id: PersistId,
        snapshot: &GroupSnapshot,
        now_ms: i64,
    ) {
        let record = offsets_topic::group_record(group_id, Some(snapshot));
        let written = self.write(home, record.map(|record| vec![record]), now_ms);
        let engine = Rc::clone(self);
        let group_id = group_id.to_owned();
        tokio::task::spawn_local(async move {
            let ok = written.await.unwrap_or(false);
            engine.with_known_group(&group_id, |slot, now_ms, out| {
                slot.group.persist_done(id, ok, now_ms, out);
            });
        });
    }

    /// Appends records to a partition of `__consumer_offsets`; says whether they became durable.
    fn write(
        self: &Rc<Self>,
        home: PartitionKey,
        records: Result<Vec<Record>, FormatError>,
        now_ms: i64,
    ) -> oneshot::Receiver<bool> {
        let (done, written) = oneshot::channel();
        let records = match records {
            Ok(records) => records,
            Err(error) => {
                offsets_topic::tell_not_written(&error, "has no room for a record");
                let _ = done.send(false);
                return written;
            }
        };
        if records.is_empty() {
            let _ = done.send(true);
            return written;
        }
        let batch = offsets_topic::batch_of(&records, now_ms);
        let Ok(header) = BatchHeader::parse(&batch) else {
            let _ = done.send(false);
            return written;
        };
        let (reply, appended) = oneshot::channel();
        let append = Append {
            batch: batch.into(),
            header,
            ack: AckWhen::Durable,
            reply,
        };
        super::append::deliver_here(self, home, append);
        tokio::task::spawn_local(async move {
            let result = appended.await.unwrap_or(Err(EngineError::Stopping));
            if let Err(error) = &result {
                offsets_topic::tell_not_written(&error, "cannot be written");
            }
            let _ = done.send(result.is_ok());
        });
        written
    }

    // ---- timers and retention ----

    /// Runs the groups' timers, for ever.
    pub async fn run_group_timers(self: Rc<Self>) {
        loop {
            let now_ms = clock::steady_ms();
            for group_id in self.groups.take_due(now_ms) {
                self.with_known_group(&group_id, |slot, now_ms, out| slot.group.tick(now_ms, out));
            }
            let wait = match self.groups.next_timer() {
                Some(at_ms) => Duration::from_millis(at_ms.saturating_sub(now_ms).max(1) as u64),
                None => Duration::from_secs(3600),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.groups.timers_changed.notified() => {}
            }
        }
    }

    // ---- start and stop ----

    /// Answers all that wait for their groups: the broker stops, and clients are to look for the
    /// coordinator again. From now on this shard's groups take no requests.
    pub fn unload_groups(self: &Rc<Self>) {
        let ids: Vec<String> = self.groups.groups.borrow().keys().cloned().collect();
        for group_id in ids {
            self.with_known_group(&group_id, |slot, _, out| slot.group.unload(out));
        }
    }

    /// Lets the sessions of all members begin: from now on clients can reach the broker. Another
    /// shard's start may have taken longer than a session.
    pub fn serve_groups(&self) {
        let now_ms = clock::steady_ms();
        for slot in self.groups.groups.borrow_mut().values_mut() {
            slot.group.serve(now_ms);
        }
    }

    fn adopt_groups(self: &Rc<Self>, home: PartitionKey, loaded: offsets_topic::Loaded) {
        let now_ms = clock::steady_ms();
        let mut orphans = Vec::new();
        let mut groups = self.groups.groups.borrow_mut();
        for (group_id, state) in loaded.groups {
            let config = Arc::clone(&self.groups.config);
            let group = match state.snapshot {
                Some(snapshot) => Group::restore(config, snapshot, now_ms),
                None => Group::new(config, now_ms),
            };
            let offsets = state
                .offsets
                .into_iter()
                .filter_map(|((name, index), offset)| {
                    let Some(topic) = self.topic(&name) else {
                        // A stop came between the topic's end and that of its offsets.
                        let gone = offsets_topic::offset_record(&group_id, &name, index, None);
                        orphans.extend(gone.ok());
                        return None;
                    };
                    let key = PartitionKey {
                        topic_id: topic.id,
                        index,
                    };
                    Some((key, offset))
                });
            let mut slot = Slot::new(group, GroupOffsets::restore(offsets), home);
            self.groups.arm(&group_id, &mut slot);
            groups.insert(group_id, slot);
        }
        drop(groups);
        // In parts that make a batch of a sane size each.
        for records in orphans.chunks(ORPHANS_AT_ONCE) {
            drop(self.write(home, Ok(records.to_vec()), now_ms));
        }
    }
}

fn home_in(topic: &Topic, group_id: &str) -> PartitionKey {
    PartitionKey {
        topic_id: topic.id,
        index: offsets_topic::partition_of(group_id, topic.partitions),
    }
}

/// As in Kafka, the empty name is no group's, but offsets may be stored under it.
fn check_group_id(group_id: &str) -> Result<(), GroupError> {
    match group_id.is_empty() {
        true => Err(GroupError::InvalidGroupId),
        false => Ok(()),
    }
}

impl Coordinator {
    /// Sees to it that a group's timers are looked at in time. A deadline that moved back, as with
    /// each heartbeat, leaves the earlier entry in place: it finds nothing to do and arms anew.
    fn arm(&self, group_id: &str, slot: &mut Slot) {
        let Some(deadline_ms) = slot.group.next_deadline() else {
            return;
        };
        if slot
            .armed_ms
            .is_some_and(|armed_ms| armed_ms <= deadline_ms)
        {
            return;
        }
        slot.armed_ms = Some(deadline_ms);
        let mut timers = self.timers.borrow_mut();
        let soonest = timers.peek().map(|Reverse((at_ms, _))| *at_ms);
        timers.push(Reverse((deadline_ms, group_id.to_owned())));
        if soonest.is_none_or(|soonest_ms| deadline_ms < soonest_ms) {
            self.timers_changed.notify_one();
        }
    }

    /// Groups whose time has come, each once.
    fn take_due(&self, now_ms: i64) -> Vec<String> {
        let mut timers = self.timers.borrow_mut();
        let mut due = Vec::new();
        while timers
            .peek()
            .is_some_and(|Reverse((at_ms, _))| *at_ms <= now_ms)
        {
            due.extend(timers.pop().map(|Reverse((_, group_id))| group_id));
        }
        due.sort();
        due.dedup();
        let mut groups = self.groups.borrow_mut();
        for group_id in &due {
            if let Some(slot) = groups.get_mut(group_id) {
                slot.armed_ms = None;
            }
        }
        due
    }

    fn next_timer(&self) -> Option<i64> {
        self.timers
            .borrow()
            .peek()
            .map(|Reverse((at_ms, _))| *at_ms)
    }
}
