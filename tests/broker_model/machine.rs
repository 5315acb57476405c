//! A broker taken apart: its shards, the queues of its workers and its flushes lie on one thread, and
//! whoever drives it says what goes on next. The same choices give the same run.

use bytes::Bytes;
use millstream::access::Caller;
use millstream::config::Config;
use millstream::coordinator::{self, CoordinatorParts, Coordinators};
use millstream::engine::catalog::Catalog;
use millstream::engine::catalog::changes::Admin;
use millstream::engine::catalog::deletions;
use millstream::engine::catalog_log::CatalogLog;
use millstream::engine::mailbox::{self, Mailbox};
use millstream::engine::upkeep::compaction::Cleaner;
use millstream::engine::upkeep::opening;
use millstream::engine::{Engine, EngineParts, SharedPartition, flush};
use millstream::http;
use millstream::io::file;
use millstream::io::worker::{Jobs, Worker};
use millstream::kafka::answer::{Answer, Handled, LaterAnswer};
use millstream::kafka::dispatch::dispatch;
use millstream::log::Flush;
use millstream::net::budget::Charge;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::ready;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use uuid::Uuid;

/// Requests of a connection that are under way at once.
const INFLIGHT: usize = 5;

pub struct Machine {
    pub shards: Vec<Shard>,
    /// Of the shards' workers and readers, the janitor and the cleaner.
    queues: Vec<Jobs>,
}

pub struct Shard {
    pub engine: Rc<Engine>,
    coordinators: Rc<Coordinators>,
    tasks: LocalSet,
    woken: Arc<Woken>,
    dirty: Rc<RefCell<VecDeque<SharedPartition>>>,
    flushing: Option<(SharedPartition, Flush, io::Result<()>)>,
}

/// A connection's near end.
pub struct Connection {
    frames: mpsc::UnboundedSender<Bytes>,
    replies: Rc<RefCell<VecDeque<Answer>>>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    /// For timers to be made in. Nobody drives it, so none ever fires.
    static TIMERS: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
}

impl Machine {
    /// Starts a broker over a data directory, as `server.rs` does. New topics' ids count from `first_id`.
    pub fn start(config: Config, mailbox_depth: usize, first_id: u64) -> Machine {
        let config = Arc::new(config);
        let dir: &Path = &config.data_dir;
        let mut catalog = Catalog::new(config.topic_defaults.clone());
        let mut log = CatalogLog::open(dir, &mut catalog).expect("the catalog can be read");
        let (janitor, janitor_jobs) = Worker::by_hand();
        let (cleaner, cleaner_jobs) = Worker::by_hand();
        deletions::finish_deletions(&config, &mut catalog, &mut log, &janitor)
            .expect("deletions can be finished");
        let cleaner = Cleaner::on(cleaner);
        let mut ids = (first_id..).map(|id| Uuid::from_u64_pair(0, id));
        let new_id = move || ids.next().expect("there are enough");
        let mut admin = Some(Admin::new(log).with_ids(new_id));
        let mailboxes = mailbox::mailboxes(config.cores, mailbox_depth);
        let mut queues = vec![janitor_jobs, cleaner_jobs];
        let coordinators = coordinator::parts(config.cores, mailbox_depth);
        let shards = mailboxes.into_iter().zip(coordinators).enumerate();
        let shards = shards.map(|(shard, ((mailboxes, mailbox), coordinators))| {
            let (worker, jobs) = Worker::by_hand();
            let (reader, reads) = Worker::by_hand();
            queues.extend([jobs, reads]);
            let parts = EngineParts {
                shard,
                config: Arc::clone(&config),
                cluster_id: "model".into(),
                mailboxes,
                worker,
                reader,
                pace: Arc::default(),
                janitor: janitor.clone(),
                cleaner: cleaner.clone(),
                catalog: catalog.clone(),
                admin: admin.take(),
            };
            Shard::start(parts, mailbox, coordinators)
        });
        Machine {
            shards: shards.collect(),
            queues,
        }
    }

    pub fn connect(&self, shard: usize) -> Connection {
        let shard = &self.shards[shard % self.shards.len()];
        let (frames, received) = mpsc::unbounded_channel();
        let replies = Rc::default();
        let serving = serve(
            Rc::clone(&shard.engine),
            Rc::clone(&shard.coordinators),
            received,
            Rc::clone(&replies),
        );
        shard.spawn(serving);
        Connection { frames, replies }
    }

    /// Does one thing that can be done, and that `choice` chooses; false when there is nothing to do.
    pub fn step(&mut self, choice: usize) -> bool {
        let ways = self.shards.len() * 3 + self.queues.len();
        (0..ways).any(|way| self.act((choice + way) % ways))
    }

    fn act(&mut self, way: usize) -> bool {
        let shards = self.shards.len();
        match (way / shards, way % shards) {
            (0, shard) => self.shards[shard].run(),
            (1, shard) => self.shards[shard].begin_flush(),
            (2, shard) => self.shards[shard].end_flush(),
            _ => self.queues[way - 3 * shards].run_next(),
        }
    }

    /// Does all there is to do.
    pub fn settle(&mut self) {
        for choice in 0.. {
            if !self.step(choice) {
                return;
            }
            assert!(choice < 1_000_000, "the broker does not come to rest");
        }
    }
}

impl Shard {
    fn start(
        parts: EngineParts,
        mailbox: Mailbox<Engine>,
        coordinators: CoordinatorParts,
    ) -> Shard {
        let engine = Engine::new(parts);
        let coordinators = Rc::new(Coordinators::new(&engine, coordinators));
        let shard = Shard {
            engine: Rc::clone(&engine),
            coordinators: Rc::clone(&coordinators),
            tasks: LocalSet::new(),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            dirty: Rc::default(),
            flushing: None,
        };
        shard.enter(|| {
            opening::open_all(&engine);
            coordinators.load();
            coordinators.serve();
        });
        shard.spawn(mailbox::receive(Rc::clone(&engine), mailbox));
        let dirty = Rc::clone(&shard.dirty);
        shard.spawn(async move {
            loop {
                let more = engine.dirty.take().await;
                dirty.borrow_mut().extend(more);
            }
        });
        shard
    }

    /// What serves requests over HTTP on this shard, which must be the only one.
    pub fn http(&self) -> Rc<http::Services> {
        let parts = http::parts(&self.engine.config)
            .expect("no thread is needed")
            .remove(0);
        let services = || http::Services::new(&self.engine, &self.coordinators, parts);
        Rc::new(self.enter(services))
    }

    /// Runs what may spawn tasks.
    fn enter<T>(&self, run: impl FnOnce() -> T) -> T {
        let _tasks = self.tasks.enter();
        TIMERS.with(|timers| {
            let _timers = timers.enter();
            run()
        })
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
        self.woken.0.store(true, Ordering::Relaxed);
    }

    /// Runs the tasks that are ready.
    fn run(&mut self) -> bool {
        if !self.woken.0.swap(false, Ordering::Relaxed) {
            return false;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        TIMERS.with(|timers| {
            let _entered = timers.enter();
            let _ = Pin::new(&mut self.tasks).poll(&mut Context::from_waker(&waker));
        });
        true
    }

    /// Begins the next flush; as in the broker, what is appended from here on is not in it.
    fn begin_flush(&mut self) -> bool {
        if self.flushing.is_some() {
            return false;
        }
        let Some(partition) = self.dirty.borrow_mut().pop_front() else {
            return false;
        };
        let begun = partition.borrow_mut().flush_begin();
        if let Some(flush) = begun {
            let mut files = flush.files.iter();
            let result = files.try_for_each(|file| file::sync_data(file));
            self.flushing = Some((partition, flush, result));
        }
        true
    }

    /// Ends the flush that was begun, as the commit loop does.
    fn end_flush(&mut self) -> bool {
        let Some((partition, flush, result)) = self.flushing.take() else {
            return false;
        };
        self.enter(|| flush::end(&self.engine, &partition, flush, &result));
        self.woken.0.store(true, Ordering::Relaxed);
        true
    }
}

impl Connection {
    pub fn send(&self, frame: Bytes) {
        assert!(self.frames.send(frame).is_ok(), "the connection has ended");
    }

    pub fn receive(&self) -> Option<Answer> {
        self.replies.borrow_mut().pop_front()
    }
}

/// The requests of a connection: taken in one after the other, answered in the same order.
async fn serve(
    engine: Rc<Engine>,
    coordinators: Rc<Coordinators>,
    mut frames: mpsc::UnboundedReceiver<Bytes>,
    replies: Rc<RefCell<VecDeque<Answer>>>,
) {
    let (slots, mut queue) = mpsc::channel::<LaterAnswer>(INFLIGHT);
    tokio::task::spawn_local(async move {
        while let Some(later) = queue.recv().await {
            let answer = later.await;
            replies.borrow_mut().push_back(answer);
        }
    });
    let caller = Caller::new((Ipv4Addr::LOCALHOST, 1).into());
    while let Some(frame) = frames.recv().await {
        let mut charge = Charge::new(&engine.memory, &engine.memory);
        let dispatched = dispatch(&engine, &coordinators, &caller, &frame, &mut charge).await;
        let answer: LaterAnswer = match dispatched.map(|dispatched| dispatched.handled) {
            Ok(Handled::Now(answer)) => Box::pin(ready(answer)),
            Ok(Handled::Later(later) | Handled::Parked(later)) => later,
            Err(reason) => Box::pin(ready(Answer::Close(reason))),
        };
        if slots.send(answer).await.is_err() {
            return;
        }
    }
}
