//! Producer ids, the producers that partitions remember, and transactions, of which there are none yet.

use super::Context;
use crate::io::rate_limited::{self, RateLimited};

pub mod describe_producers;
pub mod describe_transactions;
pub mod init_producer_id;
pub mod list_transactions;

/// Logs that a producer with a transactional id was refused, for there are no transactions.
pub(super) fn log_refusal(context: &Context<'_>, transactional_id: &str) {
    static LINE: RateLimited = RateLimited::new(rate_limited::REFUSALS);
    if let Some(kept_back) = LINE.admit() {
        tracing::warn!(
            transactional_id, client_id = context.client_id, address = %context.address, kept_back,
            "refused a transactional producer: this broker has no transactions"
        );
    }
}
