//! Takes known records out of a batch, where blocking is allowed: what is compressed has to be unpacked.

use super::known::Known;
use crate::log::batch::{BatchError, BatchHeader};
use crate::log::compact;
use crate::log::records::RecordsError;
use bytes::Bytes;
use thiserror::Error;

/// Why a batch has no others without its known records.
#[derive(Debug, Error)]
pub enum RewriteError {
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// A batch, and which of its records are known.
pub struct RewriteJob {
    pub batch: Bytes,
    pub header: BatchHeader,
    pub known: Known,
    /// Counts the partition's jobs.
    pub number: u64,
}

/// What a [`RewriteJob`] brought.
pub struct Rewritten {
    pub known: Known,
    pub number: u64,
    /// An error when the records cannot be read. They could when the batch came in.
    pub batch: Result<(Bytes, BatchHeader), RewriteError>,
}

impl RewriteJob {
    /// The batch without them. It keeps its offsets and sequences, as one that compaction has been at.
    pub fn run(self) -> Rewritten {
        let batch = self.without();
        Rewritten {
            known: self.known,
            number: self.number,
            batch,
        }
    }

    fn without(&self) -> Result<(Bytes, BatchHeader), RewriteError> {
        let batch = if self.known.is_all() {
            compact::emptied(&self.header)
        } else {
            let limit = compact::UNPACKED_BYTES_MAX;
            let keep = |place| self.known.at(place).is_none();
            compact::with_only(&self.header, &self.batch, limit, keep)?
        };
        let header = BatchHeader::parse(&batch)?;
        Ok((batch.into(), header))
    }
}
