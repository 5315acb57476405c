//! Checks the directory of one partition that no broker has open: every checksum, every offset, the
//! checkpoint and the indexes. Changes nothing.
//!
//! What a crash leaves behind and the next start repairs is a note. What contradicts the checkpoint is an
//! error.
//!
//! In a log that another broker wrote, only the segments are checked. It is not known what was durable
//! or compacted there, so every batch must be sound and offsets must rise, but may have gaps.

mod finding;
mod index;

pub use finding::{Fault, Finding, Severity};

use super::damage;
use super::order::{Expected, Order};
use super::scan::{Found, Scan, Step};
use super::walk::Walk;
use crate::io::file;
use crate::log::batch::BatchHeader;
use crate::log::checkpoint::{self, Checkpoint};
use crate::log::compact::{self, CompactionState, Manifest};
use crate::log::records::Records;
use crate::log::recovery;
use crate::log::segment;
use crate::log::spare;
use index::IndexCheck;
use std::io;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What the records of one batch may unpack to (bytes) before they are taken for a bomb.
const UNPACKED_BYTES_MAX: usize = 512 << 20;
/// Files of a partition's directory that belong to no segment.
const OWN_FILES: [&str; 5] = [
    checkpoint::FILE_NAME,
    damage::FILE_NAME,
    compact::STATE_FILE_NAME,
    compact::SWAP_FILE_NAME,
    spare::FILE_NAME,
];
/// The leader epoch of a batch when it is not known.
const NO_LEADER_EPOCH: i32 = -1;
/// The offsets of a segment fit in 31 bits, counted from its name: so Kafka's index holds them.
const SEGMENT_OFFSETS: i64 = 1 << 31;
/// `progress` is called after this many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    /// Bytes of sound batches.
    pub bytes: u64,
    /// Bytes of zeros behind the last batches: disk space that was reserved.
    pub reserved_bytes: u64,
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.segments += other.segments;
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.reserved_bytes += other.reserved_bytes;
    }
}

/// What was found in a partition's directory.
#[derive(Debug, Default)]
pub struct Report {
    pub totals: Totals,
    pub findings: Vec<Finding>,
    /// The checkpoint, when it is sound.
    pub checkpoint: Option<Checkpoint>,
}

/// Which broker wrote a log. Its own files say more about its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This broker's: checkpoint, compaction's state and indexes. The topic's id is known where there
    /// is a catalog.
    Ours { topic_id: Option<Uuid> },
    /// Another or an unknown broker's: the segments alone. Those with these base offsets (in their
    /// order), or all.
    Foreign { segments: Option<Vec<i64>> },
}

impl Origin {
    /// The base offsets of the segments to check in `dir`, in their order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn segments(&self, dir: &Path) -> io::Result<Vec<i64>> {
        match self {
            Origin::Foreign {
                segments: Some(bases),
            } => Ok(bases.clone()),
            _ => segment::list(dir),
        }
    }
}

/// Checks the directory of a partition; one that is not there holds nothing wrong.
///
/// With `unpack`, the records of every batch are decompressed and read too. `progress` is called with the
/// bytes that were checked since its last call.
pub fn verify(dir: &Path, origin: &Origin, unpack: bool, progress: &dyn Fn(u64)) -> Report {
    let mut verifier = Verifier {
        dir,
        unpack,
        progress,
        is_foreign: matches!(origin, Origin::Foreign { .. }),
        durable: (0, 0),
        gaps_end: 0,
        expected: None,
        leader_epoch: NO_LEADER_EPOCH,
        has_met_checkpoint: false,
        reported_bytes: 0,
        report: Report::default(),
    };
    match origin.segments(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => verifier.note(dir, Fault::Unreadable(error.to_string())),
        Ok(bases) => match origin {
            Origin::Ours { topic_id } => verifier.run(*topic_id, &bases),
            Origin::Foreign { .. } => verifier.run_foreign(&bases),
        },
    }
    verifier.report
}

struct Verifier<'a> {
    dir: &'a Path,
    unpack: bool,
    progress: &'a dyn Fn(u64),
    is_foreign: bool,
    /// Segment base and position below which all was promised to be on the disk.
    durable: (i64, u64),
    /// Compaction was at work below this offset: records may be missing there.
    gaps_end: i64,
    /// The offset that should come next; `None` when it is not known.
    expected: Option<i64>,
    /// The last one that a batch had.
    leader_epoch: i32,
    /// The position that the checkpoint points to was reached.
    has_met_checkpoint: bool,
    /// Bytes of the segment that `progress` was called with.
    reported_bytes: u64,
    report: Report,
}

/// The segment that is checked now.
struct Segment<'a> {
    path: PathBuf,
    base: i64,
    /// The bases of those after it.
    later: &'a [i64],
}

impl Verifier<'_> {
    fn run(&mut self, topic_id: Option<Uuid>, bases: &[i64]) {
        self.check_checkpoint(topic_id, bases);
        self.durable = match &self.report.checkpoint {
            Some(found) => (found.segment_base, found.position),
            None => (bases.last().copied().unwrap_or(0), 0),
        };
        self.note_strays(bases);
        self.check_compaction();
        let replaced = self.replaced(bases);
        let mut bases = bases.to_vec();
        bases.retain(|base| !replaced.contains(base));
        self.check_segments(&bases);
    }

    /// All counts as durable and compacted: a batch that is not sound is an error, a gap is not.
    fn run_foreign(&mut self, bases: &[i64]) {
        self.durable = (i64::MAX, u64::MAX);
        self.check_segments(bases);
    }

    fn check_segments(&mut self, bases: &[i64]) {
        for (at, base) in bases.iter().enumerate() {
            if !self.check_segment(*base, &bases[at + 1..]) {
                break;
            }
        }
    }

    // ---- the checkpoint ----

    fn check_checkpoint(&mut self, topic_id: Option<Uuid>, bases: &[i64]) {
        let path = self.dir.join(checkpoint::FILE_NAME);
        let content = file::read(&path, checkpoint::FILE_BYTES_MAX);
        let content = match self.or_unreadable(&path, content) {
            None => return,
            Some(None) if bases.is_empty() => return,
            Some(None) => return self.note(&path, Fault::CheckpointMissing),
            Some(Some(content)) => content,
        };
        let found = match Checkpoint::check(&content) {
            Err(why) => return self.find(&path, 0, None, Fault::CheckpointDamaged(why)),
            Ok(found) => found,
        };
        if let Some(expected) = topic_id.filter(|expected| *expected != found.topic_id) {
            let fault = Fault::CheckpointOfOtherTopic {
                found: found.topic_id,
                expected,
            };
            self.find(&path, 6, None, fault);
        }
        let nothing_yet = bases.is_empty()
            && found.durable_offset == found.log_start_offset
            && found.position == 0;
        if !nothing_yet && !bases.contains(&found.segment_base) {
            let offset = Some(found.segment_base);
            self.find(&path, 38, offset, Fault::CheckpointSegmentMissing);
        }
        if let Some(first) = bases.first().filter(|base| **base > found.log_start_offset) {
            let fault = Fault::StartMissing { first: *first };
            self.find(&path, 22, Some(found.log_start_offset), fault);
        }
        self.report.checkpoint = Some(found);
    }

    /// Called at each batch boundary.
    fn meet_checkpoint(&mut self, base: i64, position: usize, trusted: bool) {
        let here = (base, position as u64);
        let claims = self.checkpoint().map(|found| found.durable_offset);
        let Some(claims) = claims.filter(|_| here == self.durable) else {
            return;
        };
        self.has_met_checkpoint = true;
        if let Some(offset) = self.expected.filter(|offset| trusted && *offset != claims) {
            let path = self.dir.join(checkpoint::FILE_NAME);
            let fault = Fault::CheckpointOffset { found: offset };
            self.find(&path, 30, Some(claims), fault);
        }
    }

    fn checkpoint(&self) -> Option<&Checkpoint> {
        self.report.checkpoint.as_ref()
    }

    /// Called at the end of each segment.
    fn miss_checkpoint(&mut self, base: i64, size: usize, trusted: bool) {
        let (durable_base, position) = self.durable;
        let Some(offset) = self.checkpoint().map(|found| found.durable_offset) else {
            return;
        };
        if base != durable_base || self.has_met_checkpoint {
            return;
        }
        let path = self.dir.join(checkpoint::FILE_NAME);
        if (size as u64) < position {
            let fault = Fault::DurableMissing {
                position,
                size: size as u64,
            };
            self.find(&segment_path(self.dir, base), size, Some(offset), fault);
        } else if trusted {
            let fault = Fault::CheckpointOffBoundary { position };
            self.find(&path, 46, Some(offset), fault);
        }
    }

    // ---- compaction ----

    fn check_compaction(&mut self) {
        let path = self.dir.join(compact::STATE_FILE_NAME);
        let state = self.or_unreadable(&path, CompactionState::read(self.dir));
        self.gaps_end = state.map_or(0, |state| state.gaps_end);
    }

    /// The segments that another one replaced, if a compaction was stopped before it had removed them. The next
    /// start removes them.
    fn replaced(&mut self, bases: &[i64]) -> Vec<i64> {
        let path = self.dir.join(compact::SWAP_FILE_NAME);
        let manifest = self.or_unreadable(&path, Manifest::read(self.dir));
        let manifest = manifest
            .flatten()
            .filter(|found| bases.contains(&found.base()));
        let Some(manifest) = manifest else {
            return Vec::new();
        };
        self.note(&path, Fault::SwapInterrupted);
        let is_new = manifest.is_new_at(&segment_path(self.dir, manifest.base()));
        if self.or_unreadable(&path, is_new) != Some(true) {
            return Vec::new();
        }
        manifest.old_bases[1..].to_vec()
    }

    fn may_have_gap(&self, offset: i64) -> bool {
        offset < self.gaps_end
    }

    // ---- segments ----

    /// False when the log ends here: what lies behind is cut at the next start.
    fn check_segment(&mut self, base: i64, later: &[i64]) -> bool {
        let segment = Segment {
            path: segment_path(self.dir, base),
            base,
            later,
        };
        if self.is_foreign {
            self.gaps_end = base.saturating_add(SEGMENT_OFFSETS);
        }
        let expected = self.expected.replace(base);
        if let Some(expected) = expected.filter(|expected| !self.may_follow(*expected, base)) {
            let rest = self.bytes_of(&[base]);
            if !self.broken(&segment, 0, base, Fault::SegmentGap { expected }, rest) {
                return false;
            }
        }
        let walk = self.open(&segment);
        let Some(walk) = self.or_unreadable(&segment.path, walk) else {
            self.expected = None;
            return true;
        };
        self.report.totals.segments += 1;
        let size = walk.scan().size();
        let mut index = self.index_of(base, size);
        let (goes_on, end) = self.check_batches(walk, &segment, &mut index);
        self.report.findings.extend(index.finish(end));
        (self.progress)(size as u64 - std::mem::take(&mut self.reported_bytes));
        goes_on
    }

    fn open(&self, segment: &Segment<'_>) -> io::Result<Walk> {
        let base = segment.base;
        let next = segment.later.first().copied();
        let checkpoint = self.checkpoint().filter(|found| found.segment_base == base);
        let mut expected = Expected::new(base, next.unwrap_or(i64::MAX), self.gaps_end);
        expected.known = checkpoint.map(|found| (found.position as usize, found.durable_offset));
        if self.is_foreign {
            // Its last records may be missing: it ends where the next one begins, or before.
            expected.end = i64::MAX;
            expected.known = next.map(|next| (self.bytes_of(&[base]) as usize, next));
        }
        Walk::open(self.dir, expected)
    }

    /// Whether a segment may begin at `base` when the one before it ends at `expected`.
    fn may_follow(&self, expected: i64, base: i64) -> bool {
        base == expected || (self.is_foreign && base > expected)
    }

    fn index_of(&self, base: i64, size: usize) -> IndexCheck {
        let path = segment::file_path(self.dir, base, "index");
        if self.is_foreign {
            return IndexCheck::without(path, base);
        }
        IndexCheck::read(path, base, size > 0 && base < self.durable.0)
    }

    /// Returns whether the log continues in the next segment, and the end of this one's last batch.
    fn check_batches(
        &mut self,
        mut walk: Walk,
        segment: &Segment<'_>,
        index: &mut IndexCheck,
    ) -> (bool, usize) {
        let mut end = 0;
        // Behind damage, offsets and boundaries may be wrong because of it.
        let mut trusted = true;
        loop {
            let position = walk.scan().position();
            self.meet_checkpoint(segment.base, position, trusted);
            let (step, order) = match walk.step() {
                Err(error) => {
                    let fault = Fault::Unreadable(error.to_string());
                    self.find(&segment.path, position, self.expected, fault);
                    self.expected = None;
                    return (true, end);
                }
                Ok(None) => break,
                Ok(Some(met)) => met,
            };
            if let Step::Zeros { bytes, .. } | Step::Recycled { bytes, .. } = step
                && self.may_be_reserved(segment, position)
            {
                self.report.totals.reserved_bytes += bytes as u64;
                if self.is_foreign && matches!(step, Step::Zeros { .. }) {
                    let fault = Fault::ZerosAtEnd { bytes };
                    self.find(&segment.path, position, self.expected, fault);
                }
                break;
            }
            let expected = self.expected.unwrap_or(segment.base);
            if let Some(fault) = self.fault_of(&step, order, expected) {
                trusted = false;
                let rest = (walk.scan().size() - position) as u64;
                if !self.broken(segment, position, expected, fault, rest) {
                    return (false, end);
                }
            }
            end = walk.scan().position();
            if let (Step::Batch(found), Some(order)) = (&step, order) {
                let offset = match order {
                    Order::WrongAlone(right) => right,
                    _ => found.header.base_offset,
                };
                index.note(position, offset, &found.header);
                self.expected = Some(offset + i64::from(found.header.last_offset_delta) + 1);
                self.take_batch(walk.scan(), segment, found, offset);
            } else {
                index.skip(end);
                // If it cannot be read, the next step says so.
                self.expected = walk.claimed_offset().unwrap_or(None);
            }
            while end as u64 - self.reported_bytes >= PROGRESS_BYTES {
                (self.progress)(PROGRESS_BYTES);
                self.reported_bytes += PROGRESS_BYTES;
            }
        }
        self.miss_checkpoint(segment.base, walk.scan().size(), trusted);
        (true, end)
    }

    /// Whether the zeros from there to the end of the segment may never have been records. Who wrote a
    /// foreign log can have reserved space, too: no record is missing where the next segment follows.
    fn may_be_reserved(&self, segment: &Segment<'_>, position: usize) -> bool {
        match (self.is_foreign, segment.later.first()) {
            (false, _) => !self.is_durable(segment.base, position),
            (true, None) => true,
            (true, Some(next)) => self.expected == Some(*next),
        }
    }

    /// What is wrong at a place. `expected` is the offset that should follow what the batch before says of itself.
    fn fault_of(&self, step: &Step, order: Option<Order>, expected: i64) -> Option<Fault> {
        let (found, order) = match (step, order) {
            (Step::Batch(found), Some(order)) => (found.header.base_offset, order),
            (Step::Batch(found), None) => {
                let bytes = found.end - found.position;
                return Some(Fault::BadCrc { bytes });
            }
            (Step::Zeros { bytes, .. }, _) => return Some(Fault::Zeros { bytes: *bytes }),
            (Step::Recycled { bytes, .. }, _) => return Some(Fault::Recycled { bytes: *bytes }),
            (Step::Damage { why, bytes, .. }, _) => {
                let (why, bytes) = (*why, *bytes);
                return Some(Fault::NoBatch { why, bytes });
            }
        };
        let is_in_gap = found > expected && self.may_have_gap(found);
        match order {
            Order::Follows if found == expected || is_in_gap => None,
            Order::WrongAlone(_) => Some(Fault::WrongOffset { found, lone: true }),
            // One that follows, but not the wrong one before it, is where the offsets break, too.
            Order::Follows | Order::Skips | Order::Wrong => {
                Some(Fault::WrongOffset { found, lone: false })
            }
        }
    }

    /// Counts a batch whose checksum matches, and looks at what the checksum cannot tell.
    fn take_batch(&mut self, scan: &Scan, segment: &Segment<'_>, found: &Found, offset: i64) {
        let path = &segment.path;
        let header = &found.header;
        let totals = &mut self.report.totals;
        totals.batches += 1;
        totals.records += header.record_count as u64;
        totals.bytes += header.size() as u64;
        let is_compacted = self.may_have_gap(header.base_offset);
        if let Some(fault) = self.fault_of_leader_epoch(header.leader_epoch) {
            self.find(path, found.position, Some(offset), fault);
        }
        for fault in faults_in_header(header, is_compacted) {
            self.find(path, found.position, Some(offset), fault);
        }
        if self.unpack
            && let Err(fault) = check_records(header, scan.bytes(found), is_compacted)
        {
            self.find(path, found.position, Some(offset), fault);
        }
    }

    fn fault_of_leader_epoch(&mut self, found: i32) -> Option<Fault> {
        if !self.is_foreign {
            return (found != 0).then_some(Fault::WrongLeaderEpoch(found));
        }
        if found == NO_LEADER_EPOCH {
            return None;
        }
        let before = std::mem::replace(&mut self.leader_epoch, found);
        (found < before).then_some(Fault::LeaderEpochBack { found, before })
    }

    fn is_durable(&self, base: i64, position: usize) -> bool {
        (base, position as u64) < self.durable
    }

    /// Takes note of a place where recovery would not read on. Beyond what was durable that is how a
    /// crash leaves a log: it ends there, and this returns false. `rest_bytes` are those from there to
    /// the end of the segment.
    fn broken(
        &mut self,
        segment: &Segment<'_>,
        position: usize,
        offset: i64,
        fault: Fault,
        rest_bytes: u64,
    ) -> bool {
        let is_durable = self.is_durable(segment.base, position);
        let mut fault = fault;
        if !is_durable {
            fault = Fault::TornTail {
                bytes: rest_bytes + self.bytes_of(segment.later),
                first: Box::new(fault),
            };
        }
        self.find(&segment.path, position, Some(offset), fault);
        is_durable
    }

    fn bytes_of(&self, bases: &[i64]) -> u64 {
        let size = |base: &i64| std::fs::metadata(segment_path(self.dir, *base));
        bases.iter().flat_map(size).map(|found| found.len()).sum()
    }

    // ---- files that belong to nothing ----

    fn note_strays(&mut self, bases: &[i64]) {
        let entries = std::fs::read_dir(self.dir).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let mut strays: Vec<PathBuf> = paths.filter(|path| !is_ours(path, bases)).collect();
        strays.sort();
        for path in strays {
            let is_cut = recovery::is_cut(&path);
            self.note(&path, if is_cut { Fault::Cut } else { Fault::Stray });
        }
    }

    // ---- findings ----

    fn find(&mut self, path: &Path, position: usize, offset: Option<i64>, fault: Fault) {
        self.report.findings.push(Finding {
            path: path.to_owned(),
            position: Some(position as u64),
            offset,
            fault,
        });
    }

    fn note(&mut self, path: &Path, fault: Fault) {
        self.report.findings.push(Finding {
            path: path.to_owned(),
            position: None,
            offset: None,
            fault,
        });
    }

    /// What was read; an error is a finding.
    fn or_unreadable<T>(&mut self, path: &Path, result: io::Result<T>) -> Option<T> {
        let fault = |error: io::Error| Fault::Unreadable(error.to_string());
        let result = result.map_err(fault);
        result.map_err(|fault| self.note(path, fault)).ok()
    }
}

fn segment_path(dir: &Path, base: i64) -> PathBuf {
    segment::file_path(dir, base, "log")
}

fn is_ours(path: &Path, bases: &[i64]) -> bool {
    let base = segment::base_of(path, "log").or_else(|| segment::base_of(path, "index"));
    match base {
        Some(base) => bases.contains(&base),
        None => path
            .file_name()
            .is_some_and(|name| OWN_FILES.iter().any(|own| name == *own)),
    }
}

/// Faults that a matching checksum covers: the broker that wrote the batch was wrong.
fn faults_in_header(header: &BatchHeader, is_compacted: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let count_max = header.last_offset_delta.saturating_add(1);
    let count = header.record_count;
    // Repair leaves empty batches anywhere.
    let may_have_fewer = is_compacted || count == 0;
    if count > count_max || (count < count_max && !may_have_fewer) {
        faults.push(Fault::WrongCount {
            records: header.record_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    if header.codec().is_none() {
        faults.push(Fault::UnknownCodec);
    }
    faults
}

/// Reads every record and holds their number and offsets against the header.
fn check_records(header: &BatchHeader, batch: &[u8], is_compacted: bool) -> Result<(), Fault> {
    let unreadable = |error: &dyn ToString| Fault::BadRecords(error.to_string());
    let records =
        Records::unpack(*header, batch, UNPACKED_BYTES_MAX).map_err(|error| unreadable(&error))?;
    let mut iter = records.iter();
    let mut next = 0;
    for (index, record) in iter.by_ref().enumerate() {
        let record = record.map_err(|error| unreadable(&error))?;
        let delta = record.offset - header.base_offset;
        let last = i64::from(header.last_offset_delta);
        let fits = delta == next || (is_compacted && (next..=last).contains(&delta));
        next = delta.saturating_add(1);
        if !fits {
            let what = format!("record {index} of the batch has offset delta {delta}");
            return Err(Fault::BadRecords(what));
        }
    }
    match iter.bytes_left() {
        0 => Ok(()),
        bytes => Err(Fault::BadRecords(format!(
            "{bytes} bytes follow the last of {} records",
            header.record_count
        ))),
    }
}
