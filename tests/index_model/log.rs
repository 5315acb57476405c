//! What a partition's log must say of itself: it alone shows whether ids were stored once and conditions held.

use crate::support::batch::Fetched;
use millstream::log::batch::BatchHeader;
use millstream::log::records::Records;
use std::collections::BTreeMap;

/// Says what a record is known by.
pub const NUMBER: &[u8] = b"number";
pub const ID: &[u8] = b"idempotency-key";
pub const EXPECTED_OFFSET: &[u8] = b"millstream-expected-offset";
pub const EXPECTED_KEY_OFFSET: &[u8] = b"millstream-expected-key-offset";

/// A record as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the record is known by: no two that were sent have the same.
    pub number: i64,
    pub id: Option<u8>,
    pub key: Option<u8>,
    pub is_tombstone: bool,
}

/// A partition's records by offset, and what follows from them.
#[derive(Default)]
pub struct Log {
    pub records: BTreeMap<i64, Found>,
    pub ids: BTreeMap<u8, i64>,
    /// The newest record of each key, and whether it has no value.
    pub keys: BTreeMap<u8, (i64, bool)>,
    numbers: BTreeMap<i64, i64>,
    /// The offset that comes next.
    pub end: i64,
}

impl Log {
    /// Takes in what was fetched next, and checks it.
    pub fn read(&mut self, batches: &[Fetched]) {
        for batch in batches {
            assert_eq!(batch.base_offset, self.end, "a gap");
            let header = BatchHeader::parse(&batch.bytes).expect("a sound header");
            let records = Records::unpack(header, &batch.bytes, 1 << 20).expect("sound records");
            for record in records.iter() {
                let record = record.expect("a sound record");
                let (mut id, mut number_of_record) = (None, None);
                for (name, value) in &record.headers {
                    let value = value.expect("a value");
                    match *name {
                        NUMBER => number_of_record = Some(number(value)),
                        ID => id = Some(value[0]),
                        EXPECTED_OFFSET => {
                            assert_eq!(number(value), batch.base_offset, "an offset's condition");
                        }
                        EXPECTED_KEY_OFFSET => {
                            let key = record.key.expect("a key")[0];
                            assert_eq!(number(value), self.version(key), "a key's condition");
                        }
                        other => panic!("{other:?}"),
                    }
                }
                let found = Found {
                    number: number_of_record.expect("every record has a number"),
                    id,
                    key: record.key.map(|key| key[0]),
                    is_tombstone: record.value.is_none(),
                };
                self.note(record.offset, found);
            }
            self.end = batch.next_offset();
        }
    }

    fn note(&mut self, offset: i64, found: Found) {
        if let Some(id) = found.id {
            let before = self.ids.insert(id, offset);
            assert_eq!(before, None, "id {id} is stored again at {offset}");
        }
        if let Some(key) = found.key {
            self.keys.insert(key, (offset, found.is_tombstone));
        }
        let before = self.numbers.insert(found.number, offset);
        assert_eq!(before, None, "record {} is stored again", found.number);
        self.records.insert(offset, found);
    }

    /// Whether a record with this number is there.
    pub fn has(&self, number: i64) -> bool {
        self.numbers.contains_key(&number)
    }

    /// The offset of a key's newest record, -1 without one: what a condition is held against.
    pub fn version(&self, key: u8) -> i64 {
        let newest = self.keys.get(&key);
        newest.map_or(
            -1,
            |(offset, is_tombstone)| {
                if *is_tombstone { -1 } else { *offset }
            },
        )
    }
}

fn number(value: &[u8]) -> i64 {
    let text = std::str::from_utf8(value).expect("a text");
    text.parse().expect("a number")
}
