//! What must hold of a partition, whatever happens: what was acknowledged is there, once, where it was
//! said to be; what was seen stays; nothing is there that nobody sent.

use crate::support::batch::Fetched;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Partition {
    /// Every batch that was ever sent, by its number.
    sent: BTreeMap<u32, Sent>,
    /// Where batches must be: the number of each by its base offset.
    places: BTreeMap<i64, u32>,
    /// The start that was acknowledged, and how far one that was asked for may have come.
    pub start: i64,
    pub start_max: i64,
    /// Everything below was told to be durable.
    pub durable: i64,
}

struct Sent {
    records: i64,
    base: Option<i64>,
    /// It was acknowledged as durable, or read: not even a power cut takes it.
    is_durable: bool,
}

/// What was certain when a request was sent; its answer may not fall behind that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Certain {
    pub start: i64,
    pub durable: i64,
}

impl Partition {
    pub fn certain(&self) -> Certain {
        Certain {
            start: self.start,
            durable: self.durable,
        }
    }

    pub fn send(&mut self, number: u32, records: usize) {
        let sent = Sent {
            records: records as i64,
            base: None,
            is_durable: false,
        };
        self.sent.insert(number, sent);
    }

    pub fn was_acknowledged(&self, number: u32) -> bool {
        self.sent
            .get(&number)
            .is_some_and(|sent| sent.base.is_some())
    }

    /// The broker said that a batch is at `base`.
    pub fn acknowledge(&mut self, number: u32, base: i64, is_durable: bool) {
        self.place(number, base, is_durable);
    }

    /// A fetch from `asked` brought batches.
    pub fn fetched(&mut self, asked: i64, high: i64, batches: &[Fetched]) {
        let mut next = None;
        for batch in batches {
            let expected = next.unwrap_or(asked);
            match next {
                Some(next) => assert_eq!(batch.base_offset, next, "a gap in what was fetched"),
                None => assert!(
                    batch.base_offset <= expected,
                    "a fetch passed over {expected}"
                ),
            }
            assert!(
                batch.next_offset() > expected,
                "a batch before what was asked for"
            );
            assert!(
                batch.next_offset() <= high,
                "fetched beyond the high watermark"
            );
            let number = number_of(batch);
            let sent = self.sent.get(&number);
            let sent = sent.unwrap_or_else(|| panic!("batch {number} was never sent here"));
            assert_eq!(sent.records, i64::from(batch.record_count));
            self.place(number, batch.base_offset, true);
            next = Some(batch.next_offset());
        }
    }

    fn place(&mut self, number: u32, base: i64, is_durable: bool) {
        let sent = self.sent.get_mut(&number).expect("it was sent");
        let end = base + sent.records;
        let known = *sent.base.get_or_insert(base);
        assert_eq!(known, base, "batch {number} is at two places");
        sent.is_durable |= is_durable;
        if is_durable {
            self.durable = self.durable.max(end);
        }
        let there = *self.places.entry(base).or_insert(number);
        assert_eq!(there, number, "two batches at {base}");
        let before = self.places.range(..base).next_back();
        let after = self.places.range(base + 1..).next();
        let overlaps = before.is_some_and(|(at, other)| at + self.sent[other].records > base)
            || after.is_some_and(|(at, _)| *at < end);
        assert!(!overlaps, "batch {number} at {base} overlaps another");
    }

    /// What was in memory only is gone, or is not.
    pub fn lose_power(&mut self) {
        for sent in self.sent.values_mut().filter(|sent| !sent.is_durable) {
            if let Some(base) = sent.base.take() {
                self.places.remove(&base);
            }
        }
    }

    /// All that must be there from `start` on was read, up to `end`.
    pub fn check_complete(&self, start: i64, end: i64) {
        for (base, number) in self.places.range(start..) {
            let sent = &self.sent[number];
            assert!(
                base + sent.records <= end,
                "batch {number} at {base} is gone"
            );
        }
    }
}

/// Every value begins with the number of its batch and its place in it.
pub fn value(number: u32, place: usize, bytes: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.push(place as u8);
    value.resize(value.len() + bytes, b'.');
    value
}

fn number_of(batch: &Fetched) -> u32 {
    let values = batch.values();
    let number = |value: &[u8]| u32::from_be_bytes(value[..4].try_into().unwrap());
    for (place, value) in values.iter().enumerate() {
        assert_eq!(number(value), number(&values[0]), "batches are mixed up");
        assert_eq!(usize::from(value[4]), place, "records are out of order");
    }
    number(&values[0])
}
