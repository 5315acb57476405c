//! Reading on: the records that come next, up to an amount.

use super::problem::Problem;
use super::reading::{Cursor, Reader};
use super::records::Record;
use crate::net::budget::Share;
use std::time::Duration;
use tokio::time::Instant;

/// A search answers with what it has found after this time.
pub const SEARCH_TIME: Duration = Duration::from_secs(5);

/// How much is read at most, and how long is waited for the first record.
pub struct Amount {
    pub records: usize,
    /// Of keys, values and headers; the first record goes beyond it if it has to.
    pub bytes: usize,
    /// `None` not to wait.
    pub wait: Option<Duration>,
}

/// Reads on from the cursors until there is enough, the logs end, or time is up; the cursors are where the
/// next request goes on. With a wait, for the first record that comes. Each record comes with the place of its
/// cursor.
///
/// # Errors
/// What a partition cannot be read for.
pub async fn read_on(
    reader: &mut Reader,
    cursors: &mut [Cursor],
    amount: &Amount,
    memory: &mut Share,
) -> Result<Vec<(usize, Record)>, Problem> {
    let began = Instant::now();
    let deadline = amount.wait.map(|wait| began + wait);
    let mut found: Vec<(usize, Record)> = Vec::new();
    let mut bytes = 0;
    loop {
        let is_behind = cursors.iter().any(|cursor| cursor.next < cursor.end);
        // Only who has nothing waits.
        let until = deadline.filter(|_| !is_behind && found.is_empty());
        if !is_behind && until.is_none_or(|until| Instant::now() >= until) {
            return Ok(found);
        }
        let mut round = reader.engine.memory.share();
        let mut new = reader.round(cursors, until, &mut round).await?;
        while let Some(next) = new.peek() {
            let is_too_much = bytes + next.bytes() > amount.bytes && !found.is_empty();
            if found.len() >= amount.records || is_too_much {
                break;
            }
            let Some((place, record)) = new.pop() else {
                break;
            };
            bytes += record.bytes();
            found.push((place, record));
        }
        for (place, record) in new.firsts() {
            cursors[place].next = record.offset;
        }
        memory.grow(bytes).await;
        let is_full = new.count() > 0 || found.len() >= amount.records;
        let is_late = began.elapsed() > SEARCH_TIME.max(amount.wait.unwrap_or_default());
        if is_full || is_late || reader.engine.is_stopping() {
            return Ok(found);
        }
    }
}
