//! The limit of a reply about groups: a small request can name a large group, and name it often.

use crate::kafka::ErrorCode;
use std::collections::HashSet;

/// The most bytes about groups in one reply. A client that wants more asks for fewer groups at once.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// The bytes that one reply may still take, and the groups that it has answered.
pub struct ReplyBudget<'a> {
    left_bytes: usize,
    named: HashSet<&'a str>,
}

impl<'a> ReplyBudget<'a> {
    pub fn new() -> Self {
        ReplyBudget {
            left_bytes: REPLY_BYTES_MAX,
            named: HashSet::new(),
        }
    }

    /// Begins with a group. Each is answered once.
    ///
    /// # Errors
    /// INVALID_REQUEST when the request has named it before.
    pub fn begin(&mut self, group_id: &'a str) -> Result<(), ErrorCode> {
        if self.named.insert(group_id) {
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
    /// INVALID_REQUEST when fewer are left.
    pub fn take(&mut self, bytes: usize) -> Result<(), ErrorCode> {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.ok_or(ErrorCode::InvalidRequest)?;
        Ok(())
    }
}
