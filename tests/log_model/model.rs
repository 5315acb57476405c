//! What a log should hold: a list of batches, and three offsets.

use millstream::log::LogConfig;
use millstream::log::batch::{self, BatchHeader};

#[derive(Default)]
pub struct Model {
    /// Every batch that was appended and not taken back by a power cut, deleted ones included.
    batches: Vec<(BatchHeader, Vec<u8>)>,
    pub start: i64,
    pub durable: i64,
    /// The start offset that no crash may undercut.
    pub durable_start: i64,
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
            batch::patch_append_time(&mut bytes, now_ms);
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
        let mut left = log_bytes;
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
