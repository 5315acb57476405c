//! LeaveGroup (key 13): members leave a group, or an administrator removes them.
//!
//! Versions: 1 adds the throttle time, 3 removes many members at once (KIP-345), 4 is flexible, 5
//! adds the reason (KIP-800). 2 changes nothing on the wire.

use crate::coordinator::groups::classic::messages::LeavingMember;
use std::borrow::Cow;

use super::context::Context;
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_THROTTLE: i16 = 1;
const FIRST_VERSION_WITH_MANY_MEMBERS: i16 = 3;
const FIRST_VERSION_WITH_REASON: i16 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub group_id: &'a str,
    /// Before version 3 exactly one.
    pub members: Vec<MemberRequest<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRequest<'a> {
    /// Empty when a static member is removed by its instance id alone.
    pub member_id: &'a str,
    /// What a static member calls itself across restarts (KIP-345). From version 3.
    pub group_instance_id: Option<&'a str>,
    /// Why it leaves, for the log. From version 5.
    pub reason: Option<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        group_id: r.string()?,
        members: if version >= FIRST_VERSION_WITH_MANY_MEMBERS {
            r.array(|r| decode_member(r, version))?
        } else {
            vec![decode_only_member(r)?]
        },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_member<'a>(r: &mut Reader<'a>, version: i16) -> Result<MemberRequest<'a>, WireError> {
    let member = MemberRequest {
        member_id: r.string()?,
        group_instance_id: r.nullable_string()?,
        reason: if version >= FIRST_VERSION_WITH_REASON {
            r.nullable_string()?
        } else {
            None
        },
    };
    r.skip_tagged_fields()?;
    Ok(member)
}

fn decode_only_member<'a>(r: &mut Reader<'a>) -> Result<MemberRequest<'a>, WireError> {
    Ok(MemberRequest {
        member_id: r.string()?,
        group_instance_id: None,
        reason: None,
    })
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// From version 1.
    pub throttle_time_ms: i32,
    /// Of the whole request. Versions before 3 have nothing else: if there is none, they say the
    /// first member's.
    pub error_code: ErrorCode,
    /// One for each member that was named. From version 3.
    pub members: Vec<MemberResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberResponse<'a> {
    pub member_id: Cow<'a, str>,
    pub group_instance_id: Option<Cow<'a, str>>,
    pub error_code: ErrorCode,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    if version >= FIRST_VERSION_WITH_MANY_MEMBERS {
        w.error_code(response.error_code);
        w.array(&response.members, encode_member);
    } else {
        w.error_code(only_error(response));
    }
    w.no_tagged_fields();
}

fn encode_member(w: &mut Writer, member: &MemberResponse<'_>) {
    w.string(&member.member_id);
    w.nullable_string(member.group_instance_id.as_deref());
    w.error_code(member.error_code);
    w.no_tagged_fields();
}

fn only_error(response: &Response<'_>) -> ErrorCode {
    match response.members.first() {
        Some(member) if !response.error_code.is_error() => member.error_code,
        _ => response.error_code,
    }
}

/// Members leave, or are removed.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let leaving = request.members.iter().map(|member| LeavingMember {
        member_id: member.member_id.to_owned(),
        instance_id: member.group_instance_id.map(str::to_owned),
    });
    let left = context
        .groups
        .leave_group(request.group_id.to_owned(), leaving.collect());
    match left.await {
        Err(error) => Response {
            throttle_time_ms: 0,
            error_code: (&error).into(),
            members: Vec::new(),
        },
        Ok(results) => Response {
            throttle_time_ms: 0,
            error_code: ErrorCode::None,
            members: results
                .into_iter()
                .map(|result| MemberResponse {
                    member_id: Cow::Owned(result.member_id),
                    group_instance_id: result.instance_id.map(Cow::Owned),
                    error_code: result
                        .result
                        .as_ref()
                        .err()
                        .map(ErrorCode::from)
                        .unwrap_or_default(),
                })
                .collect(),
        },
    }
}
