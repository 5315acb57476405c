//! Reading the groups that a start finds in `__consumer_offsets`.

use crate::engine::catalog::OFFSETS_TOPIC;
use crate::engine::offsets_topic;
use crate::engine::{Engine, PartitionKey};
use std::rc::Rc;

impl Engine {
    /// Reads this shard's part of `__consumer_offsets`. Blocks: at start only. The groups of a partition
    /// that cannot be read whole are not served: with old offsets, or none, they would read again or skip
    /// what they should not.
    pub fn load_groups(self: &Rc<Self>) {
        let Some(topic) = self.topic(OFFSETS_TOPIC) else {
            return;
        };
        for index in 0..topic.partitions {
            let key = PartitionKey {
                topic_id: topic.id,
                index,
            };
            let Some(partition) = self.partition(key) else {
                continue;
            };
            let mut loaded = offsets_topic::Loaded::default();
            let mut inner = partition.borrow_mut();
            let before = inner.log.damage().clone();
            let read = offsets_topic::load(&mut inner.log, &mut loaded);
            let known: Vec<_> = before.iter().cloned().collect();
            let found = inner
                .log
                .damage()
                .iter()
                .filter(|damage| !known.contains(damage));
            let found: Vec<_> = found.cloned().collect();
            inner.tell_damage(&found);
            if !found.is_empty()
                && let Err(error) = inner.log.damage().write(inner.log.dir())
            {
                tracing::error!(dir = %inner.log.dir().display(), %error,
                    "what is damaged cannot be noted; it is found again when it is read");
            }
            // Who adopts the groups may write to the partition.
            drop(inner);
            match read {
                Ok(()) => self.adopt_groups(key, loaded),
                Err(error) => {
                    tracing::error!(topic = OFFSETS_TOPIC, partition = index, %error,
                        "this partition cannot be read; the groups in it are not served until it is mended");
                    self.groups.unread.borrow_mut().insert(key);
                }
            }
        }
    }
}
