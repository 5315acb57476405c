//! DeleteGroups (key 42): delete groups that have no members (KIP-229).

use crate::io::reactor::Slice;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    DeleteGroups 0..=2, flexible 2..;

    Request<'a> {
        groups: Vec<&'a str>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        results: Vec<GroupResponse<'a>>,
    }

    GroupResponse<'a> {
        group_id: Cow<'a, str>,
        error_code: ErrorCode,
    }
}

/// Deletes groups without members, with their offsets.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut results = Vec::with_capacity(request.groups.len());
    let mut slice = Slice::new();
    for group_id in &request.groups {
        slice.rest().await;
        let deleted = context.groups.delete_group((*group_id).to_owned()).await;
        results.push(GroupResponse {
            group_id: Cow::Borrowed(*group_id),
            error_code: ErrorCode::of(&deleted),
        });
    }
    Response {
        results,
        ..Response::default()
    }
}
