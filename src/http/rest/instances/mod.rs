//! Consumer instances: consumers that live in the broker, for clients that speak HTTP.
//!
//! An instance lives on one shard, which follows from its group's name: a connection may be on any. With topics it is a
//! member of its group, and its group keeps what it is (`settings`), so that it is there again after a restart. One
//! that has no topics, or named its partitions itself, is not.

mod assignor;
pub mod instance;
mod member;
pub mod offsets;
mod pattern;
pub mod settings;
pub mod state;

use crate::coordinator::groups::Groups;
use crate::coordinator::groups::consumer_protocol::PROTOCOL_TYPE;
use crate::engine::mailbox::{self, Mailbox, Mailboxes};
use crate::engine::{Engine, EngineError, PartitionKey};
use crate::http::leases::{Client, Leased, Leases, TooMany};
use crate::http::problem::Problem;
use crate::http::rest::error::refusal;
use crate::io::process;
use crate::io::reactor::{self, Slice};
use instance::Instance;
use settings::{Revived, Settings};
use state::Wanted;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

/// Instances of all shards together.
const INSTANCES_MAX: usize = 1_000;
/// An instance that is asked nothing for this long is gone.
const IDLE_MAX: Duration = Duration::from_secs(300);
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// The name of an instance that was used within this time is taken: else its client has lost it, and may have it again.
const NAME_KEPT: Duration = Duration::from_secs(10);
/// Names are kept in memory and in the group.
const NAME_BYTES_MAX: usize = 249;

/// What a shard's instances need to reach those of the others.
pub type Parts = (Mailboxes<Instances>, Mailbox<Instances>);

/// The consumer instances of one shard.
pub struct Instances {
    engine: Rc<Engine>,
    groups: Rc<Groups>,
    mailboxes: Mailboxes<Instances>,
    /// By group and name.
    known: RefCell<BTreeMap<(String, String), Hosted>>,
    /// Of the groups that this shard is the home of.
    leases: RefCell<Leases>,
}

/// An instance that lives on this shard.
struct Hosted {
    instance: Rc<Instance>,
    /// While it is a member of its group.
    member: Option<Task>,
}

/// A task that ends when this is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Instances {
    /// Makes a shard's instances, which those of others can reach from now on.
    pub fn serve(
        engine: &Rc<Engine>,
        groups: &Rc<Groups>,
        (mailboxes, mailbox): Parts,
    ) -> Rc<Instances> {
        let instances = Rc::new(Instances {
            engine: Rc::clone(engine),
            groups: Rc::clone(groups),
            mailboxes,
            known: RefCell::default(),
            leases: RefCell::new(Leases::new(process::random_u64())),
        });
        reactor::spawn(mailbox::receive(Rc::clone(&instances), mailbox));
        let sweeping = Rc::clone(&instances);
        reactor::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                sweeping.sweep().await;
            }
        });
        if engine.shard == 0 {
            let reviving = Rc::clone(&instances);
            reactor::spawn(async move { reviving.revive_all().await });
        }
        instances
    }

    /// Calls that wait in the mailbox of a shard's instances.
    pub fn mailbox_depth(&self, shard: usize) -> usize {
        self.mailboxes.depth(shard)
    }

    // ---- asked from any shard ----

    /// Creates an instance; without a name it gets one. Returns its name.
    ///
    /// # Errors
    /// 409 where the name is taken, 422 where it is too long, 429 where there are too many.
    pub async fn create(
        self: &Rc<Self>,
        group: String,
        name: Option<String>,
        settings: Settings,
    ) -> Result<String, Problem> {
        let name = name.unwrap_or_else(|| format!("rest-consumer-{}", Uuid::new_v4()));
        if name.is_empty() || name.len() > NAME_BYTES_MAX || group.len() > NAME_BYTES_MAX {
            let detail = format!(
                "Invalid consumer configuration: a name and a group have 1 to {NAME_BYTES_MAX} bytes"
            );
            return Err(refusal("bad-consumer-config", &detail));
        }
        let home = self.home_of(&group);
        let create = move |instances: Rc<Instances>| async move {
            let known = instances.look_up(&group, &name).await?;
            if known.is_some_and(|known| known.is_in_use(NAME_KEPT)) {
                let detail = format!("the group has an instance {name:?}");
                return Err(refusal("instance-exists", &detail));
            }
            instances.remove(&group, &name).await;
            instances.check_limit()?;
            instances.add((group, name.clone()), settings).touch();
            Ok(name)
        };
        self.call(home, create).await
    }

    /// Deletes an instance.
    ///
    /// # Errors
    /// 404 where there is none; so for all that follow.
    pub async fn delete(self: &Rc<Self>, group: String, name: String) -> Result<(), Problem> {
        let home = self.home_of(&group);
        let delete = move |instances: Rc<Instances>| async move {
            instances.find(&group, &name).await?;
            instances.remove(&group, &name).await;
            Ok(())
        };
        self.call(home, delete).await
    }

    /// Has an instance be a member of its group, for these topics.
    ///
    /// # Errors
    /// 409 where it named partitions itself; 422 for a pattern that is none.
    pub async fn subscribe(
        self: &Rc<Self>,
        group: String,
        name: String,
        wanted: Wanted,
    ) -> Result<(), Problem> {
        if let Wanted::Pattern(pattern) = &wanted {
            pattern::check(pattern)?;
        }
        let home = self.home_of(&group);
        let subscribe = move |instances: Rc<Instances>| async move {
            let instance = instances.find(&group, &name).await?;
            let before = instance.state.borrow().wanted.clone();
            if before == Wanted::Partitions {
                return Err(exclusive());
            }
            if before != wanted {
                instances.take_part(&instance, wanted);
            }
            Ok(())
        };
        self.call(home, subscribe).await
    }

    /// Has an instance leave its group, and its partitions.
    pub async fn unsubscribe(self: &Rc<Self>, group: String, name: String) -> Result<(), Problem> {
        let home = self.home_of(&group);
        let unsubscribe = move |instances: Rc<Instances>| async move {
            let instance = instances.find(&group, &name).await?;
            instances.end_membership(&instance).await;
            instance.state.borrow_mut().wanted = Wanted::Nothing;
            instance.set(None);
            Ok(())
        };
        self.call(home, unsubscribe).await
    }

    /// Has an instance read these partitions, outside of what its group shares.
    ///
    /// # Errors
    /// 409 where it has subscribed to topics.
    pub async fn assign(
        self: &Rc<Self>,
        group: String,
        name: String,
        keys: BTreeSet<PartitionKey>,
    ) -> Result<(), Problem> {
        let home = self.home_of(&group);
        let assign = move |instances: Rc<Instances>| async move {
            let instance = instances.find(&group, &name).await?;
            if instance.state.borrow().wanted.is_shared() {
                return Err(exclusive());
            }
            let is_none = keys.is_empty();
            let positions = instance.positions_of(keys).await?;
            instance.state.borrow_mut().wanted = if is_none {
                Wanted::Nothing
            } else {
                Wanted::Partitions
            };
            instance.set(Some(positions));
            Ok(())
        };
        self.call(home, assign).await
    }

    /// Asks an instance something. It is not asked any further when the caller is gone.
    pub async fn ask<R, F>(
        self: &Rc<Self>,
        group: String,
        name: String,
        ask: impl FnOnce(Rc<Instance>) -> F + Send + 'static,
    ) -> Result<R, Problem>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, Problem>> + 'static,
    {
        let home = self.home_of(&group);
        let ask = move |instances: Rc<Instances>| async move {
            let instance = instances.find(&group, &name).await?;
            ask(instance).await
        };
        let answer = self.mailboxes.call_while_wanted(self, home, ask).await;
        answer.unwrap_or_else(|error| Err(error.into()))
    }

    /// Leases a client its part of a topic's partitions; see [`Leases::acquire`].
    ///
    /// # Errors
    /// 429 where there are too many.
    pub async fn acquire_leases(
        self: &Rc<Self>,
        group: String,
        topic: (Uuid, i32),
        client: Client,
        gives_back: bool,
    ) -> Result<Vec<Leased>, Problem> {
        let home = self.home_of(&group);
        let acquire = move |instances: Rc<Instances>| async move {
            let mut leases = instances.leases.borrow_mut();
            let acquired = leases.acquire(&group, topic, &client, gives_back, Instant::now());
            acquired.map_err(|TooMany| {
                refusal("limit", "there are too many groups and clients that read")
            })
        };
        self.call(home, acquire).await
    }

    /// Which of these leases a client does not have any more; see [`Leases::lost`].
    pub async fn lost_leases(
        self: &Rc<Self>,
        group: String,
        topic: Uuid,
        client: String,
        held: Vec<Leased>,
    ) -> Result<BTreeSet<i32>, Problem> {
        let home = self.home_of(&group);
        let lost = move |instances: Rc<Instances>| async move {
            let leases = instances.leases.borrow();
            Ok(leases.lost(&group, topic, &client, &held, Instant::now()))
        };
        self.call(home, lost).await
    }

    async fn call<R, F>(
        self: &Rc<Self>,
        home: usize,
        act: impl FnOnce(Rc<Instances>) -> F + Send + 'static,
    ) -> Result<R, Problem>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, Problem>> + 'static,
    {
        let answer = self.mailboxes.call(self, home, act).await;
        answer.unwrap_or_else(|error: EngineError| Err(error.into()))
    }

    /// The shard that a group's instances live on. In memory only, so any hash does.
    fn home_of(&self, group: &str) -> usize {
        let mut hasher = DefaultHasher::new();
        group.hash(&mut hasher);
        (hasher.finish() % self.mailboxes.shard_count() as u64) as usize
    }

    // ---- on the shard that they live on ----

    /// An instance, which counts as used from now on.
    async fn find(self: &Rc<Self>, group: &str, name: &str) -> Result<Rc<Instance>, Problem> {
        let instance = self.look_up(group, name).await?;
        let instance = instance.ok_or_else(|| {
            let detail = format!("group {group:?} has no instance {name:?}");
            refusal("unknown-instance", &detail)
        })?;
        instance.touch();
        Ok(instance)
    }

    async fn look_up(
        self: &Rc<Self>,
        group: &str,
        name: &str,
    ) -> Result<Option<Rc<Instance>>, Problem> {
        if let Some(instance) = self.known(group, name) {
            return Ok(Some(instance));
        }
        // The broker may have started a moment ago.
        self.revive(group).await?;
        Ok(self.known(group, name))
    }

    fn known(&self, group: &str, name: &str) -> Option<Rc<Instance>> {
        let key = (group.to_owned(), name.to_owned());
        let known = self.known.borrow();
        Some(Rc::clone(&known.get(&key)?.instance))
    }

    fn check_limit(&self) -> Result<(), Problem> {
        let most = INSTANCES_MAX.div_ceil(self.mailboxes.shard_count());
        if self.known.borrow().len() < most {
            return Ok(());
        }
        let detail = format!("there are {INSTANCES_MAX} consumer instances; delete some");
        Err(refusal("too-many-instances", &detail))
    }

    fn add(self: &Rc<Self>, key: (String, String), settings: Settings) -> Rc<Instance> {
        let instance = Instance::new(key.clone(), settings, &self.engine, &self.groups);
        let instance = Rc::new(instance);
        let hosted = Hosted {
            instance: Rc::clone(&instance),
            member: None,
        };
        self.known.borrow_mut().insert(key, hosted);
        instance
    }

    /// Has an instance be a member for other topics than before. The member stays the same: the group assigns anew.
    fn take_part(&self, instance: &Rc<Instance>, wanted: Wanted) {
        let key = (instance.group.clone(), instance.name.clone());
        if let Some(hosted) = self.known.borrow_mut().get_mut(&key) {
            hosted.member = None;
            instance.state.borrow_mut().wanted = wanted;
            instance.set(None);
            let run = member::run(Rc::clone(instance));
            hosted.member = Some(Task(reactor::spawn(run)));
        }
    }

    async fn end_membership(&self, instance: &Rc<Instance>) {
        let key = (instance.group.clone(), instance.name.clone());
        if let Some(hosted) = self.known.borrow_mut().get_mut(&key) {
            hosted.member = None;
        }
        leave(Rc::clone(instance)).await;
    }

    async fn remove(&self, group: &str, name: &str) {
        let key = (group.to_owned(), name.to_owned());
        let removed = self.known.borrow_mut().remove(&key);
        let Some(Hosted { instance, member }) = removed else {
            return;
        };
        drop(member);
        instance.close();
        leave(instance).await;
    }

    /// Removes those whose clients ask nothing any more.
    async fn sweep(&self) {
        let is_idle = |hosted: &Hosted| hosted.instance.idle() > IDLE_MAX;
        let idle: Vec<(String, String)> = {
            let known = self.known.borrow();
            let idle = known.iter().filter(|(_, hosted)| is_idle(hosted));
            idle.map(|(key, _)| key.clone()).collect()
        };
        for (group, name) in idle {
            tracing::debug!(
                group,
                instance = name,
                "a consumer instance was idle for too long"
            );
            self.remove(&group, &name).await;
        }
    }

    // ---- after a restart ----

    /// Brings the instances of all groups back, so that they take part in what their groups do.
    async fn revive_all(self: &Rc<Self>) {
        let mut slice = Slice::new();
        for group in self.groups.list_groups().await {
            slice.rest().await;
            if group.protocol_type != PROTOCOL_TYPE || group.state != "Stable" {
                continue;
            }
            let home = self.home_of(&group.group_id);
            let revive = move |instances: Rc<Instances>| async move {
                instances.revive(&group.group_id).await
            };
            // Whoever asks for one of them tries again.
            let _ = self.call(home, revive).await;
        }
    }

    /// Brings back the instances that a group has as members and that this run of the broker does not know.
    async fn revive(self: &Rc<Self>, group: &str) -> Result<(), Problem> {
        let described = self.groups.describe_group(group.to_owned()).await?;
        let mut slice = Slice::new();
        for described in described.into_iter().flat_map(|group| group.members) {
            slice.rest().await;
            let Some(Revived {
                name,
                settings,
                wanted,
            }) = settings::revived(&described.metadata)
            else {
                continue;
            };
            // A client of Kafka may write into its metadata what it likes.
            let is_own = name == described.client_id && name.len() <= NAME_BYTES_MAX;
            if !is_own || self.known(group, &name).is_some() {
                continue;
            }
            self.check_limit()?;
            let instance = self.add((group.to_owned(), name), settings);
            instance.state.borrow_mut().member_id = described.member_id;
            self.take_part(&instance, wanted);
        }
        Ok(())
    }
}

/// Leaves the group, even if who asked for it is gone meanwhile.
async fn leave(instance: Rc<Instance>) {
    let leaving = reactor::spawn(async move { member::leave(&instance).await });
    let _ = leaving.await;
}

fn exclusive() -> Problem {
    let detail =
        "Illegal state: Subscription to topics, partitions and pattern are mutually exclusive";
    refusal("illegal-state", detail)
}
