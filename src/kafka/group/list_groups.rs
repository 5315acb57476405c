//! ListGroups (key 16): the groups that this broker coordinates.
//!
//! Versions: 4 shows and filters by state (KIP-518), 5 by type (KIP-848).

use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

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

/// Lists the groups of all shards.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let any = |wanted: &[&str], is: &str| {
        wanted.is_empty() || wanted.iter().any(|name| name.eq_ignore_ascii_case(is))
    };
    if !any(&request.types_filter, GROUP_TYPE) {
        return Response::default();
    }
    let listed = context.groups.list_groups().await.into_iter();
    let groups = listed
        .filter(|group| any(&request.states_filter, group.description.state))
        .map(|group| Group {
            group_id: Cow::Owned(group.group_id),
            protocol_type: Cow::Owned(group.description.protocol_type),
            group_state: Cow::Borrowed(group.description.state),
            group_type: Cow::Borrowed(GROUP_TYPE),
        });
    Response {
        groups: groups.collect(),
        ..Response::default()
    }
}
