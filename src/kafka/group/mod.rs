//! Consumer groups: membership, committed offsets, and what they send each other.

pub mod consumer_protocol;
pub mod delete_groups;
pub mod describe_groups;
pub mod find_coordinator;
pub mod heartbeat;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
mod reply_budget;
pub mod sync_group;
