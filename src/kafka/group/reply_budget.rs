//! What bounds a reply about groups: a small request can name what is large, and name it often.

use crate::kafka::ErrorCode;
use std::collections::HashSet;

/// The most bytes that one reply says of groups. Whoever wants more asks for fewer at once.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// What one reply may still say.
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
        match self.named.insert(group_id) {
            true => Ok(()),
            false => Err(ErrorCode::InvalidRequest),
        }
    }

    pub fn left_bytes(&self) -> usize {
        self.left_bytes
    }

    /// Takes room for so many bytes.
    ///
    /// # Errors
    /// INVALID_REQUEST when there is not so much.
    pub fn take(&mut self, bytes: usize) -> Result<(), ErrorCode> {
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.ok_or(ErrorCode::InvalidRequest)?;
        Ok(())
    }
}
