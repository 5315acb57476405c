//! SyncGroup (key 14): the leader hands in the assignment, and every member gets its share.
//!
//! Versions: 1 adds the throttle time, 3 static members (KIP-345), 4 is flexible, 5 repeats
//! protocol type and name, so that a mismatch is noticed (KIP-559). 2 changes nothing on the wire.

use super::answer::{Answer, Outcome};
use super::context::Context;
use crate::coordinator::groups::classic::messages::SyncRequest;
use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;

use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_THROTTLE: i16 = 1;
const FIRST_VERSION_WITH_GROUP_INSTANCE_ID: i16 = 3;
const FIRST_VERSION_WITH_PROTOCOL: i16 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub group_id: &'a str,
    pub generation_id: i32,
    pub member_id: &'a str,
    /// What a static member calls itself across restarts (KIP-345). From version 3.
    pub group_instance_id: Option<&'a str>,
    /// Null skips the check. From version 5.
    pub protocol_type: Option<&'a str>,
    /// Null skips the check. From version 5.
    pub protocol_name: Option<&'a str>,
    /// Empty unless it comes from the leader.
    pub assignments: Vec<Assignment<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment<'a> {
    pub member_id: &'a str,
    /// Opaque to the broker, and a slice of the frame. For consumers see
    /// [`consumer_protocol`](super::consumer_protocol).
    pub assignment: Bytes,
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
        protocol_type: if version >= FIRST_VERSION_WITH_PROTOCOL {
            r.nullable_string()?
        } else {
            None
        },
        protocol_name: if version >= FIRST_VERSION_WITH_PROTOCOL {
            r.nullable_string()?
        } else {
            None
        },
        assignments: r.array(decode_assignment)?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_assignment<'a>(r: &mut Reader<'a>) -> Result<Assignment<'a>, WireError> {
    let assignment = Assignment {
        member_id: r.string()?,
        assignment: r.bytes()?,
    };
    r.skip_tagged_fields()?;
    Ok(assignment)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// From version 1.
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    /// From version 5.
    pub protocol_type: Option<Cow<'a, str>>,
    /// From version 5.
    pub protocol_name: Option<Cow<'a, str>>,
    /// Empty on error, and for a member that the leader gave nothing.
    pub assignment: Bytes,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    w.error_code(response.error_code);
    if version >= FIRST_VERSION_WITH_PROTOCOL {
        w.nullable_string(response.protocol_type.as_deref());
        w.nullable_string(response.protocol_name.as_deref());
    }
    w.shared_bytes(std::slice::from_ref(&response.assignment));
    w.no_tagged_fields();
}

/// A member asks for its assignment; the answer waits for the leader's, and for the disk.
pub async fn handle(context: &Context<'_>, request: Request<'_>) -> Outcome {
    let version = context.version;
    let group_id = request.group_id.to_owned();
    let sync = SyncRequest {
        member_id: request.member_id.to_owned(),
        instance_id: request.group_instance_id.map(str::to_owned),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(str::to_owned),
        protocol: request.protocol_name.map(str::to_owned),
        assignments: assignments_of(&request),
    };
    let groups = Rc::clone(context.groups);
    let throttle_time_ms = context.throttle_time_ms;
    let mut writer = context.reply();
    Outcome::Later(Box::pin(async move {
        let response = match groups.sync_group(group_id, sync).await {
            Ok(synced) => Response {
                throttle_time_ms,
                error_code: ErrorCode::None,
                protocol_type: Some(Cow::Owned(synced.protocol_type)),
                protocol_name: Some(Cow::Owned(synced.protocol)),
                assignment: synced.assignment,
            },
            Err(error) => Response {
                throttle_time_ms,
                error_code: (&error).into(),
                ..Response::default()
            },
        };
        encode(&response, version, &mut writer);
        Answer::of(writer)
    }))
}

/// Copies: the group keeps them, and a slice would keep the whole buffer that the request came in.
fn assignments_of(request: &Request<'_>) -> Vec<(String, Bytes)> {
    let copy = |member: &Assignment<'_>| {
        let assignment = Bytes::copy_from_slice(&member.assignment);
        (member.member_id.to_owned(), assignment)
    };
    request.assignments.iter().map(copy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_does_not_keep_the_frame_that_it_came_in() {
        let mut frame = vec![0; 2 + 4 + 2];
        frame.extend(b"\0\0\0\x01\0\x01m\0\0\0\x01x");
        let frame = Bytes::from(frame);
        let request = decode(&mut Reader::new(&frame, false), 0).unwrap();
        let kept = assignments_of(&request);
        drop(request);
        assert_eq!(kept, [("m".to_owned(), Bytes::from_static(b"x"))]);
        assert!(frame.is_unique());
    }
}
