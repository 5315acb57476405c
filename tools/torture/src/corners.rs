//! Scripted corners of storage, each in one order: where a record that was acknowledged was once lost,
//! unseen or held up. A random order meets them too, now and then; these are met in seconds, always.

mod catalog;
mod checkpoint;
mod failed_sync;
mod full_start;
mod recycle;

use crate::Options;
use crate::broker::Broker;
use crate::checker;
use crate::clock::Clock;
use crate::disk;
use crate::ledger::Proof;
use crate::load::admin::change;
use crate::load::judge;
use crate::model::{Model, Topic, TopicState, lock};
use crate::moment::KillAt;
use crate::record::{self, Id, Producer};
use crate::requests::{self, Configs, NONE, PRODUCE};
use crate::violation::{Kind, Violation, violated};
use crate::wire::Wire;
use anyhow::Context as _;
use bytes::Bytes;
use kafka_protocol::records::Compression;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// A corner, and what is done there.
struct Corner {
    name: &'static str,
    run: fn(&Place) -> anyhow::Result<()>,
}

/// Where a corner is tried, and with which broker.
struct Place {
    binary: PathBuf,
    /// An empty directory of its own.
    scratch: PathBuf,
    seed: u64,
}

/// All of them.
static CORNERS: [Corner; 13] = [
    Corner {
        name: "recycle-overlay",
        run: |place| recycle::run(place, disk::FileSystem::Overlay),
    },
    Corner {
        name: "recycle-ext4",
        run: |place| recycle::run(place, disk::FileSystem::Ext4),
    },
    Corner {
        name: "catalog-ext4",
        run: |place| catalog::run(place, disk::FileSystem::Ext4),
    },
    Corner {
        name: "catalog-xfs",
        run: |place| catalog::run(place, disk::FileSystem::Xfs),
    },
    Corner {
        name: "checkpoint-full",
        run: checkpoint::run,
    },
    Corner {
        name: "full-start-kill",
        run: |place| full_start::run(place, Stop::Kill),
    },
    Corner {
        name: "full-start-stop",
        run: |place| full_start::run(place, Stop::Clean),
    },
    Corner {
        name: "failed-sync-ext4-kill",
        run: |place| failed_sync::run(place, disk::FileSystem::Ext4, Stop::Kill),
    },
    Corner {
        name: "failed-sync-ext4-stop",
        run: |place| failed_sync::run(place, disk::FileSystem::Ext4, Stop::Clean),
    },
    Corner {
        name: "failed-sync-xfs-kill",
        run: |place| failed_sync::run(place, disk::FileSystem::Xfs, Stop::Kill),
    },
    Corner {
        name: "failed-sync-xfs-stop",
        run: |place| failed_sync::run(place, disk::FileSystem::Xfs, Stop::Clean),
    },
    Corner {
        name: "failed-sync-overlay-kill",
        run: |place| failed_sync::run(place, disk::FileSystem::Overlay, Stop::Kill),
    },
    Corner {
        name: "failed-sync-overlay-stop",
        run: |place| failed_sync::run(place, disk::FileSystem::Overlay, Stop::Clean),
    },
];

/// How a broker ends.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Kill,
    Clean,
}

/// Tries those of these names, or all, one after the other. Status 1 if one of them fails; those behind
/// it are tried all the same.
///
/// # Errors
/// What the harness could not do.
pub fn run(options: &Options, names: &[String]) -> anyhow::Result<ExitCode> {
    let wanted = chosen(names)?;
    disk::own_mounts()?;
    let mut code = ExitCode::SUCCESS;
    for corner in wanted {
        let scratch = crate::scratch(options)?;
        let place = Place {
            binary: options.binary()?,
            scratch: scratch.path().to_owned(),
            seed: options.seed.unwrap_or(1),
        };
        let started = Instant::now();
        let result = (corner.run)(&place);
        let seconds = started.elapsed().as_secs_f32();
        let Err(error) = result else {
            println!("{:<26} ok {seconds:>6.1} s", corner.name);
            continue;
        };
        println!("{:<26} FAILED after {seconds:.1} s", corner.name);
        let violation = error.downcast().or_else(broken_off)?;
        corner.tell(&violation, &place, &options.keep)?;
        code = ExitCode::FAILURE;
    }
    Ok(code)
}

/// In a corner nothing strikes a broker that is asked: one that breaks off has ended by itself, or has closed the connection.
fn broken_off(error: anyhow::Error) -> anyhow::Result<Violation> {
    let ends = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
    ];
    match error.downcast_ref::<io::Error>() {
        Some(found) if ends.contains(&found.kind()) => {
            let text = format!("the connection ended: {found}");
            Ok(Violation::new(Kind::Broker, text))
        }
        _ => Err(error),
    }
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Corner>> {
    if names.is_empty() {
        return Ok(CORNERS.iter().collect());
    }
    let find = |name: &String| {
        let found = CORNERS.iter().find(|corner| corner.name == name);
        let all: Vec<&str> = CORNERS.iter().map(|corner| corner.name).collect();
        found.with_context(|| format!("`{name}` is no corner; there are: {}", all.join(", ")))
    };
    names.iter().map(find).collect()
}

impl Corner {
    /// Says what was found, and keeps the broker's log.
    fn tell(&self, violation: &Violation, place: &Place, keep: &Path) -> anyhow::Result<()> {
        let to = keep.join(self.name);
        std::fs::create_dir_all(&to)?;
        std::fs::copy(place.log(), to.join("broker.log"))?;
        eprintln!("\nVIOLATION in {}: {violation}\n", self.name);
        eprintln!("again: millstream-torture corners {}", self.name);
        eprintln!("kept: {}", to.canonicalize()?.display());
        Ok(())
    }
}

impl Place {
    fn log(&self) -> PathBuf {
        self.scratch.join("broker.log")
    }

    /// A broker with these settings beside some that all have.
    fn spawn(
        &self,
        data: &Path,
        flags: &[&str],
        kill_at: Option<KillAt>,
    ) -> anyhow::Result<Broker> {
        let all = ["--http=off", "--auto-create-topics=false", "--cores=1"];
        let flags: Vec<String> = all
            .iter()
            .chain(flags)
            .map(|flag| flag.to_string())
            .collect();
        let log = self.log();
        Ok(Broker::spawn(
            &self.binary,
            data,
            &flags,
            &log,
            None,
            kill_at,
        )?)
    }

    /// The same, once it serves.
    fn start(&self, data: &Path, flags: &[&str]) -> anyhow::Result<(Broker, SocketAddr)> {
        let mut broker = self.spawn(data, flags, None)?;
        let address = broker.wait_until_ready()?;
        Ok((broker, address))
    }
}

impl Stop {
    fn end(self, broker: Broker) -> Result<(), Violation> {
        match self {
            Stop::Kill => {
                broker.kill();
                Ok(())
            }
            Stop::Clean => {
                broker.terminate();
                broker.wait_stopped()
            }
        }
    }
}

fn new_model() -> Arc<Model> {
    Arc::new(Model::new(Clock::default()))
}

/// Creates a topic that is not there. The broker may end meanwhile, where the model says so.
fn create(
    model: &Model,
    broker: SocketAddr,
    topic: Topic,
    configs: &[(&str, &str)],
) -> anyhow::Result<Arc<Topic>> {
    let configs = configs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let configs: Configs = configs.collect();
    let topic = Arc::new(topic);
    let partitions = topic.ledgers().len() as i32;
    let state = TopicState {
        partitions,
        configs: configs.clone(),
    };
    lock(&model.topics).insert(topic.name.clone(), Arc::clone(&topic));
    let wire = &mut Wire::connect(broker)?;
    let created = change(model, &topic.name, Some(state), "CreateTopics", || {
        requests::create_topic(wire, &topic.name, partitions, &configs)
    });
    match created.err().and_then(|end| judge(end, model)) {
        Some(violation) => Err(violation.into()),
        None => Ok(topic),
    }
}

/// A batch of new records, to be sent once or more often.
struct Batch {
    ids: Vec<Id>,
    bytes: Bytes,
}

impl Batch {
    /// So many records for partition 0.
    fn new(model: &Model, topic: &Topic, records: u32, producer: Option<Producer>) -> Batch {
        let worker = model.new_worker();
        let ids: Vec<Id> = (0..records).map(|number| Id { worker, number }).collect();
        let place = (topic.name.as_str(), 0);
        let bytes = record::encode(place, topic.shape, &ids, producer, Compression::None);
        Batch { ids, bytes }
    }

    /// Sends it with acks=all. What the answer says is known from then on; the error code is returned.
    fn send(&self, model: &Model, wire: &mut Wire, topic: &Topic) -> anyhow::Result<i16> {
        let ledger = topic.ledger(0).context("a partition")?;
        lock(&ledger).sent(&self.ids);
        let request = requests::produce(&topic.name, 0, -1, self.bytes.clone());
        let (error, base) = requests::produced(&wire.call(&request, PRODUCE)?);
        if error == NONE {
            lock(&ledger).acknowledged(&self.ids, base, Proof::AcksAll, model.cuts())?;
        }
        Ok(error)
    }
}

/// Sends a batch of so many new records to partition 0, which must be taken.
fn produce(model: &Model, wire: &mut Wire, topic: &Topic, records: u32) -> anyhow::Result<()> {
    let sent = Batch::new(model, topic, records, None).send(model, wire, topic)?;
    Ok(taken(sent)?)
}

/// Cuts the power of a broker at work. The next start must have all that was promised.
fn cut_and_check(
    place: &Place,
    disk: &mut disk::Image,
    model: &Model,
    broker: Broker,
    flags: &[&str],
) -> anyhow::Result<()> {
    let cut = model.cut();
    disk.cut()?;
    broker.kill();
    disk.go_on_with_clone()?;
    let (broker, address) = place.start(&disk.data_dir(), flags)?;
    checker::check(model, address, Some(cut))?;
    broker.kill();
    Ok(())
}

fn taken(error: i16) -> Result<(), Violation> {
    if error != NONE {
        violated!(Broker, "a batch is answered with error {error}");
    }
    Ok(())
}
