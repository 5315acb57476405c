//! DeleteAcls (key 31): remove the access control lists that match filters (KIP-140). Versions as in
//! [`describe_acls`](super::describe_acls).

use super::describe_acls::{LITERAL, Request as Filter};
use super::no_authorizer;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    DeleteAcls 1..=3, flexible 2..;

    Request<'a> {
        filters: Vec<Filter<'a>>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        filter_results: Vec<FilterResponse<'a>>,
    }

    FilterResponse<'a> {
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        matching_acls: Vec<MatchingAcl<'a>>,
    }

    MatchingAcl<'a> {
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        resource_type: i8,
        resource_name: Cow<'a, str>,
        pattern_type: i8 = LITERAL,
        principal: Cow<'a, str>,
        host: Cow<'a, str>,
        operation: i8,
        permission_type: i8,
    }
}

/// Answers each filter with an error: there are no ACLs and nobody who would apply them.
pub async fn handle(_context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let refused = |_| {
        let error = no_authorizer();
        FilterResponse {
            error_code: error.code,
            error_message: error.message,
            ..FilterResponse::default()
        }
    };
    Response {
        filter_results: request.filters.iter().map(refused).collect(),
        ..Response::default()
    }
}
