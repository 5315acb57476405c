//! What a crash, or a bad medium, makes of a file.

use super::durable::{Batch, Durable, Free, Parts};
use super::image::Image;
use crate::disk::RECYCLED;
use crate::rng::Rng;
use std::ops::Range;

const BLOCKS: [usize; 2] = [512, 4096];
/// Stretches that are damaged at once, where it is not all of them.
const FEW: usize = 3;
/// Blocks that are zeroed, repeated or swapped at once.
const BLOCKS_MAX: usize = 4;
const FLIPS_MAX: usize = 4;
/// Of a batch, down to its count of records.
const HEADER_BYTES: usize = 61;
/// The most blocks that are told one by one.
const TOLD_MAX: usize = 40;

/// An image to be tried.
pub struct Damaged {
    pub image: Image,
    /// In words.
    pub what: String,
    /// The partition whose durable bytes were changed, if it is one.
    pub flipped: Option<Flipped>,
}

/// A partition with wrong bits below its durable point.
pub struct Flipped {
    pub topic: String,
    pub index: i32,
    /// Offsets that need not be served.
    pub lost: Vec<Range<i64>>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Blocks were written in some order, up to some moment.
    Order,
    Cut,
    Zero,
    Repeat,
    Swap,
}

/// Only what is behind the durable points.
pub fn tear(image: &Image, parts: &Parts, rng: &mut Rng) -> Damaged {
    let mut torn = image.clone();
    let mut what = Vec::new();
    let all = rng.one_in(2);
    let one_kind = *rng.pick(&[Kind::Order, Kind::Cut]);
    let mut targets: Vec<&Free> = parts.free.iter().collect();
    while !all && targets.len() > FEW {
        targets.swap_remove(rng.below(targets.len()));
    }
    for free in targets {
        let kinds = [Kind::Order, Kind::Cut, Kind::Zero, Kind::Repeat, Kind::Swap];
        let kind = if all { one_kind } else { *rng.pick(&kinds) };
        what.extend(tear_one(&mut torn, free, kind, rng));
    }
    Damaged {
        image: torn,
        what: what.join("; "),
        flipped: None,
    }
}

/// Some bits of a segment before its durable point.
pub fn flip(image: &Image, parts: &Parts, rng: &mut Rng) -> Option<Damaged> {
    if parts.durable.is_empty() {
        return None;
    }
    let durable = rng.pick(&parts.durable);
    let mut flipped = image.clone();
    let content = flipped.files.get_mut(&durable.path)?;
    let (mut what, mut lost) = (Vec::new(), Vec::new());
    for _ in 0..1 + rng.below(FLIPS_MAX) {
        let (at, bit) = (pick_byte(durable, rng), rng.below(8));
        *content.bytes.get_mut(at)? ^= 1 << bit;
        what.push(format!("bit {bit} of byte {at}"));
        let mut batches = durable.batches.iter();
        let batch = batches.find(|batch| batch.range.contains(&at))?;
        lost.push(lost_by(durable, batch, at));
    }
    Some(Damaged {
        image: flipped,
        what: format!("{}: flipped {}", durable.path.display(), what.join(", ")),
        flipped: Some(Flipped {
            topic: durable.topic.clone(),
            index: durable.index,
            lost,
        }),
    })
}

/// Every second time one of a batch's header: most of what a reader relies on is there.
fn pick_byte(durable: &Durable, rng: &mut Rng) -> usize {
    match rng.one_in(2) {
        true => rng.pick(&durable.batches).range.start + rng.below(HEADER_BYTES),
        false => rng.below(durable.range.len()),
    }
}

/// The offsets that a wrong byte of a batch may cost. Where a start checks batches it takes the first
/// that is wrong for the log's end. Elsewhere that batch is refused, or its checksum tells, and no more:
/// what says where the next one is does not lead there. But which offsets it has is believed of pages
/// that are in memory, whose checksums no fetch compares: it may hide those behind it.
fn lost_by(durable: &Durable, batch: &Batch, at: usize) -> Range<i64> {
    let end = match at - batch.range.start {
        _ if at >= durable.cut_from => i64::MAX,
        // Base offset and last offset delta.
        0..8 | 23..27 => durable.batches.last().unwrap_or(batch).offsets.end,
        _ => batch.offsets.end,
    };
    batch.offsets.start..end
}

fn tear_one(image: &mut Image, free: &Free, kind: Kind, rng: &mut Rng) -> Option<String> {
    let block = *rng.pick(&BLOCKS);
    let content = image.files.get_mut(&free.path)?;
    // What lies behind the data is zeros: a block of them is enough.
    let used = content.bytes.len().max(free.range.start) + block;
    let range = free.range.start..free.range.end.min(used).min(content.length);
    if range.is_empty() {
        return None;
    }
    let said = |what: String| Some(format!("{}: {what}", free.path.display()));
    if let (Kind::Cut, true) = (kind, free.may_end) {
        let at = range.start + rng.below(range.len() + 1);
        let at = *rng.pick(&[at, at.next_multiple_of(block).min(content.length)]);
        content.cut(at);
        return said(format!("cut at {at}"));
    }
    content.reach(range.end);
    let is_unwritten = matches!(kind, Kind::Order | Kind::Cut | Kind::Zero);
    let older = is_unwritten && !free.older.is_empty() && rng.one_in(2);
    let bytes = &mut content.bytes;
    let blocks: Vec<usize> = (range.start / block..range.end.div_ceil(block)).collect();
    let stretch =
        |number: usize| (number * block).max(range.start)..((number + 1) * block).min(range.end);
    let picked: Vec<usize> = match kind {
        Kind::Order | Kind::Cut if older && rng.one_in(3) => blocks,
        Kind::Order | Kind::Cut => blocks.into_iter().filter(|_| rng.one_in(2)).collect(),
        _ => (0..1 + rng.below(BLOCKS_MAX))
            .map(|_| *rng.pick(&blocks))
            .collect(),
    };
    for &number in &picked {
        let to = stretch(number);
        match kind {
            _ if older => leave_older(bytes, free, to),
            Kind::Order | Kind::Cut | Kind::Zero => bytes[to].fill(0),
            Kind::Repeat => {
                let from = rng.below(bytes.len() / block + 1) * block;
                copy_block(bytes, from + to.start % block, to);
            }
            Kind::Swap => swap_blocks(bytes, to, stretch(*rng.pick(&picked))),
        }
    }
    let told = match picked.len() {
        ..=TOLD_MAX => format!("{picked:?}"),
        count => format!("({count})"),
    };
    let left = if older {
        ", an older segment's left"
    } else {
        ""
    };
    said(format!(
        "{kind:?} of {block}-byte blocks {told} in {range:?}{left}"
    ))
}

/// What an older segment had in the file, but for the mark at its end, which is synced before use.
fn leave_older(bytes: &mut [u8], free: &Free, to: Range<usize>) {
    let end = to.end.min(bytes.len() - RECYCLED.len());
    let skipped = (to.start - free.range.start) % free.older.len();
    let older = free.older.iter().cycle().skip(skipped);
    for (byte, older) in bytes[to.start..end.max(to.start)].iter_mut().zip(older) {
        *byte = *older;
    }
}

/// As much of it as there is at `from`.
fn copy_block(bytes: &mut [u8], from: usize, to: Range<usize>) {
    let from = from.min(bytes.len());
    let length = to.len().min(bytes.len() - from);
    bytes.copy_within(from..from + length, to.start);
}

/// Of two blocks, one of which may begin or end within the stretch: as many bytes as both have.
fn swap_blocks(bytes: &mut [u8], one: Range<usize>, other: Range<usize>) {
    if one == other {
        return;
    }
    let length = one.len().min(other.len());
    for at in 0..length {
        bytes.swap(one.start + at, other.start + at);
    }
}
