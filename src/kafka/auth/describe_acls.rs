//! DescribeAcls (key 29): the access control lists that match a filter (KIP-140).
//!
//! Version 1 has types of patterns (KIP-290), 3 users as a type of resource (KIP-48).

use super::no_authorizer;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    DescribeAcls 1..=3, flexible 2..;

    /// A filter. Also of DeleteAcls, where a request has many.
    #[derive(Copy)]
    Request<'a> {
        /// 1 any, 2 topic, 3 group, 4 cluster, 5 transactional id, 6 delegation token, 7 user.
        resource_type_filter: i8,
        /// Null: any.
        resource_name_filter: Option<&'a str>,
        /// 1 any, 2 whatever matches the name, 3 literal, 4 prefixed.
        pattern_type_filter: i8 = LITERAL,
        /// Null: any.
        principal_filter: Option<&'a str>,
        /// Null: any.
        host_filter: Option<&'a str>,
        operation: i8,
        /// 1 any, 2 deny, 3 allow.
        permission_type: i8,
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        resources: Vec<ResourceResponse<'a>>,
    }

    ResourceResponse<'a> {
        resource_type: i8,
        resource_name: Cow<'a, str>,
        pattern_type: i8 = LITERAL,
        acls: Vec<Acl<'a>>,
    }

    Acl<'a> {
        principal: Cow<'a, str>,
        host: Cow<'a, str>,
        operation: i8,
        permission_type: i8,
    }
}

/// The type of a pattern that matches a name as it is.
pub(super) const LITERAL: i8 = 3;

/// There are no ACLs and nobody who would apply them.
pub async fn handle(_context: &Context<'_>, _request: &Request<'_>) -> Response<'static> {
    let error = no_authorizer();
    Response {
        error_code: error.code,
        error_message: error.message,
        ..Response::default()
    }
}
