//! InitProducerId (key 22): a producer id for an idempotent or transactional producer (KIP-98).
//!
//! Versions: 2 is flexible, 3 lets a producer name its present id and epoch (KIP-360). 1, 4 and 5
//! change nothing on the wire.

use super::context::Context;
use super::error::ErrorCode;
use crate::io::seldom::{self, Seldom};
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_PRESENT_ID: i16 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Null for a producer that is idempotent only.
    pub transactional_id: Option<&'a str>,
    pub transaction_timeout_ms: i32,
    /// The id in use, if its epoch is to be raised; else -1. From version 3.
    pub producer_id: i64,
    /// -1 if there is none. From version 3.
    pub producer_epoch: i16,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let has_present_id = version >= FIRST_VERSION_WITH_PRESENT_ID;
    let request = Request {
        transactional_id: r.nullable_string()?,
        transaction_timeout_ms: r.i32()?,
        producer_id: if has_present_id { r.i64()? } else { -1 },
        producer_epoch: if has_present_id { r.i16()? } else { -1 },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    /// -1 on error.
    pub producer_id: i64,
    /// -1 on error.
    pub producer_epoch: i16,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: ErrorCode::None,
            producer_id: -1,
            producer_epoch: -1,
        }
    }
}

pub fn encode(response: &Response, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.i16(response.error_code.code());
    w.i64(response.producer_id);
    w.i16(response.producer_epoch);
    w.no_tagged_fields();
}

/// Gives out a producer id that was never given out before.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response {
    let refused = |error_code| Response {
        throttle_time_ms: 0,
        error_code,
        producer_id: -1,
        producer_epoch: -1,
    };
    if request.transactional_id.is_some() {
        // There are no transactions here; this code ends a transactional producer at once, with
        // the reason, where others would make it try for ever.
        return refused(ErrorCode::UnsupportedVersion);
    }
    match context.engine.new_producer_id().await {
        Ok(producer_id) => Response {
            throttle_time_ms: 0,
            error_code: ErrorCode::None,
            producer_id,
            producer_epoch: 0,
        },
        Err(error) => {
            static LINE: Seldom = Seldom::new(seldom::WHILE_FULL);
            if let Some(kept_back) = LINE.turn() {
                tracing::error!(%error, kept_back, "no producer id can be given out");
            }
            refused(ErrorCode::CoordinatorNotAvailable)
        }
    }
}
