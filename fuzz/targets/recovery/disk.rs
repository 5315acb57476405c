//! What a partition's directory may look like after a crash.

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use millstream::log::batch::{self, build};
use millstream::log::checkpoint::Checkpoint;
use millstream::log::index::Entry;
use std::path::Path;
use uuid::Uuid;

pub const TOPIC_ID: Uuid = Uuid::from_u128(7);
const SEGMENTS_MAX: usize = 5;
const PIECES_MAX: usize = 24;

/// The files of a directory, and what is known about them.
#[derive(Debug, Default)]
pub struct Files {
    segments: Vec<Segment>,
    checkpoint: Option<Vec<u8>>,
    /// The offset up to which sound batches lie one after the other from the log's start, with
    /// nothing between.
    pub sound_end: i64,
    /// Index and checkpoint are true, torn or noise: none of them has a right checksum and lies.
    pub is_honest: bool,
}

#[derive(Debug, Default)]
struct Segment {
    base: i64,
    log: Vec<u8>,
    index: Vec<u8>,
}

impl Files {
    pub fn from_bytes(
        log: Vec<u8>,
        second_log: Option<(u16, Vec<u8>)>,
        index: Vec<u8>,
        checkpoint: Option<Vec<u8>>,
    ) -> Files {
        let first = Segment {
            base: 0,
            log,
            index,
        };
        let second = second_log.map(|(base, log)| Segment {
            base: i64::from(base) + 1,
            log,
            index: Vec::new(),
        });
        Files {
            segments: std::iter::once(first).chain(second).collect(),
            checkpoint,
            // The fuzzer can put a sound checksum under a lie, though it takes it long.
            ..Files::default()
        }
    }

    pub fn write(&self, dir: &Path) {
        for segment in &self.segments {
            let path = |extension| dir.join(format!("{:020}.{extension}", segment.base));
            std::fs::write(path("log"), &segment.log).unwrap();
            std::fs::write(path("index"), &segment.index).unwrap();
        }
        if let Some(checkpoint) = &self.checkpoint {
            std::fs::write(dir.join("checkpoint"), checkpoint).unwrap();
        }
    }
}

/// A recipe for a directory.
#[derive(Arbitrary, Debug)]
pub struct Disk {
    first_base: u8,
    segments: Vec<SegmentRecipe>,
    checkpoint: CheckpointRecipe,
}

#[derive(Arbitrary, Debug)]
struct SegmentRecipe {
    /// How far the segment's name lies from where the one before ends.
    gap: Option<i8>,
    log: Vec<Piece>,
    index: Vec<IndexPiece>,
}

#[derive(Arbitrary, Debug)]
enum Piece {
    Batch { records: u8, value: u8 },
    BatchElsewhere { records: u8, offset: i16 },
    BatchWithBadCrc { records: u8 },
    BatchCut { records: u8, keep: u8 },
    Zeros(u16),
    Noise(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum IndexPiece {
    /// An entry for the batch of that place in the segment.
    True(u8),
    Lie {
        relative_offset: u16,
        position: u16,
        max_timestamp_before: i64,
    },
    Noise(Vec<u8>),
    Zeros(u8),
}

#[derive(Arbitrary, Debug)]
enum CheckpointRecipe {
    None,
    /// Of the sound batch of that place.
    True {
        batch: u8,
        snapshot: Vec<u8>,
    },
    Lie {
        log_start: u16,
        durable: u16,
        base: u16,
        position: u32,
        is_ours: bool,
    },
    Noise(Vec<u8>),
}

/// A sound batch at the start of the log.
#[derive(Clone, Copy)]
struct Place {
    segment_base: i64,
    position: u64,
    offset: i64,
}

impl Disk {
    pub fn lay_out(self) -> Files {
        let first_base = i64::from(self.first_base);
        let mut files = Files {
            is_honest: true,
            ..Files::default()
        };
        let mut next_offset = first_base;
        let mut is_sound = true;
        let mut places = Vec::new();
        for recipe in self.segments.into_iter().take(SEGMENTS_MAX) {
            let gap = recipe.gap.filter(|_| !files.segments.is_empty());
            let base = (next_offset + i64::from(gap.unwrap_or(0))).max(0);
            if files.segments.last().is_some_and(|last| base <= last.base) {
                continue;
            }
            is_sound &= base == next_offset;
            next_offset = base;
            if files.segments.is_empty() {
                files.sound_end = base;
            }
            let mut segment = Segment {
                base,
                ..Segment::default()
            };
            let mut starts = Vec::new();
            for piece in recipe.log.into_iter().take(PIECES_MAX) {
                let position = segment.log.len();
                let place = Place {
                    segment_base: base,
                    position: position as u64,
                    offset: next_offset,
                };
                let is_whole = piece.put(&mut segment.log, &mut next_offset);
                if is_whole && is_sound {
                    places.push(place);
                    files.sound_end = next_offset;
                }
                if is_whole {
                    starts.push((place, files.sound_end));
                }
                is_sound &= is_whole;
            }
            for piece in recipe.index.into_iter().take(PIECES_MAX) {
                files.is_honest &= piece.put(&mut segment.index, base, &starts);
            }
            files.segments.push(segment);
        }
        files.put_checkpoint(self.checkpoint, first_base, &places);
        files
    }
}

impl Files {
    fn put_checkpoint(&mut self, recipe: CheckpointRecipe, log_start: i64, places: &[Place]) {
        let checkpoint = match recipe {
            CheckpointRecipe::None => return,
            CheckpointRecipe::Noise(bytes) => return self.checkpoint = Some(bytes),
            CheckpointRecipe::True { batch, snapshot } => {
                let Some(place) = places.get(usize::from(batch)) else {
                    return;
                };
                Checkpoint {
                    topic_id: TOPIC_ID,
                    log_start_offset: log_start,
                    durable_offset: place.offset,
                    segment_base: place.segment_base,
                    position: place.position,
                    snapshot,
                }
            }
            CheckpointRecipe::Lie {
                log_start,
                durable,
                base,
                position,
                is_ours,
            } => {
                self.is_honest = false;
                Checkpoint {
                    topic_id: if is_ours { TOPIC_ID } else { Uuid::nil() },
                    log_start_offset: log_start.into(),
                    durable_offset: durable.into(),
                    segment_base: base.into(),
                    position: position.into(),
                    snapshot: Vec::new(),
                }
            }
        };
        self.checkpoint = Some(checkpoint.encode());
    }
}

impl Piece {
    /// Adds the piece; true when it is one sound batch in its right place.
    fn put(self, log: &mut Vec<u8>, next_offset: &mut i64) -> bool {
        match self {
            Piece::Batch { records, value } => {
                log.extend(sound_batch(records, value, *next_offset));
                *next_offset += count(records);
                return true;
            }
            Piece::BatchElsewhere { records, offset } => {
                let elsewhere = (*next_offset + i64::from(offset)).max(0);
                log.extend(sound_batch(records, 1, elsewhere));
                let is_here = elsewhere == *next_offset;
                *next_offset = elsewhere + count(records);
                return is_here;
            }
            Piece::BatchWithBadCrc { records } => {
                let mut bad = sound_batch(records, 1, *next_offset);
                bad[17] ^= 1;
                log.extend(bad);
                *next_offset += count(records);
            }
            Piece::BatchCut { records, keep } => {
                let whole = sound_batch(records, 200, *next_offset);
                log.extend(&whole[..usize::from(keep).min(whole.len() - 1)]);
            }
            Piece::Zeros(length) => log.extend(vec![0; usize::from(length) + 1]),
            Piece::Noise(bytes) => {
                log.extend(bytes);
                log.push(0xff);
            }
        }
        false
    }
}

fn count(records: u8) -> i64 {
    i64::from(records % 8) + 1
}

fn sound_batch(records: u8, value: u8, offset: i64) -> Vec<u8> {
    let value = vec![b'v'; usize::from(value) * 8];
    let values = vec![value; count(records) as usize];
    let builder = build::BatchBuilder {
        base_timestamp: 1_700_000_000_000 + offset,
        ..build::BatchBuilder::default()
    };
    let mut bytes = builder.build(&values);
    batch::patch_position(&mut bytes, offset, 0);
    bytes
}

impl IndexPiece {
    /// Adds the piece; false when it has a right checksum and may lie.
    fn put(self, index: &mut Vec<u8>, base: i64, starts: &[(Place, i64)]) -> bool {
        let entry = match self {
            IndexPiece::Noise(bytes) => {
                index.extend(bytes);
                return true;
            }
            IndexPiece::Zeros(length) => {
                index.extend(vec![0; usize::from(length)]);
                return true;
            }
            IndexPiece::True(batch) => {
                let Some((place, sound_end)) = starts.get(usize::from(batch)) else {
                    return true;
                };
                let entry = Entry {
                    relative_offset: (place.offset - base) as u32,
                    position: place.position as u32,
                    max_timestamp_before: -1,
                };
                index.extend(entry.encode(base));
                // An entry of a batch that recovery cuts is stale: it says nothing of what will be
                // appended there.
                return place.offset < *sound_end;
            }
            IndexPiece::Lie {
                relative_offset,
                position,
                max_timestamp_before,
            } => Entry {
                relative_offset: relative_offset.into(),
                position: position.into(),
                max_timestamp_before,
            },
        };
        index.extend(entry.encode(base));
        false
    }
}
