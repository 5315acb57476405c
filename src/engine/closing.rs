//! The clean end of a shard's logs.

use super::{Engine, SharedPartition};
use crate::config::Durability;
use crate::io::clock;
use futures_util::future::join_all;
use std::rc::Rc;

impl Engine {
    /// Closes all active segments for a clean stop, after the last flush, and asks for checkpoints.
    /// What cannot be completed is read again at the next start.
    pub async fn close_logs(self: &Rc<Self>) {
        let shards = self.mailboxes.shard_count();
        self.workers.start_closers(self.shard, shards).await;
        let partitions = self.partitions();
        join_all(partitions.iter().map(|one| self.close_log(one))).await;
    }

    async fn close_log(self: &Rc<Self>, partition: &SharedPartition) {
        let sealed = partition.borrow_mut().log.close_active(clock::now_ms());
        if let Ok(Some(mut job)) = sealed {
            // What is not durable in the segment is the next flush's, before its checkpoint. Only with
            // `durability=os` the log takes for durable what no flush has synced.
            job.sync = self.config.durability == Durability::Os;
            let result = self
                .workers
                .run_for(partition.borrow().index, move || job.run())
                .await;
            partition.borrow_mut().seal_done(&result);
            partition.borrow_mut().log.want_checkpoint();
        }
        if partition.borrow().log.needs_flush() {
            self.dirty.queue(partition);
        }
    }
}
