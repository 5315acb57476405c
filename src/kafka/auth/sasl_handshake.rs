//! SaslHandshake (key 17): a client chooses a SASL mechanism (KIP-43).

use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    SaslHandshake 0..=1;

    #[derive(Copy)]
    Request<'a> {
        mechanism: &'a str,
    }

    Response<'a> {
        error_code: ErrorCode,
        /// The mechanisms that the listener has.
        mechanisms: Vec<Cow<'a, str>>,
    }
}

/// The listener has no SASL, so no exchange can begin.
pub async fn handle(_context: &Context<'_>, _request: &Request<'_>) -> Response<'static> {
    Response {
        error_code: ErrorCode::IllegalSaslState,
        ..Response::default()
    }
}
