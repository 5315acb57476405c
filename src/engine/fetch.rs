//! Reading from many partitions at once, and parking until there is something to read.

use super::{Engine, EngineError, PartitionKey, SharedPartition, limits};
use crate::io::clock;
use crate::log::Read;
use crate::log::batch;
use crate::log::damage::is_of_medium;
use crate::log::jobs::{LoadJob, Loaded};
use bytes::Bytes;
use futures_util::future::join_all;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

/// What is to be read from one partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRead {
    pub key: PartitionKey,
    pub offset: i64,
    /// Bytes.
    pub max_bytes: usize,
}

/// What was read from one partition.
#[derive(Clone, Debug)]
pub struct PartitionData {
    /// Whole batches, slices of the segments; empty when there is nothing to read.
    pub records: Result<Bytes, EngineError>,
    /// There is more to read behind them already.
    pub has_more: bool,
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

impl PartitionData {
    fn unknown() -> PartitionData {
        PartitionData {
            records: Err(EngineError::UnknownTopicOrPartition),
            has_more: false,
            high_watermark: -1,
            log_start_offset: -1,
        }
    }

    pub fn len(&self) -> usize {
        self.records.as_ref().map_or(0, Bytes::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one partition had.
pub struct Found {
    pub records: Bytes,
    reaches_end: bool,
}

impl Engine {
    /// Reads from all partitions named, in their order, at most `max_bytes` in all; the first batch
    /// found is returned whole even when it is larger.
    ///
    /// Partitions that were read to their end wake `wake` when there is more.
    pub async fn read(
        self: &Rc<Self>,
        reads: &[PartitionRead],
        max_bytes: usize,
        wake: Option<&Arc<Notify>>,
    ) -> Vec<PartitionData> {
        if reads.iter().all(|read| self.owns(read.key)) {
            return self.read_here(reads, max_bytes, wake).await;
        }
        let shards = self.mailboxes.shard_count();
        let mut by_shard: Vec<(Vec<usize>, Vec<PartitionRead>)> = vec![Default::default(); shards];
        for (place, read) in reads.iter().enumerate() {
            let (places, reads) = &mut by_shard[self.owner_of(read.key)];
            places.push(place);
            reads.push(*read);
        }
        let mut data: Vec<Option<PartitionData>> = vec![None; reads.len()];
        // All shards at once, so that a fetch takes as long as the slowest and not as all together.
        let asked = by_shard
            .into_iter()
            .enumerate()
            .filter(|(_, (places, _))| !places.is_empty())
            .map(|(shard, (places, reads))| {
                let wake = wake.cloned();
                let read = move |engine: Rc<Engine>| async move {
                    engine.read_here(&reads, max_bytes, wake.as_ref()).await
                };
                async move { (places, self.call(shard, read).await) }
            });
        for (places, found) in join_all(asked).await {
            // A shard that has stopped leaves its partitions unanswered below.
            for (place, found) in places.into_iter().zip(found.unwrap_or_default()) {
                data[place] = Some(found);
            }
        }
        let mut data: Vec<PartitionData> = data
            .into_iter()
            .map(|found| found.unwrap_or_else(PartitionData::unknown))
            .collect();
        hold_to_limit(&mut data, max_bytes);
        data
    }

    async fn read_here(
        self: &Rc<Self>,
        reads: &[PartitionRead],
        max_bytes: usize,
        wake: Option<&Arc<Notify>>,
    ) -> Vec<PartitionData> {
        let mut left = max_bytes;
        let mut found_any = false;
        let mut data = Vec::with_capacity(reads.len());
        for read in reads {
            let Some(partition) = self.partition(read.key) else {
                data.push(PartitionData::unknown());
                continue;
            };
            let limit = left.min(read.max_bytes);
            let records = self
                .read_partition(&partition, read.offset, limit, !found_any)
                .await;
            let mut inner = partition.borrow_mut();
            let offsets = inner.offsets();
            let (records, reaches_end) = match records {
                Ok(found) => (Ok(found.records), found.reaches_end),
                Err(error) => (Err(error), false),
            };
            if let (true, Some(wake)) = (reaches_end, wake) {
                inner.watch(read.offset.max(offsets.durable), wake);
            }
            let length = records.as_ref().map_or(0, Bytes::len);
            inner.counters.fetched_bytes += length as u64;
            left = left.saturating_sub(length);
            found_any |= length > 0;
            data.push(PartitionData {
                has_more: records.is_ok() && !reaches_end,
                records,
                high_watermark: offsets.durable,
                log_start_offset: offsets.start,
            });
        }
        data
    }

    /// Reads whole batches of one of this shard's partitions; see [`Log::read`](crate::log::Log::read).
    /// What it finds is in memory, but for what lies beyond `max_bytes`.
    ///
    /// Reads on where compaction has left batches without records: clients move over them, but
    /// some programs take a poll that brings nothing for the end of the log. At that end they are
    /// what is returned.
    pub async fn read_partition(
        self: &Rc<Self>,
        partition: &SharedPartition,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Found, EngineError> {
        let mut found = self
            .read_segment(partition, offset, max_bytes, at_least_one)
            .await?;
        while !found.reaches_end
            && let Some(next) = batch::end_of_hollow(&found.records)
        {
            let read = self.read_segment(partition, next, max_bytes, at_least_one);
            match read.await {
                Ok(more) if !more.records.is_empty() => found = more,
                // Whatever it is, the client meets it when it has moved there.
                _ => break,
            }
        }
        Ok(found)
    }

    async fn read_segment(
        self: &Rc<Self>,
        partition: &SharedPartition,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Found, EngineError> {
        let mut assume_resident = false;
        loop {
            let read = {
                let mut inner = partition.borrow_mut();
                if inner.is_closed() {
                    return Err(EngineError::UnknownTopicOrPartition);
                }
                let now_ms = clock::now_ms();
                inner.read(offset, max_bytes, at_least_one, assume_resident, now_ms)?
            };
            match read {
                Read::Data {
                    records,
                    reaches_end,
                } => {
                    return Ok(Found {
                        records,
                        reaches_end,
                    });
                }
                Read::Empty => {
                    return Ok(Found {
                        records: Bytes::new(),
                        reaches_end: offset >= partition.borrow().offsets().durable,
                    });
                }
                Read::Load(job) => {
                    // Read again whether the pages are still there or not: under memory pressure
                    // one stall beats going in circles.
                    assume_resident = matches!(job, LoadJob::Populate { .. });
                    if let Err(error) = self.load(partition, job).await {
                        let mut inner = partition.borrow_mut();
                        // Retention took it meanwhile: who reads again is told so.
                        let is_gone = offset < inner.offsets().start;
                        // Pages that cannot be read: all of the segment is checked, once, to tell which.
                        let is_news = assume_resident && inner.log.doubt(offset);
                        if !is_gone && !is_news {
                            return Err(error);
                        }
                        assume_resident = false;
                    }
                }
            }
        }
    }

    /// Brings into memory what a read needs. A segment that retention or compaction took meanwhile
    /// is no failure: who reads again is told where the log starts.
    pub async fn load(
        self: &Rc<Self>,
        partition: &SharedPartition,
        job: LoadJob,
    ) -> Result<(), EngineError> {
        let base = job.opens();
        // Pages are read beside other jobs of the log: that changes no file.
        let thread = match job {
            LoadJob::Populate { .. } => &self.reader,
            _ => &self.worker,
        };
        let loaded = self.run_on(thread, move || job.run()).await;
        let mut inner = partition.borrow_mut();
        let is_there = base.is_none_or(|base| inner.log.has_sealed(base));
        match loaded {
            _ if inner.is_closed() => Err(EngineError::UnknownTopicOrPartition),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_there => Ok(()),
            Ok(Loaded::Pages) => Ok(()),
            Ok(loaded) => {
                let found = inner.log.load_done(loaded, clock::now_ms());
                drop(inner);
                self.note_damage(partition, &found);
                Ok(())
            }
            Err(error)
                if is_of_medium(&error) && base.is_some_and(|base| inner.log.doubt(base)) =>
            {
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                limits::MAPS.reached(error);
                Err(EngineError::StorageFailed)
            }
            Err(error) => {
                tracing::error!(dir = %inner.log.dir().display(), %error, "a segment cannot be read");
                Err(EngineError::StorageFailed)
            }
        }
    }
}

/// Each shard was given the whole limit; in request order, what goes beyond it is left for the next
/// fetch, as it would be with one shard. The first that has anything keeps it, however large.
fn hold_to_limit(data: &mut [PartitionData], max_bytes: usize) {
    let mut total = 0;
    for partition in data {
        let left = max_bytes.saturating_sub(total);
        if let Ok(records) = &mut partition.records
            && total > 0
            && records.len() > left
        {
            records.truncate(batch::whole_batches_within(records, left));
            partition.has_more = true;
        }
        total += partition.len();
    }
}
