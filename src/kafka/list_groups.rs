//! ListGroups (key 16): the groups that this broker coordinates.
//!
//! Versions: 1 adds the throttle time, 3 is flexible, 4 tells and filters by state (KIP-518), 5 by
//! type (KIP-848). 2 changes nothing on the wire.

use std::borrow::Cow;

use super::context::Context;
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_THROTTLE: i16 = 1;
const FIRST_VERSION_WITH_STATE: i16 = 4;
const FIRST_VERSION_WITH_TYPE: i16 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Empty: all. From version 4.
    pub states_filter: Vec<&'a str>,
    /// Empty: all. From version 5.
    pub types_filter: Vec<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        states_filter: if version >= FIRST_VERSION_WITH_STATE {
            r.array(Reader::string)?
        } else {
            Vec::new()
        },
        types_filter: if version >= FIRST_VERSION_WITH_TYPE {
            r.array(Reader::string)?
        } else {
            Vec::new()
        },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// From version 1.
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub groups: Vec<Group<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group<'a> {
    pub group_id: Cow<'a, str>,
    pub protocol_type: Cow<'a, str>,
    /// As in [`describe_groups`](super::describe_groups). From version 4.
    pub group_state: Cow<'a, str>,
    /// "classic", "consumer" or "share". From version 5.
    pub group_type: Cow<'a, str>,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    w.error_code(response.error_code);
    w.array(&response.groups, |w, group| encode_group(w, group, version));
    w.no_tagged_fields();
}

fn encode_group(w: &mut Writer, group: &Group<'_>, version: i16) {
    w.string(&group.group_id);
    w.string(&group.protocol_type);
    if version >= FIRST_VERSION_WITH_STATE {
        w.string(&group.group_state);
    }
    if version >= FIRST_VERSION_WITH_TYPE {
        w.string(&group.group_type);
    }
    w.no_tagged_fields();
}

/// All groups here follow the classic protocol.
const GROUP_TYPE: &str = "classic";

/// Lists the groups of all shards.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let any = |wanted: &[&str], is: &str| {
        wanted.is_empty() || wanted.iter().any(|name| name.eq_ignore_ascii_case(is))
    };
    let listed = match any(&request.types_filter, GROUP_TYPE) {
        true => context.groups.list_groups().await,
        false => Vec::new(),
    };
    let groups = listed
        .into_iter()
        .filter(|group| any(&request.states_filter, group.description.state))
        .map(|group| Group {
            group_id: Cow::Owned(group.group_id),
            protocol_type: Cow::Owned(group.description.protocol_type),
            group_state: Cow::Borrowed(group.description.state),
            group_type: Cow::Borrowed(GROUP_TYPE),
        });
    Response {
        throttle_time_ms: 0,
        error_code: ErrorCode::None,
        groups: groups.collect(),
    }
}
