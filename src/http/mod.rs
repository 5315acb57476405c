//! HTTP for services and people: records in and out, health, metrics, a page (`page`).
//!
//! A request goes from `connections` through `guard` and `router` to the file that answers it: `produce`,
//! `read` with `follow`, `topics`, `ops`, and for what the clients of REST proxies ask a file in `rest`. `split` takes a
//! body of many records apart, `coding` unpacks it, `body` reads one that is small, `sending` hands records to the
//! engine, `gather` reads on. `request` is what a file is given, `answer` and `problem` what can come back; `query`
//! reads parameters.

mod activity;
mod answer;
mod body;
mod cloud_events;
mod coding;
mod connections;
mod follow;
mod form;
mod gather;
mod groups;
mod guard;
mod keys;
mod leases;
mod marks;
mod merge;
mod metrics;
mod next;
mod openapi;
mod ops;
mod page;
mod precondition;
mod problem;
mod produce;
mod producers;
mod query;
mod read;
mod reading;
mod records;
mod request;
mod rest;
pub mod router;
mod sending;
mod split;
mod topics;

use crate::config::Config;
use crate::coordinator::Coordinators;
use crate::coordinator::groups::lag::LagReport;
use crate::engine::Engine;
use crate::engine::mailbox;
use crate::engine::stats::ShardReport;
use crate::findings::metrics::Metrics;
use marks::Marks;
use rest::instances::Instances;
use rest::schemas::Schemas;
use router::Router;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

pub use activity::Activity;
pub use connections::{serve, serve_client};

/// What serves requests.
pub struct Services {
    pub engine: Rc<Engine>,
    pub coordinators: Rc<Coordinators>,
    instances: Rc<Instances>,
    /// Where a schema registry is configured.
    schemas: Option<Arc<Schemas>>,
    router: Router,
    marks: RefCell<Marks>,
    /// The metrics when somebody asked for warnings last.
    metrics_before: Cell<Option<(Instant, Metrics)>>,
}

/// What one shard needs to reach the consumer instances of the others, and to be reached; and what all share.
pub struct Parts {
    instances: rest::instances::Parts,
    schemas: Option<Arc<Schemas>>,
}

/// Makes the parts of all shards, and starts the threads for schemas if HTTP is served and a registry configured.
///
/// # Errors
/// EAGAIN when the system has no thread to give.
pub fn parts(config: &Config) -> io::Result<Vec<Parts>> {
    let schemas = match config.http.address() {
        Some(_) => Schemas::start(config)?,
        None => None,
    };
    let instances = mailbox::mailboxes(config.cores, config.mailbox_depth);
    let parts = instances.into_iter().map(|instances| Parts {
        instances,
        schemas: schemas.clone(),
    });
    Ok(parts.collect())
}

impl Services {
    pub fn new(engine: &Rc<Engine>, coordinators: &Rc<Coordinators>, parts: Parts) -> Services {
        Services {
            engine: Rc::clone(engine),
            coordinators: Rc::clone(coordinators),
            instances: Instances::serve(engine, &coordinators.groups, parts.instances),
            schemas: parts.schemas,
            router: Router::default(),
            marks: RefCell::default(),
            metrics_before: Cell::default(),
        }
    }
}

/// What the shards report.
struct Reports {
    /// By shard; one that has stopped has none.
    shards: Vec<ShardReport>,
    lags: Vec<Arc<LagReport>>,
}
