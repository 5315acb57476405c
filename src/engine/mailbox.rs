//! The only door between shards: a bounded queue of calls for each shard.
//!
//! A call is a closure that runs on the other shard's thread with that shard's `T`: its engine, or one
//! of its coordinators, which have mailboxes of their own. Calls from one place to one shard run in
//! the order in which they were sent. The receiver never waits: what takes time is spawned. So full
//! mailboxes hold senders back and cannot lock each other up.

use super::EngineError;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What one shard asks another to do.
pub type Call<T> = Box<dyn FnOnce(&Rc<T>) + Send>;

/// One shard's way to all shards: the sending ends of their mailboxes, by shard number.
pub struct Mailboxes<T> {
    own_shard: usize,
    senders: Arc<[mpsc::Sender<Call<T>>]>,
}

/// A shard's receiving end.
pub type Mailbox<T> = mpsc::Receiver<Call<T>>;

/// Makes the mailboxes of `shards` shards, each for `depth` calls. Each shard gets one element.
pub fn mailboxes<T>(shards: usize, depth: usize) -> Vec<(Mailboxes<T>, Mailbox<T>)> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| mpsc::channel(depth)).unzip();
    let senders: Arc<[_]> = senders.into();
    let way = |own_shard| Mailboxes {
        own_shard,
        senders: Arc::clone(&senders),
    };
    let ways = (0..shards).map(way);
    ways.zip(receivers).collect()
}

/// Runs what other shards ask of `own`, in the order in which they asked.
pub async fn receive<T>(own: Rc<T>, mut mailbox: Mailbox<T>) {
    while let Some(call) = mailbox.recv().await {
        call(&own);
    }
}

impl<T: 'static> Mailboxes<T> {
    pub fn shard_count(&self) -> usize {
        self.senders.len()
    }

    /// Puts a call into a shard's mailbox; waits while it is full. A shard that has stopped takes no
    /// calls: the closure is dropped, and a caller that waits for its answer sees that.
    pub async fn send(&self, shard: usize, call: Call<T>) {
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

    /// Runs `call` on a shard and returns its answer. On the caller's own shard it runs with `own`,
    /// within this future.
    ///
    /// # Errors
    /// `Stopping` when that shard takes no calls any more.
    pub async fn call<R, F>(
        &self,
        own: &Rc<T>,
        shard: usize,
        call: impl FnOnce(Rc<T>) -> F + Send + 'static,
    ) -> Result<R, EngineError>
    where
        R: Send + 'static,
        F: Future<Output = R> + 'static,
    {
        let answer = |future: F, answer: oneshot::Sender<R>| async move {
            // The caller may be gone.
            let _ = answer.send(future.await);
        };
        self.call_and(own, shard, call, answer).await
    }

    /// As [`call`](Self::call), but the work on the other shard is dropped when the caller is gone: for
    /// calls whose answer may take minutes.
    ///
    /// # Errors
    /// `Stopping` when that shard takes no calls any more.
    pub async fn call_while_wanted<R, F>(
        &self,
        own: &Rc<T>,
        shard: usize,
        call: impl FnOnce(Rc<T>) -> F + Send + 'static,
    ) -> Result<R, EngineError>
    where
        R: Send + 'static,
        F: Future<Output = R> + 'static,
    {
        let answer = |future: F, mut answer: oneshot::Sender<R>| async move {
            tokio::select! {
                result = future => {
                    let _ = answer.send(result);
                }
                () = answer.closed() => {}
            }
        };
        self.call_and(own, shard, call, answer).await
    }

    /// Runs `call` on a shard; on another one, `answer` sends the result back.
    async fn call_and<R, F, A>(
        &self,
        own: &Rc<T>,
        shard: usize,
        call: impl FnOnce(Rc<T>) -> F + Send + 'static,
        answer: impl FnOnce(F, oneshot::Sender<R>) -> A + Send + 'static,
    ) -> Result<R, EngineError>
    where
        R: Send + 'static,
        F: Future<Output = R> + 'static,
        A: Future<Output = ()> + 'static,
    {
        if shard == self.own_shard {
            return Ok(call(Rc::clone(own)).await);
        }
        let (sender, answered) = oneshot::channel();
        let run = move |other: &Rc<T>| {
            tokio::task::spawn_local(answer(call(Rc::clone(other)), sender));
        };
        self.send(shard, Box::new(run)).await;
        answered.await.map_err(|_| EngineError::Stopping)
    }
}
