//! DescribeGroups (key 15): the state and the members of classic groups.
//!
//! Versions: 1 adds the throttle time, 3 authorized operations (KIP-430), 4 static members
//! (KIP-345), 5 is flexible, 6 adds the error message and answers GROUP_ID_NOT_FOUND for a group
//! that there is not, where older versions say that it is dead (KIP-1043). 2 changes nothing on the
//! wire.

use crate::coordinator::groups::Groups;
use crate::coordinator::groups::classic::messages::{GroupDescription, MemberDescription};
use std::borrow::Cow;
use std::rc::Rc;

use bytes::Bytes;

use super::context::Context;
use super::error::ErrorCode;
use super::reply_budget::ReplyBudget;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_THROTTLE: i16 = 1;
const FIRST_VERSION_WITH_AUTHORIZED_OPERATIONS: i16 = 3;
const FIRST_VERSION_WITH_GROUP_INSTANCE_ID: i16 = 4;
const FIRST_VERSION_WITH_ERROR_MESSAGE: i16 = 6;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub groups: Vec<&'a str>,
    /// From version 3.
    pub include_authorized_operations: bool,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        groups: r.array(Reader::string)?,
        include_authorized_operations: version >= FIRST_VERSION_WITH_AUTHORIZED_OPERATIONS
            && r.bool()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// From version 1.
    pub throttle_time_ms: i32,
    pub groups: Vec<Group<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    pub error_code: ErrorCode,
    /// From version 6.
    pub error_message: Option<Cow<'a, str>>,
    pub group_id: Cow<'a, str>,
    /// "PreparingRebalance", "CompletingRebalance", "Stable", "Empty" or "Dead"; empty on error.
    pub group_state: Cow<'a, str>,
    /// Empty if the group has none.
    pub protocol_type: Cow<'a, str>,
    /// Name of the protocol that was chosen; empty unless the group is stable.
    pub protocol_data: Cow<'a, str>,
    pub members: Vec<Member<'a>>,
    /// A bit for each operation; `i32::MIN` if they were not asked for. From version 3.
    pub authorized_operations: i32,
}

impl Default for Group<'_> {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::None,
            error_message: None,
            group_id: Cow::Borrowed(""),
            group_state: Cow::Borrowed(""),
            protocol_type: Cow::Borrowed(""),
            protocol_data: Cow::Borrowed(""),
            members: Vec::new(),
            authorized_operations: i32::MIN,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member<'a> {
    pub member_id: Cow<'a, str>,
    /// What a static member calls itself across restarts (KIP-345). From version 4.
    pub group_instance_id: Option<Cow<'a, str>>,
    pub client_id: Cow<'a, str>,
    pub client_host: Cow<'a, str>,
    /// As the member joined with, for the protocol that was chosen.
    pub member_metadata: Bytes,
    /// As the leader assigned.
    pub member_assignment: Bytes,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    w.array(&response.groups, |w, group| encode_group(w, group, version));
    w.no_tagged_fields();
}

fn encode_group(w: &mut Writer, group: &Group<'_>, version: i16) {
    w.error_code(group.error_code);
    if version >= FIRST_VERSION_WITH_ERROR_MESSAGE {
        w.nullable_string(group.error_message.as_deref());
    }
    w.string(&group.group_id);
    w.string(&group.group_state);
    w.string(&group.protocol_type);
    w.string(&group.protocol_data);
    w.array(&group.members, |w, member| {
        encode_member(w, member, version)
    });
    if version >= FIRST_VERSION_WITH_AUTHORIZED_OPERATIONS {
        w.i32(group.authorized_operations);
    }
    w.no_tagged_fields();
}

fn encode_member(w: &mut Writer, member: &Member<'_>, version: i16) {
    w.string(&member.member_id);
    if version >= FIRST_VERSION_WITH_GROUP_INSTANCE_ID {
        w.nullable_string(member.group_instance_id.as_deref());
    }
    w.string(&member.client_id);
    w.string(&member.client_host);
    w.bytes(&member.member_metadata);
    w.bytes(&member.member_assignment);
    w.no_tagged_fields();
}

const FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 6;
/// Read 3, delete 6, describe 8: what one may do with a group where there is no authorizer.
const GROUP_OPERATIONS: i32 = 0b1_0100_1000;
const OPERATIONS_NOT_REQUESTED: i32 = i32::MIN;

/// Tells a group's state and its members.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut groups = Vec::with_capacity(request.groups.len());
    let mut budget = ReplyBudget::new();
    for group_id in &request.groups {
        let mut group = Group {
            group_id: Cow::Borrowed(*group_id),
            authorized_operations: match request.include_authorized_operations {
                true => GROUP_OPERATIONS,
                false => OPERATIONS_NOT_REQUESTED,
            },
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
        // Of many groups, others have their turn in between.
        tokio::task::yield_now().await;
    }
    Response {
        throttle_time_ms: 0,
        groups,
    }
}

async fn describe<'a>(
    groups: &Rc<Groups>,
    group_id: &'a str,
    budget: &mut ReplyBudget<'a>,
) -> Result<Option<GroupDescription>, ErrorCode> {
    budget.begin(group_id)?;
    let described = groups.describe_group(group_id.to_owned()).await;
    let described = described.map_err(|error| ErrorCode::from(&error))?;
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
