//! What a crash, or a bad medium, makes of a file.

use super::durable::{Free, Parts};
use super::image::Image;
use crate::rng::Rng;
use std::collections::BTreeSet;
use std::ops::Range;

const BLOCKS: [usize; 2] = [512, 4096];
/// Stretches that are damaged at once, where it is not all of them.
const FEW: usize = 3;
/// Blocks that are zeroed, repeated or swapped at once.
const BLOCKS_MAX: usize = 4;
const FLIPS_MAX: usize = 4;

/// An image to be tried.
pub struct Damaged {
    pub image: Image,
    /// In words.
    pub what: String,
    /// Partitions whose durable bytes were changed.
    pub partitions: BTreeSet<(String, i32)>,
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
        partitions: BTreeSet::new(),
    }
}

/// Some bits of a segment before its durable point.
pub fn flip(image: &Image, parts: &Parts, rng: &mut Rng) -> Option<Damaged> {
    if parts.durable.is_empty() {
        return None;
    }
    let (path, range, topic, index) = rng.pick(&parts.durable);
    let mut flipped = image.clone();
    let content = flipped.files.get_mut(path)?;
    let mut what = Vec::new();
    for _ in 0..1 + rng.below(FLIPS_MAX) {
        let (at, bit) = (range.start + rng.below(range.len().max(1)), rng.below(8));
        *content.bytes.get_mut(at)? ^= 1 << bit;
        what.push(format!("bit {bit} of byte {at}"));
    }
    Some(Damaged {
        image: flipped,
        what: format!("{}: flipped {}", path.display(), what.join(", ")),
        partitions: BTreeSet::from([(topic.clone(), *index)]),
    })
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
    let bytes = &mut content.bytes;
    let blocks: Vec<usize> = (range.start / block..range.end.div_ceil(block)).collect();
    let stretch =
        |number: usize| (number * block).max(range.start)..((number + 1) * block).min(range.end);
    let picked: Vec<usize> = match kind {
        Kind::Order | Kind::Cut => blocks.into_iter().filter(|_| rng.one_in(2)).collect(),
        _ => (0..1 + rng.below(BLOCKS_MAX))
            .map(|_| *rng.pick(&blocks))
            .collect(),
    };
    for &number in &picked {
        let to = stretch(number);
        match kind {
            Kind::Order | Kind::Cut | Kind::Zero => bytes[to].fill(0),
            Kind::Repeat => {
                let from = rng.below(bytes.len() / block + 1) * block;
                copy_block(bytes, from + to.start % block, to);
            }
            Kind::Swap => swap_blocks(bytes, to, stretch(*rng.pick(&picked))),
        }
    }
    said(format!(
        "{kind:?} of {block}-byte blocks {picked:?} in {range:?}"
    ))
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
