//! Coordinators: state that belongs to a name and that survives a restart. docs/architecture.md says how
//! one is added.
//!
//! - [`runtime`]: finds a name's home, calls its shard, loads and writes records.
//! - [`parked`]: requests that wait.
//! - [`deadlines`], [`timers`]: names in the order in which they are due, and the clock that calls them.
//! - [`records`]: formats of the internal topics.
//! - [`groups`]: consumer groups, the first tenant.

pub mod deadlines;
pub mod groups;
mod load;
pub mod parked;
pub mod records;
pub mod runtime;
pub mod timers;

use crate::engine::Engine;
use crate::engine::mailbox::{self, Mailbox, Mailboxes};
use groups::Groups;
use runtime::Tenant;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// One shard's coordinators.
pub struct Coordinators {
    pub groups: Rc<Groups>,
}

/// What a shard needs to reach the coordinators of the others and to be reached.
pub struct CoordinatorParts {
    groups: (Mailboxes<Groups>, Mailbox<Groups>),
    /// Bytes that the groups of all shards take.
    groups_bytes: Arc<AtomicUsize>,
}

/// Makes the parts of `shards` shards, each with mailboxes for `depth` calls.
pub fn parts(shards: usize, depth: usize) -> Vec<CoordinatorParts> {
    let groups_bytes = Arc::default();
    let groups = mailbox::mailboxes(shards, depth).into_iter();
    let parts = groups.map(|groups| CoordinatorParts {
        groups,
        groups_bytes: Arc::clone(&groups_bytes),
    });
    parts.collect()
}

impl Coordinators {
    /// Makes a shard's coordinators, which the engine tells of its events from now on.
    pub fn new(engine: &Rc<Engine>, parts: CoordinatorParts) -> Coordinators {
        Coordinators {
            groups: Groups::new(engine, parts.groups, parts.groups_bytes),
        }
    }

    /// Reads what this shard's partitions of the internal topics have. Blocks: at start only.
    pub fn load(&self) {
        self.groups.runtime().load(&self.groups);
    }

    /// Clients can reach the broker from now on, and other shards this one.
    pub fn serve(&self) {
        self.groups.begin_sessions();
        self.groups.runtime().serve(&self.groups);
    }

    /// Starts what coordinators do without being asked.
    pub fn run_timers(&self) {
        self.groups.run_timers();
    }

    /// The broker stops: answers all parked requests, and takes no others.
    pub fn unload(&self) {
        self.groups.unload();
    }

    /// Calls that wait in the mailboxes of a shard's coordinators.
    pub fn mailbox_depth(&self, shard: usize) -> usize {
        self.groups.runtime().mailbox_depth(shard)
    }
}
