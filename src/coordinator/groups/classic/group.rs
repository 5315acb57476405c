//! The state machine of one consumer group (the classic protocol), as in Kafka's coordinator.
//!
//! Every public method is an event. A request that may have to wait brings a [`Token`] and is answered by
//! an [`Action::Reply`]; all other requests are answered by the method's result. Invariants:
//!
//! - A token is answered once, or taken back with [`Group::remove_token`].
//! - PreparingRebalance always has a join timer; CompletingRebalance has a sync timer until every
//!   member sent its sync, and from then on a snapshot on its way to the disk. So no group is stuck.
//! - No member learns its assignment before the assignment is durable.
//! - The generation only grows, over a restart too, unless the broker dies twice and no generation
//!   became durable in between.

use super::member::{Member, Size, distinct};
use super::members::Members;
use super::messages::*;
use super::subscription::{self, CONSUMER_PROTOCOL_TYPE};
use crate::coordinator::deadlines::Deadlines;
use crate::coordinator::groups::config::GroupConfig;
use crate::coordinator::groups::error::GroupError;
use crate::coordinator::groups::offsets::Retention;
use crate::coordinator::parked::Token;
use crate::io::limits::{self, Limit};
use crate::wire::cut_to;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Shortest join timer, whatever timeouts clients ask for, because it may fire many times.
const JOIN_TIMER_MS_MIN: i64 = 100;
/// Bytes of a client's name that a log line has.
pub const NAME_BYTES_LOGGED_MAX: usize = 249;
/// Bytes of memory that a pending member takes beside its id.
const PENDING_BYTES: usize = 128;
/// A restored group skips this many generations. It may have used them since its last snapshot, and a
/// member of one of them must not be taken for a member of a new generation with the same number.
const GENERATIONS_SKIPPED_AT_RESTORE: i32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// No members. There may be offsets.
    Empty,
    /// Waits for the members to join the next generation.
    PreparingRebalance,
    /// All have joined. Waits for the leader's assignment to arrive and become durable.
    CompletingRebalance,
    Stable,
    /// About to leave the memory.
    Dead,
}

impl GroupState {
    /// The state's name as Kafka prints it.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

/// When the join phase ends, even if members are missing.
struct JoinTimer {
    deadline_ms: i64,
    /// Set while the first members of an empty group gather (KIP-134).
    initial: Option<InitialDelay>,
}

struct InitialDelay {
    /// The delay is not extended beyond this time (ms).
    ends_ms: i64,
    member_added: bool,
}

/// The leader's assignment, which is being written.
struct Assigning {
    persist: PersistId,
    assignments: BTreeMap<String, Bytes>,
}

/// A static member's new id, and the member as it was before.
struct Replacement {
    /// `None` while the snapshot before is being written: the next one has all that came meanwhile.
    persist: Option<PersistId>,
    generation: i32,
    new_id: String,
    old: MemberSnapshot,
    old_leader: String,
    supports_skip_assignment: bool,
}

pub struct Group {
    config: Arc<GroupConfig>,
    state: GroupState,
    state_since_ms: i64,
    /// `None` for a group that never had members: a "simple" group, which only stores offsets.
    protocol_type: Option<String>,
    protocol: Option<String>,
    generation: i32,
    /// The next generation is at least this.
    generation_min: i32,
    leader: Option<String>,
    members: Members,
    /// Ids that were given out with `MemberIdRequired`, and when they expire (ms).
    pending: Deadlines,
    join_timer: Option<JoinTimer>,
    sync_deadline_ms: Option<i64>,
    assigning: Option<Assigning>,
    replacements: Vec<Replacement>,
    next_persist: u64,
}

impl Group {
    /// An empty group.
    pub fn new(config: Arc<GroupConfig>, now_ms: i64) -> Group {
        Group {
            config,
            state: GroupState::Empty,
            state_since_ms: now_ms,
            protocol_type: None,
            protocol: None,
            generation: 0,
            generation_min: 1,
            leader: None,
            members: Members::default(),
            pending: Deadlines::default(),
            join_timer: None,
            sync_deadline_ms: None,
            assigning: None,
            replacements: Vec::new(),
            next_persist: 0,
        }
    }

    /// The group as it was stored. Its members have a whole session timeout for their next request, and
    /// need no rebalance.
    pub fn restore(config: Arc<GroupConfig>, snapshot: GroupSnapshot, now_ms: i64) -> Group {
        let mut group = Group::new(config, now_ms);
        for mut member in snapshot.members {
            let (session, rebalance) = group.config.timeouts_max_ms();
            member.session_timeout_ms = member.session_timeout_ms.min(session);
            member.rebalance_timeout_ms = member.rebalance_timeout_ms.min(rebalance);
            group.members.add(Member::restore(member, now_ms));
        }
        group.protocol_type = snapshot.protocol_type;
        group.generation = snapshot.generation;
        group.generation_min = snapshot
            .generation
            .saturating_add(GENERATIONS_SKIPPED_AT_RESTORE);
        group.state_since_ms = snapshot.state_since_ms;
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
            group.protocol = snapshot.protocol;
            let known = |id: &String| group.members.contains(id);
            group.leader = snapshot
                .leader
                .filter(known)
                .or_else(|| group.first_member());
        }
        group
    }

    /// Begins the sessions of restored members: clients can reach the broker from now on.
    pub fn serve(&mut self, now_ms: i64) {
        self.members.change_each(|member| member.touch(now_ms));
    }

    // ---- queries ----

    pub fn state(&self) -> GroupState {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Members that walks through all of them have looked at.
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> usize {
        self.members.looked_at.get()
    }

    /// Bytes of memory that clients make it take: its members, their assignments, and the ids that were
    /// given out.
    pub fn bytes(&self) -> usize {
        self.members.memory_bytes() + self.pending.name_bytes() + self.pending.len() * PENDING_BYTES
    }

    /// Bytes of memory that a member takes that joins with this.
    pub fn bytes_of_join(request: &JoinRequest) -> usize {
        Size::of_join(request).memory
    }

    /// Bytes by which the group would grow if this join was let in; 0 if it would shrink.
    pub fn growth_of(&self, request: &JoinRequest) -> usize {
        let known = self.members.known_by(request);
        let known_bytes = known.map_or(0, |member| member.size().memory);
        Group::bytes_of_join(request).saturating_sub(known_bytes)
    }

    /// Bytes by which the group would grow with these assignments; 0 if it would shrink.
    pub fn growth_with(&self, assignments: &[(String, Bytes)]) -> usize {
        let bytes: usize = assignments.iter().map(|(_, bytes)| bytes.len()).sum();
        bytes.saturating_sub(self.members.assignment_bytes())
    }

    /// Whether the group has nothing to lose, apart from its offsets. A dead group is removed by the code
    /// that ended it.
    pub fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty()
    }

    /// `None` for a group that never had members.
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The group as DescribeGroups shows it.
    pub fn describe(&self) -> GroupDescription {
        let stable = self.protocol.as_deref();
        let stable = stable.filter(|_| self.state == GroupState::Stable);
        GroupDescription {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: stable.unwrap_or_default().to_owned(),
            members: self
                .members
                .iter()
                .map(|member| member.describe(stable))
                .collect(),
        }
    }

    /// The group as it would be stored now.
    pub fn snapshot(&self) -> GroupSnapshot {
        GroupSnapshot {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: self.members.iter().map(Member::snapshot).collect(),
        }
    }

    /// The topics that the members of a consumer group subscribed to; `None` when not known.
    pub fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some(CONSUMER_PROTOCOL_TYPE) {
            return None;
        }
        let mut subscribed = BTreeSet::new();
        for member in self.members.iter() {
            let metadata = member.metadata(self.protocol.as_deref()?);
            let topics = subscription::topics(&metadata)?;
            subscribed.extend(topics.into_iter().map(str::to_owned));
        }
        Some(subscribed)
    }

    /// Which of the group's offsets may expire (KIP-211).
    pub fn retention(&self) -> Retention {
        match (&self.protocol_type, self.state) {
            (_, GroupState::Dead) => Retention::Keep,
            (None, _) if self.pending.is_empty() => Retention::SinceCommit,
            (Some(_), GroupState::Empty) => Retention::SinceEmpty(self.state_since_ms),
            (Some(_), GroupState::Stable) => match self.subscribed_topics() {
                Some(topics) => Retention::Unsubscribed(topics),
                None => Retention::Keep,
            },
            _ => Retention::Keep,
        }
    }

    /// Which of these topics' offsets OffsetDelete may delete. The subscriptions are read once, however many
    /// topics are named.
    ///
    /// # Errors
    /// When no offsets of the group may be deleted at all.
    pub fn deletable<'a>(&self, topics: &[&'a str]) -> Result<HashSet<&'a str>, GroupError> {
        let mut deletable: HashSet<&str> = topics.iter().copied().collect();
        match self.state {
            GroupState::Dead => return Err(GroupError::GroupIdNotFound),
            GroupState::Empty => return Ok(deletable),
            _ if self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE) => {}
            _ => return Err(GroupError::NonEmptyGroup),
        }
        let read = self.protocol.as_deref().is_some_and(|protocol| {
            self.members.iter().all(|member| {
                let metadata = member.metadata(protocol);
                let topics = subscription::topics(&metadata);
                for topic in topics.iter().flatten() {
                    deletable.remove(*topic);
                }
                topics.is_some()
            })
        });
        // What cannot be read may name any topic.
        if !read {
            deletable.clear();
        }
        Ok(deletable)
    }

    /// When [`tick`](Self::tick) is due (ms).
    pub fn next_deadline(&self) -> Option<i64> {
        let join = self.join_timer.as_ref().map(|timer| timer.deadline_ms);
        let sooner = [self.members.next_deadline(), self.pending.soonest()];
        let others = [join, self.sync_deadline_ms];
        sooner.into_iter().chain(others).flatten().min()
    }

    // ---- join ----

    /// A member joins. It is answered when all members have joined, or at once if no rebalance is needed.
    pub fn join(
        &mut self,
        mut request: JoinRequest,
        token: Token,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) {
        let longest_ms = self.config.rebalance_timeout_max_ms;
        let asked_ms = i64::from(request.rebalance_timeout_ms);
        request.rebalance_timeout_ms = asked_ms.clamp(0, longest_ms) as i32;
        if let Err(error) = self.try_join(request, token, now_ms, out) {
            out.push(Action::Reply(token, Reply::Join(Err(error))));
        }
    }

    fn try_join(
        &mut self,
        mut request: JoinRequest,
        token: Token,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        self.check_alive()?;
        self.check_session_timeout(&request)?;
        if request.protocols.len() > self.config.group_protocols_max {
            not_let_in(&limits::GROUP_PROTOCOLS, &request);
            return Err(GroupError::TooManyProtocols);
        }
        request.protocols = distinct(request.protocols);
        if let Some(limit) = self.limit_met_by(&request) {
            not_let_in(limit, &request);
            self.turn_away(&request.member_id, now_ms, out);
            return Err(GroupError::GroupMaxSizeReached);
        }
        self.check_protocols(&request)?;
        if request.member_id.is_empty() {
            self.join_without_id(request, token, now_ms, out)
        } else {
            self.join_with_id(request, token, now_ms, out)
        }
    }

    fn check_alive(&self) -> Result<(), GroupError> {
        match self.state {
            GroupState::Dead => Err(GroupError::CoordinatorNotAvailable),
            _ => Ok(()),
        }
    }

    fn check_session_timeout(&self, request: &JoinRequest) -> Result<(), GroupError> {
        let range = self.config.session_timeout_min_ms..=self.config.session_timeout_max_ms;
        if !range.contains(&i64::from(request.session_timeout_ms)) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        Ok(())
    }

    fn limit_met_by(&self, request: &JoinRequest) -> Option<&'static Limit> {
        if !self.has_room_for(request) {
            return Some(&limits::GROUP_SIZE);
        }
        // A member that comes back replaces itself, a static one under another id too.
        let known = self.members.known_by(request);
        let known = known.map_or(Size::default(), Member::size);
        let own = Size::of_join(request);
        let memory_bytes = self.bytes() - known.memory + own.memory;
        if memory_bytes > self.config.group_metadata_bytes_max {
            return Some(&limits::GROUP_METADATA_BYTES);
        }
        let members = self.members.len() + usize::from(known == Size::default());
        let record_bytes = self.members.record_bytes() - known.record + own.record;
        let types_bytes = members * request.protocol_type.len();
        let too_large = record_bytes + types_bytes > self.config.group_record_bytes_max;
        too_large.then_some(&limits::GROUP_RECORD_BYTES)
    }

    /// KIP-389. While the group prepares a rebalance, only members that have joined count: if the limit
    /// was lowered, the last members to join again are refused.
    fn has_room_for(&self, request: &JoinRequest) -> bool {
        let known = self.members.known_by(request);
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                known.is_some_and(|member| member.awaiting_join.is_some())
                    || self.members.awaiting_join_count() < self.config.group_max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || self.members.len() < self.config.group_max_size
            }
        }
    }

    fn turn_away(&mut self, member_id: &str, now_ms: i64, out: &mut Vec<Action>) {
        self.pending.remove(member_id);
        self.remove_member(member_id, out);
        self.complete_join_if_all_joined(now_ms, out);
    }

    fn check_protocols(&self, request: &JoinRequest) -> Result<(), GroupError> {
        let complete = !request.protocol_type.is_empty() && !request.protocols.is_empty();
        let same_type = self.protocol_type.as_deref() == Some(request.protocol_type.as_str());
        let mut names = request.protocols.iter().map(|protocol| &protocol.name);
        let fits = self.members.is_empty()
            || (same_type && names.any(|name| self.members.all_support(name)));
        if !complete || !fits {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn join_without_id(
        &mut self,
        request: JoinRequest,
        token: Token,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        let id = request.new_member_id.clone();
        if id.is_empty() || self.members.contains(&id) || self.pending.get(&id).is_some() {
            return Err(GroupError::UnknownMemberId);
        }
        let instance_id = request.instance_id.as_ref();
        if let Some(old) = instance_id.and_then(|instance| self.members.id_of_instance(instance)) {
            let old = old.clone();
            self.replace_static_member(&old, request, token, now_ms, out);
        } else if request.instance_id.is_none() && request.requires_known_member_id {
            return Err(self.require_member_id(request, now_ms));
        } else {
            self.add_member(id, request, token, now_ms, out);
        }
        Ok(())
    }

    /// KIP-394: a client that never receives its id must not become a member.
    fn require_member_id(&mut self, request: JoinRequest, now_ms: i64) -> GroupError {
        let own_bytes = request.new_member_id.len() + PENDING_BYTES;
        if self.pending.len() >= self.config.group_max_size {
            not_let_in(&limits::GROUP_SIZE, &request);
            return GroupError::GroupMaxSizeReached;
        }
        if self.bytes() + own_bytes > self.config.group_metadata_bytes_max {
            not_let_in(&limits::GROUP_METADATA_BYTES, &request);
            return GroupError::GroupMaxSizeReached;
        }
        let deadline_ms = now_ms.saturating_add(i64::from(request.session_timeout_ms));
        let id = request.new_member_id;
        self.pending.insert(&id, deadline_ms);
        GroupError::MemberIdRequired(id)
    }

    fn join_with_id(
        &mut self,
        request: JoinRequest,
        token: Token,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        if request.instance_id.is_none() && self.pending.remove(&request.member_id) {
            let id = request.member_id.clone();
            self.add_member(id, request, token, now_ms, out);
            return Ok(());
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if self.needs_rebalance_for(&request) {
            self.rejoin(request, token, now_ms, out);
            return Ok(());
        }
        // Its answer was lost, or the client asks for the state.
        self.touch(&request.member_id, now_ms);
        let sees_members = self.is_leader(&request.member_id);
        let reply = self.join_reply(&request.member_id, sees_members);
        out.push(Action::Reply(token, Reply::Join(Ok(reply))));
        Ok(())
    }

    /// A leader that joins a stable group wants to assign again: it may have seen new partitions.
    fn needs_rebalance_for(&self, request: &JoinRequest) -> bool {
        let member = self.members.get(&request.member_id);
        let changed = member.is_none_or(|member| member.protocols() != request.protocols);
        match self.state {
            GroupState::Stable => changed || self.is_leader(&request.member_id),
            GroupState::CompletingRebalance => changed,
            _ => true,
        }
    }

    fn add_member(
        &mut self,
        id: String,
        request: JoinRequest,
        token: Token,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Some(timer) = &mut self.join_timer
            && let Some(initial) = &mut timer.initial
        {
            initial.member_added = true;
        }
        let mut member = Member::new(id.clone(), request);
        member.awaiting_join = Some(token);
        // A client without an id cannot send heartbeats, and no request may wait forever.
        let wait_ms = self.config.new_member_join_timeout_ms;
        member.deadline_ms = Some(now_ms.saturating_add(wait_ms));
        self.members.add(member);
        self.leader.get_or_insert(id);
        self.rebalance_or_complete(now_ms, out);
    }

    fn rejoin(&mut self, request: JoinRequest, token: Token, now_ms: i64, out: &mut Vec<Action>) {
        let id = request.member_id.clone();
        self.members.update(&id, request);
        self.members
            .change(&id, |member| park_join(member, token, out));
        self.rebalance_or_complete(now_ms, out);
    }

    /// A static member came back without its id (KIP-345). It gets a new id and replaces its old self.
    fn replace_static_member(
        &mut self,
        old_id: &str,
        request: JoinRequest,
        token: Token,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) {
        let new_id = request.new_member_id.clone();
        let supports_skip_assignment = request.supports_skip_assignment;
        let fence = |member: &mut Member| {
            fail_parked(member, &GroupError::FencedInstanceId, out);
            (member.snapshot(), member.votes_like(&request.protocols))
        };
        let Some((old, votes_like_before)) = self.members.change(old_id, fence) else {
            return;
        };
        self.members.rename(old_id, &new_id, request);
        self.members
            .change(&new_id, |member| park_join(member, token, out));
        let old_leader = self.leader.clone().unwrap_or_default();
        if old_leader == old_id {
            self.leader = Some(new_id.clone());
        }
        match self.state {
            GroupState::Stable
                if votes_like_before || self.selected_protocol() == self.protocol =>
            {
                self.replacements.push(Replacement {
                    persist: None,
                    generation: self.generation,
                    new_id,
                    old,
                    old_leader,
                    supports_skip_assignment,
                });
                self.persist_replacements(out);
            }
            // While the group completes a rebalance, the leader may assign to the old id.
            _ => self.rebalance_or_complete(now_ms, out),
        }
    }

    /// Writes the group with the static members that came back. One snapshot is written at a time: however
    /// many come back meanwhile, they wait for the next one together.
    fn persist_replacements(&mut self, out: &mut Vec<Action>) {
        if self.replacements.iter().any(|own| own.persist.is_some()) {
            return;
        }
        // A rebalance answers those of an earlier generation.
        let (generation, is_stable) = (self.generation, self.state == GroupState::Stable);
        self.replacements
            .retain(|own| is_stable && own.generation == generation);
        if self.replacements.is_empty() {
            return;
        }
        let persist = self.persist(self.snapshot(), out);
        for replacement in &mut self.replacements {
            replacement.persist = Some(persist);
        }
    }

    fn join_reply(&self, member_id: &str, sees_members: bool) -> JoinReply {
        let protocol = self.protocol.clone().unwrap_or_default();
        JoinReply {
            member_id: member_id.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            members: if sees_members {
                self.members.joined(&protocol)
            } else {
                Vec::new()
            },
            protocol,
        }
    }

    // ---- rebalance ----

    /// After the members changed: starts a rebalance, or completes the one that runs.
    fn rebalance_or_complete(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        match self.state {
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(now_ms, out),
            GroupState::Dead => {}
            _ => self.prepare_rebalance(now_ms, out),
        }
    }

    fn prepare_rebalance(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        if self.state == GroupState::CompletingRebalance {
            self.fail_syncs(&GroupError::RebalanceInProgress, now_ms, out);
        }
        self.assigning = None;
        self.sync_deadline_ms = None;
        let is_initial = self.state == GroupState::Empty;
        self.set_state(GroupState::PreparingRebalance, now_ms);
        if is_initial && self.config.initial_rebalance_delay_ms > 0 {
            self.start_initial_delay(now_ms);
            return;
        }
        self.start_join_timer(now_ms);
        if is_initial {
            self.complete_join(now_ms, out);
        } else {
            self.complete_join_if_all_joined(now_ms, out);
        }
    }

    fn start_initial_delay(&mut self, now_ms: i64) {
        let delay_ms = self.config.initial_rebalance_delay_ms;
        let longest_ms = self.members.rebalance_timeout_ms().max(delay_ms);
        self.join_timer = Some(JoinTimer {
            deadline_ms: now_ms.saturating_add(delay_ms),
            initial: Some(InitialDelay {
                ends_ms: now_ms.saturating_add(longest_ms),
                member_added: false,
            }),
        });
    }

    fn start_join_timer(&mut self, now_ms: i64) {
        let timeout_ms = self.members.rebalance_timeout_ms().max(JOIN_TIMER_MS_MIN);
        self.join_timer = Some(JoinTimer {
            deadline_ms: now_ms.saturating_add(timeout_ms),
            initial: None,
        });
    }

    /// Ends the join phase early if no member is missing. The initial delay is for members that are not
    /// known yet, so it runs to its end unless the group has no members left.
    fn complete_join_if_all_joined(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        if self.state != GroupState::PreparingRebalance || !self.pending.is_empty() {
            return;
        }
        let timer = self.join_timer.as_ref();
        let is_initial = timer.is_some_and(|timer| timer.initial.is_some());
        let all_joined = self.members.awaiting_join_count() == self.members.len();
        if all_joined && (!is_initial || self.members.is_empty()) {
            self.complete_join(now_ms, out);
        }
    }

    /// Ends the join phase and removes dynamic members that are missing. Static members may be away until
    /// their session ends.
    fn complete_join(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        let absent = |member: &Member| member.awaiting_join.is_none() && !member.is_static();
        for id in self.members.ids_where(absent) {
            self.remove_member(&id, out);
        }
        if self.members.is_empty() {
            self.become_empty(now_ms, out);
        } else if self.elect_joined_leader() {
            self.start_generation(now_ms, out);
        } else {
            // Only absent static members are left: they come back, or their sessions end.
            self.start_join_timer(now_ms);
        }
    }

    /// The leader stays if it joined again; otherwise the oldest member that joined leads. False when no
    /// member joined.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &&Member| member.awaiting_join.is_some();
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leader.as_ref().is_some_and(joined) {
            return true;
        }
        let elected = self.members.iter().find(joined);
        let elected = elected.map(|member| member.id.clone());
        let found = elected.is_some();
        self.leader = elected.or(self.leader.take());
        found
    }

    fn become_empty(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        self.join_timer = None;
        self.next_generation();
        self.protocol = None;
        self.leader = None;
        self.set_state(GroupState::Empty, now_ms);
        // No request waits for it. If it is lost, the former members time out again after a restart.
        self.persist(self.snapshot(), out);
    }

    fn start_generation(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        self.join_timer = None;
        self.next_generation();
        self.protocol = self.selected_protocol();
        self.set_state(GroupState::CompletingRebalance, now_ms);
        let timeout_ms = self.members.rebalance_timeout_ms().max(JOIN_TIMER_MS_MIN);
        self.sync_deadline_ms = Some(now_ms.saturating_add(timeout_ms));
        for id in self.members.ids_where(|_| true) {
            let reply = self.join_reply(&id, self.is_leader(&id));
            self.members.change(&id, |member| {
                member.synced = false;
                member.assignment = Bytes::new();
                answer_join(member, Ok(reply), now_ms, out);
            });
        }
    }

    fn next_generation(&mut self) {
        let next = self.generation.checked_add(1).unwrap_or(0);
        self.generation = next.max(self.generation_min);
        self.generation_min = 0;
    }

    fn selected_protocol(&self) -> Option<String> {
        self.members.select_protocol(self.leader.as_deref()?)
    }

    // ---- sync ----

    /// A member asks for its assignment. It is answered when the assignment is durable.
    pub fn sync(&mut self, request: SyncRequest, token: Token, now_ms: i64, out: &mut Vec<Action>) {
        if let Err(error) = self.try_sync(request, token, now_ms, out) {
            out.push(Action::Reply(token, Reply::Sync(Err(error))));
        }
    }

    fn try_sync(
        &mut self,
        request: SyncRequest,
        token: Token,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        self.check_alive()?;
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.check_generation(request.generation)?;
        let differs = |asked: &Option<String>, ours: &Option<String>| {
            asked.is_some() && ours.is_some() && asked != ours
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state {
            GroupState::CompletingRebalance => self.park_sync(request, token, now_ms, out),
            GroupState::Stable => self.sync_stable(&request.member_id, token, now_ms, out),
            _ => return Err(GroupError::RebalanceInProgress),
        }
        Ok(())
    }

    fn park_sync(
        &mut self,
        request: SyncRequest,
        token: Token,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) {
        let id = &request.member_id;
        self.members
            .change(id, |member| park_sync(member, token, out));
        self.stop_sync_timer_if_all_synced();
        if self.is_leader(id) && self.assigning.is_none() {
            self.take_assignments(request.assignments, now_ms, out);
        }
    }

    /// As in Kafka, a group whose record would be too large is told so, and rebalances.
    fn take_assignments(
        &mut self,
        assigned: Vec<(String, Bytes)>,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) {
        let assigned = assigned.into_iter();
        let assignments: BTreeMap<String, Bytes> = assigned
            .filter(|(id, _)| self.members.contains(id))
            .collect();
        let most = self.config.group_record_bytes_max;
        let bytes: usize = assignments.values().map(Bytes::len).sum();
        if self.record_bytes_beside_assignments() + bytes > most {
            let leader = self.leader.as_deref().unwrap_or_default();
            limits::GROUP_RECORD_BYTES.reached(format_args!("the assignment of {leader:?}"));
            self.fail_syncs(&GroupError::RecordTooLarge, now_ms, out);
            self.prepare_rebalance(now_ms, out);
            return;
        }
        self.persist_assignments(assignments, out);
    }

    fn record_bytes_beside_assignments(&self) -> usize {
        let types_bytes = self.members.len() * self.protocol_type.as_ref().map_or(0, String::len);
        self.members.record_bytes() - self.members.assignment_bytes() + types_bytes
    }

    /// The assignment takes effect when it is durable. Until then members keep the assignment they have.
    fn persist_assignments(&mut self, assignments: BTreeMap<String, Bytes>, out: &mut Vec<Action>) {
        let mut snapshot = self.snapshot();
        for member in &mut snapshot.members {
            let assignment = assignments.get(&member.member_id);
            member.assignment = assignment.cloned().unwrap_or_default();
        }
        let persist = self.persist(snapshot, out);
        self.assigning = Some(Assigning {
            persist,
            assignments,
        });
    }

    fn sync_stable(&mut self, member_id: &str, token: Token, now_ms: i64, out: &mut Vec<Action>) {
        let synced = self.members.change(member_id, |member| {
            member.synced = true;
            member.touch(now_ms);
            member.assignment.clone()
        });
        let Some(assignment) = synced else {
            return;
        };
        let reply = self.sync_reply(assignment);
        out.push(Action::Reply(token, Reply::Sync(Ok(reply))));
        self.stop_sync_timer_if_all_synced();
    }

    fn stop_sync_timer_if_all_synced(&mut self) {
        if self.members.all_synced() {
            self.sync_deadline_ms = None;
        }
    }

    fn sync_reply(&self, assignment: Bytes) -> SyncReply {
        SyncReply {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment,
        }
    }

    fn fail_syncs(&mut self, error: &GroupError, now_ms: i64, out: &mut Vec<Action>) {
        self.members.change_each(|member| {
            member.assignment = Bytes::new();
            answer_sync(member, Err(error.clone()), now_ms, out);
        });
    }

    // ---- the disk ----

    /// A snapshot became durable, or with `!is_durable` could not be written.
    pub fn persist_done(
        &mut self,
        id: PersistId,
        is_durable: bool,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) {
        if let Some(assigning) = self.assigning.take_if(|assigning| assigning.persist == id) {
            if is_durable {
                self.assign(assigning.assignments, now_ms, out);
            } else {
                self.fail_syncs(&GroupError::NotCoordinator, now_ms, out);
                self.prepare_rebalance(now_ms, out);
            }
            return;
        }
        let written = |replacement: &mut Replacement| replacement.persist == Some(id);
        let written: Vec<_> = self.replacements.extract_if(.., written).collect();
        for replacement in written {
            self.settle_replacement(replacement, is_durable, now_ms, out);
        }
        self.persist_replacements(out);
    }

    fn assign(
        &mut self,
        mut assignments: BTreeMap<String, Bytes>,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) {
        self.set_state(GroupState::Stable, now_ms);
        let template = self.sync_reply(Bytes::new());
        self.members.change_each(|member| {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
            let reply = SyncReply {
                assignment: member.assignment.clone(),
                ..template.clone()
            };
            answer_sync(member, Ok(reply), now_ms, out);
        });
    }

    /// If a rebalance started meanwhile, the parked join belongs to the rebalance.
    fn settle_replacement(
        &mut self,
        replacement: Replacement,
        is_durable: bool,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) {
        let is_current = self.generation == replacement.generation;
        let new_id = &replacement.new_id;
        if self.state != GroupState::Stable || !is_current || !self.members.contains(new_id) {
            return;
        }
        let result = if is_durable {
            Ok(self.replaced_reply(&replacement))
        } else {
            Err(GroupError::NotCoordinator)
        };
        self.members
            .change(new_id, |member| answer_join(member, result, now_ms, out));
        if !is_durable {
            self.undo_replacement(replacement);
        }
    }

    /// A leader whose client does not understand `skip_assignment` must not learn that it leads: it would
    /// assign, and its assignment would not be used (KIP-814).
    fn replaced_reply(&self, replacement: &Replacement) -> JoinReply {
        let leads = self.is_leader(&replacement.new_id) && replacement.supports_skip_assignment;
        let mut reply = self.join_reply(&replacement.new_id, leads);
        reply.skip_assignment = leads;
        if !replacement.supports_skip_assignment {
            reply.leader = replacement.old_leader.clone();
        }
        reply
    }

    fn undo_replacement(&mut self, replacement: Replacement) {
        let Replacement { new_id, old, .. } = replacement;
        if self.is_leader(&new_id) {
            self.leader = Some(old.member_id.clone());
        }
        self.members.undo_rename(&new_id, old);
    }

    fn persist(&mut self, snapshot: GroupSnapshot, out: &mut Vec<Action>) -> PersistId {
        let id = PersistId(self.next_persist);
        self.next_persist += 1;
        out.push(Action::Persist(id, Box::new(snapshot)));
        id
    }

    // ---- heartbeat, commit ----

    /// A member shows that it is alive. The answer says whether it must join again.
    pub fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now_ms: i64,
    ) -> Result<(), GroupError> {
        self.check_alive()?;
        self.check_member(member_id, instance_id)?;
        self.check_generation(generation)?;
        self.touch(member_id, now_ms);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Whether offsets may be committed. Counts as a heartbeat.
    pub fn commit_check(&mut self, request: &CommitRequest, now_ms: i64) -> Result<(), GroupError> {
        self.check_alive()?;
        if request.generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        let names_member = !request.member_id.is_empty() || request.instance_id.is_some();
        if request.generation >= 0 || names_member {
            self.check_member(&request.member_id, request.instance_id.as_deref())?;
            self.check_generation(request.generation)?;
        } else if !request.transactional {
            return Err(GroupError::UnknownMemberId);
        }
        if self.state == GroupState::CompletingRebalance && !request.transactional {
            return Err(GroupError::RebalanceInProgress);
        }
        self.touch(&request.member_id, now_ms);
        Ok(())
    }

    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            let current = self.members.id_of_instance(instance_id);
            let current = current.ok_or(GroupError::UnknownMemberId)?;
            if current != member_id {
                return Err(GroupError::FencedInstanceId);
            }
        }
        if !self.members.contains(member_id) {
            return Err(GroupError::UnknownMemberId);
        }
        Ok(())
    }

    fn check_generation(&self, generation: i32) -> Result<(), GroupError> {
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok(())
    }

    fn touch(&mut self, member_id: &str, now_ms: i64) {
        self.members
            .change(member_id, |member| member.touch(now_ms));
    }

    // ---- leave ----

    /// Members leave, or an operator removes static ones by their instance ids (KIP-345).
    pub fn leave(
        &mut self,
        leaving: Vec<LeavingMember>,
        now_ms: i64,
        out: &mut Vec<Action>,
    ) -> Result<Vec<LeaveResult>, GroupError> {
        self.check_alive()?;
        let mut results = Vec::with_capacity(leaving.len());
        for member in leaving {
            let result = self.leave_one(&member, out);
            results.push(LeaveResult {
                member_id: member.member_id,
                instance_id: member.instance_id,
                result,
            });
        }
        if results.iter().any(|left| left.result.is_ok()) {
            self.members_left(now_ms, out);
        }
        Ok(results)
    }

    fn leave_one(
        &mut self,
        member: &LeavingMember,
        out: &mut Vec<Action>,
    ) -> Result<(), GroupError> {
        if self.pending.remove(&member.member_id) {
            return Ok(());
        }
        let instance_id = member.instance_id.as_deref();
        let id = match member.member_id.as_str() {
            "" => {
                let id = instance_id.and_then(|instance| self.members.id_of_instance(instance));
                id.ok_or(GroupError::UnknownMemberId)?.clone()
            }
            id => {
                self.check_member(id, instance_id)?;
                id.to_owned()
            }
        };
        self.remove_member(&id, out);
        Ok(())
    }

    /// Starts a rebalance, because the partitions of members that left need new owners. A pending member
    /// had none, but the join phase may have waited for it.
    fn members_left(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(now_ms, out)
            }
            GroupState::PreparingRebalance => self.complete_join_if_all_joined(now_ms, out),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Removes a member and answers its parked requests. If it led, the oldest member leads.
    fn remove_member(&mut self, id: &str, out: &mut Vec<Action>) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        fail_parked(&mut member, &GroupError::UnknownMemberId, out);
        if self.is_leader(id) {
            self.leader = self.first_member();
        }
    }

    fn first_member(&self) -> Option<String> {
        self.members.first().map(|member| member.id.clone())
    }

    fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    // ---- time ----

    /// Runs the timers that are due at `now_ms`.
    pub fn tick(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        self.expire_pending(now_ms, out);
        self.expire_sessions(now_ms, out);
        self.check_join_timer(now_ms, out);
        self.check_sync_timer(now_ms, out);
    }

    fn expire_pending(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        if !self.pending.take_due(now_ms).is_empty() {
            self.complete_join_if_all_joined(now_ms, out);
        }
    }

    fn expire_sessions(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        let expired = self.members.due(now_ms);
        for id in &expired {
            self.remove_member(id, out);
        }
        if !expired.is_empty() {
            self.members_left(now_ms, out);
        }
    }

    fn check_join_timer(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        let delay_ms = self.config.initial_rebalance_delay_ms;
        let Some(timer) = self
            .join_timer
            .as_mut()
            .filter(|timer| timer.deadline_ms <= now_ms)
        else {
            return;
        };
        if let Some(initial) = &mut timer.initial
            && initial.member_added
            && now_ms < initial.ends_ms
        {
            initial.member_added = false;
            timer.deadline_ms = now_ms.saturating_add(delay_ms).min(initial.ends_ms);
            return;
        }
        self.complete_join(now_ms, out);
    }

    fn check_sync_timer(&mut self, now_ms: i64, out: &mut Vec<Action>) {
        if self.sync_deadline_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        self.sync_deadline_ms = None;
        let missing = self.members.ids_where(|member| !member.synced);
        for id in &missing {
            self.remove_member(id, out);
        }
        if !missing.is_empty() {
            self.members_left(now_ms, out);
        }
    }

    // ---- the end ----

    /// The client of a parked request is gone. Its member has a session timeout to come back, unless it
    /// never received its id: then it is removed.
    pub fn remove_token(&mut self, token: Token, now_ms: i64, out: &mut Vec<Action>) {
        let Some(id) = self.members.id_of_token(token).cloned() else {
            return;
        };
        let is_known = self.members.change(&id, |member| {
            member.awaiting_join.take_if(|parked| *parked == token);
            member.awaiting_sync.take_if(|parked| *parked == token);
            member.touch(now_ms);
            member.is_known_to_client
        });
        if is_known == Some(false) {
            self.remove_member(&id, out);
            self.members_left(now_ms, out);
        }
    }

    /// An operator deletes the group (DeleteGroups). The caller deletes the stored records.
    pub fn delete(&mut self) -> Result<(), GroupError> {
        match self.state {
            GroupState::Empty => self.state = GroupState::Dead,
            GroupState::Dead => return Err(GroupError::GroupIdNotFound),
            _ => return Err(GroupError::NonEmptyGroup),
        }
        self.pending.clear();
        Ok(())
    }

    /// The stored records could not be deleted, so the group is as before.
    pub fn delete_failed(&mut self) {
        self.state = GroupState::Empty;
    }

    /// The group leaves the memory; its stored records stay.
    pub fn unload(&mut self, out: &mut Vec<Action>) {
        self.members
            .change_each(|member| fail_parked(member, &GroupError::NotCoordinator, out));
        *self = Group {
            state: GroupState::Dead,
            ..Group::new(Arc::clone(&self.config), self.state_since_ms)
        };
    }

    fn set_state(&mut self, state: GroupState, now_ms: i64) {
        self.state = state;
        self.state_since_ms = now_ms;
    }
}

fn not_let_in(limit: &Limit, request: &JoinRequest) {
    let client_id = cut_to(&request.client_id, NAME_BYTES_LOGGED_MAX);
    limit.reached(format_args!("{client_id:?} was not let into a group"));
}

/// Whether offsets may be committed to a group that does not exist: only by clients that are not
/// members, which creates a simple group.
pub fn commit_check_without_group(generation: i32) -> Result<(), GroupError> {
    if generation >= 0 {
        return Err(GroupError::GroupIdNotFound);
    }
    Ok(())
}

// ---- parked requests ----

/// Parks a join. A member has at most one: its client gave up an earlier one.
fn park_join(member: &mut Member, token: Token, out: &mut Vec<Action>) {
    if let Some(earlier) = member.awaiting_join.replace(token) {
        let error = GroupError::RebalanceInProgress;
        out.push(Action::Reply(earlier, Reply::Join(Err(error))));
    }
    member.deadline_ms = None;
}

/// Parks a sync; at most one, as with a join.
fn park_sync(member: &mut Member, token: Token, out: &mut Vec<Action>) {
    if let Some(earlier) = member.awaiting_sync.replace(token) {
        let error = GroupError::RebalanceInProgress;
        out.push(Action::Reply(earlier, Reply::Sync(Err(error))));
    }
    member.synced = true;
    member.deadline_ms = None;
}

/// Answers a parked join; the member's session begins.
fn answer_join(
    member: &mut Member,
    result: Result<JoinReply, GroupError>,
    now_ms: i64,
    out: &mut Vec<Action>,
) {
    let Some(token) = member.awaiting_join.take() else {
        return;
    };
    member.is_known_to_client = true;
    member.touch(now_ms);
    out.push(Action::Reply(token, Reply::Join(result)));
}

/// Answers a parked sync; the member's session begins.
fn answer_sync(
    member: &mut Member,
    result: Result<SyncReply, GroupError>,
    now_ms: i64,
    out: &mut Vec<Action>,
) {
    let Some(token) = member.awaiting_sync.take() else {
        return;
    };
    member.touch(now_ms);
    out.push(Action::Reply(token, Reply::Sync(result)));
}

/// Answers all parked requests of a member with an error.
fn fail_parked(member: &mut Member, error: &GroupError, out: &mut Vec<Action>) {
    if let Some(token) = member.awaiting_join.take() {
        out.push(Action::Reply(token, Reply::Join(Err(error.clone()))));
    }
    if let Some(token) = member.awaiting_sync.take() {
        out.push(Action::Reply(token, Reply::Sync(Err(error.clone()))));
    }
}
