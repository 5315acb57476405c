//! Consumer groups: membership, committed offsets, and what they send each other.

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

use crate::config::Config;
use crate::io::limits;
use crate::kafka::{Context, ErrorCode};
use bytes::Bytes;

/// What a group is to keep of a request, which has `all_bytes` for it: copied, for a slice would keep the whole
/// buffer that the request came in. What is larger than any group may be is refused, and not worth a copy.
fn kept(slice: &Bytes, all_bytes: usize, config: &Config) -> Bytes {
    if all_bytes > config.group_metadata_bytes_max {
        slice.clone()
    } else {
        Bytes::copy_from_slice(slice)
    }
}

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
