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

/// What was found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("the batch's CRC-32C does not match ({bytes} bytes)")]
    BadCrc { bytes: usize },
    #[error("{bytes} bytes are no batch: {why}")]
    NoBatch { why: BatchError, bytes: usize },
    #[error("{bytes} bytes of zeros where records were durable")]
    Zeros { bytes: usize },
    #[error(
        "{bytes} bytes of another segment, whose file this was before, where records were durable"
    )]
    Recycled { bytes: usize },
    #[error("the batch here says it has offset {found}")]
    WrongOffset {
        found: i64,
        /// The batches around it have the offsets they should have.
        lone: bool,
    },
    #[error("the batch has leader epoch {0}; this broker writes 0")]
    WrongLeaderEpoch(i32),
    #[error("the batch has leader epoch {found}, but the one before it has {before}")]
    LeaderEpochBack { found: i32, before: i32 },
    #[error("the batch says {records} records and a last offset delta of {last_offset_delta}")]
    WrongCount {
        records: i32,
        last_offset_delta: i32,
    },
    #[error("the batch names a codec that does not exist")]
    UnknownCodec,
    #[error("the batch's records cannot be read: {0}")]
    BadRecords(String),
    #[error("the segment begins here, but the one before it ends at offset {expected}")]
    SegmentGap { expected: i64 },
    #[error("{bytes} bytes of zeros follow the last batch")]
    ZerosAtEnd { bytes: usize },
    #[error("the log is torn, {bytes} bytes before its end: {first}")]
    TornTail { bytes: u64, first: Box<Fault> },
    #[error("the checkpoint is damaged: {0}")]
    CheckpointDamaged(CheckpointError),
    #[error("there is no checkpoint")]
    CheckpointMissing,
    #[error("the checkpoint belongs to topic id {found}, but the catalog says {expected}")]
    CheckpointOfOtherTopic { found: Uuid, expected: Uuid },
    #[error("the segment that the checkpoint points into is not there")]
    CheckpointSegmentMissing,
    #[error(
        "the checkpoint points at byte {position} of the segment, where no batch begins or ends"
    )]
    CheckpointOffBoundary { position: u64 },
    #[error("the checkpoint's durable offset is not the one at its position, which is {found}")]
    CheckpointOffset { found: i64 },
    #[error("the segment ends here, but {position} bytes of it were durable")]
    DurableMissing { position: u64, size: u64 },
    #[error("the log starts at this offset, but the first segment only at {first}")]
    StartMissing { first: i64 },
    #[error("the index entry's checksum does not match")]
    IndexDamaged,
    #[error("the last {bytes} bytes of the index are not written")]
    IndexTorn { bytes: usize },
    #[error("the index entry says that a batch begins at byte {position}, where none does")]
    IndexOffBoundary { position: u32 },
    #[error("the index entry says that the batch at byte {position} has offset {claims}")]
    IndexOffset { position: u32, claims: i64 },
    #[error("the index entry says {claims} ms for the batches before byte {position}, not {found}")]
    IndexTimestamp {
        position: u32,
        claims: i64,
        found: i64,
    },
    #[error("{entries} index entries from here on do not belong to any batch")]
    IndexStale { entries: usize },
    #[error("the segment has no index")]
    IndexMissing,
    #[error("a compaction was stopped while it replaced segments")]
    SwapInterrupted,
    #[error("a start cut these bytes from the log")]
    Cut,
    #[error("the file belongs to nothing")]
    Stray,
}

impl Fault {
    pub fn severity(&self) -> Severity {
        match self {
            Fault::ZerosAtEnd { .. }
            | Fault::TornTail { .. }
            | Fault::CheckpointMissing
            | Fault::StartMissing { .. }
            | Fault::IndexTorn { .. }
            | Fault::IndexStale { .. }
            | Fault::IndexMissing
            | Fault::SwapInterrupted
            | Fault::Cut
            | Fault::Stray => Severity::Note,
            _ => Severity::Error,
        }
    }

    /// A name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Unreadable(_) => "unreadable",
            Fault::BadCrc { .. } => "bad_crc",
            Fault::NoBatch { .. } => "no_batch",
            Fault::Zeros { .. } => "zeros",
            Fault::Recycled { .. } => "recycled",
            Fault::WrongOffset { .. } => "wrong_offset",
            Fault::WrongLeaderEpoch(_) => "wrong_leader_epoch",
            Fault::LeaderEpochBack { .. } => "leader_epoch_back",
            Fault::WrongCount { .. } => "wrong_count",
            Fault::UnknownCodec => "unknown_codec",
            Fault::BadRecords(_) => "bad_records",
            Fault::SegmentGap { .. } => "segment_gap",
            Fault::ZerosAtEnd { .. } => "zeros_at_end",
            Fault::TornTail { .. } => "torn_tail",
            Fault::CheckpointDamaged(_) => "checkpoint_damaged",
            Fault::CheckpointMissing => "checkpoint_missing",
            Fault::CheckpointOfOtherTopic { .. } => "checkpoint_of_other_topic",
            Fault::CheckpointSegmentMissing => "checkpoint_segment_missing",
            Fault::CheckpointOffBoundary { .. } => "checkpoint_off_boundary",
            Fault::CheckpointOffset { .. } => "checkpoint_offset",
            Fault::DurableMissing { .. } => "durable_missing",
            Fault::StartMissing { .. } => "start_missing",
            Fault::IndexDamaged => "index_damaged",
            Fault::IndexTorn { .. } => "index_torn",
            Fault::IndexOffBoundary { .. } => "index_off_boundary",
            Fault::IndexOffset { .. } => "index_offset",
            Fault::IndexTimestamp { .. } => "index_timestamp",
            Fault::IndexStale { .. } => "index_stale",
            Fault::IndexMissing => "index_missing",
            Fault::SwapInterrupted => "swap_interrupted",
            Fault::Cut => "cut_tail",
            Fault::Stray => "stray_file",
        }
    }

    /// What it means, and what happens because of it.
    pub fn meaning(&self) -> &'static str {
        match self {
            Fault::Unreadable(_) => {
                "the medium or its file system failed; look at the kernel's log"
            }
            Fault::BadCrc { .. } => {
                "its bytes changed after they were written; its records cannot be trusted"
            }
            Fault::NoBatch {
                why: BatchError::BadMagic(0 | 1),
                ..
            } => {
                "its bytes changed, or these are messages of magic 0 or 1 (from before Kafka 0.11), \
                 which are not read"
            }
            Fault::NoBatch { .. } => "records that were acknowledged cannot be read here",
            Fault::Zeros { .. } | Fault::Recycled { .. } => {
                "records that were acknowledged are gone"
            }
            Fault::WrongOffset { lone: true, .. } => {
                "only the offset in its header changed, which no checksum covers; consumers would \
                 see its records at wrong offsets"
            }
            Fault::WrongOffset { lone: false, .. } => {
                "batches are missing, doubled or out of order here"
            }
            Fault::WrongLeaderEpoch(_) => {
                "a bit that no checksum covers changed, or another broker wrote this"
            }
            Fault::LeaderEpochBack { .. } => {
                "a bit that no checksum covers changed here or before, or batches are out of order"
            }
            Fault::WrongCount { .. } => "consumers would count offsets that have no record",
            Fault::UnknownCodec => "no client can read it, though its checksum matches",
            Fault::BadRecords(_) => {
                "its checksum matches, so it is as its producer sent it; consumers fail on it"
            }
            Fault::SegmentGap { .. } => {
                "a segment is missing, cut short, or has the wrong name; records are lost to \
                 consumers"
            }
            Fault::ZerosAtEnd { .. } => {
                "space that was reserved for records, or records that a crash kept from the disk"
            }
            Fault::TornTail { .. } => {
                "beyond the checkpoint, as a crash leaves it: the next start cuts the log here, and keeps \
                 what is sound of it beside"
            }
            Fault::CheckpointDamaged(_) => {
                "the next start reads the whole log, forgets where it started and which producers \
                 wrote to it, and cuts it at the first damage"
            }
            Fault::CheckpointMissing => "the next start reads and checks the whole log",
            Fault::CheckpointOfOtherTopic { .. } => {
                "the next start takes the directory for one that a deleted topic left, and removes \
                 it"
            }
            Fault::CheckpointSegmentMissing | Fault::DurableMissing { .. } => {
                "records that were acknowledged are gone; the broker refuses them, and takes no writes where \
                 the log's end is lost"
            }
            Fault::CheckpointOffBoundary { .. } | Fault::CheckpointOffset { .. } => {
                "the next start would cut the log there, or go on with wrong offsets"
            }
            Fault::StartMissing { .. } => {
                "retention was at work when the broker stopped, or a segment is missing"
            }
            Fault::IndexDamaged => {
                "no record is lost: the broker uses the index up to here and walks the rest; remove \
                 the file; the broker rebuilds it"
            }
            Fault::IndexTorn { .. } | Fault::IndexMissing => {
                "no record is lost: the broker walks the segment where the index tells nothing"
            }
            Fault::IndexOffBoundary { .. }
            | Fault::IndexOffset { .. }
            | Fault::IndexTimestamp { .. } => {
                "lookups in this segment go wrong; remove the index; the broker rebuilds it"
            }
            Fault::IndexStale { .. } => "left from before a crash; the broker does not use them",
            Fault::SwapInterrupted => "nothing is lost: the next start finishes or undoes it",
            Fault::Cut => {
                "kept because sound batches were among them; the broker neither reads nor removes it"
            }
            Fault::Stray => "the broker neither reads nor removes it",
        }
    }
}
