//! Fetching: reads from many partitions at once, and parks until there is something to
//! read.
//!
//! A [`Fetch`] names what it wants from which partitions, of any shard. [`fetch`] asks the shards that own
//! them and, while there is too little, leaves a waker with every partition that it has read to its
//! high watermark.

use super::wake::Wake;
use super::{Engine, EngineError, PartitionKey, SharedPartition};
use super::{damage, stats};
use crate::io::reactor::Slice;
use crate::io::{clock, limits};
use crate::log::Read;
use crate::log::batch;
use crate::log::check::damage::is_of_medium;
use crate::log::load::{LoadJob, Loaded};
use bytes::Bytes;
use futures_util::future::join_all;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

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
    pub records: Bytes,
    /// There is more to read behind them already.
    pub has_more: bool,
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

/// What to read, and how long to wait for enough of it.
#[derive(Debug)]
pub struct Fetch {
    /// An error says that this partition cannot be read. It is handed through, and the fetch does not
    /// wait.
    pub reads: Vec<Result<PartitionRead, EngineError>>,
    /// With fewer bytes the fetch waits.
    pub min_bytes: usize,
    /// Limit for all partitions; the first batch goes beyond it if it has to.
    pub max_bytes: usize,
    /// `None` not to wait.
    pub deadline: Option<Instant>,
}

/// The result of each read, in the order of [`Fetch::reads`].
pub type Fetched = Vec<Result<PartitionData, EngineError>>;

/// Reads until there is enough, something is wrong, the time is up, or the fetch is `over`: no client
/// wants its data any more.
pub async fn fetch(engine: &Rc<Engine>, fetch: &Fetch, over: impl Future<Output = ()>) -> Fetched {
    let at_once = fetch.reads.is_empty() || fetch.reads.iter().any(Result::is_err);
    let Some(deadline) = fetch.deadline.filter(|_| !at_once && may_park(engine)) else {
        return read(engine, fetch, None).await;
    };
    let wake = Arc::new(Wake::new(fetch.reads.len()));
    let data = read(engine, fetch, Some(&wake)).await;
    if is_enough(fetch, data.iter().map(length)) || engine.is_stopping() {
        return data;
    }
    // In memory of its own: a fetch that need not wait does not carry what waiting takes.
    let over = pin!(over);
    Box::pin(wait(engine, fetch, (wake, data), deadline, over)).await
}

/// Waits until there is more than `data`, and enough, as [`fetch`] does.
async fn wait(
    engine: &Rc<Engine>,
    fetch: &Fetch,
    (mut wake, mut data): (Arc<Wake>, Fetched),
    deadline: Instant,
    mut over: Pin<&mut impl Future<Output = ()>>,
) -> Fetched {
    let _parked = Parked::new(engine);
    loop {
        let mut found: Vec<Length> = Vec::new();
        loop {
            let is_news = tokio::select! {
                () = wake.woken() => true,
                () = engine.stop.wait() => false,
                () = engine.memory.pressed() => false,
                () = &mut over => false,
                () = sleep_until(deadline) => false,
            };
            if !is_news {
                return data;
            }
            let Some(places) = wake.take_places() else {
                break;
            };
            if found.is_empty() {
                found.extend(data.iter().map(length));
            }
            for (place, data) in read_places(engine, fetch, places, Some(&wake)).await {
                found[place] = length(&data);
            }
            if is_enough(fetch, found.iter().copied()) {
                break;
            }
        }
        // A new one each time: partitions drop the watchers of the old one as dead.
        wake = Arc::new(Wake::new(fetch.reads.len()));
        data = read(engine, fetch, Some(&wake)).await;
        if is_enough(fetch, data.iter().map(length)) || engine.is_stopping() {
            return data;
        }
    }
}

/// Bytes that were read of a partition, and whether there is more; an error ends the wait.
type Length = Result<(usize, bool), ()>;

fn length(data: &Result<PartitionData, EngineError>) -> Length {
    let data = data.as_ref().map_err(|_| ())?;
    Ok((data.records.len(), data.has_more))
}

/// Whether a fetch has no reason to wait any longer.
fn is_enough(fetch: &Fetch, found: impl Iterator<Item = Length>) -> bool {
    let (mut all_bytes, mut is_kept_back) = (0, false);
    for length in found {
        let Ok((bytes, has_more)) = length else {
            return true;
        };
        all_bytes += bytes;
        is_kept_back |= has_more;
    }
    // What a limit kept back is there already: waiting would bring nothing.
    all_bytes >= fetch.min_bytes || (all_bytes > 0 && is_kept_back)
}

/// Over the limit, or while memory is short, a fetch is answered with what there is; the client asks
/// again.
fn may_park(engine: &Engine) -> bool {
    if engine.stats.parked_fetches.get() as usize >= engine.config.parked_fetches_max {
        limits::PARKED_FETCHES.reached("a fetch is answered at once");
        return false;
    }
    !engine.memory.is_short()
}

/// Counts a parked fetch for as long as it lives.
struct Parked(Rc<Engine>);

impl Parked {
    fn new(engine: &Rc<Engine>) -> Parked {
        stats::add(&engine.stats.parked_fetches, 1);
        Parked(Rc::clone(engine))
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        stats::sub(&self.0.stats.parked_fetches, 1);
    }
}

/// Reads once. Partitions that were read to their end wake `wake` when there is more.
pub(super) async fn read(engine: &Rc<Engine>, fetch: &Fetch, wake: Option<&Arc<Wake>>) -> Fetched {
    let is_own = |read: &Result<PartitionRead, EngineError>| {
        read.as_ref().map_or(true, |read| engine.owns(read.key))
    };
    if fetch.reads.iter().all(is_own) {
        let mut round = Round::new(engine, fetch.max_bytes, wake, fetch.reads.len());
        let mut data = Vec::with_capacity(fetch.reads.len());
        for (place, read) in fetch.reads.iter().enumerate() {
            data.push(match read {
                Ok(read) => round.read(read, place).await,
                Err(error) => Err(error.clone()),
            });
        }
        return data;
    }
    // A shard that has stopped leaves its partitions like this.
    let gone = EngineError::UnknownTopicOrPartition;
    let error = |read: &Result<_, EngineError>| read.as_ref().err().unwrap_or(&gone).clone();
    let mut data: Fetched = fetch.reads.iter().map(|read| Err(error(read))).collect();
    let places = (0..fetch.reads.len()).collect();
    for (place, found) in read_places(engine, fetch, places, wake).await {
        data[place] = found;
    }
    hold_to_limit(&mut data, fetch.max_bytes);
    data
}

/// Reads some of the partitions of a fetch, wherever they are: each shard as much as the limit allows. Those
/// that cannot be read are left out.
async fn read_places(
    engine: &Rc<Engine>,
    fetch: &Fetch,
    places: Vec<usize>,
    wake: Option<&Arc<Wake>>,
) -> Vec<(usize, Result<PartitionData, EngineError>)> {
    let max_bytes = fetch.max_bytes;
    let mut by_shard = vec![Vec::new(); engine.mailboxes.shard_count()];
    for place in places {
        if let Ok(read) = &fetch.reads[place] {
            by_shard[engine.owner_of(read.key)].push((place, *read));
        }
    }
    // All shards at once, so that a fetch takes as long as the slowest and not as all together.
    let asked = by_shard
        .into_iter()
        .enumerate()
        .filter(|(_, reads)| !reads.is_empty())
        .map(|(shard, reads)| {
            let wake = wake.cloned();
            engine.call(shard, move |engine| async move {
                let mut round = Round::new(&engine, max_bytes, wake.as_ref(), reads.len());
                let mut found = Vec::with_capacity(reads.len());
                for (place, read) in reads {
                    found.push((place, round.read(&read, place).await));
                }
                found
            })
        });
    let found = join_all(asked).await.into_iter();
    found.flat_map(Result::unwrap_or_default).collect()
}

/// One round of reads from this shard's partitions, which share a limit.
struct Round<'a> {
    engine: &'a Rc<Engine>,
    wake: Option<&'a Arc<Wake>>,
    bytes_left: usize,
    found_any: bool,
    slice: Slice,
}

impl Round<'_> {
    fn new<'a>(
        engine: &'a Rc<Engine>,
        max_bytes: usize,
        wake: Option<&'a Arc<Wake>>,
        reads: usize,
    ) -> Round<'a> {
        Round {
            engine,
            wake,
            bytes_left: max_bytes,
            found_any: false,
            slice: Slice::of(reads),
        }
    }

    /// `place` is the partition's in the fetch.
    async fn read(
        &mut self,
        read: &PartitionRead,
        place: usize,
    ) -> Result<PartitionData, EngineError> {
        self.slice.rest().await;
        let partition = self.engine.partition(read.key);
        let partition = partition.ok_or(EngineError::UnknownTopicOrPartition)?;
        let limit = self.bytes_left.min(read.max_bytes);
        let at_least_one = !self.found_any;
        let found = read_partition(self.engine, &partition, read.offset, limit, at_least_one);
        let found = found.await?;
        let mut inner = partition.borrow_mut();
        let offsets = inner.offsets();
        if let (true, Some(wake)) = (found.reaches_end, self.wake) {
            inner.watch(read.offset.max(offsets.durable), wake, place);
        }
        let length = found.records.len();
        // The other half of what an append asserts: nothing is handed out that is not durable.
        assert!(length == 0 || read.offset < offsets.durable);
        inner.counters.fetched_bytes += length as u64;
        self.bytes_left = self.bytes_left.saturating_sub(length);
        self.found_any |= length > 0;
        Ok(PartitionData {
            has_more: !found.reaches_end,
            records: found.records,
            high_watermark: offsets.durable,
            log_start_offset: offsets.start,
        })
    }
}

/// What one partition had.
pub struct Found {
    pub records: Bytes,
    reaches_end: bool,
}

/// Reads whole batches of one of this shard's partitions; see [`Log::read`](crate::log::Log::read).
/// What it finds is in memory, but for what lies beyond `max_bytes`.
///
/// Reads on where compaction has left batches without records: clients move over them, but
/// some programs take a poll that brings nothing for the end of the log. At that end they are
/// what is returned.
pub async fn read_partition(
    engine: &Rc<Engine>,
    partition: &SharedPartition,
    offset: i64,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Found, EngineError> {
    let mut found = read_segment(engine, partition, offset, max_bytes, at_least_one).await?;
    while !found.reaches_end
        && let Some(next) = batch::end_of_hollow(&found.records)
    {
        let read = read_segment(engine, partition, next, max_bytes, at_least_one);
        match read.await {
            Ok(more) if !more.records.is_empty() => found = more,
            // Whatever it is, the client meets it when it has moved there.
            _ => break,
        }
    }
    Ok(found)
}

async fn read_segment(
    engine: &Rc<Engine>,
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
            let log = &mut inner.log;
            let read = log.read(offset, max_bytes, at_least_one, assume_resident, now_ms);
            read.map_err(|error| inner.unreadable(error))?
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
                if let Err(error) = load(engine, partition, job).await {
                    let mut inner = partition.borrow_mut();
                    // Retention took it meanwhile: the next read says so.
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
/// is no failure: the next read says where the log starts.
pub async fn load(
    engine: &Rc<Engine>,
    partition: &SharedPartition,
    job: LoadJob,
) -> Result<(), EngineError> {
    let base = job.opens();
    let loaded = match job {
        // Pages are read beside other jobs of the log: that changes no file.
        LoadJob::Populate { .. } => {
            let pace = Arc::clone(&engine.pace);
            let read = move || job.run_with(|reader, range| pace.read(reader, range));
            engine.workers.read(read).await
        }
        _ => engine.workers.run(move || job.run()).await,
    };
    let mut inner = partition.borrow_mut();
    let is_there = base.is_none_or(|base| inner.log.has_sealed(base));
    match loaded {
        _ if inner.is_closed() => Err(EngineError::UnknownTopicOrPartition),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_there => Ok(()),
        Ok(Loaded::Pages) => Ok(()),
        Ok(loaded) => {
            let found = inner.log.load_done(loaded, clock::now_ms());
            drop(inner);
            damage::note(&engine.workers, partition, &found);
            Ok(())
        }
        Err(error) if is_of_medium(&error) && base.is_some_and(|base| inner.log.doubt(base)) => {
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

/// Each shard was given the whole limit; in request order, what goes beyond it is left for the next
/// fetch, as it would be with one shard. The first that has anything keeps it, however large.
fn hold_to_limit(data: &mut Fetched, max_bytes: usize) {
    let mut total = 0;
    for partition in data.iter_mut().flatten() {
        let left = max_bytes.saturating_sub(total);
        let records = &mut partition.records;
        if total > 0 && records.len() > left {
            records.truncate(batch::whole_batches_within(records, left));
            partition.has_more = true;
        }
        total += partition.records.len();
    }
}

/// The epoch of every partition's one and only leader.
pub const LEADER_EPOCH: i32 = 0;

/// Holds the epoch that a client believes in against the partition's (KIP-320); -1 skips the check.
///
/// # Errors
/// `FencedLeaderEpoch` for an older one, `UnknownLeaderEpoch` for a newer one.
pub fn check_leader_epoch(epoch: i32) -> Result<(), EngineError> {
    match epoch {
        -1 | LEADER_EPOCH => Ok(()),
        newer if newer > LEADER_EPOCH => Err(EngineError::UnknownLeaderEpoch(newer)),
        older => Err(EngineError::FencedLeaderEpoch(older)),
    }
}
