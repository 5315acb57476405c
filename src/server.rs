//! The composition root: opens the data directory, starts a shard for each core, stops them.

use crate::config::{Config, Durability};
use crate::engine::EngineParts;
use crate::engine::admin::{ADMIN_SHARD, Admin};
use crate::engine::catalog::Catalog;
use crate::engine::catalog_log::{CatalogLog, CatalogLogError};
use crate::engine::compaction::Cleaner;
use crate::engine::mailbox;
use crate::engine::replay;
use crate::engine::upkeep::{self, OpenReport};
use crate::io::worker::Worker;
use crate::io::{file, map, process, ring};
use crate::net::addresses::Addresses;
use crate::net::listener;
use crate::shard::{self, Event, Order, ShardParts};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc as async_mpsc;

/// The version of the data directory's layout. A newer one is refused.
pub const FORMAT_VERSION: u32 = 1;
/// Says which layout the data directory has, and its id.
pub const FORMAT_FILE: &str = "format";
/// Locked by the broker that uses the data directory.
pub const LOCK_FILE: &str = "lock";
const FORMAT_BYTES_MAX: u64 = 64 << 10;
/// How long logs may take to be brought to a clean end. What is not done by then is read again at
/// the next start.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Why the broker did not start.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("io_uring cannot be used here: {0}")]
    NoRing(io::Error),
    #[error("the data directory {} cannot be used: {error}", path.display())]
    DataDir { path: PathBuf, error: io::Error },
    #[error(
        "another broker uses the data directory {}; stop it, or choose another with --data-dir",
        .0.display()
    )]
    Locked(PathBuf),
    #[error(
        "the data directory {} has format {found}; this version reads up to {FORMAT_VERSION}. \
         Use the version that wrote it, or a newer one",
        path.display()
    )]
    NewerFormat { path: PathBuf, found: u32 },
    #[error(
        "{} is not a data directory of this broker: {why}",
        path.display()
    )]
    NotOurs { path: PathBuf, why: String },
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

/// What the file `format` says.
#[derive(Debug, Serialize, Deserialize)]
struct Format {
    version: u32,
    cluster_id: String,
}

/// Runs a broker until SIGTERM or SIGINT, then stops it cleanly. `ready` is called once, with the
/// line that says where it listens.
///
/// # Errors
/// See [`ServeError`]: nothing was started then.
pub fn serve(mut config: Config, ready: impl FnOnce(&str)) -> Result<(), ServeError> {
    let started = Instant::now();
    ring::probe().map_err(ServeError::NoRing)?;
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
            listener::bind_one(address).map_err(|error| listen_error("--http", address, error))?,
        ),
        None => None,
    };
    let at_http = http
        .as_ref()
        .map_or("off".to_owned(), |(_, at)| at.to_string());
    let mut broker = Broker::start(config, &data, listeners, http.map(|(http, _)| http))?;
    let opened = broker.wait_until_open()?;
    // Before anyone is told that the broker is ready: from then on a signal means a clean stop.
    let signals = Signals::listen().map_err(ServeError::Thread)?;
    broker.order(Order::Serve);
    let config = &broker.config;
    ready(&format!(
        "millstream {} ready in {} ms: kafka {kafka}, http {at_http}, data {}, cores {}, durability {}",
        env!("CARGO_PKG_VERSION"),
        started.elapsed().as_millis(),
        config.data_dir.display(),
        config.cores,
        config.durability.name(),
    ));
    report_opened(config, &opened);
    signals.wait(&broker.shards)?;
    broker.stop();
    Ok(())
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

/// The data directory, locked for as long as this lives.
struct DataDir {
    cluster_id: Arc<str>,
    _lock: File,
}

impl DataDir {
    fn open(path: &Path) -> Result<DataDir, ServeError> {
        let at = |error| ServeError::DataDir {
            path: path.to_owned(),
            error,
        };
        file::create_dirs(path).map_err(at)?;
        let lock = file::open(&path.join(LOCK_FILE), true).map_err(at)?;
        file::lock(&lock).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => ServeError::Locked(path.to_owned()),
            _ => at(error),
        })?;
        let format = match file::read(&path.join(FORMAT_FILE), FORMAT_BYTES_MAX).map_err(at)? {
            Some(content) => read_format(path, &content)?,
            None => new_format(path)?,
        };
        Ok(DataDir {
            cluster_id: format.cluster_id.into(),
            _lock: lock,
        })
    }
}

fn read_format(path: &Path, content: &[u8]) -> Result<Format, ServeError> {
    let format: Format = serde_json::from_slice(content).map_err(|error| ServeError::NotOurs {
        path: path.to_owned(),
        why: format!("its file `{FORMAT_FILE}` cannot be read ({error})"),
    })?;
    match format.version {
        0..=FORMAT_VERSION => Ok(format),
        found => Err(ServeError::NewerFormat {
            path: path.to_owned(),
            found,
        }),
    }
}

/// Marks an empty directory as ours. One that holds other things is left alone.
fn new_format(path: &Path) -> Result<Format, ServeError> {
    let at = |error| ServeError::DataDir {
        path: path.to_owned(),
        error,
    };
    for entry in std::fs::read_dir(path).map_err(at)? {
        let name = entry.map_err(at)?.file_name();
        // lost+found: the directory may be a file system of its own.
        let known = [LOCK_FILE, "lost+found", "format.tmp"];
        if !known.iter().any(|known| name == *known) {
            return Err(ServeError::NotOurs {
                path: path.to_owned(),
                why: format!("it has no file `{FORMAT_FILE}`, but it is not empty"),
            });
        }
    }
    let format = Format {
        version: FORMAT_VERSION,
        cluster_id: uuid::Uuid::new_v4().simple().to_string()[..22].to_owned(),
    };
    let content = serde_json::to_vec(&format).map_err(|error| at(io::Error::other(error)))?;
    file::replace(&path.join(FORMAT_FILE), &content).map_err(at)?;
    file::sync_dir(path).map_err(at)?;
    Ok(format)
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
        data: &DataDir,
        listeners: Vec<TcpListener>,
        http: Option<TcpListener>,
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
        upkeep::finish_deletions(&config, &mut catalog, &mut catalog_log, &janitor).map_err(
            |error| ServeError::DataDir {
                path: config.data_dir.clone(),
                error,
            },
        )?;
        replay_journals(&config, &catalog)?;
        let (mailboxes, receivers) = mailbox::mailboxes(config.cores, config.mailbox_depth);
        let cores = process::allowed_cores();
        let connections = Arc::new(Addresses::default());
        let (event_sender, events) = mpsc::channel();
        let mut admin = Some(Admin::new(catalog_log));
        let mut http = http;
        let mut broker = Broker {
            config: Arc::clone(&config),
            shards: Vec::new(),
            orders: Vec::new(),
            events,
        };
        for (shard, (listener, mailbox)) in listeners.into_iter().zip(receivers).enumerate() {
            let (order_sender, orders) = async_mpsc::unbounded_channel();
            let worker = format!("worker-{shard}");
            let reader = format!("reader-{shard}");
            let parts = ShardParts {
                engine: EngineParts {
                    shard,
                    config: Arc::clone(&config),
                    cluster_id: Arc::clone(&data.cluster_id),
                    mailboxes: mailboxes.clone(),
                    worker: Worker::start(&worker).map_err(ServeError::Thread)?,
                    reader: Worker::start_yielding(&reader).map_err(ServeError::Thread)?,
                    janitor: janitor.clone(),
                    cleaner: cleaner.clone(),
                    catalog: catalog.clone(),
                    admin: (shard == ADMIN_SHARD).then(|| admin.take()).flatten(),
                },
                mailbox,
                listener,
                http: http.take_if(|_| shard == ADMIN_SHARD),
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
        match self.wait_for_all(CLOSE_LIMIT, |event| matches!(event, Event::Closed)) {
            true => tracing::info!("stopped"),
            false => tracing::warn!("stopped; some logs will be read again at the next start"),
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

/// SIGTERM and SIGINT, which end the broker.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on the signals are kept for [`wait`](Self::wait).
    fn listen() -> io::Result<Signals> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        drop(entered);
        Ok(Signals {
            runtime,
            terminate,
            interrupt,
        })
    }

    /// Returns on either signal. A shard whose thread ends before that is fatal: its partitions
    /// would be silent.
    fn wait(mut self, shards: &[std::thread::JoinHandle<()>]) -> Result<(), ServeError> {
        self.runtime.block_on(async {
            let mut watch = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    _ = self.terminate.recv() => return Ok(()),
                    _ = self.interrupt.recv() => return Ok(()),
                    _ = watch.tick() => {
                        if shards.iter().any(|shard| shard.is_finished()) {
                            return Err(ServeError::ShardGone);
                        }
                    }
                }
            }
        })
    }
}
