//! Finds in the log what the indexes of a partition knew before a start, or would know.

use super::keys::{KeyIndex, KeyState};
use super::marks::Marks;
use super::{Indexes, Looks, Wanted};
use crate::config::TopicConfig;
use crate::engine::fetch::{Fetch, PartitionRead, fetch};
use crate::engine::partition::Partition;
use crate::engine::{Engine, EngineError, PartitionKey, SharedPartition};
use crate::io::clock;
use crate::io::reactor::{self, Slice};
use crate::io::sabotage::{self, Sabotage};
use crate::log::batch::BatchHeader;
use crate::log::records::Records;
use crate::log::{compact, segment};
use std::cell::RefCell;
use std::future::pending;
use std::io;
use std::path::Path;
use std::rc::{Rc, Weak};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::Instant;

/// Bytes of batches that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// How long a read waits for what is appended and not durable.
const READ_WAIT: Duration = Duration::from_secs(1);
/// A mapped file's time of modification is that of the first write to a page that the kernel has written back before
/// (mmap(2)): so much older than the last, with its usual 30 s before that and something more (ms).
const MODIFIED_LATE_MS: i64 = 60_000;

/// Gives a partition the indexes that its topic asks for, and reads them from its log. What waits for them goes on
/// when they are there.
pub fn attach(engine: &Rc<Engine>, partition: &SharedPartition) {
    let Some(load) = Load::begin(engine, partition) else {
        return;
    };
    reactor::spawn(load.run());
    resume(engine, partition);
}

fn resume(engine: &Rc<Engine>, partition: &SharedPartition) {
    let due = partition.borrow_mut().resume(clock::now_ms());
    engine.mark_due(partition, due);
}

/// The loading of one partition's indexes.
struct Load {
    engine: Rc<Engine>,
    partition: Weak<RefCell<Partition>>,
    key: PartitionKey,
    config: TopicConfig,
    wanted: Wanted,
    start: i64,
    /// What is appended from here on is noted when it is.
    end: i64,
    /// Tells these indexes from others that the partition may have later.
    number: u64,
}

impl Load {
    fn begin(engine: &Rc<Engine>, partition: &SharedPartition) -> Option<Load> {
        let mut inner = partition.borrow_mut();
        let wanted = inner.looks()?;
        if inner.is_closed() || inner.has_indexes() {
            return None;
        }
        let mut indexes = Indexes::new(wanted, &engine.index_memory);
        let number = indexes.number;
        let offsets = inner.offsets();
        if offsets.start == offsets.end {
            indexes.set_loaded();
        }
        if sabotage::is_done(Sabotage::ReadyAtOnce) {
            let keys = indexes.keys.iter_mut();
            keys.for_each(|keys| keys.set_state(KeyState::Ready));
        }
        inner.indexes = Some(Box::new(indexes));
        Some(Load {
            engine: Rc::clone(engine),
            partition: Rc::downgrade(partition),
            key: inner.key(),
            config: inner.topic.config,
            wanted: wanted.wanted,
            start: offsets.start,
            end: offsets.end,
            number,
        })
    }

    async fn run(self) {
        if self.wanted.dedup {
            let mut from = self.first_in_window().await;
            if sabotage::is_done(Sabotage::ForgetIds) {
                from = self.end;
            }
            let loaded = self.scan(from, Part::Dedup).await;
            if loaded == Err(EngineError::Stopping) {
                // Who waits is told so when the shard ends: what was not read may be what they send again.
                return;
            }
            self.tell(&loaded);
            // What cannot be read cannot be known; the others wait no longer.
            self.with(|indexes| {
                let dedup = indexes.dedup.as_mut();
                dedup.into_iter().for_each(|dedup| dedup.set_loaded());
            });
            if let Some(partition) = self.partition.upgrade() {
                resume(&self.engine, &partition);
            }
        }
        if self.wanted.keys {
            let loaded = self.scan(self.start, Part::Keys).await;
            if loaded == Err(EngineError::Stopping) {
                return;
            }
            self.tell(&loaded);
            let state = match loaded {
                Ok(()) => KeyState::Ready,
                Err(_) => KeyState::Broken,
            };
            self.with_keys(|keys| keys.set_state(state));
        }
    }

    fn tell(&self, loaded: &Result<(), EngineError>) {
        if let Err(error) = loaded
            && let Some(partition) = self.partition.upgrade()
            && !self.engine.is_stopping()
        {
            let inner = partition.borrow();
            tracing::warn!(topic = inner.topic.name, partition = inner.index, %error,
                "the log cannot be read for its message ids or keys: what is there is not known");
        }
    }

    /// Runs `change` on the indexes, if they are still those.
    fn with(&self, change: impl FnOnce(&mut Indexes)) {
        let Some(partition) = self.partition.upgrade() else {
            return;
        };
        let mut inner = partition.borrow_mut();
        if let Some(indexes) = &mut inner.indexes
            && indexes.number == self.number
        {
            change(indexes);
        }
    }

    fn with_keys(&self, change: impl FnOnce(&mut KeyIndex)) {
        self.with(|indexes| {
            if let Some(keys) = &mut indexes.keys {
                change(keys);
            }
        });
    }

    /// Nothing becomes durable any more.
    fn is_poisoned(&self) -> bool {
        let partition = self.partition.upgrade();
        partition.is_none_or(|partition| partition.borrow().log.is_poisoned())
    }

    fn is_over(&self) -> bool {
        let Some(partition) = self.partition.upgrade() else {
            return true;
        };
        let inner = partition.borrow();
        let are_these = |indexes: &Indexes| indexes.number == self.number;
        inner.is_closed() || !inner.indexes.as_deref().is_some_and(are_these)
    }

    /// The first offset of the segments that were written to within the window, and of as many records at most as may
    /// be remembered.
    async fn first_in_window(&self) -> i64 {
        let Some(partition) = self.partition.upgrade() else {
            return self.end;
        };
        let dir = partition.borrow().log.dir().to_owned();
        drop(partition);
        let since_ms = clock::cautious_ms() - MODIFIED_LATE_MS;
        let since_ms = since_ms.saturating_sub(self.config.dedup_window_ms);
        let first = self
            .engine
            .workers
            .read(move || first_written_since(&dir, since_ms));
        // Without a directory nothing was appended yet.
        let first = first.await.unwrap_or(self.start);
        let ids_max = i64::from(self.config.dedup_max_ids);
        first.max(self.start).max(self.end - ids_max)
    }

    /// Reads the log from `next` to the end, and notes what is there.
    async fn scan(&self, mut next: i64, part: Part) -> Result<(), EngineError> {
        let mut slice = Slice::new();
        while next < self.end {
            if self.is_over() || self.engine.is_stopping() {
                return Err(EngineError::Stopping);
            }
            let wanted = Fetch {
                reads: vec![Ok(PartitionRead {
                    key: self.key,
                    offset: next,
                    max_bytes: READ_BYTES,
                })],
                min_bytes: 1,
                max_bytes: READ_BYTES,
                deadline: Some(Instant::now() + READ_WAIT),
            };
            let data = match fetch(&self.engine, &wanted, pending()).await.pop() {
                Some(Err(EngineError::OffsetOutOfRange { start, .. })) if start > next => {
                    next = start;
                    continue;
                }
                Some(data) => data?,
                None => return Err(EngineError::Stopping),
            };
            if data.records.is_empty() {
                // Compaction has taken what was there, or it is not durable yet.
                if data.high_watermark >= self.end && !data.has_more {
                    return Ok(());
                }
                if self.is_poisoned() {
                    return Err(EngineError::StorageFailed);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            let config = self.config;
            let records = data.records;
            let read = self
                .engine
                .workers
                .read(move || Ok(read_marks(&config, &records)));
            let read = read.await.map_err(|_| EngineError::StorageFailed)?;
            for batch in read {
                next = next.max(batch.end);
                self.note(batch, part);
                slice.rest().await;
            }
        }
        Ok(())
    }

    fn note(&self, batch: Read, part: Part) {
        let now_ms = clock::stamp_ms();
        self.with(|indexes| match part {
            Part::Dedup => {
                let Some(dedup) = &mut indexes.dedup else {
                    return;
                };
                let limits = super::dedup::Limits {
                    since_ms: i64::MIN,
                    start: self.start,
                    ids_max: self.config.dedup_max_ids as usize,
                };
                // When it was appended is known only where the broker's clock stamped it. Otherwise an id is
                // remembered for too long rather than not long enough.
                let seen_ms = batch.appended_ms.unwrap_or(now_ms).min(now_ms);
                for (place, id) in batch.marks.ids {
                    let offset = batch.offsets[place as usize];
                    // One that is there again was stored again, after its window: it counts from then on.
                    dedup.note(id, offset, seen_ms, limits);
                }
            }
            Part::Keys => {
                let Some(keys) = &mut indexes.keys else {
                    return;
                };
                for mark in batch.marks.keys {
                    let offset = batch.offsets[mark.place as usize];
                    keys.note(mark.key, offset, mark.is_tombstone);
                }
                if let KeyState::Loading { .. } = keys.state() {
                    // A producer's timestamps may be anything.
                    let known_ms = batch.appended_ms.unwrap_or(i64::MIN);
                    keys.set_state(KeyState::Loading { known_ms });
                }
            }
        });
    }
}

#[derive(Clone, Copy)]
enum Part {
    Dedup,
    Keys,
}

/// One batch of the log.
struct Read {
    marks: Marks,
    /// By the places of `marks`.
    offsets: Vec<i64>,
    /// The offset behind it.
    end: i64,
    /// By the broker's clock, where the topic's timestamps are.
    appended_ms: Option<i64>,
}

fn read_marks(config: &TopicConfig, mut batches: &[u8]) -> Vec<Read> {
    // Conditions were for when it was appended.
    let config = TopicConfig {
        conditional_append: false,
        key_index: config.key_index || config.conditional_append,
        ..*config
    };
    let mut all = Vec::new();
    while let Ok(header) = BatchHeader::parse(batches) {
        let Some((batch, rest)) = batches.split_at_checked(header.size()) else {
            break;
        };
        batches = rest;
        let (mut marks, mut offsets) = (Marks::default(), Vec::new());
        if let Some(looks) = Looks::of(&config).filter(|_| !header.is_control()) {
            let records = Records::unpack(header, batch, compact::UNPACKED_BYTES_MAX);
            // What no client can read has no ids and no keys, as for compaction.
            for record in records.iter().flat_map(Records::iter).map_while(Result::ok) {
                let place = offsets.len() as u32;
                // Only conditions can be wrong, and they are not looked at.
                let _ = marks.note(&looks, place, &record);
                offsets.push(record.offset);
            }
        }
        all.push(Read {
            marks,
            offsets,
            end: header.next_offset(),
            appended_ms: header.is_log_append_time().then_some(header.max_timestamp),
        });
    }
    all
}

/// The base offset of the first segment that was written to at `since_ms` or later.
fn first_written_since(dir: &Path, since_ms: i64) -> io::Result<i64> {
    let mut bases: Vec<i64> = segment::list(dir)?;
    bases.sort_unstable();
    let last = bases.last().copied();
    for base in &bases {
        let path = segment::file_path(dir, *base, "log");
        let modified = path.metadata()?.modified()?;
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        if i64::try_from(modified.as_millis()).unwrap_or(i64::MAX) >= since_ms {
            return Ok(*base);
        }
    }
    last.ok_or_else(|| io::ErrorKind::NotFound.into())
}
