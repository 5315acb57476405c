//! Finding offsets by time, and deleting records below an offset.

use super::fetch;
use super::upkeep::retention;
use super::{Engine, EngineError, PartitionKey, SharedPartition};
use crate::io::clock;
use crate::log::TimeLookup;
use crate::log::batch::BatchHeader;
use crate::log::records;
use std::rc::Rc;
use tokio::sync::oneshot;

/// The most bytes that the records of one batch may unpack to in a lookup by time.
const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// The most batches that are unpacked for one lookup. An honest producer's log needs one, or one more
/// where records were deleted from the front of the first.
const UNPACKED_BATCHES_MAX: usize = 16;

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record with the highest timestamp.
    MaxTimestamp,
    /// The first record at least as late as this (ms).
    AtTime(i64),
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// -1 when there is no such record.
    pub offset: i64,
    /// Milliseconds; -1 for the ends of the log and when there is no such record.
    pub timestamp: i64,
}

impl FoundOffset {
    /// There is no such record.
    pub const NONE: FoundOffset = FoundOffset {
        offset: -1,
        timestamp: -1,
    };

    fn end(offset: i64) -> FoundOffset {
        FoundOffset {
            offset,
            timestamp: -1,
        }
    }
}

/// Finds an offset in any partition.
pub async fn find(
    engine: &Rc<Engine>,
    key: PartitionKey,
    spec: OffsetSpec,
) -> Result<FoundOffset, EngineError> {
    let find = move |engine: Rc<Engine>| async move { find_here(&engine, key, spec).await };
    engine.call(engine.owner_of(key), find).await?
}

async fn find_here(
    engine: &Rc<Engine>,
    key: PartitionKey,
    spec: OffsetSpec,
) -> Result<FoundOffset, EngineError> {
    let partition = engine
        .partition(key)
        .ok_or(EngineError::UnknownTopicOrPartition)?;
    if partition.borrow().log.is_offline() {
        return Err(EngineError::StorageFailed);
    }
    let offsets = partition.borrow().offsets();
    match spec {
        OffsetSpec::Earliest => Ok(FoundOffset::end(offsets.start)),
        OffsetSpec::Latest => Ok(FoundOffset::end(offsets.durable)),
        OffsetSpec::AtTime(timestamp) => find_time(engine, &partition, timestamp).await,
        OffsetSpec::MaxTimestamp => loop {
            let max = partition.borrow().log.max_timestamp();
            match max {
                Ok(-1) => return Ok(FoundOffset::NONE),
                Ok(timestamp) => return find_time(engine, &partition, timestamp).await,
                Err(job) => fetch::load(engine, &partition, job).await?,
            }
        },
    }
}

/// The first record at least as late as `timestamp`. Batches say only how late their latest
/// record is, so candidates are unpacked, on the worker thread.
async fn find_time(
    engine: &Rc<Engine>,
    partition: &SharedPartition,
    timestamp: i64,
) -> Result<FoundOffset, EngineError> {
    let mut from_offset = 0;
    let mut batches = 0;
    loop {
        let lookup = {
            let mut inner = partition.borrow_mut();
            let log = &mut inner.log;
            log.batch_at_time(timestamp, from_offset, clock::now_ms())
        };
        let batch = match lookup {
            TimeLookup::NotFound => return Ok(FoundOffset::NONE),
            TimeLookup::Load(job) => {
                fetch::load(engine, partition, job).await?;
                continue;
            }
            TimeLookup::Batch(batch) => batch,
        };
        let header =
            BatchHeader::parse(&batch).map_err(|_| EngineError::Corrupt { asked: from_offset })?;
        let log_start = partition.borrow().offsets().start;
        let found = engine
            .workers
            .worker
            .run(move || {
                records::first_at_or_after(&batch, timestamp, log_start, UNPACKED_BYTES_MAX)
            })
            .await;
        batches += 1;
        match found {
            Some(Ok(Some((offset, timestamp)))) => {
                return Ok(FoundOffset { offset, timestamp });
            }
            // The batch has something else than records, or its header claims later
            // ones than there are, again and again; its first offset is as near as one can say.
            found if batches > UNPACKED_BATCHES_MAX || !matches!(found, Some(Ok(_))) => {
                return Ok(FoundOffset {
                    offset: header.base_offset.max(log_start),
                    timestamp: header.max_timestamp,
                });
            }
            _ => from_offset = header.next_offset(),
        }
    }
}

/// Deletes the records below `offset` (-1: below the high watermark) of any partition and
/// returns the new log start offset, once that survives a crash.
pub async fn delete_records(
    engine: &Rc<Engine>,
    key: PartitionKey,
    offset: i64,
) -> Result<i64, EngineError> {
    let delete = move |engine: Rc<Engine>| async move {
        let partition = engine
            .partition(key)
            .ok_or(EngineError::UnknownTopicOrPartition)?;
        let (reply, answered) = oneshot::channel();
        partition.borrow_mut().delete_records(offset, reply);
        engine.dirty.queue(&partition);
        let start = answered.await.map_err(|_| EngineError::Stopping)??;
        retention::enforce(&engine, &partition).await;
        Ok(start)
    };
    engine.call(engine.owner_of(key), delete).await?
}
