//! The only door between shards: a bounded queue of calls for each shard.
//!
//! A call is a closure that runs on the other shard's thread with that shard's engine. Calls from one
//! place to one shard run in the order they were sent. The receiving side never waits: what takes
//! time is spawned. So full mailboxes hold senders back, and cannot lock each other up.

use super::Engine;
use std::rc::Rc;
use tokio::sync::mpsc;

/// What one shard asks another to do.
pub type Call = Box<dyn FnOnce(&Rc<Engine>) + Send>;

/// The sending ends of all shards' mailboxes, by shard number.
#[derive(Clone)]
pub struct Mailboxes {
    senders: Vec<mpsc::Sender<Call>>,
}

/// A shard's receiving end.
pub type Mailbox = mpsc::Receiver<Call>;

/// Makes the mailboxes of `shards` shards, each for `depth` calls.
pub fn mailboxes(shards: usize, depth: usize) -> (Mailboxes, Vec<Mailbox>) {
    let (senders, receivers) = (0..shards).map(|_| mpsc::channel(depth)).unzip();
    (Mailboxes { senders }, receivers)
}

impl Mailboxes {
    pub fn shard_count(&self) -> usize {
        self.senders.len()
    }

    /// Puts a call into a shard's mailbox; waits while it is full. A shard that has stopped takes no
    /// calls: the closure is dropped, and whoever waits for its answer sees that.
    pub async fn send(&self, shard: usize, call: Call) {
        if let Some(sender) = self.senders.get(shard) {
            let _ = sender.send(call).await;
        }
    }

    /// Calls waiting in a shard's mailbox.
    pub fn depth(&self, shard: usize) -> usize {
        self.senders
            .get(shard)
            .map_or(0, |sender| sender.max_capacity() - sender.capacity())
    }
}
