//! The composition root: opens the data directory, starts a shard for each core, stops them.

use crate::config::{Config, Durability, ReactorChoice};
use crate::coordinator;
use crate::engine::EngineParts;
use crate::engine::catalog::Catalog;
use crate::engine::catalog::changes::{ADMIN_SHARD, Admin};
use crate::engine::catalog::deletions;
use crate::engine::catalog_log::{CatalogLog, CatalogLogError};
use crate::engine::data_dir::{DataDir, DataDirError};
use crate::engine::mailbox;
use crate::engine::pace::Pace;
use crate::engine::replay;
use crate::engine::upkeep::compaction::Cleaner;
use crate::engine::upkeep::opening::OpenReport;
use crate::http;
use crate::io::reactor::Reactor;
use crate::io::worker::Worker;
use crate::io::{map, memory, process, ring};
use crate::net::addresses::Addresses;
use crate::net::listener;
use crate::shard::{self, Event, Order, ShardParts};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc as async_mpsc;

/// How long logs may take to be brought to a clean end. What is not done by then is read again at
/// the next start.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Why the broker did not start.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error(
        "io_uring cannot be used here: {0}. --reactor auto or epoll does without, and is slower"
    )]
    NoRing(io::Error),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("the catalog {} cannot be read: {error}", path.display())]
    Catalog {
        path: PathBuf,
        error: CatalogLogError,
    },
    #[error(
        "the journal {} cannot be written back to its partitions: {error}. It has records that were \
         acknowledged: make room or mend the disk, then start again",
        path.display()
    )]
    Journal { path: PathBuf, error: io::Error },
    #[error("cannot listen on {address} ({knob}): {error}{}", hint(.error))]
    Listen {
        knob: &'static str,
        address: String,
        error: io::Error,
    },
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    #[error("a shard ended unexpectedly")]
    ShardGone,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; something else listens there: stop it, or choose another port"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
        _ => "",
    }
}

/// Runs a broker until SIGTERM, SIGINT or SIGQUIT, then stops it cleanly. `ready` is called once, with
/// the line that says where it listens; `reload` at each SIGHUP. SIGUSR1 and SIGUSR2 do nothing.
///
/// # Errors
/// See [`ServeError`]: nothing was started then.
pub fn serve(
    mut config: Config,
    ready: impl FnOnce(&str),
    reload: impl Fn(),
) -> Result<(), ServeError> {
    let started = Instant::now();
    let reactor = choose_reactor(config.reactor)?;
    if let Err(error) = process::raise_open_files() {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    let maps = process::max_map_count().map_or(usize::MAX, |count| count / 16 * 15);
    map::set_mapped_max(config.maps_max.min(maps));
    let data = DataDir::open(&config.data_dir)?;
    let (listeners, kafka) = listener::bind(&config.listen, config.cores)
        .map_err(|error| listen_error("--listen", &config.listen, error))?;
    config.listen.port = kafka.port();
    let http = match config.http.address() {
        Some(address) => Some(
            listener::bind(address, config.cores)
                .map_err(|error| listen_error("--http", address, error))?,
        ),
        None => None,
    };
    let at_http = http
        .as_ref()
        .map_or("off".to_owned(), |(_, at)| at.to_string());
    memory::keep_until_asked();
    let mut broker = Broker::start(
        config,
        reactor,
        &data,
        listeners,
        http.map(|(http, _)| http).unwrap_or_default(),
    )?;
    let opened = broker.wait_until_open()?;
    // Before anyone is told that the broker is ready: from then on a signal means a clean stop.
    let signals = Signals::listen().map_err(ServeError::Thread)?;
    broker.order(Order::Serve);
    let config = &broker.config;
    ready(&format!(
        "millstream {} ready in {} ms: kafka {kafka}, http {at_http}, data {}, cores {}, reactor {}, durability {}",
        env!("CARGO_PKG_VERSION"),
        started.elapsed().as_millis(),
        config.data_dir.display(),
        config.cores,
        reactor.name(),
        config.durability.name(),
    ));
    report_opened(config, &opened);
    signals.wait(&broker.shards, reload)?;
    broker.stop();
    Ok(())
}

/// # Errors
/// When the choice is io_uring and the kernel or the sandbox forbids it.
fn choose_reactor(choice: ReactorChoice) -> Result<Reactor, ServeError> {
    if choice == ReactorChoice::Epoll {
        return Ok(Reactor::Epoll);
    }
    match ring::probe() {
        Ok(()) => Ok(Reactor::Uring),
        Err(error) if choice == ReactorChoice::Auto => {
            tracing::warn!(%error, "io_uring cannot be used here; epoll is used instead, which is slower");
            Ok(Reactor::Epoll)
        }
        Err(error) => Err(ServeError::NoRing(error)),
    }
}

fn listen_error(knob: &'static str, address: &impl ToString, error: io::Error) -> ServeError {
    ServeError::Listen {
        knob,
        address: address.to_string(),
        error,
    }
}

fn report_opened(config: &Config, opened: &OpenReport) {
    tracing::info!(
        partitions = opened.partitions,
        scanned_bytes = opened.scanned_bytes,
        cut_bytes = opened.cut_bytes,
        "opened the data directory"
    );
    if config.durability == Durability::Os {
        tracing::warn!(
            "durability is os: a power cut loses acknowledged records; --durability fsync keeps them"
        );
    }
}

/// Brings the segments up to what was acknowledged before a crash.
fn replay_journals(config: &Config, catalog: &Catalog) -> Result<(), ServeError> {
    let replayed =
        replay::replay(&config.data_dir, catalog).map_err(|error| ServeError::Journal {
            path: config.data_dir.join(replay::DIR_NAME),
            error,
        })?;
    if replayed.groups > 0 {
        let replay::Replayed { groups, bytes } = replayed;
        tracing::info!(groups, bytes, "wrote the journal back to its partitions");
    }
    Ok(())
}

/// A running broker: its shards and the wires to them.
struct Broker {
    config: Arc<Config>,
    shards: Vec<std::thread::JoinHandle<()>>,
    orders: Vec<async_mpsc::UnboundedSender<Order>>,
    events: mpsc::Receiver<Event>,
}

impl Broker {
    fn start(
        config: Config,
        reactor: Reactor,
        data: &DataDir,
        listeners: Vec<TcpListener>,
        http: Vec<TcpListener>,
    ) -> Result<Broker, ServeError> {
        let config = Arc::new(config);
        let mut catalog = Catalog::new(config.topic_defaults.clone());
        let mut catalog_log =
            CatalogLog::open(&config.data_dir, &mut catalog).map_err(|error| {
                ServeError::Catalog {
                    path: config.data_dir.clone(),
                    error,
                }
            })?;
        let janitor = Worker::start("janitor").map_err(ServeError::Thread)?;
        let cleaner = Cleaner::start().map_err(ServeError::Thread)?;
        let pace = Arc::new(Pace::default());
        deletions::finish_deletions(&config, &mut catalog, &mut catalog_log, &janitor).map_err(
            |error| DataDirError::Io {
                path: config.data_dir.clone(),
                error,
            },
        )?;
        replay_journals(&config, &catalog)?;
        let mailboxes = mailbox::mailboxes(config.cores, config.mailbox_depth);
        let coordinators = coordinator::parts(config.cores, config.mailbox_depth);
        let http_parts = http::parts(&config).map_err(ServeError::Thread)?;
        let cores = process::allowed_cores();
        let connections = Arc::new(Addresses::default());
        let (event_sender, events) = mpsc::channel();
        let mut admin = Some(Admin::new(catalog_log));
        let mut http = http.into_iter();
        let mut broker = Broker {
            config: Arc::clone(&config),
            shards: Vec::new(),
            orders: Vec::new(),
            events,
        };
        let shards = listeners
            .into_iter()
            .zip(mailboxes)
            .zip(coordinators)
            .zip(http_parts);
        for (shard, (((listener, (mailboxes, mailbox)), coordinators), http_parts)) in
            shards.enumerate()
        {
            let (order_sender, orders) = async_mpsc::unbounded_channel();
            let worker = format!("worker-{shard}");
            let reader = format!("reader-{shard}");
            let parts = ShardParts {
                engine: EngineParts {
                    shard,
                    config: Arc::clone(&config),
                    cluster_id: Arc::clone(&data.cluster_id),
                    mailboxes,
                    worker: Worker::start(&worker).map_err(ServeError::Thread)?,
                    reader: Worker::start_yielding(&reader).map_err(ServeError::Thread)?,
                    pace: Arc::clone(&pace),
                    janitor: janitor.clone(),
                    cleaner: cleaner.clone(),
                    catalog: catalog.clone(),
                    admin: (shard == ADMIN_SHARD).then(|| admin.take()).flatten(),
                },
                mailbox,
                coordinators,
                listener,
                http: http.next(),
                http_parts,
                reactor,
                // With more shards than cores pinning would only get in the way.
                core: cores
                    .get(shard)
                    .copied()
                    .filter(|_| config.cores <= cores.len()),
                connections: Arc::clone(&connections),
                orders,
                events: event_sender.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("shard-{shard}"))
                .spawn(move || shard::run(parts))
                .map_err(ServeError::Thread)?;
            broker.shards.push(thread);
            broker.orders.push(order_sender);
        }
        Ok(broker)
    }

    fn wait_until_open(&mut self) -> Result<OpenReport, ServeError> {
        let mut opened = OpenReport::default();
        for _ in 0..self.shards.len() {
            match self.events.recv() {
                Ok(Event::Opened(report)) => {
                    opened.partitions += report.partitions;
                    opened.scanned_bytes += report.scanned_bytes;
                    opened.cut_bytes += report.cut_bytes;
                }
                Ok(Event::NotStarted(error)) => return Err(ServeError::NoRing(error)),
                _ => return Err(ServeError::ShardGone),
            }
        }
        Ok(opened)
    }

    fn order(&self, order: Order) {
        for orders in &self.orders {
            // A shard that is gone is noticed by its thread's end.
            let _ = orders.send(order);
        }
    }

    /// Lets replies leave, then brings the logs to a clean end.
    fn stop(self) {
        tracing::info!("stopping");
        self.order(Order::Drain);
        let drain = Duration::from_millis(self.config.shutdown_timeout_ms) + CLOSE_LIMIT;
        self.wait_for_all(drain, |event| matches!(event, Event::Drained));
        self.order(Order::Close);
        if self.wait_for_all(CLOSE_LIMIT, |event| matches!(event, Event::Closed)) {
            tracing::info!("stopped")
        } else {
            tracing::warn!("stopped; some logs will be read again at the next start")
        }
    }

    fn wait_for_all(&self, limit: Duration, wanted: impl Fn(&Event) -> bool) -> bool {
        let until = Instant::now() + limit;
        let mut left = self.shards.len();
        while left > 0 {
            let remaining = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(remaining) {
                Ok(event) => left -= usize::from(wanted(&event)),
                Err(_) => return false,
            }
        }
        true
    }
}

/// The signals that a broker knows.
struct Signals {
    runtime: tokio::runtime::Runtime,
    end: [Signal; 3],
    reload: Signal,
    /// Taken so that they do not end the process.
    ignored: [Signal; 2],
}

impl Signals {
    /// From now on the signals are kept for [`wait`](Self::wait).
    fn listen() -> io::Result<Signals> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let end = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::quit())?,
        ];
        let reload = signal(SignalKind::hangup())?;
        let ignored = [
            signal(SignalKind::user_defined1())?,
            signal(SignalKind::user_defined2())?,
        ];
        drop(entered);
        Ok(Signals {
            runtime,
            end,
            reload,
            ignored,
        })
    }

    /// Returns on a signal that ends the broker. A shard whose thread ends before that is fatal: its
    /// partitions would be silent.
    fn wait(
        self,
        shards: &[std::thread::JoinHandle<()>],
        on_reload: impl Fn(),
    ) -> Result<(), ServeError> {
        let Signals {
            runtime,
            end: [mut terminate, mut interrupt, mut quit],
            mut reload,
            ignored: _ignored,
        } = self;
        runtime.block_on(async {
            let mut watch = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                    _ = quit.recv() => return Ok(()),
                    _ = reload.recv() => on_reload(),
                    _ = watch.tick() => {
                        if shards.iter().any(|shard| shard.is_finished()) {
                            return Err(ServeError::ShardGone);
                        }
                        memory::give_back();
                    }
                }
            }
        })
    }
}
