//! Which records of a batch were there before.

use std::sync::Arc;

/// Offsets of the records of a batch that were there before; -1 for those that were not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known(Arc<[i64]>);

impl Known {
    /// Offsets by the records' places.
    pub fn of(offsets: Vec<i64>) -> Known {
        Known(offsets.into())
    }

    pub fn offsets(&self) -> &[i64] {
        &self.0
    }

    /// The offset of the record at this place, if it was there before.
    pub fn at(&self, place: usize) -> Option<i64> {
        let offset = self.0.get(place).copied();
        offset.filter(|offset| *offset >= 0)
    }

    /// Whether the record at this place was not there before: none was, where nothing is `known`.
    pub fn is_new(known: Option<&Known>, place: u32) -> bool {
        known.is_none_or(|known| known.at(place as usize).is_none())
    }

    /// Whether all of them were.
    pub fn is_all(&self) -> bool {
        self.0.iter().all(|offset| *offset >= 0)
    }

    /// The offset of the first, where all were there before, one behind the other in the batch's order.
    pub fn base_offset(&self) -> Option<i64> {
        let base = *self.0.first()?;
        let mut expected = base..;
        let in_order = self.0.iter().all(|offset| Some(*offset) == expected.next());
        (base >= 0 && in_order).then_some(base)
    }

    /// The offset behind the last of them.
    pub fn end(&self) -> i64 {
        self.0.iter().max().map_or(0, |last| last + 1)
    }
}
