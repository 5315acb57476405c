//! DeleteGroups (key 42): delete groups that have no members (KIP-229).
//!
//! Versions: 2 is flexible. 1 changes nothing on the wire.

use std::borrow::Cow;

use super::context::Context;
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub groups: Vec<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        groups: r.array(Reader::string)?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub results: Vec<GroupResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupResponse<'a> {
    pub group_id: Cow<'a, str>,
    pub error_code: ErrorCode,
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.results, encode_group);
    w.no_tagged_fields();
}

fn encode_group(w: &mut Writer, group: &GroupResponse<'_>) {
    w.string(&group.group_id);
    w.error_code(group.error_code);
    w.no_tagged_fields();
}

/// Deletes groups without members, with their offsets.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut results = Vec::with_capacity(request.groups.len());
    for group_id in &request.groups {
        let deleted = context.groups.delete_group((*group_id).to_owned()).await;
        results.push(GroupResponse {
            group_id: Cow::Borrowed(*group_id),
            error_code: deleted
                .as_ref()
                .err()
                .map(ErrorCode::from)
                .unwrap_or_default(),
        });
    }
    Response {
        throttle_time_ms: 0,
        results,
    }
}
