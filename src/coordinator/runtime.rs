//! What every tenant stands on: where a name lives, how its shard is reached, how its records are
//! written and read back.

use super::load;
use super::records::{Record, batch_of};
use crate::engine::append;
use crate::engine::catalog::Topic;
use crate::engine::catalog::changes::{self, AdminError, NewTopic};
use crate::engine::mailbox::{self, Mailbox, Mailboxes};
use crate::engine::{Engine, PartitionKey};
use crate::io::clock;
use crate::io::rate_limited::{self, RateLimited};
use crate::io::reactor;
use futures_util::future::join_all;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Display;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;

/// Why no coordinator could be asked. Clients find the coordinator again and retry.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CoordinatorError {
    /// The broker stops, or the name's home cannot be read.
    #[error("this broker does not coordinate the name now")]
    NotCoordinator,
    #[error("the coordinators' topic cannot be created")]
    NotAvailable,
}

/// What the runtime must know of a kind of coordinator.
pub trait Tenant: Sized + 'static {
    /// What the records of one home add up to while they are read.
    type Stored: Default;

    fn runtime(&self) -> &Runtime<Self>;

    /// Applies a record, in the order of their offsets; `None` deletes what the key names. Records that make
    /// no sense are logged and skipped.
    fn apply(stored: &mut Self::Stored, key: &[u8], value: Option<&[u8]>);

    /// Takes over what was read from a home that this shard owns. May write to it.
    fn adopt(self: &Rc<Self>, home: PartitionKey, stored: Self::Stored);
}

/// A tenant's topic. Each partition is the home of many names.
#[derive(Clone, Debug)]
pub struct InternalTopic {
    pub name: &'static str,
    /// What its records are, in log lines.
    pub holds: &'static str,
    /// Partitions when it is created; never changed afterwards, because a name's home follows from it.
    pub partitions: u32,
    pub configs: &'static [(&'static str, &'static str)],
}

/// One shard's part of a tenant `T`.
pub struct Runtime<T> {
    pub engine: Rc<Engine>,
    topic: InternalTopic,
    mailboxes: Mailboxes<T>,
    /// Taken when the shard begins to serve.
    mailbox: RefCell<Option<Mailbox<T>>>,
    /// Homes on this shard that could not be read: nothing is known of their names.
    pub(super) unread: RefCell<HashSet<PartitionKey>>,
}

impl<T: Tenant> Runtime<T> {
    pub fn new(
        engine: &Rc<Engine>,
        topic: InternalTopic,
        (mailboxes, mailbox): (Mailboxes<T>, Mailbox<T>),
    ) -> Runtime<T> {
        Runtime {
            engine: Rc::clone(engine),
            topic,
            mailboxes,
            mailbox: RefCell::new(Some(mailbox)),
            unread: RefCell::default(),
        }
    }

    // ---- homes ----

    /// The home of a name; `None` while the tenant's topic is not created.
    pub fn home_of(&self, name: &str) -> Option<PartitionKey> {
        let topic = self.engine.topic(self.topic.name)?;
        Some(home_in(&topic, name))
    }

    /// The home of a name. Creates the topic on first use.
    ///
    /// # Errors
    /// `NotAvailable` when the topic cannot be created.
    pub async fn find_home(&self, name: &str) -> Result<PartitionKey, CoordinatorError> {
        let topic = self.ensure_topic().await.map_err(|error| {
            self.log_failure(&error, "cannot be created");
            CoordinatorError::NotAvailable
        })?;
        Ok(home_in(&topic, name))
    }

    /// Creates the tenant's topic if it is not there yet.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn ensure_topic(&self) -> Result<Arc<Topic>, AdminError> {
        if let Some(topic) = self.engine.topic(self.topic.name) {
            return Ok(topic);
        }
        let configs = self.topic.configs.iter();
        let new = NewTopic {
            name: self.topic.name.to_owned(),
            partitions: self.topic.partitions,
            configs: configs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        match changes::create_internal_topic(&self.engine, new).await {
            Err(AdminError::TopicExists(_)) => self
                .engine
                .topic(self.topic.name)
                .ok_or(AdminError::UnknownTopic),
            other => other,
        }
    }

    /// Whether there are homes on this shard that could not be read.
    pub fn has_unread(&self) -> bool {
        !self.unread.borrow().is_empty()
    }

    // ---- the other shards ----

    pub fn shard_count(&self) -> usize {
        self.mailboxes.shard_count()
    }

    /// Calls from other shards that wait in a shard's mailbox.
    pub fn mailbox_depth(&self, shard: usize) -> usize {
        self.mailboxes.depth(shard)
    }

    /// Runs `act` on the shard that owns `home` and returns its answer. `own` is this shard's tenant.
    ///
    /// # Errors
    /// `NotCoordinator` when that shard stops or could not read the home, and what `act` returns.
    pub async fn call<R, E, F>(
        &self,
        own: &Rc<T>,
        home: PartitionKey,
        act: impl FnOnce(Rc<T>) -> F + Send + 'static,
    ) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<CoordinatorError> + Send + 'static,
        F: Future<Output = Result<R, E>> + 'static,
    {
        let act = move |tenant| act_at(tenant, home, act);
        let owner = self.engine.owner_of(home);
        let answer = self.mailboxes.call(own, owner, act).await;
        answer.unwrap_or_else(|_| Err(CoordinatorError::NotCoordinator.into()))
    }

    /// As [`call`](Self::call), but the work is dropped when the caller is gone: for answers that may
    /// take minutes.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_while_wanted<R, E, F>(
        &self,
        own: &Rc<T>,
        home: PartitionKey,
        act: impl FnOnce(Rc<T>) -> F + Send + 'static,
    ) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<CoordinatorError> + Send + 'static,
        F: Future<Output = Result<R, E>> + 'static,
    {
        let act = move |tenant| act_at(tenant, home, act);
        let owner = self.engine.owner_of(home);
        let answer = self.mailboxes.call_while_wanted(own, owner, act).await;
        answer.unwrap_or_else(|_| Err(CoordinatorError::NotCoordinator.into()))
    }

    /// Returns when all shards have read what had arrived at their sockets before this call, and when the
    /// calls that followed from it have run here. It waits for a shard that is stalled.
    pub async fn await_arrived(&self, own: &Rc<T>) {
        let asker = self.mailboxes.own_shard();
        let ask = |shard| {
            let read_and_answer = move |tenant: Rc<T>| async move {
                read_arrived().await;
                // Behind all calls that were sent meanwhile.
                let mailboxes = &tenant.runtime().mailboxes;
                let _ = mailboxes.call(&tenant, asker, async |_| ()).await;
            };
            self.mailboxes.call(own, shard, read_and_answer)
        };
        // A shard that has stopped reads nothing more.
        join_all((0..self.shard_count()).map(ask)).await;
    }

    /// Asks a shard; `None` when it has stopped.
    pub async fn ask<R: Send + 'static>(
        &self,
        own: &Rc<T>,
        shard: usize,
        ask: impl FnOnce(&T) -> R + Send + 'static,
    ) -> Option<R> {
        let call = move |tenant: Rc<T>| async move { ask(&tenant) };
        self.mailboxes.call(own, shard, call).await.ok()
    }

    /// Asks every shard, one after the other. Shards that have stopped are left out.
    pub async fn ask_all<R: Send + 'static>(
        &self,
        own: &Rc<T>,
        ask: impl Fn(&T) -> R + Copy + Send + 'static,
    ) -> Vec<R> {
        let mut answers = Vec::new();
        for shard in 0..self.shard_count() {
            answers.extend(self.ask(own, shard, ask).await);
        }
        answers
    }

    /// When the broker stops, its coordinators are unloaded: that they do not know a name does not mean
    /// that there is none. Nothing is known of a home that could not be read.
    fn check_coordinates(&self, home: PartitionKey) -> Result<(), CoordinatorError> {
        if self.engine.is_stopping() || self.unread.borrow().contains(&home) {
            return Err(CoordinatorError::NotCoordinator);
        }
        Ok(())
    }

    // ---- records ----

    /// Appends records to a home that this shard owns; the future says whether they became durable.
    /// They are appended before this returns, so writes become durable in the order of the calls, and
    /// whether or not the future is awaited. A failure is logged.
    pub fn write<E: Display>(
        &self,
        home: PartitionKey,
        records: Result<Vec<Record>, E>,
    ) -> impl Future<Output = bool> + use<T, E> {
        let (done, written) = oneshot::channel();
        match records {
            Ok(records) if records.is_empty() => drop(done.send(true)),
            Ok(records) => self.append(home, &records, done),
            Err(error) => {
                self.log_failure(&error, "has no room for a record");
                let _ = done.send(false);
            }
        }
        async move { written.await.unwrap_or(false) }
    }

    fn append(&self, home: PartitionKey, records: &[Record], done: oneshot::Sender<bool>) {
        let batch = batch_of(records, clock::steady_ms());
        let appending = append::append_own(&self.engine, home, batch.into());
        let name = self.topic.name;
        reactor::spawn(async move {
            let result = appending.outcome().await;
            if let Err(refusal) = &result {
                log_failure(name, refusal, "cannot be written");
            }
            let _ = done.send(result.is_ok());
        });
    }

    fn log_failure(&self, error: &impl Display, what: &str) {
        log_failure(self.topic.name, error, what);
    }

    // ---- start ----

    /// Reads the homes that this shard owns. Blocks: at start only. The names of a home that cannot be
    /// read whole are not served: with old state, or none, they would do what they should not.
    pub fn load(&self, own: &Rc<T>) {
        let Some(topic) = self.engine.topic(self.topic.name) else {
            return;
        };
        for home in topic.keys() {
            let Some(partition) = self.engine.partition(home) else {
                continue;
            };
            let mut stored = T::Stored::default();
            let read = load::read_all(&partition, |key, value| {
                T::apply(&mut stored, key, value);
            });
            match read {
                Ok(()) => own.adopt(home, stored),
                Err(error) => {
                    tracing::error!(topic = topic.name, partition = home.index, %error,
                        "this partition cannot be read; the {} in it are not served until it is mended",
                        self.topic.holds);
                    self.unread.borrow_mut().insert(home);
                }
            }
        }
    }

    /// Takes the calls of other shards from now on.
    pub fn serve(&self, own: &Rc<T>) {
        if let Some(mailbox) = self.mailbox.take() {
            reactor::spawn(mailbox::receive(Rc::clone(own), mailbox));
        }
    }
}

/// Runs `act`, unless this shard does not coordinate `home`.
async fn act_at<T, R, E, F>(
    tenant: Rc<T>,
    home: PartitionKey,
    act: impl FnOnce(Rc<T>) -> F,
) -> Result<R, E>
where
    T: Tenant,
    E: From<CoordinatorError>,
    F: Future<Output = Result<R, E>>,
{
    tenant.runtime().check_coordinates(home)?;
    act(tenant).await
}

/// Returns when this thread has read what had arrived at its sockets before, and has run the tasks that
/// waited for it. A sleep lets the thread park, which submits and completes what is to be read; the second
/// one is for those who had to read twice.
async fn read_arrived() {
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn home_in(topic: &Topic, name: &str) -> PartitionKey {
    PartitionKey {
        topic_id: topic.id,
        index: partition_of(name, topic.partitions),
    }
}

/// The partition of a name: as Kafka computes it, from Java's hash of the name.
fn partition_of(name: &str, partitions: u32) -> u32 {
    let hash = name.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    (hash as u32 & 0x7fff_ffff) % partitions.max(1)
}

/// With a full disk each write would log a line.
fn log_failure(topic: &str, error: &impl Display, what: &str) {
    static LINE: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);
    if let Some(kept_back) = LINE.admit() {
        tracing::error!(topic, %error, kept_back, "an internal topic {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_live_where_kafka_puts_them() {
        // Java: Math.abs("console-consumer-1".hashCode() & 0x7fffffff) % 50 and so on.
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("ab", 50), (97 * 31 + 98) % 50);
        assert_eq!(partition_of("", 50), 0);
    }
}
