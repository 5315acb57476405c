//! Heartbeat (key 12): a member is alive, and asks whether the group rebalances.
//!
//! Versions: 1 adds the throttle time, 3 static members (KIP-345), 4 is flexible. 2 changes nothing
//! on the wire.

use super::context::Context;
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_THROTTLE: i16 = 1;
const FIRST_VERSION_WITH_GROUP_INSTANCE_ID: i16 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub group_id: &'a str,
    pub generation_id: i32,
    pub member_id: &'a str,
    /// What a static member calls itself across restarts (KIP-345). From version 3.
    pub group_instance_id: Option<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        group_id: r.string()?,
        generation_id: r.i32()?,
        member_id: r.string()?,
        group_instance_id: if version >= FIRST_VERSION_WITH_GROUP_INSTANCE_ID {
            r.nullable_string()?
        } else {
            None
        },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Response {
    /// From version 1.
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
}

pub fn encode(response: &Response, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    w.error_code(response.error_code);
    w.no_tagged_fields();
}

/// A member shows that it is alive.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response {
    let beat = context.groups.heartbeat(
        request.group_id.to_owned(),
        request.member_id.to_owned(),
        request.group_instance_id.map(str::to_owned),
        request.generation_id,
    );
    Response {
        throttle_time_ms: 0,
        error_code: beat
            .await
            .as_ref()
            .err()
            .map(ErrorCode::from)
            .unwrap_or_default(),
    }
}
