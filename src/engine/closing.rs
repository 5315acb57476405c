//! The clean end of a shard's logs.

use super::{Engine, SharedPartition};
use crate::config::Durability;
use crate::io::clock;
use crate::io::worker::Worker;
use futures_util::future::join_all;
use std::cell::OnceCell;
use std::rc::Rc;

/// Threads that close the logs of all shards together. Their jobs wait for the disk and for little
/// else, and the disk serves many waits at once.
const CLOSERS: usize = 256;
/// However many shards there are, each has as many.
const CLOSERS_OF_SHARD_MIN: usize = 2;

/// The threads that a stop uses beside the shard's worker; there are none before.
#[derive(Default)]
pub struct Closers(OnceCell<Vec<Worker>>);

impl Closers {
    /// Starts them: as many as the system gives.
    fn start(&self, shard: usize, shards: usize) {
        let count = (CLOSERS / shards).max(CLOSERS_OF_SHARD_MIN);
        let start = |place| Worker::start(&format!("closer-{shard}-{place}")).ok();
        // A second stop finds them there.
        let _ = self.0.set((0..count).map_while(start).collect());
    }

    /// The one for a partition, always the same: the jobs of one log run in order.
    fn of(&self, index: u32) -> Option<&Worker> {
        let all = self.0.get().filter(|all| !all.is_empty())?;
        all.get(index as usize % all.len())
    }
}

impl Engine {
    /// Closes all active segments for a clean stop, after the last flush, and asks for checkpoints.
    /// What cannot be completed is read again at the next start.
    pub async fn close_logs(self: &Rc<Self>) {
        // From here on jobs of different logs overtake one another, but none those of its own log
        // that wait in the worker's queue.
        let _ = self.run_blocking(|| Ok(())).await;
        self.closers.start(self.shard, self.mailboxes.shard_count());
        let partitions = self.partitions();
        join_all(partitions.iter().map(|one| self.close_log(one))).await;
    }

    async fn close_log(self: &Rc<Self>, partition: &SharedPartition) {
        let sealed = partition.borrow_mut().log.close_active(clock::now_ms());
        if let Ok(Some(mut job)) = sealed {
            // What is not durable in the segment is the next flush's, before its checkpoint. Only with
            // `durability=os` the log takes for durable what no flush has synced.
            job.sync = self.config.durability == Durability::Os;
            let result = self.run_for(partition, move || job.run()).await;
            partition.borrow_mut().seal_done(&result);
            partition.borrow_mut().log.want_checkpoint();
        }
        if partition.borrow().log.needs_flush() {
            self.queue_flush(partition);
        }
    }

    /// Runs a blocking job of one log, after all of the same log that were handed over before: on the
    /// shard's worker thread, or, while the broker stops, beside those of other logs.
    pub fn run_for<T, J>(
        &self,
        partition: &SharedPartition,
        job: J,
    ) -> impl Future<Output = std::io::Result<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> std::io::Result<T> + Send + 'static,
    {
        let closer = self.closers.of(partition.borrow().index);
        self.run_on(closer.unwrap_or(&self.worker), job)
    }
}
