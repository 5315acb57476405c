//! ListGroups (key 16): the groups that this broker coordinates.
//!
//! Versions: 4 shows and filters by state (KIP-518), 5 by type (KIP-848).

use crate::io::reactor::Slice;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashSet;

message! {
    ListGroups 0..=5, flexible 3..;

    Request<'a> {
        /// Empty: all.
        states_filter: Vec<&'a str> [4..],
        /// Empty: all.
        types_filter: Vec<&'a str> [5..],
    }

    Response<'a> {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        groups: Vec<Group<'a>>,
    }

    Group<'a> {
        group_id: Cow<'a, str>,
        protocol_type: Cow<'a, str>,
        /// As in [`describe_groups`](super::describe_groups).
        group_state: Cow<'a, str> [4..],
        /// "classic", "consumer" or "share".
        group_type: Cow<'a, str> [5..],
    }
}

/// All groups here follow the classic protocol.
const GROUP_TYPE: &str = "classic";

/// What the reply takes at most, in bytes: as it is gathered, and as it is written.
pub fn reply_bytes(context: &Context<'_>, _: &Request<'_>) -> usize {
    2 * context.groups.all_bytes()
}

/// Lists the groups of all shards.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let (states, types) = (
        Wanted::of(&request.states_filter),
        Wanted::of(&request.types_filter),
    );
    if !types.has(GROUP_TYPE) {
        return Response::default();
    }
    let mut groups = Vec::new();
    let mut slice = Slice::new();
    for group in context.groups.list_groups().await {
        if states.has(group.state) {
            groups.push(Group {
                group_id: Cow::Owned(group.group_id),
                protocol_type: Cow::Owned(group.protocol_type),
                group_state: Cow::Borrowed(group.state),
                group_type: Cow::Borrowed(GROUP_TYPE),
            });
        }
        slice.rest().await;
    }
    Response {
        groups,
        ..Response::default()
    }
}

/// The words of a filter, in small letters; none lets everything pass.
struct Wanted(HashSet<String>);

impl Wanted {
    fn of(words: &[&str]) -> Wanted {
        Wanted(words.iter().map(|word| word.to_ascii_lowercase()).collect())
    }

    fn has(&self, word: &str) -> bool {
        self.0.is_empty() || self.0.contains(&word.to_ascii_lowercase())
    }
}
