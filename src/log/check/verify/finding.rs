//! What can be wrong in a partition's directory, and what it means to the operator.

use crate::log::batch::BatchError;
use crate::log::checkpoint::CheckpointError;
use std::path::PathBuf;
use thiserror::Error;
use uuid::Uuid;

/// One thing that was found, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<F = Fault> {
    pub path: PathBuf,
    /// Byte of the file.
    pub position: Option<u64>,
    /// The first offset that is concerned.
    pub offset: Option<i64>,
    pub fault: F,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth reporting, but nothing is wrong.
    Note,
    Error,
}

/// Declares [`Fault`]. Each fault has its fields, how bad it is, its name for programs, what was found, and what that
/// means.
macro_rules! faults {
    ($(
        $(#[$attribute:meta])*
        $fault:ident $(($($type:ty),*))? $({ $($(#[$doc:meta])* $field:ident: $field_type:ty),* })?,
        $severity:ident, $name:literal, $found:literal, $meaning:expr;
    )*) => {
        /// What was found.
        #[derive(Clone, Debug, Error, PartialEq, Eq)]
        pub enum Fault {
            $(
                $(#[$attribute])*
                #[error($found)]
                $fault $(($($type),*))? $({ $($(#[$doc])* $field: $field_type),* })?,
            )*
        }

        impl Fault {
            pub fn severity(&self) -> Severity {
                match self {
                    $(Fault::$fault { .. } => Severity::$severity,)*
                }
            }

            /// A name for programs.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Fault::$fault { .. } => $name,)*
                }
            }

            /// What it means, and what happens because of it.
            pub fn meaning(&self) -> &'static str {
                match self {
                    Fault::NoBatch { why: BatchError::BadMagic(0 | 1), .. } => OLD_MAGIC,
                    Fault::WrongOffset { lone: true, .. } => WRONG_ALONE,
                    $(Fault::$fault { .. } => $meaning,)*
                }
            }
        }
    };
}

const OLD_MAGIC: &str = "its bytes changed, or these are messages of magic 0 or 1 (from before Kafka 0.11), \
     which are not read";
const WRONG_ALONE: &str = "only the offset in its header changed, which no checksum covers; consumers would \
     see its records at wrong offsets";
const GONE: &str = "records that were acknowledged are gone";
const END_GONE: &str = "records that were acknowledged are gone; the broker refuses them, and takes no writes where \
     the log's end is lost";
const WRONG_START: &str = "the next start would cut the log there, or go on with wrong offsets";
const INDEX_SHORT: &str =
    "no record is lost: the broker walks the segment where the index tells nothing";
const INDEX_WRONG: &str =
    "lookups in this segment go wrong; remove the index; the broker rebuilds it";

faults! {
    Unreadable(String), Error, "unreadable",
        "it cannot be read: {0}",
        "the medium or its file system failed; look at the kernel's log";
    BadCrc { bytes: usize }, Error, "bad_crc",
        "the batch's CRC-32C does not match ({bytes} bytes)",
        "its bytes changed after they were written; its records cannot be trusted";
    NoBatch { why: BatchError, bytes: usize }, Error, "no_batch",
        "{bytes} bytes are no batch: {why}",
        "records that were acknowledged cannot be read here";
    Zeros { bytes: usize }, Error, "zeros",
        "{bytes} bytes of zeros where records were durable", GONE;
    Recycled { bytes: usize }, Error, "recycled",
        "{bytes} bytes of another segment, whose file this was before, where records were durable", GONE;
    WrongOffset {
        found: i64,
        /// The batches around it have the offsets they should have.
        lone: bool
    }, Error, "wrong_offset",
        "the batch here says it has offset {found}",
        "batches are missing, doubled or out of order here";
    WrongLeaderEpoch(i32), Error, "wrong_leader_epoch",
        "the batch has leader epoch {0}; this broker writes 0",
        "a bit that no checksum covers changed, or another broker wrote this";
    LeaderEpochBack { found: i32, before: i32 }, Error, "leader_epoch_back",
        "the batch has leader epoch {found}, but the one before it has {before}",
        "a bit that no checksum covers changed here or before, or batches are out of order";
    WrongCount { records: i32, last_offset_delta: i32 }, Error, "wrong_count",
        "the batch says {records} records and a last offset delta of {last_offset_delta}",
        "consumers would count offsets that have no record";
    UnknownCodec, Error, "unknown_codec",
        "the batch names a codec that does not exist",
        "no client can read it, though its checksum matches";
    BadRecords(String), Error, "bad_records",
        "the batch's records cannot be read: {0}",
        "its checksum matches, so it is as its producer sent it; consumers fail on it";
    SegmentGap { expected: i64 }, Error, "segment_gap",
        "the segment begins here, but the one before it ends at offset {expected}",
        "a segment is missing, cut short, or has the wrong name; records are lost to consumers";
    ZerosAtEnd { bytes: usize }, Note, "zeros_at_end",
        "{bytes} bytes of zeros follow the last batch",
        "space that was reserved for records, or records that a crash kept from the disk";
    TornTail { bytes: u64, first: Box<Fault> }, Note, "torn_tail",
        "the log is torn, {bytes} bytes before its end: {first}",
        "beyond the checkpoint, as a crash leaves it: the next start cuts the log here, and keeps \
         what is sound of it beside";
    CheckpointDamaged(CheckpointError), Error, "checkpoint_damaged",
        "the checkpoint is damaged: {0}",
        "the next start reads the whole log, forgets where it started and which producers \
         wrote to it, and cuts it at the first damage";
    CheckpointMissing, Note, "checkpoint_missing",
        "there is no checkpoint",
        "the next start reads and checks the whole log";
    CheckpointOfOtherTopic { found: Uuid, expected: Uuid }, Error, "checkpoint_of_other_topic",
        "the checkpoint belongs to topic id {found}, but the catalog says {expected}",
        "the next start takes the directory for one that a deleted topic left, and removes it";
    CheckpointSegmentMissing, Error, "checkpoint_segment_missing",
        "the segment that the checkpoint points into is not there", END_GONE;
    CheckpointOffBoundary { position: u64 }, Error, "checkpoint_off_boundary",
        "the checkpoint points at byte {position} of the segment, where no batch begins or ends", WRONG_START;
    CheckpointOffset { found: i64 }, Error, "checkpoint_offset",
        "the checkpoint's durable offset is not the one at its position, which is {found}", WRONG_START;
    DurableMissing { position: u64, size: u64 }, Error, "durable_missing",
        "the segment ends here, but {position} bytes of it were durable", END_GONE;
    StartMissing { first: i64 }, Note, "start_missing",
        "the log starts at this offset, but the first segment only at {first}",
        "retention was at work when the broker stopped, or a segment is missing";
    IndexDamaged, Error, "index_damaged",
        "the index entry's checksum does not match",
        "no record is lost: the broker uses the index up to here and walks the rest; remove \
         the file; the broker rebuilds it";
    IndexTorn { bytes: usize }, Note, "index_torn",
        "the last {bytes} bytes of the index are not written", INDEX_SHORT;
    IndexOffBoundary { position: u32 }, Error, "index_off_boundary",
        "the index entry says that a batch begins at byte {position}, where none does", INDEX_WRONG;
    IndexOffset { position: u32, claims: i64 }, Error, "index_offset",
        "the index entry says that the batch at byte {position} has offset {claims}", INDEX_WRONG;
    IndexTimestamp { position: u32, claims: i64, found: i64 }, Error, "index_timestamp",
        "the index entry says {claims} ms for the batches before byte {position}, not {found}", INDEX_WRONG;
    IndexStale { entries: usize }, Note, "index_stale",
        "{entries} index entries from here on do not belong to any batch",
        "left from before a crash; the broker does not use them";
    IndexMissing, Note, "index_missing",
        "the segment has no index", INDEX_SHORT;
    SwapInterrupted, Note, "swap_interrupted",
        "a compaction was stopped while it replaced segments",
        "nothing is lost: the next start finishes or undoes it";
    Cut, Note, "cut_tail",
        "a start cut these bytes from the log",
        "kept because sound batches were among them; the broker neither reads nor removes it";
    Stray, Note, "stray_file",
        "the file belongs to nothing",
        "the broker neither reads nor removes it";
}
