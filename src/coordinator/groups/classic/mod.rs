//! Consumer groups of the classic protocol, as pure state: events in, actions out.
//!
//! Nothing here does I/O or reads a clock. Every event brings `now_ms`: milliseconds on a clock that never
//! goes back. It is the wall clock read once at start plus the monotonic time since, because the times in
//! snapshots and commits must make sense after a restart.
//!
//! - [`group`]: the state machine of one group's membership; the table below is its summary.
//! - `member`, `members`: a group's members, what they take, and their vote for a protocol.
//! - [`messages`]: the events, the answers, the actions and the snapshot.
//! - [`subscription`]: which topics a member subscribed to.
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
//! | join timer | – | absent dynamic members out, then Completing; no member joined: again; no member left: Empty | – | – |
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

#[cfg(test)]
mod cost;
pub mod group;
mod member;
mod members;
pub mod messages;
pub mod subscription;
