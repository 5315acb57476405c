//! The rule for the order of batches: whether a batch has the offset that it should have.
//!
//! A batch's checksum does not cover its base offset, so only the batches around it can tell. A batch that begins
//! where the one before it ends is in order. If it does not, and the batch behind it does not follow it either, then
//! its own offset is wrong. If the batch behind it does follow it, then batches before it are missing.

use super::scan::Found;
use crate::log::batch::BatchHeader;
use std::cmp::Ordering;
use std::io;

/// What is known of a segment before its batches are read.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub base: i64,
    /// The offset after its last record; `i64::MAX` when that is not known.
    pub end: i64,
    /// Below this offset records may be missing: compaction was at work there.
    pub gaps_end: i64,
    /// A position (bytes) where a batch ends, and the offset after it, as a checkpoint says.
    pub known: Option<(usize, i64)>,
}

/// What came before a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// The offset after the last batch that is right.
    pub next_offset: i64,
    /// Something between that batch and this one is damaged.
    pub is_damaged: bool,
}

impl Before {
    /// A sound batch, or the beginning of a segment.
    pub fn sound(next_offset: i64) -> Before {
        Before {
            next_offset,
            is_damaged: false,
        }
    }
}

/// Whether a batch has the offset that it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It has, as far as is known. Behind damage, and where compaction was at work, offsets may be missing before it.
    Follows,
    /// It has, but batches before it are missing.
    Skips,
    /// Only the offset in its header is wrong: this is the right one, for what lies behind the batch follows that.
    WrongAlone(i64),
    /// Its offset is wrong, or batches are doubled or out of order here.
    Wrong,
}

impl Expected {
    /// Without a checkpoint that says more; see the fields.
    pub fn new(base: i64, end: i64, gaps_end: i64) -> Expected {
        Expected {
            base,
            end,
            gaps_end,
            known: None,
        }
    }

    /// Applies the rule to a batch. `peek` gives the header at a position, `None` where none can be read.
    ///
    /// # Errors
    /// Those of `peek`.
    pub fn order(
        &self,
        found: &Found,
        before: Before,
        mut peek: impl FnMut(usize) -> io::Result<Option<BatchHeader>>,
    ) -> io::Result<Order> {
        let (header, next) = (&found.header, before.next_offset);
        let base = header.base_offset;
        let is_inside = header.next_offset() <= self.end;
        if base == next && is_inside {
            return Ok(Order::Follows);
        }
        let behind = peek(found.end)?;
        if base > next && is_inside && self.is_confirmed(found, before, behind, &mut peek)? {
            let may_skip = before.is_damaged || base < self.gaps_end;
            return Ok(if may_skip {
                Order::Follows
            } else {
                Order::Skips
            });
        }
        let follows = self.offset_at(found.end, behind);
        let end_from_next = next + (header.next_offset() - base);
        Ok(if base != next && follows == Some(end_from_next) {
            Order::WrongAlone(next)
        } else {
            Order::Wrong
        })
    }

    /// Whether what lies behind a batch speaks for its offset, which is higher than the next one.
    fn is_confirmed(
        &self,
        found: &Found,
        before: Before,
        behind: Option<BatchHeader>,
        peek: impl FnMut(usize) -> io::Result<Option<BatchHeader>>,
    ) -> io::Result<bool> {
        let end = found.header.next_offset();
        let may_skip = before.is_damaged || found.header.base_offset < self.gaps_end;
        let Some(behind) = behind else {
            // Only the segment's end is left to tell, or what is damaged before the batch.
            return Ok(may_skip || self.offset_at(found.end, None) == Some(end));
        };
        let in_gap = found.header.base_offset < self.gaps_end;
        Ok(match behind.base_offset.cmp(&end) {
            Ordering::Equal => true,
            Ordering::Greater if in_gap || !before.is_damaged => true,
            Ordering::Less if !may_skip => false,
            // One of the two is wrong, and nothing before them shows which.
            _ => !self.is_followed(&behind, found.end, peek)?,
        })
    }

    /// Whether the batch at `position` ends where the next one, or the next segment, begins.
    fn is_followed(
        &self,
        header: &BatchHeader,
        position: usize,
        mut peek: impl FnMut(usize) -> io::Result<Option<BatchHeader>>,
    ) -> io::Result<bool> {
        let end = position + header.size();
        let behind = peek(end)?;
        Ok(self.offset_at(end, behind) == Some(header.next_offset()))
    }

    /// The offset that comes at a position where batches end; `None` when it is not known.
    fn offset_at(&self, position: usize, header: Option<BatchHeader>) -> Option<i64> {
        let known = self.known.filter(|(end, _)| *end == position);
        header
            .map(|header| header.base_offset)
            .or(known.map(|(_, offset)| offset))
            .or((self.end < i64::MAX).then_some(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::Order::{Follows, Skips, Wrong, WrongAlone};
    use super::*;
    use crate::log::batch::HEADER_BYTES;
    use crate::log::batch::build::BatchBuilder;

    /// A segment of offsets 100 to 199 in an uncompacted part of the log.
    const SEGMENT: Expected = Expected {
        base: 100,
        end: 200,
        gaps_end: 0,
        known: None,
    };
    const COMPACTED: Expected = Expected {
        gaps_end: 150,
        ..SEGMENT
    };
    const LAST: Expected = Expected {
        end: i64::MAX,
        ..SEGMENT
    };
    /// The checkpoint lies behind the first of the batches.
    const CHECKPOINT: Expected = Expected {
        known: Some((HEADER_BYTES, 113)),
        ..LAST
    };
    const SOUND: Before = Before {
        next_offset: 110,
        is_damaged: false,
    };
    const DAMAGED: Before = Before {
        is_damaged: true,
        ..SOUND
    };

    /// The segment's last three offsets are to come.
    const AT_END: Before = Before {
        next_offset: 197,
        is_damaged: false,
    };

    /// Fewer than three are.
    const TOO_NEAR: Before = Before {
        next_offset: 198,
        is_damaged: false,
    };

    /// A header of a batch of three offsets.
    fn header(base_offset: i64) -> BatchHeader {
        let batch = BatchBuilder::default().build(&["a", "b", "c"]);
        let header = BatchHeader::parse(&batch).unwrap();
        let header = BatchHeader {
            base_offset,
            ..header
        };
        BatchHeader::parse(&header.with_records(&[])).unwrap()
    }

    #[test]
    fn a_batch_is_held_against_those_around_it() {
        // What is known of the segment, what came before the first batch, the offsets that it and those
        // behind it say, and its order.
        #[rustfmt::skip]
        let cases: &[(&str, Expected, Before, &[i64], Order)] = &[
            ("in order", SEGMENT, SOUND, &[110, 113], Follows),
            ("in order, the next is wrong", SEGMENT, SOUND, &[110, 150], Follows),
            ("in order, the last one", SEGMENT, SOUND, &[110], Follows),
            ("too high alone", SEGMENT, SOUND, &[112, 113], WrongAlone(110)),
            ("too high alone, and behind the end", SEGMENT, SOUND, &[900, 113], WrongAlone(110)),
            ("too low alone", SEGMENT, SOUND, &[105, 113], WrongAlone(110)),
            ("doubled", SEGMENT, SOUND, &[107, 110, 113], Wrong),
            ("swapped", SEGMENT, SOUND, &[113, 110, 116], Wrong),
            ("batches are missing", SEGMENT, SOUND, &[116, 119], Skips),
            ("batches are missing twice", SEGMENT, SOUND, &[116, 130], Skips),
            ("in order, but over the segment's end", SEGMENT, TOO_NEAR, &[198], Wrong),
            ("the last batch, as the segment's end says", SEGMENT, SOUND, &[197], Skips),
            ("the last batch, not as the end says", SEGMENT, SOUND, &[190], Wrong),
            ("the last batch, wrong alone", SEGMENT, AT_END, &[150], WrongAlone(197)),
            ("the log's last batch, nothing tells", LAST, SOUND, &[116], Wrong),
            ("the log's last batch, the checkpoint tells", CHECKPOINT, SOUND, &[116], WrongAlone(110)),
            ("a gap in the compacted part", COMPACTED, SOUND, &[116, 119], Follows),
            ("a gap, and another behind it", COMPACTED, SOUND, &[116, 130], Follows),
            ("a gap before the last batch", COMPACTED, SOUND, &[116], Follows),
            ("a gap behind the compacted part", COMPACTED, SOUND, &[150, 153], Skips),
            ("too high in the compacted part", COMPACTED, SOUND, &[130, 120, 123], Wrong),
            ("too high alone in the compacted part", COMPACTED, SOUND, &[130, 113, 116], WrongAlone(110)),
            ("the one behind it is too low", COMPACTED, SOUND, &[116, 112, 125], Follows),
            ("behind damage", SEGMENT, DAMAGED, &[116, 119], Follows),
            ("the last one behind damage", SEGMENT, DAMAGED, &[116], Follows),
            ("behind damage that took no offset", SEGMENT, DAMAGED, &[110, 113], Follows),
            ("behind damage, too low", SEGMENT, DAMAGED, &[104, 116], Wrong),
            ("behind damage, too high", SEGMENT, DAMAGED, &[117, 119, 122], Wrong),
            ("behind damage, the next is too high", SEGMENT, DAMAGED, &[116, 150, 122], Follows),
            ("behind damage, one of two is too low", SEGMENT, DAMAGED, &[113, 119, 122], Wrong),
        ];
        for (name, expected, before, offsets, order) in cases {
            let headers: Vec<BatchHeader> = offsets.iter().map(|offset| header(*offset)).collect();
            let found = Found {
                position: 0,
                header: headers[0],
                crc_matches: true,
                end: HEADER_BYTES,
            };
            let peek = |position: usize| Ok(headers.get(position / HEADER_BYTES).copied());
            let judged = expected.order(&found, *before, peek).unwrap();
            assert_eq!(judged, *order, "{name}");
        }
    }
}
