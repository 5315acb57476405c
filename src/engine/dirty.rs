//! The partitions of a shard that have something to flush.

use super::SharedPartition;
use std::cell::RefCell;
use std::mem;
use std::rc::Rc;
use tokio::sync::Notify;

/// Partitions to flush, each once.
#[derive(Default)]
pub struct DirtyList {
    partitions: RefCell<Vec<SharedPartition>>,
    wake: Notify,
}

impl DirtyList {
    /// Adds a partition, unless it is on the list or closed.
    pub fn queue(&self, partition: &SharedPartition) {
        let mut inner = partition.borrow_mut();
        if inner.queued_for_flush || inner.is_closed() {
            return;
        }
        inner.queued_for_flush = true;
        self.partitions.borrow_mut().push(Rc::clone(partition));
        self.wake.notify_one();
    }

    /// Waits until there are some and takes them all. Each counts as queued until its
    /// [`flush_begin`](super::partition::Partition::flush_begin).
    pub async fn take(&self) -> Vec<SharedPartition> {
        loop {
            let dirty = mem::take(&mut *self.partitions.borrow_mut());
            if !dirty.is_empty() {
                return dirty;
            }
            self.wake.notified().await;
        }
    }
}
