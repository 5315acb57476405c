//! Scripted corners of storage, each in one order: where a record that was acknowledged was once lost,
//! unseen or held up. A random order meets them too, now and then; these are met in seconds, always.

mod checkpoint;
mod recycle;

use crate::Options;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::disk;
use crate::ledger::Proof;
use crate::load::admin::change;
use crate::load::judge;
use crate::model::{Model, Topic, TopicState, lock};
use crate::record::{self, Id};
use crate::requests::{self, Configs, NONE, PRODUCE};
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use anyhow::Context as _;
use kafka_protocol::records::Compression;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

/// A corner: its name, whether it mounts file systems, and what is done.
pub struct Corner {
    pub name: &'static str,
    pub mounts: bool,
    run: fn(&Place) -> anyhow::Result<()>,
}

/// Where a corner is tried, and with which broker.
pub struct Place {
    pub binary: PathBuf,
    /// An empty directory of its own.
    pub scratch: PathBuf,
    pub seed: u64,
}

/// All of them.
pub static CORNERS: [Corner; 3] = [
    Corner {
        name: "checkpoint-full",
        mounts: true,
        run: checkpoint::run,
    },
    Corner {
        name: "recycle-overlay",
        mounts: true,
        run: recycle::on_overlay,
    },
    Corner {
        name: "recycle-ext4",
        mounts: true,
        run: recycle::on_ext4,
    },
];

/// Tries those of these names, or all, one after the other. Status 1 if one of them fails; those behind
/// it are tried all the same.
///
/// # Errors
/// What the harness could not do.
pub fn run(options: Options, names: &[String]) -> anyhow::Result<ExitCode> {
    let wanted: Vec<&Corner> = chosen(names)?;
    if wanted.iter().any(|corner| corner.mounts) {
        disk::own_mounts()?;
    }
    let mut code = ExitCode::SUCCESS;
    for corner in wanted {
        let scratch = crate::scratch(&options)?;
        let place = Place {
            binary: options.binary()?,
            scratch: scratch.path().to_owned(),
            seed: options.seed.unwrap_or(1),
        };
        let started = Instant::now();
        let result = (corner.run)(&place);
        let seconds = started.elapsed().as_secs_f32();
        let Err(error) = result else {
            println!("{:<24} ok {seconds:>6.1} s", corner.name);
            continue;
        };
        let violation: Violation = error.downcast()?;
        println!("{:<24} FAILED after {seconds:.1} s", corner.name);
        eprintln!("\nVIOLATION in {}: {violation}\n", corner.name);
        let to = options.keep.join(corner.name);
        std::fs::create_dir_all(&to)?;
        std::fs::copy(place.log(), to.join("broker.log"))?;
        eprintln!("again: millstream-torture corners {}", corner.name);
        eprintln!("kept: {}", to.canonicalize()?.display());
        code = ExitCode::FAILURE;
    }
    Ok(code)
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

impl Place {
    pub fn log(&self) -> PathBuf {
        self.scratch.join("broker.log")
    }

    /// A broker with these settings beside some that all have; `fault` goes to `MILLSTREAM_FAULT`.
    fn spawn(&self, data: &Path, flags: &[&str], fault: Option<&str>) -> anyhow::Result<Broker> {
        let mut command = Command::new(&self.binary);
        command.envs(fault.map(|fault| ("MILLSTREAM_FAULT", fault)));
        let all = ["--http=off", "--auto-create-topics=false"];
        let flags: Vec<String> = all
            .iter()
            .chain(flags)
            .map(|flag| flag.to_string())
            .collect();
        Ok(Broker::spawn_with(command, data, &flags, &self.log())?)
    }

    /// The same, once it serves.
    fn start(&self, data: &Path, flags: &[&str]) -> anyhow::Result<(Broker, SocketAddr)> {
        let mut broker = self.spawn(data, flags, None)?;
        let address = broker.wait_until_ready()?;
        Ok((broker, address))
    }
}

fn new_model() -> Arc<Model> {
    Arc::new(Model::new(Clock::default()))
}

/// Creates a topic that is not there.
fn create(
    model: &Arc<Model>,
    broker: SocketAddr,
    topic: Topic,
    configs: &[(&str, &str)],
) -> anyhow::Result<Arc<Topic>> {
    let configs: Configs = configs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let topic = Arc::new(topic);
    let state = TopicState {
        partitions: topic.ledgers().len() as i32,
        configs: configs.clone(),
    };
    let partitions = state.partitions;
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

/// Sends a batch of so many new records to partition 0, with acks=all, and takes note of the answer.
fn produce(model: &Model, wire: &mut Wire, topic: &Topic, records: u32) -> anyhow::Result<Vec<Id>> {
    let worker = model.new_worker();
    let ids: Vec<Id> = (0..records).map(|number| Id { worker, number }).collect();
    let batch = record::encode((&topic.name, 0), topic.shape, &ids, None, Compression::None);
    let ledger = topic.ledger(0).context("a partition")?;
    lock(&ledger).sent(&ids);
    let response = wire.call(&requests::produce(&topic.name, 0, -1, batch), PRODUCE)?;
    match requests::produced(&response) {
        (NONE, base) => lock(&ledger).acknowledged(&ids, base, Proof::AcksAll, model.cuts())?,
        (error, _) => {
            let refused = || violated!(Broker, "a batch is answered with error {error}");
            refused()?;
        }
    }
    Ok(ids)
}
