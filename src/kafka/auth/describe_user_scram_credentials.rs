//! DescribeUserScramCredentials (key 50): which users have SCRAM credentials, and with how many iterations
//! (KIP-554).

use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::BTreeMap;

message! {
    DescribeUserScramCredentials 0..=0, flexible 0..;

    Request<'a> {
        /// Null or empty: all.
        users: Option<Vec<User<'a>>>,
    }

    #[derive(Copy)]
    User<'a> {
        name: &'a str,
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        results: Vec<UserResponse<'a>>,
    }

    UserResponse<'a> {
        user: Cow<'a, str>,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        credentials: Vec<Credential>,
    }

    #[derive(Copy)]
    Credential {
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        mechanism: i8,
        iterations: i32,
    }
}

/// No user has credentials. Each that is named is answered once.
pub async fn handle<'a>(_context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for user in request.users.iter().flatten() {
        *times.entry(user.name).or_default() += 1;
    }
    let results = times.into_iter().map(|(user, times)| {
        let error = refuse(user, times);
        UserResponse {
            user: Cow::Borrowed(user),
            error_code: error.code,
            error_message: error.message,
            ..UserResponse::default()
        }
    });
    Response {
        results: results.collect(),
        ..Response::default()
    }
}

fn refuse(user: &str, times: usize) -> ApiError {
    if times > 1 {
        let message = format!("the request names the user `{user}` more than once");
        return ApiError::new(ErrorCode::DuplicateResource, message);
    }
    let message = format!("the user `{user}` has no SCRAM credentials");
    ApiError::new(ErrorCode::ResourceNotFound, message)
}
