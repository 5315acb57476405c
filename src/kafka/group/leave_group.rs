//! LeaveGroup (key 13): members leave a group, or an administrator removes them.
//!
//! Versions: 3 removes many members at once (KIP-345), 5 adds the reason (KIP-800).

use crate::coordinator::groups::classic::messages::LeavingMember;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    LeaveGroup 0..=5, flexible 4..;

    Request<'a> {
        group_id: &'a str,
        member_id: &'a str [0..=2],
        members: Vec<MemberRequest<'a>> [3..],
    }

    #[derive(Copy)]
    MemberRequest<'a> {
        /// Empty when a static member is removed by its instance id alone.
        member_id: &'a str,
        /// What a static member calls itself across restarts (KIP-345).
        group_instance_id: Option<&'a str>,
        /// Why it leaves, for the log.
        reason: Option<&'a str> [5..],
    }

    Response<'a> {
        throttle_time_ms: i32 [1..],
        /// Of the whole request.
        error_code: ErrorCode,
        /// One for each member that was named.
        members: Vec<MemberResponse<'a>> [3..],
    }

    MemberResponse<'a> {
        member_id: Cow<'a, str>,
        group_instance_id: Option<Cow<'a, str>>,
        error_code: ErrorCode,
    }
}

const FIRST_VERSION_WITH_MANY_MEMBERS: i16 = 3;

impl<'a> Request<'a> {
    /// The members that leave, in any version.
    pub fn members(&self, version: i16) -> Cow<'_, [MemberRequest<'a>]> {
        if version >= FIRST_VERSION_WITH_MANY_MEMBERS {
            return Cow::Borrowed(&self.members);
        }
        Cow::Owned(vec![MemberRequest {
            member_id: self.member_id,
            ..MemberRequest::default()
        }])
    }
}

impl<'a> Response<'a> {
    /// The answer for these members. Old versions have room for the first one's error.
    pub fn of(members: Vec<MemberResponse<'a>>, version: i16) -> Self {
        let mut response = Self::default();
        if version >= FIRST_VERSION_WITH_MANY_MEMBERS {
            response.members = members;
        } else if let [first, ..] = &members[..] {
            response.error_code = first.error_code;
        }
        response
    }
}

/// Members leave, or are removed.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let members = request.members(context.version);
    if let Err(error_code) = super::check_named(context, members.len()) {
        return Response {
            error_code,
            ..Response::default()
        };
    }
    let leaving = members.iter().map(|member| LeavingMember {
        member_id: member.member_id.to_owned(),
        instance_id: member.group_instance_id.map(str::to_owned),
    });
    let left = context
        .groups
        .leave_group(request.group_id.to_owned(), leaving.collect());
    let results = match left.await {
        Ok(results) => results,
        Err(error) => {
            return Response {
                error_code: error.into(),
                ..Response::default()
            };
        }
    };
    let members = results.into_iter().map(|result| MemberResponse {
        member_id: Cow::Owned(result.member_id),
        group_instance_id: result.instance_id.map(Cow::Owned),
        error_code: ErrorCode::of(&result.result),
    });
    Response::of(members.collect(), context.version)
}
