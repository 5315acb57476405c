//! InitProducerId (key 22): a producer id for an idempotent or transactional producer (KIP-98).
//!
//! Version 3 lets a producer name its present id and epoch (KIP-360).

use crate::engine::catalog::changes;
use crate::io::rate_limited::{self, RateLimited};
use crate::kafka::{Context, ErrorCode, message};

message! {
    InitProducerId 0..=5, flexible 2..;

    #[derive(Copy)]
    Request<'a> {
        /// Null for a producer that is idempotent only.
        transactional_id: Option<&'a str>,
        transaction_timeout_ms: i32,
        /// The id in use, if its epoch is to be raised; else -1.
        producer_id: i64 [3..] = -1,
        /// -1 if there is none.
        producer_epoch: i16 [3..] = -1,
    }

    #[derive(Copy)]
    Response {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        /// -1 on error.
        producer_id: i64 = -1,
        /// -1 on error.
        producer_epoch: i16 = -1,
    }
}

/// Gives out a producer id that was never given out before.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response {
    let refused = |error_code| Response {
        error_code,
        ..Response::default()
    };
    if let Some(transactional_id) = request.transactional_id {
        super::log_refusal(context, transactional_id);
        // There are no transactions here. This code ends a transactional producer at once and with the
        // reason; on others it would try for ever.
        return refused(ErrorCode::UnsupportedVersion);
    }
    match changes::new_producer_id(context.engine).await {
        Ok(producer_id) => Response {
            producer_id,
            producer_epoch: 0,
            ..Response::default()
        },
        Err(error) => {
            static LINE: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);
            if let Some(kept_back) = LINE.admit() {
                tracing::error!(%error, kept_back, "no producer id can be given out");
            }
            refused(ErrorCode::CoordinatorNotAvailable)
        }
    }
}
