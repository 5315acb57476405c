//! The members of a group.
//!
//! What the group asks at each request (how many joined, who is due, which protocols all support, how many
//! bytes there are) is kept up to date with each change of a member, so that a request costs the same in a
//! group of ten and of ten thousand. Only a new generation, a description and a snapshot go through all
//! members.

use super::member::{Member, Size};
use super::messages::{JoinRequest, JoinedMember, MemberSnapshot, Protocol};
use crate::coordinator::parked::Token;
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Default)]
pub(super) struct Members {
    /// By the order in which they joined. The first leads when the leader leaves.
    in_order: BTreeMap<u64, Member>,
    next_order: u64,
    by_id: HashMap<String, u64>,
    /// The member ids of static members, by instance id (KIP-345).
    by_instance: HashMap<String, String>,
    /// Whose request is parked.
    by_token: HashMap<Token, u64>,
    by_deadline: BTreeSet<(i64, u64)>,
    /// How many members support a protocol, by its name.
    supporters: HashMap<String, usize>,
    awaiting_join: usize,
    synced: usize,
    memory_bytes: usize,
    record_bytes: usize,
    assignment_bytes: usize,
    /// Members that walks through all of them have looked at.
    #[cfg(test)]
    pub looked_at: std::cell::Cell<usize>,
}

/// What of a member is counted or found by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Counted {
    deadline_ms: Option<i64>,
    awaiting_join: Option<Token>,
    awaiting_sync: Option<Token>,
    synced: bool,
    size: Size,
    assignment_bytes: usize,
}

impl Counted {
    fn of(member: &Member) -> Counted {
        Counted {
            deadline_ms: member.deadline_ms,
            awaiting_join: member.awaiting_join,
            awaiting_sync: member.awaiting_sync,
            synced: member.synced,
            size: member.size(),
            assignment_bytes: member.assignment.len(),
        }
    }
}

impl Members {
    // ---- finding ----

    pub fn len(&self) -> usize {
        self.in_order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub fn get(&self, id: &str) -> Option<&Member> {
        self.in_order.get(self.by_id.get(id)?)
    }

    pub fn id_of_instance(&self, instance_id: &str) -> Option<&String> {
        self.by_instance.get(instance_id)
    }

    /// The member that is behind a join: by its id, or as a static member without one.
    pub fn known_by(&self, request: &JoinRequest) -> Option<&Member> {
        self.get(&request.member_id).or_else(|| {
            let id = self.id_of_instance(request.instance_id.as_deref()?)?;
            self.get(id)
        })
    }

    /// The member whose request is parked under a token.
    pub fn id_of_token(&self, token: Token) -> Option<&String> {
        let member = self.in_order.get(self.by_token.get(&token)?)?;
        Some(&member.id)
    }

    /// The member that has been here for longest.
    pub fn first(&self) -> Option<&Member> {
        self.in_order.values().next()
    }

    /// All members, in the order in which they joined.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.in_order.values().inspect(|_| self.look())
    }

    /// The ids of the members for which `matches` holds, in the order in which they joined.
    pub fn ids_where(&self, matches: impl Fn(&Member) -> bool) -> Vec<String> {
        let matching = self.iter().filter(|member| matches(member));
        matching.map(|member| member.id.clone()).collect()
    }

    /// The ids of the members whose session has ended at `now_ms`, soonest first.
    pub fn due(&self, now_ms: i64) -> Vec<String> {
        let due = self.by_deadline.range(..=(now_ms, u64::MAX));
        let members = due.filter_map(|(_, order)| self.in_order.get(order));
        members.map(|member| member.id.clone()).collect()
    }

    /// When the next session ends (ms).
    pub fn next_deadline(&self) -> Option<i64> {
        self.by_deadline.first().map(|(at_ms, _)| *at_ms)
    }

    fn look(&self) {
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + 1);
    }

    // ---- changing ----

    /// Adds a member as the last in order.
    pub fn add(&mut self, member: Member) {
        let order = self.next_order;
        self.next_order += 1;
        self.put(order, member);
    }

    pub fn remove(&mut self, id: &str) -> Option<Member> {
        self.take(id).map(|(_, member)| member)
    }

    /// Changes a member: anything but its id, its instance id and its protocols.
    pub fn change<R>(&mut self, id: &str, change: impl FnOnce(&mut Member) -> R) -> Option<R> {
        let order = *self.by_id.get(id)?;
        self.change_at(order, change)
    }

    /// Changes every member, in the order in which they joined.
    pub fn change_each(&mut self, mut change: impl FnMut(&mut Member)) {
        let orders: Vec<u64> = self.in_order.keys().copied().collect();
        for order in orders {
            self.look();
            self.change_at(order, &mut change);
        }
    }

    fn change_at<R>(&mut self, order: u64, change: impl FnOnce(&mut Member) -> R) -> Option<R> {
        let member = self.in_order.get_mut(&order)?;
        let before = Counted::of(member);
        let result = change(member);
        let after = Counted::of(member);
        if before != after {
            self.discount(order, before);
            self.count(order, after);
        }
        Some(result)
    }

    /// A member joins again, with what it says of itself now.
    pub fn update(&mut self, id: &str, request: JoinRequest) {
        self.replace(id, |member| member.update(request));
    }

    /// A member comes back under another id, with what it says of itself now; its order stays.
    pub fn rename(&mut self, old_id: &str, new_id: &str, request: JoinRequest) {
        self.replace(old_id, |member| {
            member.id = new_id.to_owned();
            member.update(request);
        });
    }

    /// Takes back [`rename`](Self::rename).
    pub fn undo_rename(&mut self, new_id: &str, old: MemberSnapshot) {
        self.replace(new_id, |member| {
            member.id = old.member_id.clone();
            member.revert(old);
        });
    }

    fn replace(&mut self, id: &str, change: impl FnOnce(&mut Member)) {
        if let Some((order, mut member)) = self.take(id) {
            change(&mut member);
            self.put(order, member);
        }
    }

    fn put(&mut self, order: u64, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            let id = member.id.clone();
            self.by_instance.insert(instance_id.clone(), id);
        }
        for Protocol { name, .. } in member.protocols() {
            *self.supporters.entry(name.clone()).or_default() += 1;
        }
        self.by_id.insert(member.id.clone(), order);
        self.count(order, Counted::of(&member));
        self.in_order.insert(order, member);
    }

    fn take(&mut self, id: &str) -> Option<(u64, Member)> {
        let order = self.by_id.remove(id)?;
        let member = self.in_order.remove(&order)?;
        if let Some(instance_id) = &member.instance_id {
            self.by_instance.remove(instance_id);
        }
        for Protocol { name, .. } in member.protocols() {
            if let Some(count) = self.supporters.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(name);
                }
            }
        }
        self.discount(order, Counted::of(&member));
        Some((order, member))
    }

    fn count(&mut self, order: u64, member: Counted) {
        self.by_deadline
            .extend(member.deadline_ms.map(|at_ms| (at_ms, order)));
        let tokens = [member.awaiting_join, member.awaiting_sync];
        self.by_token
            .extend(tokens.into_iter().flatten().map(|token| (token, order)));
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.synced += usize::from(member.synced);
        self.memory_bytes += member.size.memory + member.assignment_bytes;
        self.record_bytes += member.size.record + member.assignment_bytes;
        self.assignment_bytes += member.assignment_bytes;
    }

    fn discount(&mut self, order: u64, member: Counted) {
        if let Some(at_ms) = member.deadline_ms {
            self.by_deadline.remove(&(at_ms, order));
        }
        for token in [member.awaiting_join, member.awaiting_sync] {
            token.map(|token| self.by_token.remove(&token));
        }
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        self.synced -= usize::from(member.synced);
        self.memory_bytes -= member.size.memory + member.assignment_bytes;
        self.record_bytes -= member.size.record + member.assignment_bytes;
        self.assignment_bytes -= member.assignment_bytes;
    }

    // ---- all together ----

    pub fn awaiting_join_count(&self) -> usize {
        self.awaiting_join
    }

    /// Whether every member sent a sync in this generation.
    pub fn all_synced(&self) -> bool {
        self.synced == self.in_order.len()
    }

    /// Bytes of memory that the members take.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Bytes that the members take in the group's record, whichever protocol is chosen.
    pub fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    /// Those of them that are assignments.
    pub fn assignment_bytes(&self) -> usize {
        self.assignment_bytes
    }

    /// The longest rebalance timeout of all members (ms).
    pub fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self.iter().map(|member| member.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0)
    }

    pub fn all_support(&self, protocol: &str) -> bool {
        self.supporters.get(protocol).copied().unwrap_or(0) == self.len()
    }

    /// The protocol with the most votes among those that all members support. Each member votes for its
    /// most preferred one; `leader`'s preference decides a tie.
    pub fn select_protocol(&self, leader: &str) -> Option<String> {
        let names = self.get(leader)?.protocols().iter().map(|own| &*own.name);
        let candidates: Vec<&str> = names.filter(|name| self.all_support(name)).collect();
        let mut votes: HashMap<&str, usize> = candidates.iter().map(|name| (*name, 0)).collect();
        for member in self.iter() {
            let mut names = member.protocols().iter().map(|own| &*own.name);
            if let Some(name) = names.find(|name| votes.contains_key(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let first = candidates.into_iter().find(|name| votes[name] == most);
        first.map(str::to_owned)
    }

    /// The members as the leader sees them.
    pub fn joined(&self, protocol: &str) -> Vec<JoinedMember> {
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.iter().map(joined).collect()
    }
}
