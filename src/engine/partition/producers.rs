//! What a partition tells of its producers, and when it forgets them.

use super::Partition;
use crate::engine::producers::{Producer, ProducerState};
use crate::io::clock;
use std::collections::HashMap;

impl Partition {
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// The offset of the last record of each producer that is remembered.
    pub fn producers_last_offsets(&self) -> HashMap<i64, i64> {
        let last =
            |(id, producer): (i64, &Producer)| Some((id, producer.batches.back()?.last_offset));
        self.producers.iter().filter_map(last).collect()
    }

    /// The producers that are remembered, by id.
    pub fn producers(&self) -> Vec<ProducerState> {
        self.producers.states()
    }

    /// Forgets producers that appended nothing for `idle_ms`.
    pub fn expire_producers(&mut self, idle_ms: i64) {
        self.producers.expire(clock::cautious_ms(), idle_ms);
        self.expire_ids();
    }
}
