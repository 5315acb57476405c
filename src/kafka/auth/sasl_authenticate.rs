//! SaslAuthenticate (key 36): one step of a SASL exchange (KIP-152).
//!
//! Version 1 says how long the session is valid (KIP-368).

use crate::kafka::{ApiError, Context, ErrorCode, message};
use bytes::Bytes;
use std::borrow::Cow;

message! {
    SaslAuthenticate 0..=2, flexible 2..;

    Request<'a> {
        auth_bytes: &'a [u8],
    }

    Response<'a> {
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        auth_bytes: Bytes,
        /// 0: it does not end.
        session_lifetime_ms: i64 [1..],
    }
}

/// The listener has no SASL, so no exchange is under way.
pub async fn handle(_context: &Context<'_>, _request: &Request<'_>) -> Response<'static> {
    let message = "this listener has no SASL: connect without it";
    let error = ApiError::new(ErrorCode::IllegalSaslState, message);
    Response {
        error_code: error.code,
        error_message: error.message,
        ..Response::default()
    }
}
