//! A partition's state of idempotent producers: the last five batches of each.
//!
//! The rules are Kafka's `ProducerStateManager` (KIP-98, KIP-360). Unlike Kafka's snapshot, ours
//! keeps all five batches, so that a retry finds its offset after a crash too.

use crate::config::PARTITION_PRODUCERS_LIMIT;
use crate::log::batch::ProducerMark;
use crate::log::checkpoint;
use std::collections::{HashMap, VecDeque};
use thiserror::Error;

/// How many batches back a retry may be: the most that clients have in flight.
pub const BATCHES_KEPT: usize = 5;
/// The most producers whose refused first batch is remembered.
const REFUSED_MOST: usize = 10_000;
const SNAPSHOT_VERSION: u8 = 1;
/// Bytes of the snapshot before its first producer.
const SNAPSHOT_HEAD_BYTES: u64 = 5;
/// The most bytes of one producer in the snapshot.
const PRODUCER_BYTES_MAX: u64 = 19 + BATCHES_KEPT as u64 * 32;
// As many producers as may be remembered fit into a checkpoint.
const _: () = assert!(
    SNAPSHOT_HEAD_BYTES + PARTITION_PRODUCERS_LIMIT as u64 * PRODUCER_BYTES_MAX
        <= checkpoint::SNAPSHOT_BYTES_MAX
);

/// Why a batch does not follow what the producer sent before.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SequenceError {
    #[error("sequence {got} of producer {producer_id} does not follow {last}")]
    OutOfOrder {
        producer_id: i64,
        got: i32,
        last: i32,
    },
    #[error("epoch {got} of producer {producer_id} is older than {current}")]
    StaleEpoch {
        producer_id: i64,
        got: i16,
        current: i16,
    },
}

impl SequenceError {
    /// The sequence that would follow; `None` where another epoch would be needed.
    pub fn expected(&self) -> Option<i32> {
        match self {
            SequenceError::OutOfOrder { last, .. } => Some(sequence_after(*last, 1)),
            SequenceError::StaleEpoch { .. } => None,
        }
    }
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// It is in the log already.
    Duplicate(KeptBatch),
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptBatch {
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
    /// When it was appended (ms), where the topic's timestamps are the broker's; else -1.
    pub append_time_ms: i64,
}

/// What is remembered of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub epoch: i16,
    /// When it last appended (ms, by the later of the clocks), for expiry.
    pub last_ms: i64,
    /// Oldest first, at most [`BATCHES_KEPT`].
    pub batches: VecDeque<KeptBatch>,
}

/// A producer as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub producer_id: i64,
    pub epoch: i16,
    /// -1 when none of its batches is remembered.
    pub last_sequence: i32,
    /// When it last appended (ms).
    pub last_ms: i64,
}

/// The producers of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producers {
    by_id: HashMap<i64, Producer>,
    /// By unknown producer, the batch that was refused and should come again: its epoch and base
    /// sequence. Not in snapshots: after a restart everything behind it is sent again too.
    refused: HashMap<i64, (i16, i32)>,
    most: usize,
}

impl Default for Producers {
    /// None, and no limit.
    fn default() -> Producers {
        Producers {
            by_id: HashMap::new(),
            refused: HashMap::new(),
            most: usize::MAX,
        }
    }
}

impl Producer {
    fn last_sequence(&self) -> i32 {
        let last = self.batches.back();
        last.map_or(-1, |kept| kept.last_sequence)
    }
}

impl Producers {
    /// Remembers at most this many from now on: anyone can make up ids, and each costs memory and a
    /// place in every checkpoint. Those that were silent for longest are forgotten first.
    pub fn limited_to(mut self, most: usize) -> Producers {
        self.most = most;
        self
    }

    /// As if the last batch of each had never been sent: see [`crate::io::sabotage`].
    pub fn forget_last_batches(&mut self) {
        for producer in self.by_id.values_mut() {
            producer.batches.pop_back();
        }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All producers with their ids, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    /// All producers, by id.
    pub fn states(&self) -> Vec<ProducerState> {
        let state = |(producer_id, producer): (i64, &Producer)| ProducerState {
            producer_id,
            epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_ms: producer.last_ms,
        };
        let mut states: Vec<ProducerState> = self.iter().map(state).collect();
        states.sort_unstable_by_key(|state| state.producer_id);
        states
    }

    /// Checks whether a batch of `record_count` records follows what the producer sent before.
    pub fn check(&self, mark: &ProducerMark, record_count: i32) -> Result<Verdict, SequenceError> {
        let Some(producer) = self.by_id.get(&mark.producer_id) else {
            return self.check_unknown(mark);
        };
        let last_sequence = sequence_after(mark.base_sequence, record_count - 1);
        if mark.epoch == producer.epoch {
            let same = |kept: &&KeptBatch| {
                kept.base_sequence == mark.base_sequence && kept.last_sequence == last_sequence
            };
            if let Some(kept) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate(*kept));
            }
        }
        if mark.epoch < producer.epoch {
            return Err(SequenceError::StaleEpoch {
                producer_id: mark.producer_id,
                got: mark.epoch,
                current: producer.epoch,
            });
        }
        let last = producer.last_sequence();
        let expected = if mark.epoch > producer.epoch {
            0
        } else {
            sequence_after(last, 1)
        };
        if mark.base_sequence == expected || (mark.epoch == producer.epoch && last == -1) {
            return Ok(Verdict::Append);
        }
        Err(SequenceError::OutOfOrder {
            producer_id: mark.producer_id,
            got: mark.base_sequence,
            last,
        })
    }

    /// An unknown producer may start anywhere (its state may have expired, or its records were
    /// deleted), but not behind a batch that was refused: those in flight with it would be taken
    /// before it, and it never after them.
    fn check_unknown(&self, mark: &ProducerMark) -> Result<Verdict, SequenceError> {
        match self.refused.get(&mark.producer_id) {
            Some(&(epoch, first)) if epoch == mark.epoch && first != mark.base_sequence => {
                Err(SequenceError::OutOfOrder {
                    producer_id: mark.producer_id,
                    got: mark.base_sequence,
                    last: first - 1,
                })
            }
            _ => Ok(Verdict::Append),
        }
    }

    /// Notes a batch that passed [`check`](Self::check) but was not appended. The producer is expected to
    /// send it again.
    pub fn refuse(&mut self, mark: &ProducerMark) {
        if self.by_id.contains_key(&mark.producer_id) || self.check_unknown(mark).is_err() {
            return;
        }
        if self.refused.len() >= REFUSED_MOST {
            self.refused.clear();
        }
        self.refused
            .insert(mark.producer_id, (mark.epoch, mark.base_sequence));
    }

    /// Takes note of a batch that was appended.
    pub fn record(
        &mut self,
        mark: &ProducerMark,
        record_count: i32,
        base_offset: i64,
        append_time_ms: i64,
        now_ms: i64,
    ) {
        if self.by_id.len() >= self.most && !self.by_id.contains_key(&mark.producer_id) {
            self.forget_oldest(self.by_id.len() - self.most + self.most / 8);
        }
        self.refused.remove(&mark.producer_id);
        let producer = self.by_id.entry(mark.producer_id).or_insert(Producer {
            epoch: mark.epoch,
            last_ms: now_ms,
            batches: VecDeque::new(),
        });
        if producer.epoch != mark.epoch {
            producer.epoch = mark.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.last_ms = now_ms;
        producer.batches.push_back(KeptBatch {
            base_sequence: mark.base_sequence,
            last_sequence: sequence_after(mark.base_sequence, record_count - 1),
            base_offset,
            last_offset: base_offset + i64::from(record_count) - 1,
            append_time_ms,
        });
    }

    /// Forgets producers that appended nothing for `idle_ms`.
    pub fn expire(&mut self, now_ms: i64, idle_ms: i64) {
        self.by_id
            .retain(|_, producer| now_ms.saturating_sub(producer.last_ms) <= idle_ms);
    }

    /// Many at once, so that the search for them is rare.
    fn forget_oldest(&mut self, count: usize) {
        let mut ages: Vec<(i64, i64)> = self.by_id.iter().map(|(id, p)| (p.last_ms, *id)).collect();
        let (older, _, _) = ages.select_nth_unstable(count);
        for (_, id) in older {
            self.by_id.remove(id);
        }
    }

    /// The state as bytes for a checkpoint. Layout, big endian: version u8, count u32, then for each
    /// producer: id i64, epoch i16, last append ms i64, batches u8, and for each batch: base and last
    /// sequence i32, base and last offset i64, append time ms i64.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![SNAPSHOT_VERSION];
        bytes.extend_from_slice(&(self.by_id.len() as u32).to_be_bytes());
        for (id, producer) in &self.by_id {
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&producer.epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.last_ms.to_be_bytes());
            bytes.push(producer.batches.len() as u8);
            for kept in &producer.batches {
                bytes.extend_from_slice(&kept.base_sequence.to_be_bytes());
                bytes.extend_from_slice(&kept.last_sequence.to_be_bytes());
                bytes.extend_from_slice(&kept.base_offset.to_be_bytes());
                bytes.extend_from_slice(&kept.last_offset.to_be_bytes());
                bytes.extend_from_slice(&kept.append_time_ms.to_be_bytes());
            }
        }
        bytes
    }

    /// The state that [`encode`](Self::encode) wrote; `None` for anything else. An empty slice is
    /// the state of a new partition.
    pub fn decode(bytes: &[u8]) -> Option<Producers> {
        if bytes.is_empty() {
            return Some(Producers::default());
        }
        let mut rest = bytes;
        if number::<1>(&mut rest)? != [SNAPSHOT_VERSION] {
            return None;
        }
        let count = u32::from_be_bytes(number(&mut rest)?);
        let mut producers = Producers::default();
        for _ in 0..count {
            let id = i64::from_be_bytes(number(&mut rest)?);
            producers.by_id.insert(id, decode_producer(&mut rest)?);
        }
        rest.is_empty().then_some(producers)
    }
}

fn decode_producer(rest: &mut &[u8]) -> Option<Producer> {
    let mut producer = Producer {
        epoch: i16::from_be_bytes(number(rest)?),
        last_ms: i64::from_be_bytes(number(rest)?),
        batches: VecDeque::new(),
    };
    let [batches] = number::<1>(rest)?;
    if usize::from(batches) > BATCHES_KEPT {
        return None;
    }
    for _ in 0..batches {
        producer.batches.push_back(KeptBatch {
            base_sequence: i32::from_be_bytes(number(rest)?),
            last_sequence: i32::from_be_bytes(number(rest)?),
            base_offset: i64::from_be_bytes(number(rest)?),
            last_offset: i64::from_be_bytes(number(rest)?),
            append_time_ms: i64::from_be_bytes(number(rest)?),
        });
    }
    Some(producer)
}

fn number<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

/// Sequences run from 0 to 2^31 - 1 and start over.
fn sequence_after(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) % (1 << 31)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: i16, base_sequence: i32) -> ProducerMark {
        ProducerMark {
            producer_id: 9,
            epoch,
            base_sequence,
        }
    }

    /// Appends batches of `count` records from sequence 0 on, one after the other.
    fn after_batches(batches: i32, count: i32) -> Producers {
        let mut producers = Producers::default();
        for index in 0..batches {
            let mark = mark(0, index * count);
            assert_eq!(producers.check(&mark, count), Ok(Verdict::Append));
            producers.record(&mark, count, i64::from(index * count), -1, 1000);
        }
        producers
    }

    #[test]
    fn an_unknown_producer_may_start_at_any_sequence() {
        let producers = Producers::default();
        assert_eq!(producers.check(&mark(3, 77), 5), Ok(Verdict::Append));
    }

    #[test]
    fn what_was_in_flight_with_a_refused_first_batch_is_not_taken_before_it() {
        let mut producers = Producers::default();
        producers.refuse(&mark(0, 0));
        producers.refuse(&mark(0, 10));
        let behind = producers.check(&mark(0, 10), 10);
        assert!(matches!(
            behind,
            Err(SequenceError::OutOfOrder { last: -1, .. })
        ));
        assert_eq!(producers.check(&mark(0, 0), 10), Ok(Verdict::Append));
        producers.record(&mark(0, 0), 10, 0, -1, 0);
        assert_eq!(producers.check(&mark(0, 10), 10), Ok(Verdict::Append));
    }

    #[test]
    fn a_producer_that_gives_a_refused_batch_up_goes_on_in_a_newer_epoch() {
        let mut producers = Producers::default();
        producers.refuse(&mark(0, 0));
        assert_eq!(producers.check(&mark(1, 0), 10), Ok(Verdict::Append));
        producers.refuse(&mark(1, 0));
        assert!(producers.check(&mark(1, 10), 10).is_err());
    }

    #[test]
    fn a_retry_of_one_of_the_last_five_batches_gets_its_first_offset() {
        let producers = after_batches(7, 10);
        for batch in 2..7 {
            let verdict = producers.check(&mark(0, batch * 10), 10);
            let Ok(Verdict::Duplicate(kept)) = verdict else {
                panic!("{verdict:?}");
            };
            assert_eq!(kept.base_offset, i64::from(batch * 10));
            assert_eq!(kept.last_offset, i64::from(batch * 10 + 9));
        }
        let older = producers.check(&mark(0, 10), 10);
        assert!(matches!(older, Err(SequenceError::OutOfOrder { .. })));
    }

    #[test]
    fn a_gap_or_another_length_is_out_of_order() {
        let producers = after_batches(3, 10);
        for (sequence, count) in [(31, 1), (29, 1), (20, 9), (0, 9)] {
            let verdict = producers.check(&mark(0, sequence), count);
            assert!(
                matches!(verdict, Err(SequenceError::OutOfOrder { last: 29, .. })),
                "{sequence} {count}: {verdict:?}"
            );
        }
        assert_eq!(producers.check(&mark(0, 30), 1), Ok(Verdict::Append));
    }

    #[test]
    fn a_newer_epoch_starts_at_zero_and_an_older_one_is_fenced() {
        let mut producers = after_batches(3, 10);
        let skipped = producers.check(&mark(1, 30), 1);
        assert!(matches!(skipped, Err(SequenceError::OutOfOrder { .. })));
        assert_eq!(producers.check(&mark(1, 0), 10), Ok(Verdict::Append));
        producers.record(&mark(1, 0), 10, 30, -1, 1000);
        let stale = producers.check(&mark(0, 30), 1);
        assert!(matches!(stale, Err(SequenceError::StaleEpoch { .. })));
        let of_old_epoch = producers.check(&mark(0, 0), 10);
        assert!(matches!(
            of_old_epoch,
            Err(SequenceError::StaleEpoch { .. })
        ));
    }

    #[test]
    fn sequences_wrap_after_the_largest() {
        let mut producers = Producers::default();
        producers.record(&mark(0, i32::MAX - 1), 3, 0, -1, 0);
        assert_eq!(producers.check(&mark(0, 1), 1), Ok(Verdict::Append));
        let retried = producers.check(&mark(0, i32::MAX - 1), 3);
        assert!(matches!(retried, Ok(Verdict::Duplicate(_))));
    }

    #[test]
    fn a_snapshot_keeps_all_and_damaged_ones_are_refused() {
        let producers = after_batches(8, 3);
        let bytes = producers.encode();
        assert_eq!(Producers::decode(&bytes), Some(producers));
        for length in 1..bytes.len() {
            assert_eq!(Producers::decode(&bytes[..length]), None);
        }
    }

    #[test]
    fn idle_producers_are_forgotten() {
        let mut producers = after_batches(1, 1);
        producers.expire(1500, 500);
        assert_eq!(producers.len(), 1);
        producers.expire(1501, 500);
        assert!(producers.is_empty());
    }

    #[test]
    fn of_too_many_producers_the_longest_silent_are_forgotten() {
        const MOST: i64 = 80;
        let mut producers = Producers::default();
        let mark = |producer_id| ProducerMark {
            producer_id,
            epoch: 0,
            base_sequence: 0,
        };
        // More than the limit, as after it was lowered.
        for id in 0..2 * MOST {
            producers.record(&mark(id), 1, id, -1, id);
        }
        producers = producers.limited_to(MOST as usize);
        let newest = 2 * MOST;
        producers.record(&mark(newest), 1, newest, -1, newest);
        assert_eq!(producers.len() as i64, MOST - MOST / 8 + 1);
        let is_known = |id| producers.check(&mark(id), 1) != Ok(Verdict::Append);
        assert!(!is_known(0) && !is_known(MOST));
        assert!(is_known(newest - 1) && is_known(newest));
    }
}
