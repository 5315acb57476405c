//! SyncGroup (key 14): the leader hands in the assignment, and every member gets its share.
//!
//! Version 5 repeats protocol type and name, so that a mismatch is noticed (KIP-559).

use super::kept;
use crate::config::Config;
use crate::coordinator::groups::classic::messages::SyncRequest;
use crate::kafka::answer::Handled;
use crate::kafka::{Context, ErrorCode, message};
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;
use tokio::sync::oneshot;

message! {
    SyncGroup 0..=5, flexible 4..;

    Request<'a> {
        group_id: &'a str,
        generation_id: i32,
        member_id: &'a str,
        /// What a static member calls itself across restarts (KIP-345).
        group_instance_id: Option<&'a str> [3..],
        /// Null skips the check.
        protocol_type: Option<&'a str> [5..],
        /// Null skips the check.
        protocol_name: Option<&'a str> [5..],
        /// Empty unless it comes from the leader.
        assignments: Vec<Assignment<'a>>,
    }

    Assignment<'a> {
        member_id: &'a str,
        /// Opaque to the broker, and a slice of the frame. For consumers see
        /// [`consumer_protocol`](crate::coordinator::groups::consumer_protocol).
        assignment: Bytes,
    }

    Response<'a> {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
        protocol_type: Option<Cow<'a, str>> [5..],
        protocol_name: Option<Cow<'a, str>> [5..],
        /// Empty on error, and for a member that the leader gave nothing.
        assignment: Bytes,
    }
}

/// A member asks for its assignment; the answer waits for the leader's, and for the disk.
pub async fn handle(context: &Context<'_>, request: Request<'_>) -> Handled {
    if let Err(error_code) = super::check_named(context, request.assignments.len()) {
        let refused = Response {
            error_code,
            ..Response::default()
        };
        return context.now(&refused);
    }
    let group_id = request.group_id.to_owned();
    let sync = SyncRequest {
        member_id: request.member_id.to_owned(),
        instance_id: request.group_instance_id.map(str::to_owned),
        generation: request.generation_id,
        protocol_type: request.protocol_type.map(str::to_owned),
        protocol: request.protocol_name.map(str::to_owned),
        assignments: assignments_of(&request, &context.engine.config),
    };
    let groups = Rc::clone(context.groups);
    let throttle_time_ms = context.throttle_time_ms;
    let (stored, is_stored) = oneshot::channel();
    let response = async move {
        match groups.sync_group(group_id, sync, stored).await {
            Ok(synced) => Response {
                throttle_time_ms,
                error_code: ErrorCode::None,
                protocol_type: Some(Cow::Owned(synced.protocol_type)),
                protocol_name: Some(Cow::Owned(synced.protocol)),
                assignment: synced.assignment,
            },
            Err(error) => Response {
                throttle_time_ms,
                error_code: error.into(),
                ..Response::default()
            },
        }
    };
    context.parked(is_stored, response).await
}

fn assignments_of(request: &Request<'_>, config: &Config) -> Vec<(String, Bytes)> {
    let assignments = request.assignments.iter();
    let bytes = assignments.clone().map(|member| member.assignment.len());
    let bytes = bytes.sum();
    let copy = |member: &Assignment<'_>| {
        let assignment = kept(&member.assignment, bytes, config);
        (member.member_id.to_owned(), assignment)
    };
    assignments.map(copy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Reader, Wire};

    #[test]
    fn an_assignment_does_not_keep_the_frame_that_it_came_in() {
        let mut frame = vec![0; 2 + 4 + 2];
        frame.extend(b"\0\0\0\x01\0\x01m\0\0\0\x01x");
        let frame = Bytes::from(frame);
        let request = Request::decode(&mut Reader::new(&frame, false), 0).unwrap();
        let kept = assignments_of(&request, &Config::default());
        drop(request);
        assert_eq!(kept, [("m".to_owned(), Bytes::from_static(b"x"))]);
        assert!(frame.is_unique());
    }
}
