//! Consumer groups of the classic protocol, as pure state: events in, actions out.
//!
//! Nothing here does I/O or reads a clock. Every event brings `now_ms`: milliseconds on a clock that
//! never goes back, and that also makes sense after a restart, because the times in snapshots and
//! commits are on it too (the wall clock read once at start, plus the monotonic time since).
//!
//! - [`group`]: the state machine of one group's membership; the table below is its summary.
//! - `member`: what is known of a group's members, and their vote.
//! - [`messages`]: the events, the answers, the actions and the snapshot.
//! - [`offsets`]: the offsets that one group committed, and their retention.
//! - [`subscription`]: which topics a member asked for, where that can be read at all.
//!
//! # States and events
//!
//! | Event | Empty | PreparingRebalance | CompletingRebalance | Stable |
//! |---|---|---|---|---|
//! | join, no member id, dynamic, v4+ | `MemberIdRequired`, pending until its session timeout | same | same | same |
//! | join, new member | Preparing, initial delay | parked | Preparing | Preparing |
//! | join, known member | `UnknownMemberId` | parked | same metadata: current generation; changed: Preparing | leader or changed: Preparing; else current generation |
//! | join, static, no member id, instance known | – | new id, parked | new id, Preparing | new id; same protocol: answered once durable; else Preparing |
//! | all known and pending members joined | – | Completing, joins answered (after the initial delay) | – | – |
//! | join timer | – | absent dynamic members out, then Completing; nobody joined: again; nobody left: Empty | – | – |
//! | sync | `UnknownMemberId` | `RebalanceInProgress` | parked; the leader's is persisted | its assignment |
//! | assignment durable | ignored | ignored | Stable, syncs answered | ignored |
//! | assignment not durable | ignored | ignored | syncs `NotCoordinator`, Preparing | ignored |
//! | sync timer | – | – | members without sync out, Preparing | same |
//! | heartbeat | `UnknownMemberId` | `RebalanceInProgress` | ok | ok |
//! | commit, generation ≥ 0 | `UnknownMemberId` | ok | `RebalanceInProgress` | ok |
//! | commit, no generation, no member | ok | `UnknownMemberId` | same | same |
//! | leave, session timeout | – | out; perhaps all joined now | out, Preparing | out, Preparing |
//! | delete | Dead | `NonEmptyGroup` | same | same |
//!
//! In Dead every event is answered with `CoordinatorNotAvailable`. A stale generation is
//! `IllegalGeneration`, an id that its instance no longer has is `FencedInstanceId`.

pub mod group;
mod member;
pub mod messages;
pub mod offsets;
pub mod subscription;

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod simulation_tests;

use thiserror::Error;

/// The limits and delays of groups. Names and defaults are Kafka's unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: i64,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: i64,
    /// How long a new member may wait for the answer to its first join.
    pub new_member_join_timeout_ms: i64,
    /// Members of one group, and as many pending ones (`group.max.size`; unlimited in Kafka).
    pub group_max_size: usize,
    /// Bytes that the members of one group may say of themselves, together.
    pub group_metadata_bytes_max: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offset_retention_ms: i64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 30 * 60 * 1_000,
            new_member_join_timeout_ms: 5 * 60 * 1_000,
            group_max_size: 10_000,
            group_metadata_bytes_max: 64 << 20,
            offset_metadata_bytes_max: 4_096,
            offset_retention_ms: 7 * 24 * 60 * 60 * 1_000,
        }
    }
}

/// Why a group did not do what it was asked. The names are Kafka's; the codes are in `kafka`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GroupError {
    #[error("a group's name is not empty")]
    InvalidGroupId,
    #[error("the group does not know this member")]
    UnknownMemberId,
    #[error("the group is in another generation")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the member's protocols do not go with those of the group")]
    InconsistentGroupProtocol,
    #[error("another member has taken over this instance id")]
    FencedInstanceId,
    /// The member is to join again with this id (KIP-394).
    #[error("join again as {0}")]
    MemberIdRequired(String),
    #[error("the session timeout is not within the broker's limits")]
    InvalidSessionTimeout,
    #[error("the group has as many members as it may have")]
    GroupMaxSizeReached,
    #[error("the group's state could not be stored")]
    NotCoordinator,
    #[error("the group is being removed")]
    CoordinatorNotAvailable,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    #[error("there is no such topic")]
    UnknownTopic,
    #[error("there are more offsets than were asked for at most")]
    TooManyOffsets,
    #[error("the offset's metadata is too long")]
    OffsetMetadataTooLarge,
}
