//! What a log should hold: a list of batches, and three offsets.

use millstream::log::LogConfig;
use millstream::log::batch::{self, BatchHeader};
use millstream::log::records::Records;

/// A record as compaction sees it.
struct Kept {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// That of its batch.
    horizon_ms: Option<i64>,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        let fields = |kept: &Kept| {
            (
                kept.offset,
                kept.timestamp,
                kept.key.clone(),
                kept.value.clone(),
            )
        };
        fields(self) == fields(other)
    }
}

fn records(batches: &[(BatchHeader, Vec<u8>)]) -> Vec<Kept> {
    let mut all = Vec::new();
    for (header, bytes) in batches {
        let unpacked = Records::unpack(*header, bytes, 1 << 24).unwrap();
        for record in unpacked.iter().map(Result::unwrap) {
            all.push(Kept {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                horizon_ms: header.delete_horizon_ms(),
            });
        }
    }
    all
}

#[derive(Default)]
pub struct Model {
    /// Every batch that was appended and not taken back by a power cut, deleted ones included.
    batches: Vec<(BatchHeader, Vec<u8>)>,
    pub start: i64,
    pub durable: i64,
    /// The start offset that no crash may undercut.
    pub durable_start: i64,
    /// Compaction took records away.
    pub has_gaps: bool,
}

impl Model {
    pub fn end(&self) -> i64 {
        self.batches
            .last()
            .map_or(0, |(header, _)| header.next_offset())
    }

    pub fn append(&mut self, mut bytes: Vec<u8>, base: i64, append_time_ms: Option<i64>) {
        assert_eq!(base, self.end());
        batch::patch_position(&mut bytes, base, 0);
        if let Some(now_ms) = append_time_ms {
            let (head, records) = bytes.split_at_mut(batch::HEADER_BYTES);
            batch::patch_append_time(head, records, now_ms);
        }
        self.batches
            .push((BatchHeader::parse(&bytes).unwrap(), bytes));
    }

    /// A power cut took everything from `end` on.
    pub fn truncate(&mut self, end: i64) {
        self.batches.retain(|(header, _)| header.base_offset < end);
        assert_eq!(
            self.end(),
            end,
            "the log ends inside a batch or beyond the last one"
        );
    }

    /// Returns the offset after the last record in `found`.
    pub fn check_read(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        found: Option<&[u8]>,
        segment_bases: &[i64],
    ) -> i64 {
        let at = self
            .batches
            .partition_point(|(header, _)| header.next_offset() <= offset);
        let first_size = self.batches[at].1.len();
        let Some(mut rest) = found else {
            assert!(
                first_size > max_bytes && !at_least_one,
                "nothing was read at {offset}"
            );
            return offset;
        };
        let size = rest.len();
        assert!(size <= max_bytes || (at_least_one && size == first_size));
        let mut next = offset;
        let mut batches = self.batches[at..].iter();
        while !rest.is_empty() {
            let (header, bytes) = batches.next().expect("more than was ever appended");
            assert!(
                rest.starts_with(bytes),
                "batch {} differs",
                header.base_offset
            );
            rest = &rest[bytes.len()..];
            next = header.next_offset();
        }
        assert!(
            next <= self.durable,
            "read to {next}, durable is {}",
            self.durable
        );
        assert!(next > offset);
        if let Some((_, bytes)) = batches.next() {
            let stops = next == self.durable || segment_bases.contains(&next);
            assert!(
                stops || size + bytes.len() > max_bytes,
                "the read of {max_bytes} from {offset} stopped early at {next} after {size}, {}, {segment_bases:?}",
                bytes.len()
            );
        }
        next
    }

    /// A compaction put `new` into the place of the batches from `from` to `end`. Every record that is
    /// gone must have a reason to be.
    pub fn compact(&mut self, from: i64, end: i64, new: &[u8], now_ms: i64) {
        let mut compacted = Vec::new();
        let mut rest = new;
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).unwrap();
            let (bytes, left) = rest.split_at(header.size());
            assert!(batch::crc_matches(bytes));
            compacted.push((header, bytes.to_vec()));
            rest = left;
        }
        let range = from..end;
        assert_eq!(
            compacted.last().map(|(header, _)| header.next_offset()),
            Some(end)
        );
        let before = self
            .batches
            .partition_point(|(header, _)| header.base_offset < from);
        let after = self
            .batches
            .partition_point(|(header, _)| header.base_offset < end);
        let old: Vec<_> = self.batches.splice(before..after, compacted).collect();
        self.has_gaps = true;
        let left = records(&self.batches);
        let kept: Vec<_> = left
            .iter()
            .filter(|kept| range.contains(&kept.offset))
            .collect();
        let gone: Vec<_> = records(&old)
            .into_iter()
            .filter(|record| !kept.contains(&record))
            .collect();
        // Nothing came that was not there, and nothing changed its place.
        assert_eq!(kept.len() + gone.len(), records(&old).len());
        assert!(left.is_sorted_by_key(|record| record.offset));
        for record in gone {
            let same_key = |other: &&Kept| record.key.is_some() && other.key == record.key;
            let mut same = left.iter().filter(same_key);
            let is_superseded = same.clone().any(|other| other.offset > record.offset);
            let is_over =
                record.value.is_none() && record.horizon_ms.is_some_and(|at| at <= now_ms);
            assert!(
                record.key.is_none() || is_superseded || is_over,
                "record {} went for no reason",
                record.offset
            );
            let start = self.start;
            let older = same.find(|other| (start..record.offset).contains(&other.offset));
            assert!(
                is_superseded || older.is_none(),
                "the tombstone {} went before what it deletes",
                record.offset
            );
        }
    }

    pub fn check_time(&self, timestamp: i64, from: i64, found: Option<&[u8]>) {
        let expected = self.batches.iter().find(|(header, _)| {
            header.max_timestamp >= timestamp
                && header.last_offset() >= from
                && header.next_offset() <= self.durable
        });
        let expected = expected.map(|(_, bytes)| bytes.as_slice());
        assert!(expected == found, "lookup of time {timestamp} from {from}");
    }

    pub fn max_timestamp_from(&self, offset: i64) -> i64 {
        let late = self
            .batches
            .iter()
            .filter(|(header, _)| header.last_offset() >= offset);
        late.map(|(header, _)| header.max_timestamp)
            .max()
            .unwrap_or(-1)
    }

    /// Each segment that goes must have a reason to, as of before: `bases` are the oldest ones.
    pub fn check_deletion(
        &self,
        bases: &[i64],
        config: &LogConfig,
        segment_bases: &[i64],
        log_bytes: u64,
        now_ms: i64,
    ) {
        // What is not durable may be taken back, so nothing goes for it.
        let not_durable = self
            .batches
            .iter()
            .filter(|(header, _)| header.base_offset >= self.durable);
        let not_durable: usize = not_durable.map(|(_, bytes)| bytes.len()).sum();
        let mut left = log_bytes - not_durable as u64;
        for base in bases {
            let end = segment_bases.iter().find(|next| *next > base);
            let end = end.copied().unwrap_or(i64::MAX);
            let segment = self
                .batches
                .iter()
                .filter(|(header, _)| (*base..end).contains(&header.base_offset));
            let newest = segment
                .clone()
                .map(|(header, _)| header.max_timestamp)
                .max();
            let bytes: usize = segment.map(|(_, bytes)| bytes.len()).sum();
            assert!(end <= self.durable);
            let below_start = end <= self.start;
            let old = config.retention_ms >= 0
                && newest.is_none_or(|newest| now_ms - newest > config.retention_ms);
            let too_much =
                config.retention_bytes >= 0 && left - bytes as u64 >= config.retention_bytes as u64;
            assert!(
                below_start || old || too_much,
                "segment {base} was deleted for no reason"
            );
            left -= bytes as u64;
        }
    }
}
