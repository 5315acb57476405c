//! DescribeGroups (key 15): the state and the members of classic groups.
//!
//! Versions: 3 adds authorized operations (KIP-430), 6 answers GROUP_ID_NOT_FOUND for an unknown group,
//! where older versions say that it is dead (KIP-1043).

use super::reply_budget::{REPLY_BYTES_MAX, ReplyBudget};
use crate::coordinator::groups::Groups;
use crate::coordinator::groups::classic::messages::{GroupDescription, MemberDescription};
use crate::io::reactor::Slice;
use crate::kafka::data::metadata::{OPERATIONS_NOT_REQUESTED, operations};
use crate::kafka::{Context, ErrorCode, message};
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;

message! {
    DescribeGroups 0..=6, flexible 5..;

    Request<'a> {
        groups: Vec<&'a str>,
        include_authorized_operations: bool [3..],
    }

    Response<'a> {
        throttle_time_ms: i32 [1..],
        groups: Vec<Group<'a>>,
    }

    Group<'a> {
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>> [6..],
        group_id: Cow<'a, str>,
        /// "PreparingRebalance", "CompletingRebalance", "Stable", "Empty" or "Dead"; empty on error.
        group_state: Cow<'a, str>,
        /// Empty if the group has none.
        protocol_type: Cow<'a, str>,
        /// Name of the protocol that was chosen; empty unless the group is stable.
        protocol_data: Cow<'a, str>,
        members: Vec<Member<'a>>,
        /// A bit for each operation.
        authorized_operations: i32 [3..] = OPERATIONS_NOT_REQUESTED,
    }

    Member<'a> {
        member_id: Cow<'a, str>,
        /// What a static member calls itself across restarts (KIP-345).
        group_instance_id: Option<Cow<'a, str>> [4..],
        client_id: Cow<'a, str>,
        client_host: Cow<'a, str>,
        /// As the member joined with, for the protocol that was chosen.
        member_metadata: Bytes,
        /// As the leader assigned.
        member_assignment: Bytes,
    }
}

const FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 6;
/// Read 3, delete 6, describe 8: all that a client may do with a group where there is no authorizer.
const GROUP_OPERATIONS: i32 = 0b1_0100_1000;

/// What a group takes in the reply beside its members.
const GROUP_BYTES: usize = size_of::<Group<'_>>() + 64;

/// What the reply takes at most, in bytes: what is copied of the groups, and as it is written.
pub fn reply_bytes(context: &Context<'_>, request: &Request<'_>) -> usize {
    let group_bytes_max = context.engine.config.group_record_bytes_max;
    let named_bytes = request.groups.len().saturating_mul(group_bytes_max);
    let members_bytes = named_bytes.min(context.groups.all_bytes());
    2 * members_bytes.min(REPLY_BYTES_MAX) + request.groups.len() * GROUP_BYTES
}

/// Describes groups: state and members.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut groups = Vec::with_capacity(request.groups.len());
    let mut budget = ReplyBudget::new(request.groups.len());
    let mut slice = Slice::new();
    for group_id in &request.groups {
        let mut group = Group {
            group_id: Cow::Borrowed(*group_id),
            authorized_operations: operations(
                request.include_authorized_operations,
                GROUP_OPERATIONS,
            ),
            ..Group::default()
        };
        match describe(context.groups, group_id, &mut budget).await {
            Err(error_code) => group.error_code = error_code,
            Ok(None) => not_found(&mut group, context.version),
            Ok(Some(described)) => {
                group.group_state = Cow::Borrowed(described.state);
                group.protocol_type = Cow::Owned(described.protocol_type);
                group.protocol_data = Cow::Owned(described.protocol);
                group.members = described.members.into_iter().map(member).collect();
            }
        }
        groups.push(group);
        slice.rest().await;
    }
    Response {
        groups,
        ..Response::default()
    }
}

async fn describe<'a>(
    groups: &Rc<Groups>,
    group_id: &'a str,
    budget: &mut ReplyBudget<'a>,
) -> Result<Option<GroupDescription>, ErrorCode> {
    budget.begin(group_id)?;
    let described = groups.describe_group(group_id.to_owned()).await?;
    for member in described.iter().flat_map(|group| &group.members) {
        let texts = member.member_id.len() + member.client_id.len() + member.client_host.len();
        budget.take(texts + member.metadata.len() + member.assignment.len())?;
    }
    Ok(described)
}

/// Up to version 5 a group that is not there is a dead one, and no error (KIP-1043).
fn not_found(group: &mut Group<'_>, version: i16) {
    group.group_state = Cow::Borrowed("Dead");
    if version >= FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND {
        group.error_code = ErrorCode::GroupIdNotFound;
        group.error_message = Some(Cow::Owned(format!("Group {} not found.", group.group_id)));
    }
}

fn member(member: MemberDescription) -> Member<'static> {
    Member {
        member_id: Cow::Owned(member.member_id),
        group_instance_id: member.instance_id.map(Cow::Owned),
        client_id: Cow::Owned(member.client_id),
        client_host: Cow::Owned(member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}
