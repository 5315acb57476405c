//! The requests, answers, actions and snapshots of a group.

use crate::coordinator::groups::error::GroupError;
use crate::coordinator::parked::Token;
use bytes::Bytes;

/// Identifies a snapshot that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersistId(pub u64);

/// An assignment strategy that a member supports, and the member's metadata for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

/// A member asks to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// The id that the member gets if it has none. The caller makes a unique one, so that the group needs
    /// no random numbers.
    pub new_member_id: String,
    /// Set for static members (KIP-345).
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    /// For JoinGroup v0, which has none: the session timeout.
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// In order of preference.
    pub protocols: Vec<Protocol>,
    /// Whether the client expects `MemberIdRequired` (KIP-394, JoinGroup v4+).
    pub requires_known_member_id: bool,
    /// Whether the client understands `skip_assignment` (KIP-814, JoinGroup v9+).
    pub supports_skip_assignment: bool,
}

/// A member asks for its assignment; the leader brings the assignments of all members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncRequest {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    /// SyncGroup v5+; checked when given.
    pub protocol_type: Option<String>,
    /// SyncGroup v5+; checked when given.
    pub protocol: Option<String>,
    /// By member id.
    pub assignments: Vec<(String, Bytes)>,
}

/// The client that commits offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRequest {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// Negative for a client that is not a member.
    pub generation: i32,
    /// In a transaction the group's state does not matter (KIP-447).
    pub transactional: bool,
}

/// One of the members that a LeaveGroup request names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// Empty when an operator removes a static member by its instance id.
    pub member_id: String,
    pub instance_id: Option<String>,
}

/// The result for one of the members that a LeaveGroup request names, in the request's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveResult {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub result: Result<(), GroupError>,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer a request that is parked or has just arrived.
    Reply(Token, Reply),
    /// Write the snapshot, in the order of the ids, and call `persist_done` with the result.
    Persist(PersistId, Box<GroupSnapshot>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Join(Result<JoinReply, GroupError>),
    Sync(Result<SyncReply, GroupError>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    pub member_id: String,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    /// The leader need not assign anything (KIP-814).
    pub skip_assignment: bool,
    /// All members, for the leader; empty for others.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    /// For the chosen protocol.
    pub metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// What is stored of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// `None` for a group that never had members.
    pub protocol_type: Option<String>,
    pub generation: i32,
    /// `None` for an empty group.
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// When the group came into this state (ms); retention of an empty group's offsets starts here.
    pub state_since_ms: i64,
    /// In the order in which they joined.
    pub members: Vec<MemberSnapshot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSnapshot {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i64,
    pub rebalance_timeout_ms: i64,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
}

/// A group as DescribeGroups and ListGroups show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// As Kafka prints it.
    pub state: &'static str,
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    /// Empty unless the group is stable.
    pub assignment: Bytes,
}
