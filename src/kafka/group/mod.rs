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

use crate::io::limits;
use crate::kafka::{Context, ErrorCode};

/// Whether a request names no more members than a group can have, those included that have an id and have not
/// joined.
///
/// # Errors
/// INVALID_REQUEST.
fn check_named(context: &Context<'_>, members: usize) -> Result<(), ErrorCode> {
    if members > context.engine.config.group_max_size.saturating_mul(2) {
        limits::GROUP_SIZE.reached(format_args!("{members} members in a request"));
        return Err(ErrorCode::InvalidRequest);
    }
    Ok(())
}
