//! The partitions of a shard that have something to flush.

use super::SharedPartition;
use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::Rc;
use tokio::sync::Notify;

/// Partitions to flush, each once.
#[derive(Default)]
pub struct DirtyList {
    partitions: RefCell<Vec<SharedPartition>>,
    wake: Notify,
    asked: Cell<u64>,
}

impl DirtyList {
    /// Adds a partition, unless it is on the list or closed.
    pub fn queue(&self, partition: &SharedPartition) {
        self.asked.set(self.asked.get() + 1);
        let mut inner = partition.borrow_mut();
        if inner.queued_for_flush || inner.is_closed() {
            return;
        }
        inner.queued_for_flush = true;
        self.partitions.borrow_mut().push(Rc::clone(partition));
        self.wake.notify_one();
    }

    /// How often a flush was asked for, mostly by an append, since the shard's start.
    pub fn asked(&self) -> u64 {
        self.asked.get()
    }

    /// Takes those that there are.
    pub fn take_now(&self) -> Vec<SharedPartition> {
        mem::take(&mut *self.partitions.borrow_mut())
    }

    /// Waits until there are some and takes them all. Each counts as queued until its
    /// [`flush_begin`](super::partition::Partition::flush_begin).
    pub async fn take(&self) -> Vec<SharedPartition> {
        loop {
            let dirty = self.take_now();
            if !dirty.is_empty() {
                return dirty;
            }
            self.wake.notified().await;
        }
    }
}
