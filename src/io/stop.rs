//! The signal that a shard is on its way out.

use std::cell::Cell;
use tokio::sync::Notify;

/// Set once, when a shard begins to stop. Its tasks look at it, or wait for it.
#[derive(Default)]
pub struct Stop {
    is_set: Cell<bool>,
    wake: Notify,
}

impl Stop {
    pub fn is_set(&self) -> bool {
        self.is_set.get()
    }

    pub fn set(&self) {
        self.is_set.set(true);
        self.wake.notify_waiters();
    }

    /// Returns once it is set.
    pub async fn wait(&self) {
        while !self.is_set.get() {
            self.wake.notified().await;
        }
    }
}
