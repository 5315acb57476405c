//! The only door between shards: a bounded queue of calls for each shard.
//!
//! A call is a closure that runs on the other shard's thread with that shard's `T`: its engine, or one
//! of its coordinators, which have mailboxes of their own. Calls from one place to one shard run in
//! the order in which they were sent. The receiver never waits: what takes time is spawned. So full
//! mailboxes hold senders back and cannot lock each other up.

use super::EngineError;
use crate::io::reactor;
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
    pub fn own_shard(&self) -> usize {
        self.own_shard
    }

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
            reactor::spawn(answer(call(Rc::clone(other)), sender));
        };
        self.send(shard, Box::new(run)).await;
        answered.await.map_err(|_| EngineError::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, poll};
    use std::cell::RefCell;
    use tokio::runtime::Builder;
    use tokio::sync::Notify;
    use tokio::task::{LocalSet, yield_now};

    /// What a shard has here: a list of numbers.
    type Numbers = RefCell<Vec<u32>>;

    struct Shard {
        own: Rc<Numbers>,
        mailboxes: Mailboxes<Numbers>,
        mailbox: Mailbox<Numbers>,
    }

    fn shards<const N: usize>(depth: usize) -> [Shard; N] {
        let shards = mailboxes(N, depth).into_iter();
        let shards = shards.map(|(mailboxes, mailbox)| Shard {
            own: Rc::default(),
            mailboxes,
            mailbox,
        });
        let shards: Vec<Shard> = shards.collect();
        shards.try_into().ok().expect("one element for each shard")
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, test);
    }

    /// Adds a number; returns how many there are.
    async fn add(numbers: Rc<Numbers>, number: u32) -> usize {
        numbers.borrow_mut().push(number);
        numbers.borrow().len()
    }

    #[test]
    fn calls_run_with_what_their_shard_has_in_the_order_in_which_they_were_sent() {
        run(async {
            let [one, two] = shards(4);
            let there = Rc::clone(&two.own);
            reactor::spawn(receive(two.own, two.mailbox));
            for number in 1..=3 {
                let call = move |numbers| add(numbers, number);
                let answer = one.mailboxes.call(&one.own, 1, call);
                assert_eq!(answer.await, Ok(number as usize));
            }
            let call = |numbers| add(numbers, 9);
            let mut here = Box::pin(one.mailboxes.call(&one.own, 0, call));
            assert_eq!(here.as_mut().now_or_never(), Some(Ok(1)), "on the spot");
            assert_eq!(*there.borrow(), [1, 2, 3]);
            assert_eq!(*one.own.borrow(), [9]);
        });
    }

    #[test]
    fn a_full_mailbox_holds_senders_back_until_a_call_is_taken() {
        run(async {
            let [one, mut two] = shards(1);
            let noop = || -> Call<Numbers> { Box::new(|_| {}) };
            one.mailboxes.send(1, noop()).await;
            assert_eq!(two.mailboxes.depth(1), 1);
            let mut second = Box::pin(one.mailboxes.send(1, noop()));
            assert!(poll!(second.as_mut()).is_pending());
            assert!(two.mailbox.recv().await.is_some());
            second.await;
            assert_eq!(one.mailboxes.depth(1), 1);
        });
    }

    #[test]
    fn only_work_that_waits_to_be_wanted_is_dropped_with_its_caller() {
        run(async {
            let [one, two] = shards(4);
            reactor::spawn(receive(two.own, two.mailbox));
            let work = |done: Arc<Notify>| {
                move |_: Rc<Numbers>| async move {
                    let _guard = Guard(done);
                    std::future::pending::<()>().await;
                }
            };
            let (kept, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let mut call = Box::pin(one.mailboxes.call(&one.own, 1, work(Arc::clone(&kept))));
            let wanted = work(Arc::clone(&dropped));
            let mut wanted = Box::pin(one.mailboxes.call_while_wanted(&one.own, 1, wanted));
            assert!(poll!(call.as_mut()).is_pending());
            assert!(poll!(wanted.as_mut()).is_pending());
            for _ in 0..10 {
                yield_now().await;
            }
            drop((call, wanted));
            dropped.notified().await;
            for _ in 0..10 {
                yield_now().await;
            }
            assert_eq!(kept.notified().now_or_never(), None);
        });
    }

    /// Notifies when it is dropped.
    struct Guard(Arc<Notify>);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    #[test]
    fn a_shard_that_has_stopped_takes_no_calls() {
        run(async {
            let [one, two] = shards(4);
            drop(two);
            let answer = one.mailboxes.call(&one.own, 1, |numbers| add(numbers, 1));
            assert_eq!(answer.await, Err(EngineError::Stopping));
        });
    }
}
