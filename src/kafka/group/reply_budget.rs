//! The limit of a reply about groups: a small request can name a large group, and name it often.

use crate::kafka::ErrorCode;
use std::collections::HashSet;

/// The most bytes about groups in one reply. A client that wants more asks for fewer groups at once.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// The bytes that one reply may still take, and the groups that it has answered.
pub struct ReplyBudget<'a> {
    left_bytes: usize,
    named: HashSet<&'a str>,
}

impl<'a> ReplyBudget<'a> {
    /// Of a request that names so many groups.
    pub fn new(groups: usize) -> Self {
        ReplyBudget {
            left_bytes: REPLY_BYTES_MAX,
            // To grow moves all names at once.
            named: HashSet::with_capacity(groups),
        }
    }

    /// Begins with a group. Each is answered once.
    ///
    /// # Errors
    /// INVALID_REQUEST when the request has named it before, or nothing is left.
    pub fn begin(&mut self, group_id: &'a str) -> Result<(), ErrorCode> {
        if self.named.insert(group_id) && self.left_bytes > 0 {
            Ok(())
        } else {
            Err(ErrorCode::InvalidRequest)
        }
    }

    pub fn left_bytes(&self) -> usize {
        self.left_bytes
    }

    /// Takes bytes out of the budget.
    ///
    /// # Errors
    /// INVALID_REQUEST when fewer are left; then nothing is left for the groups that follow either, so that
    /// they are not looked up in vain.
    pub fn take(&mut self, bytes: usize) -> Result<(), ErrorCode> {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.unwrap_or(0);
        left.map(drop).ok_or(ErrorCode::InvalidRequest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_answered_once_and_nothing_follows_what_did_not_fit() {
        let refused = Err(ErrorCode::InvalidRequest);
        let mut budget = ReplyBudget::new(3);
        assert_eq!(budget.begin("a"), Ok(()));
        assert_eq!(budget.begin("a"), refused);
        assert_eq!(budget.begin("b"), Ok(()));
        assert_eq!(budget.take(REPLY_BYTES_MAX - 1), Ok(()));
        assert_eq!(budget.take(2), refused);
        assert_eq!(budget.begin("c"), refused);
        assert_eq!(budget.take(1), refused);
    }
}
