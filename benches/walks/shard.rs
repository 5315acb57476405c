//! One shard's engine in this process, without sockets and without the ring: what is measured asks for
//! the commits itself, and nothing is synced.

use bytes::Bytes;
use millstream::access::Caller;
use millstream::config::Config;
use millstream::coordinator::{self, Coordinators};
use millstream::engine::catalog::Catalog;
use millstream::engine::catalog::changes::{self, Admin, NewTopic};
use millstream::engine::catalog_log::CatalogLog;
use millstream::engine::upkeep::compaction::Cleaner;
use millstream::engine::{Engine, EngineParts, SharedPartition, mailbox};
use millstream::io::worker::Worker;
use millstream::kafka::answer::{Answer, Handled};
use millstream::kafka::dispatch::dispatch;
use millstream::net::budget::Charge;
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

pub const TOPIC: &str = "orders";
const UNCOMMITTED_BYTES_MAX: usize = 16 << 20;
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// A shard that owns all partitions of one topic, which has one.
pub struct Shard {
    local: LocalSet,
    runtime: Runtime,
    engine: Rc<Engine>,
    coordinators: Coordinators,
    /// Bytes appended since the last commit.
    uncommitted: Cell<usize>,
    /// Lives as long as the engine.
    _dir: TempDir,
}

impl Shard {
    pub fn new() -> Shard {
        Shard::with(&[])
    }

    /// With configs of the topic.
    pub fn with(configs: &[(&str, &str)]) -> Shard {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = Builder::new_current_thread().enable_all().build();
        let local = LocalSet::new();
        let engine = engine(dir.path(), &local);
        let coordinators = coordinator::parts(1, 16).remove(0);
        let shard = Shard {
            coordinators: Coordinators::new(&engine, coordinators),
            engine,
            local,
            runtime: runtime.expect("a runtime"),
            uncommitted: Cell::new(0),
            _dir: dir,
        };
        let configs = configs.iter();
        let configs = configs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let topic = NewTopic {
            name: TOPIC.to_owned(),
            partitions: 1,
            configs: configs.collect(),
        };
        let created = shard.wait(changes::create_topic(&shard.engine, topic, false));
        created.expect("a topic");
        shard
    }

    /// Handles the same frame so many times, one after the other. Returns the last reply's bytes.
    pub fn call(&self, frame: &Bytes, times: u64) -> usize {
        self.wait(async {
            let mut bytes = 0;
            let mut charge = Charge::new(&self.engine.memory, &self.engine.memory);
            for _ in 0..times {
                bytes = answer(&self.engine, &self.coordinators, frame, &mut charge).await;
                self.appended(frame.len());
            }
            bytes
        })
    }

    /// What `work` does may wait for room.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.local.block_on(&self.runtime, work)
    }

    pub fn engine(&self) -> &Rc<Engine> {
        &self.engine
    }

    pub fn partition(&self) -> SharedPartition {
        Rc::clone(&self.engine.partitions()[0])
    }

    /// Commits now and then, for a log takes only so many bytes that are not durable.
    pub fn appended(&self, bytes: usize) {
        self.uncommitted.set(self.uncommitted.get() + bytes);
        if self.uncommitted.get() > UNCOMMITTED_BYTES_MAX {
            self.uncommitted.set(0);
            self.commit();
        }
    }

    /// A round of the commit loop, as if the disk took no time.
    pub fn commit(&self) {
        commit(&self.partition());
    }
}

/// See [`Shard::commit`].
pub fn commit(partition: &SharedPartition) {
    let mut partition = partition.borrow_mut();
    let Some(flush) = partition.flush_begin() else {
        return;
    };
    if let Some(job) = partition.flush_end(flush, &Ok(())) {
        let written = job.run();
        partition.checkpoint_done(&job, &written);
    }
}

fn engine(dir: &Path, local: &LocalSet) -> Rc<Engine> {
    let config = Config {
        data_dir: dir.to_owned(),
        cores: 1,
        // Checkpoints are synced.
        checkpoint_bytes: 1 << 30,
        ..Config::default()
    };
    let mut catalog = Catalog::new(config.topic_defaults.clone());
    let log = CatalogLog::open(dir, &mut catalog).expect("a catalog");
    let (mailboxes, mailbox) = mailbox::mailboxes(1, 16).remove(0);
    let engine = Engine::new(EngineParts {
        shard: 0,
        config: Arc::new(config),
        cluster_id: "bench".into(),
        mailboxes,
        worker: Worker::start("worker").expect("a thread"),
        reader: Worker::start_yielding("reader").expect("a thread"),
        pace: Arc::default(),
        janitor: Worker::start("janitor").expect("a thread"),
        cleaner: Cleaner::start().expect("a thread"),
        catalog,
        admin: Some(Admin::new(log)),
    });
    local.spawn_local(mailbox::receive(Rc::clone(&engine), mailbox));
    engine
}

/// From a frame to the bytes of its reply.
async fn answer(
    engine: &Rc<Engine>,
    coordinators: &Coordinators,
    frame: &Bytes,
    charge: &mut Charge,
) -> usize {
    let dispatched = dispatch(engine, coordinators, &Caller::new(PEER), frame, charge)
        .await
        .expect("a request");
    let answer = match dispatched.handled {
        Handled::Now(answer) => answer,
        Handled::Later(answer) | Handled::Parked(answer) => answer.await,
    };
    match answer {
        Answer::Reply(reply) => reply.len(),
        other => panic!("{other:?}"),
    }
}
