//! JoinGroup (key 11): a member asks to be in a group's next generation.
//!
//! Versions: 1 adds the rebalance timeout (KIP-62), 4 makes a new member join twice, the second time
//! with the id that it was given (KIP-394), 5 static members (KIP-345), 7 the protocol type (KIP-559),
//! 8 the reason (KIP-800), 9 may spare the leader the assignment (KIP-814).

use super::kept;
use crate::config::Config;
use crate::coordinator::groups::classic::messages::{self, JoinReply, JoinRequest};
use crate::coordinator::groups::error::GroupError;
use crate::kafka::answer::Handled;
use crate::kafka::{Context, ErrorCode, message};
use crate::wire::cut_to;
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;
use tokio::sync::oneshot;

message! {
    JoinGroup 0..=9, flexible 6..;

    Request<'a> {
        group_id: &'a str,
        /// Without a heartbeat for this long, the member is taken for dead.
        session_timeout_ms: i32,
        /// How long the others wait for this member in a rebalance. In version 0 it is the session
        /// timeout.
        rebalance_timeout_ms: i32 [1..] = -1,
        /// Empty when the member joins for the first time.
        member_id: &'a str,
        /// What a static member calls itself across restarts (KIP-345).
        group_instance_id: Option<&'a str> [5..],
        /// "consumer" for consumers, "connect" for Connect workers.
        protocol_type: &'a str,
        /// What the member can speak (for consumers: its assignors), the most wanted first.
        protocols: Vec<Protocol<'a>>,
        /// Why it joins, for the log.
        reason: Option<&'a str> [8..],
    }

    Protocol<'a> {
        name: &'a str,
        /// Opaque to the broker, and a slice of the frame. For consumers see
        /// [`consumer_protocol`](crate::coordinator::groups::consumer_protocol).
        metadata: Bytes,
    }

    Response<'a> {
        throttle_time_ms: i32 [2..],
        error_code: ErrorCode,
        /// -1 on error.
        generation_id: i32 = -1,
        protocol_type: Option<Cow<'a, str>> [7..],
        /// Null on error.
        protocol_name: Option<Cow<'a, str>> [0.., nullable 7..],
        /// Member id of the member that assigns; empty on error.
        leader: Cow<'a, str>,
        /// Whether the leader, a static member come back, must leave the assignment as it is.
        skip_assignment: bool [9..],
        member_id: Cow<'a, str>,
        /// All members in the leader's reply; empty in the others.
        members: Vec<Member<'a>>,
    }

    Member<'a> {
        member_id: Cow<'a, str>,
        /// What a static member calls itself across restarts (KIP-345).
        group_instance_id: Option<Cow<'a, str>> [5..],
        /// The member's metadata for the protocol that was chosen.
        metadata: Bytes,
    }
}

const FIRST_VERSION_WITH_REQUIRED_MEMBER_ID: i16 = 4;
const FIRST_VERSION_WITH_SKIP_ASSIGNMENT: i16 = 9;

/// A member joins; the answer comes when the group is complete, and that can take minutes.
pub async fn handle(context: &Context<'_>, request: Request<'_>) -> Handled {
    let version = context.version;
    let client_id = context.client_id.unwrap_or_default();
    let group_id = request.group_id.to_owned();
    let member_id = request.member_id.to_owned();
    let join = JoinRequest {
        member_id: member_id.clone(),
        new_member_id: new_member_id(client_id, request.group_instance_id),
        instance_id: request.group_instance_id.map(str::to_owned),
        client_id: client_id.to_owned(),
        client_host: format!("/{}", context.address.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        },
        protocol_type: request.protocol_type.to_owned(),
        protocols: protocols_of(&request, &context.engine.config),
        requires_known_member_id: version >= FIRST_VERSION_WITH_REQUIRED_MEMBER_ID,
        supports_skip_assignment: version >= FIRST_VERSION_WITH_SKIP_ASSIGNMENT,
    };
    let groups = Rc::clone(context.groups);
    let throttle_time_ms = context.throttle_time_ms;
    let (stored, is_stored) = oneshot::channel();
    let response = async move {
        let joined = groups.join_group(group_id, join, stored).await;
        let mut response = respond(joined, member_id);
        response.throttle_time_ms = throttle_time_ms;
        response
    };
    context.parked(is_stored, response).await
}

/// One protocol more than a member may have is enough for the group to refuse them.
fn protocols_of(request: &Request<'_>, config: &Config) -> Vec<messages::Protocol> {
    let protocols = request
        .protocols
        .iter()
        .take(config.group_protocols_max + 1);
    let bytes: usize = protocols
        .clone()
        .map(|protocol| protocol.metadata.len())
        .sum();
    let copy = protocols.map(|protocol| messages::Protocol {
        name: protocol.name.to_owned(),
        metadata: kept(&protocol.metadata, bytes, config),
    });
    copy.collect()
}

/// Bytes of a client's name that go into its member id: as many as Kafka allows an instance
/// id to have. A longer id would not fit into a string, nor be worth remembering.
const MEMBER_ID_PREFIX_BYTES_MAX: usize = 249;

/// Kafka's form: what the client calls itself, and something unique.
fn new_member_id(client_id: &str, instance_id: Option<&str>) -> String {
    let name = instance_id.unwrap_or(client_id);
    let prefix = cut_to(name, MEMBER_ID_PREFIX_BYTES_MAX);
    format!("{prefix}-{}", uuid::Uuid::new_v4())
}

fn respond(joined: Result<JoinReply, GroupError>, member_id: String) -> Response<'static> {
    let joined = match joined {
        Ok(joined) => joined,
        Err(GroupError::MemberIdRequired(new_member_id)) => {
            return refused(ErrorCode::MemberIdRequired, new_member_id);
        }
        Err(error) => return refused(error.into(), member_id),
    };
    let members = joined.members.into_iter().map(|member| Member {
        member_id: Cow::Owned(member.member_id),
        group_instance_id: member.instance_id.map(Cow::Owned),
        metadata: member.metadata,
    });
    Response {
        generation_id: joined.generation,
        protocol_type: Some(Cow::Owned(joined.protocol_type)),
        protocol_name: Some(Cow::Owned(joined.protocol)),
        leader: Cow::Owned(joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: Cow::Owned(joined.member_id),
        members: members.collect(),
        ..Response::default()
    }
}

fn refused(error_code: ErrorCode, member_id: String) -> Response<'static> {
    Response {
        error_code,
        member_id: Cow::Owned(member_id),
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Reader, Wire};

    #[test]
    fn a_members_metadata_does_not_keep_the_frame_that_it_came_in() {
        let mut frame = vec![0; 2 + 4 + 2 + 2];
        frame.extend(b"\0\0\0\x01\0\x01p\0\0\0\x01x");
        let frame = Bytes::from(frame);
        let request = Request::decode(&mut Reader::new(&frame, false), 0).unwrap();
        let kept = protocols_of(&request, &Config::default());
        drop(request);
        assert_eq!(kept[0].metadata, Bytes::from_static(b"x"));
        assert!(frame.is_unique());
    }

    #[test]
    fn a_member_id_is_short_whatever_its_client_calls_itself() {
        let long = "é".repeat(16_000);
        for id in [new_member_id(&long, None), new_member_id("c", Some(&long))] {
            assert_eq!(id.len(), 248 + 1 + 36);
        }
        assert!(new_member_id("c", None).starts_with("c-"));
    }
}
