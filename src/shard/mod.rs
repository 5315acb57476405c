//! One core: a thread with its own io_uring, its own connections and its own partitions.

mod commit;
mod gather;
mod journal;
mod timers;

use crate::coordinator::{CoordinatorParts, Coordinators};
use crate::engine::mailbox::{self, Mailbox};
use crate::engine::upkeep::closing;
use crate::engine::upkeep::opening;
use crate::engine::upkeep::opening::OpenReport;
use crate::engine::{Engine, EngineParts};
use crate::http;
use crate::io::reactor::Reactor;
use crate::io::{process, reactor};
use crate::kafka;
use crate::net::addresses::Addresses;
use crate::net::connections::{self, Connections};
use crate::net::listener;
use crate::net::stream::Peer;
use futures_util::future::join;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc as async_mpsc;
use tokio::time::timeout;

/// How long a stop waits, twice, for a shard's logs to be flushed.
const SETTLE_LIMIT: Duration = Duration::from_secs(4);

/// Messages from the server to a shard, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All shards are ready: take connections.
    Serve,
    /// Take no more requests and let the replies leave.
    Drain,
    /// All shards have drained: bring the logs to a clean end.
    Close,
}

/// Messages from a shard to the server.
#[derive(Debug)]
pub enum Event {
    Opened(OpenReport),
    NotStarted(io::Error),
    Drained,
    Closed,
}

/// What a shard is made of.
pub struct ShardParts {
    pub engine: EngineParts,
    pub mailbox: Mailbox<Engine>,
    pub coordinators: CoordinatorParts,
    pub listener: TcpListener,
    /// `None` when HTTP is off.
    pub http: Option<TcpListener>,
    pub http_parts: http::Parts,
    pub reactor: Reactor,
    /// The core to run on; `None` leaves it to the scheduler.
    pub core: Option<usize>,
    /// Connections of all shards together.
    pub connections: Arc<Addresses>,
    pub orders: async_mpsc::UnboundedReceiver<Order>,
    pub events: mpsc::Sender<Event>,
}

/// Runs a shard on the calling thread until the server closes it.
pub fn run(parts: ShardParts) {
    if let Some(core) = parts.core
        && let Err(error) = process::pin_to_core(core)
    {
        tracing::warn!(core, %error, "a shard could not be pinned to its core");
    }
    let events = parts.events.clone();
    if let Err(error) = parts.reactor.run(serve(parts)) {
        let _ = events.send(Event::NotStarted(error));
    }
}

async fn serve(parts: ShardParts) {
    let ShardParts {
        engine,
        mailbox,
        coordinators,
        listener,
        http,
        http_parts,
        connections: addresses,
        mut orders,
        events,
        ..
    } = parts;
    let engine = Engine::new(engine);
    let coordinators = Rc::new(Coordinators::new(&engine, coordinators));
    let opened = opening::open_all(&engine);
    coordinators.load();
    // The server is gone only when the process is on its way out.
    let _ = events.send(Event::Opened(opened));
    let connections = Connections::new(connections::Parts {
        config: Arc::clone(&engine.config),
        addresses,
        memory: engine.memory.clone(),
        counters: Rc::clone(&engine.stats.net),
        stop: Rc::clone(&engine.stop),
    });
    // When the server gave up, because another shard could not start, there is nothing to serve.
    if orders.recv().await != Some(Order::Serve) {
        return;
    }
    coordinators.serve();
    let commit = reactor::spawn(commit::run(Rc::clone(&engine)));
    reactor::spawn(mailbox::receive(Rc::clone(&engine), mailbox));
    timers::start(&engine, &coordinators, &connections);
    let services = kafka::connection::Services {
        engine: Rc::clone(&engine),
        coordinators: Rc::clone(&coordinators),
        connections: Rc::clone(&connections),
    };
    let serve = move |peer: Rc<Peer>| kafka::connection::serve(services.clone(), peer);
    let accepting = Rc::clone(&connections);
    reactor::spawn(listener::accept_loop(accepting, listener, serve));
    let mut http = http.map(|listener| {
        let services = http::Services::new(&engine, &coordinators, http_parts);
        reactor::spawn(http::serve(services, listener))
    });
    while let Some(order) = orders.recv().await {
        match order {
            Order::Serve => {}
            Order::Drain => {
                engine.stop.set();
                coordinators.unload();
                let limit = Duration::from_millis(engine.config.shutdown_timeout_ms);
                let http = http.take();
                let http = async {
                    if let Some(mut serving) = http
                        && timeout(limit, &mut serving).await.is_err()
                    {
                        tracing::warn!("cut off HTTP requests that took too long to end");
                        serving.abort();
                    }
                };
                join(connections.drain(limit), http).await;
                let _ = events.send(Event::Drained);
            }
            Order::Close => {
                commit::settle(&engine, SETTLE_LIMIT).await;
                closing::close_logs(&engine).await;
                commit::settle(&engine, SETTLE_LIMIT).await;
                commit.abort();
                journal::remove(&engine).await;
                let _ = events.send(Event::Closed);
                return;
            }
        }
    }
}
