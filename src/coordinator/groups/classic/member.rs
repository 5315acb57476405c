//! One member of a group.

use super::messages::{JoinRequest, MemberDescription, MemberSnapshot, Protocol};
use crate::coordinator::parked::Token;
use bytes::Bytes;
use std::collections::HashSet;

/// Bytes of memory that a member takes beside its strings, its protocols and its assignment.
const MEMBER_BYTES: usize = 512;
/// Bytes of memory that a protocol takes beside its name and its metadata.
const PROTOCOL_BYTES: usize = 64;
/// Bytes of a group's record that a member takes beside its strings, its metadata and its assignment:
/// lengths and timeouts.
const MEMBER_RECORD_BYTES: usize = 24;

pub(super) struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i64,
    pub rebalance_timeout_ms: i64,
    /// In order of preference, each name once.
    protocols: Vec<Protocol>,
    /// What it says of itself, without its assignment.
    size: Size,
    pub assignment: Bytes,
    /// Its join that is not answered yet. While there is one, the member counts as joined.
    pub awaiting_join: Option<Token>,
    /// Its sync that is not answered yet.
    pub awaiting_sync: Option<Token>,
    /// Whether it sent a sync in this generation.
    pub synced: bool,
    /// Whether its client knows its member id.
    pub is_known_to_client: bool,
    /// When its session ends (ms). `None` while one of its requests is parked.
    pub deadline_ms: Option<i64>,
}

impl Member {
    pub fn new(id: String, request: JoinRequest) -> Member {
        let is_known_to_client = !request.member_id.is_empty() || request.instance_id.is_some();
        let mut member = Member {
            id,
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: i64::from(request.session_timeout_ms),
            rebalance_timeout_ms: i64::from(request.rebalance_timeout_ms),
            protocols: request.protocols,
            size: Size::default(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            synced: false,
            is_known_to_client,
            deadline_ms: None,
        };
        member.size = member.measure();
        member
    }

    /// The member as it was stored, with a new session.
    pub fn restore(snapshot: MemberSnapshot, now_ms: i64) -> Member {
        let mut member = Member {
            id: snapshot.member_id,
            instance_id: snapshot.instance_id,
            client_id: snapshot.client_id,
            client_host: snapshot.client_host,
            session_timeout_ms: snapshot.session_timeout_ms,
            rebalance_timeout_ms: snapshot.rebalance_timeout_ms,
            protocols: snapshot.protocols,
            size: Size::default(),
            assignment: snapshot.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            synced: true,
            is_known_to_client: true,
            deadline_ms: Some(now_ms.saturating_add(snapshot.session_timeout_ms)),
        };
        member.size = member.measure();
        member
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

    /// Takes over what the member sent with a new join. Only [`Members`](super::members::Members) calls it,
    /// which counts who supports what.
    pub fn update(&mut self, request: JoinRequest) {
        self.client_id = request.client_id;
        self.client_host = request.client_host;
        self.session_timeout_ms = i64::from(request.session_timeout_ms);
        self.rebalance_timeout_ms = i64::from(request.rebalance_timeout_ms);
        self.protocols = request.protocols;
        self.size = self.measure();
    }

    /// Takes back an update. Only [`Members`](super::members::Members) calls it.
    pub fn revert(&mut self, old: MemberSnapshot) {
        self.client_id = old.client_id;
        self.client_host = old.client_host;
        self.session_timeout_ms = old.session_timeout_ms;
        self.rebalance_timeout_ms = old.rebalance_timeout_ms;
        self.protocols = old.protocols;
        self.size = self.measure();
    }

    /// The member was heard of: its session begins again, unless one of its requests is parked.
    pub fn touch(&mut self, now_ms: i64) {
        if self.awaiting_join.is_none() && self.awaiting_sync.is_none() {
            self.deadline_ms = Some(now_ms.saturating_add(self.session_timeout_ms));
        }
    }

    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// Whether it would vote the same with these protocols.
    pub fn votes_like(&self, protocols: &[Protocol]) -> bool {
        let names = self.protocols.iter().map(|own| &own.name);
        names.eq(protocols.iter().map(|own| &own.name))
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

    /// What it says of itself, without its assignment.
    pub fn size(&self) -> Size {
        self.size
    }

    fn measure(&self) -> Size {
        let client = [&self.client_id, &self.client_host];
        let client_bytes = client.iter().map(|text| text.len()).sum();
        let instance_id = self.instance_id.as_deref();
        Size::of(&self.id, instance_id, client_bytes, &self.protocols)
    }
}

/// Bytes of what a member says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// In memory.
    pub memory: usize,
    /// In the group's record, whichever protocol is chosen. The protocol's name counts too: each member's
    /// answer has it.
    pub record: usize,
}

impl Size {
    /// The size of a member that joins.
    pub fn of_join(request: &JoinRequest) -> Size {
        let id = if request.member_id.is_empty() {
            &request.new_member_id
        } else {
            &request.member_id
        };
        let client_bytes = request.client_id.len() + request.client_host.len();
        let instance_id = request.instance_id.as_deref();
        Size::of(id, instance_id, client_bytes, &request.protocols)
    }

    fn of(
        id: &str,
        instance_id: Option<&str>,
        client_bytes: usize,
        protocols: &[Protocol],
    ) -> Size {
        let instance_bytes = instance_id.map_or(0, str::len);
        let bytes = |protocol: &Protocol| protocol.name.len() + protocol.metadata.len();
        let all: usize = protocols
            .iter()
            .map(|own| bytes(own) + PROTOCOL_BYTES)
            .sum();
        let largest = protocols.iter().map(bytes).max().unwrap_or(0);
        Size {
            // Ids are kept in the member and in the maps that find it.
            memory: MEMBER_BYTES + 2 * id.len() + 3 * instance_bytes + client_bytes + all,
            record: MEMBER_RECORD_BYTES + id.len() + instance_bytes + client_bytes + largest,
        }
    }
}

/// Each protocol once: the first of each name.
pub(super) fn distinct(mut protocols: Vec<Protocol>) -> Vec<Protocol> {
    let mut names = HashSet::with_capacity(protocols.len());
    protocols.retain(|protocol| names.insert(protocol.name.clone()));
    protocols
}
