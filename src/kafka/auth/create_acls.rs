//! CreateAcls (key 30): add access control lists (KIP-140). Versions as in
//! [`describe_acls`](super::describe_acls).

use super::describe_acls::LITERAL;
use super::no_authorizer;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    CreateAcls 1..=3, flexible 2..;

    Request<'a> {
        creations: Vec<Creation<'a>>,
    }

    /// The numbers are those of [`describe_acls`](super::describe_acls).
    #[derive(Copy)]
    Creation<'a> {
        resource_type: i8,
        resource_name: &'a str,
        pattern_type: i8 = LITERAL,
        principal: &'a str,
        host: &'a str,
        operation: i8,
        permission_type: i8,
    }

    Response<'a> {
        throttle_time_ms: i32,
        results: Vec<CreationResponse<'a>>,
    }

    CreationResponse<'a> {
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
    }
}

/// Refuses each ACL: nobody would apply it.
pub async fn handle(_context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let refused = |_| {
        let error = no_authorizer();
        CreationResponse {
            error_code: error.code,
            error_message: error.message,
        }
    };
    Response {
        results: request.creations.iter().map(refused).collect(),
        ..Response::default()
    }
}
