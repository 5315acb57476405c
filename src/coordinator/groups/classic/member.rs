//! The members of a group.

use super::messages::{JoinRequest, JoinedMember, MemberDescription, MemberSnapshot, Protocol};
use crate::coordinator::parked::Token;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Bytes of memory that a protocol takes beside its name and its metadata.
const PROTOCOL_BYTES: usize = 64;

pub(super) struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i64,
    pub rebalance_timeout_ms: i64,
    /// In order of preference.
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    /// Its join that is not answered yet. While there is one, the member counts as joined.
    pub awaiting_join: Option<Token>,
    /// Its sync that is not answered yet.
    pub awaiting_sync: Option<Token>,
    /// Whether it sent a sync in this generation.
    pub synced: bool,
    /// Whether its client knows its member id.
    pub is_known_to_client: bool,
    /// Position among all members that ever joined. The lowest leads when the leader leaves.
    pub order: u64,
    /// When its session ends (ms). `None` while one of its requests is parked.
    pub deadline_ms: Option<i64>,
}

impl Member {
    pub fn new(id: String, request: JoinRequest) -> Member {
        let is_known_to_client = !request.member_id.is_empty() || request.instance_id.is_some();
        Member {
            id,
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: i64::from(request.session_timeout_ms),
            rebalance_timeout_ms: i64::from(request.rebalance_timeout_ms),
            protocols: request.protocols,
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            synced: false,
            is_known_to_client,
            order: 0,
            deadline_ms: None,
        }
    }

    /// The member as it was stored, with a new session.
    pub fn restore(snapshot: MemberSnapshot, now_ms: i64) -> Member {
        Member {
            id: snapshot.member_id,
            instance_id: snapshot.instance_id,
            client_id: snapshot.client_id,
            client_host: snapshot.client_host,
            session_timeout_ms: snapshot.session_timeout_ms,
            rebalance_timeout_ms: snapshot.rebalance_timeout_ms,
            protocols: snapshot.protocols,
            assignment: snapshot.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            synced: true,
            is_known_to_client: true,
            order: 0,
            deadline_ms: Some(now_ms.saturating_add(snapshot.session_timeout_ms)),
        }
    }

    pub fn snapshot(&self) -> MemberSnapshot {
        MemberSnapshot {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: self.protocols.clone(),
            assignment: self.assignment.clone(),
        }
    }

    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// Takes over what the member sent with a new join.
    pub fn update(&mut self, request: JoinRequest) {
        self.client_id = request.client_id;
        self.client_host = request.client_host;
        self.session_timeout_ms = i64::from(request.session_timeout_ms);
        self.rebalance_timeout_ms = i64::from(request.rebalance_timeout_ms);
        self.protocols = request.protocols;
    }

    /// The member was heard of: its session begins again, unless one of its requests is parked.
    pub fn touch(&mut self, now_ms: i64) {
        if self.awaiting_join.is_none() && self.awaiting_sync.is_none() {
            self.deadline_ms = Some(now_ms.saturating_add(self.session_timeout_ms));
        }
    }

    /// Bytes of its metadata for all protocols.
    pub fn metadata_bytes(&self) -> usize {
        metadata_bytes(&self.protocols)
    }

    pub fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|own| own.name == protocol)
    }

    /// Its metadata for a protocol; empty if it does not support the protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let own = self.protocols.iter().find(|own| own.name == protocol);
        own.map_or_else(Bytes::new, |own| own.metadata.clone())
    }

    pub fn describe(&self, stable_protocol: Option<&str>) -> MemberDescription {
        MemberDescription {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: stable_protocol.map_or_else(Bytes::new, |protocol| self.metadata(protocol)),
            assignment: match stable_protocol {
                Some(_) => self.assignment.clone(),
                None => Bytes::new(),
            },
        }
    }
}

/// Bytes of memory that protocols take.
pub(super) fn metadata_bytes(protocols: &[Protocol]) -> usize {
    let bytes = protocols
        .iter()
        .map(|protocol| protocol.name.len() + protocol.metadata.len() + PROTOCOL_BYTES);
    bytes.sum()
}

/// The members of a group, by id.
#[derive(Default)]
pub(super) struct Members {
    by_id: BTreeMap<String, Member>,
    /// The member ids of static members, by instance id (KIP-345).
    by_instance: BTreeMap<String, String>,
    next_order: u64,
}

impl Members {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    pub fn id_of_instance(&self, instance_id: &str) -> Option<&String> {
        self.by_instance.get(instance_id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    /// All members, in the order in which they joined.
    pub fn in_order(&self) -> Vec<&Member> {
        let mut members: Vec<&Member> = self.by_id.values().collect();
        members.sort_by_key(|member| member.order);
        members
    }

    /// Adds a member as the last in order.
    pub fn add(&mut self, mut member: Member) {
        member.order = self.next_order;
        self.next_order += 1;
        self.put(member);
    }

    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        if let Some(instance_id) = &member.instance_id {
            self.by_instance.remove(instance_id);
        }
        Some(member)
    }

    /// Gives a member another id; its order stays.
    pub fn rename(&mut self, old_id: &str, new_id: &str) -> Option<&mut Member> {
        let mut member = self.remove(old_id)?;
        member.id = new_id.to_owned();
        self.put(member);
        self.by_id.get_mut(new_id)
    }

    fn put(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.by_instance
                .insert(instance_id.clone(), member.id.clone());
        }
        self.by_id.insert(member.id.clone(), member);
    }

    /// The ids of the members for which `matches` holds.
    pub fn ids_where(&self, matches: impl Fn(&Member) -> bool) -> Vec<String> {
        let matching = self.by_id.values().filter(|member| matches(member));
        matching.map(|member| member.id.clone()).collect()
    }

    pub fn awaiting_join_count(&self) -> usize {
        let awaiting = |member: &&Member| member.awaiting_join.is_some();
        self.by_id.values().filter(awaiting).count()
    }

    /// The longest rebalance timeout of all members (ms).
    pub fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts = self
            .by_id
            .values()
            .map(|member| member.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0)
    }

    pub fn all_support(&self, protocol: &str) -> bool {
        self.by_id.values().all(|member| member.supports(protocol))
    }

    /// The protocol with the most votes among those that all members support. Each member votes for its
    /// most preferred one; `leader`'s preference decides a tie.
    pub fn select_protocol(&self, leader: &str) -> Option<String> {
        let names = self.get(leader)?.protocols.iter().map(|own| &own.name);
        let candidates: Vec<&String> = names.filter(|name| self.all_support(name)).collect();
        let mut votes = vec![0; candidates.len()];
        for member in self.by_id.values() {
            let mut names = member.protocols.iter().map(|own| &own.name);
            let vote = names.find_map(|name| candidates.iter().position(|other| *other == name));
            if let Some(count) = vote.and_then(|vote| votes.get_mut(vote)) {
                *count += 1;
            }
        }
        let most = votes.iter().max()?;
        let first = votes.iter().position(|count| count == most)?;
        candidates.get(first).map(|name| (*name).clone())
    }

    /// The members as the leader sees them.
    pub fn joined(&self, protocol: &str) -> Vec<JoinedMember> {
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.in_order().into_iter().map(joined).collect()
    }
}
