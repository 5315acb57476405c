//! `millstream perf`: benchmarks a broker, its throughput and latency under load.
//!
//! Works with any broker that speaks Kafka's protocol. Batches are encoded once, before the start, so
//! that the client's work for each request is a few dozen bytes of header. All connections share one
//! thread, to be pinned to a core apart from the broker's.
//!
//! - `plan`: what is asked for, and the topic that it is asked of.
//! - `produce`, `fetch`: one connection each, as a task. `frames`: their bytes.
//! - `tally`: what was counted and timed. `report`: a table or JSON of it.
//! - `sink`: a server that only answers, which shows the client's own ceiling.

mod fetch;
mod frames;
mod plan;
mod produce;
mod report;
mod sink;
mod tally;

use self::plan::{Consumers, Plan, Producers, Target};
use self::tally::Tally;
use crate::cli::broker_args::BrokerArgs;
use crate::cli::{output, words};
use crate::client::Client;
use crate::client::producer::Acks;
use crate::io::process;
use anyhow::{Context, bail};
use clap::Subcommand;
use indicatif::ProgressBar;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::Instant;

const TICK: Duration = Duration::from_millis(200);
/// How long the ceiling is measured.
const CEILING: Duration = Duration::from_secs(2);
/// How long replies under way are waited for at the end.
const DRAIN: Duration = Duration::from_secs(30);

/// `millstream perf …`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Write as much as the broker takes, or a given rate
    Produce {
        #[command(flatten)]
        load: Producers,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Read as much as the broker gives
    Consume {
        #[command(flatten)]
        read: Consumers,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Write one record at a time; how long until it is acknowledged, and until it is read
    Latency {
        /// Size of a record's value, in bytes
        #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = plan::record_bytes())]
        record_bytes: u32,
        /// Connections that write, each with one record under way
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = plan::few())]
        connections: u32,
        /// Records to send in a second, over all connections [default: the next when one is answered]
        #[arg(long, value_name = "RECORDS")]
        rate: Option<f64>,
        /// When the broker answers
        #[arg(long, value_name = "0|1|all", default_value = "all", value_parser = words::acks)]
        acks: Acks,
        #[command(flatten)]
        common: CommonArgs,
    },
    /// Write and read at the same time
    Mixed {
        #[command(flatten)]
        load: Producers,
        /// Connections that read
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = plan::few())]
        readers: u32,
        #[command(flatten)]
        common: CommonArgs,
    },
}

/// What every mode needs.
#[derive(Clone, Debug, clap::Args)]
struct CommonArgs {
    /// The topic to use; created if it is missing
    #[arg(long, value_name = "NAME", default_value = "millstream-perf")]
    topic: String,
    /// Partitions of the topic; one that exists must have as many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: i32,
    /// Delete the topic first, if it is there
    #[arg(long)]
    fresh: bool,
    /// How long it is measured
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = plan::seconds)]
    seconds: f64,
    /// How long the load runs before it is measured
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = plan::seconds)]
    warmup_seconds: f64,
    /// Pin this client to a core; run the broker on others
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Runs one load, and prints what came of it. Fails if any request failed.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (name, common, producers, consumers) = match args.mode {
        Mode::Produce { load, common } => ("produce", common, Some(load), None),
        Mode::Consume { read, common } => ("consume", common, None, Some(read)),
        Mode::Latency {
            record_bytes,
            connections,
            rate,
            acks,
            common,
        } => {
            let producers = Producers::one_by_one(record_bytes, connections, rate, acks);
            ("latency", common, Some(producers), Some(Consumers::tail(1)))
        }
        Mode::Mixed {
            load,
            readers,
            common,
        } => ("mixed", common, Some(load), Some(Consumers::tail(readers))),
    };
    let mut client = Client::connect(&common.broker.bootstrap)?;
    let target = plan::prepare(&mut client, &common.topic, common.partitions, common.fresh)?;
    let plan = Plan {
        producers,
        consumers,
        warmup: Duration::from_secs_f64(common.warmup_seconds),
        measured: Duration::from_secs_f64(common.seconds),
        target,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let wants_ceiling = plan.producers.as_ref().is_some_and(|how| how.ceiling);
    let sink = wants_ceiling.then(sink::start).transpose();
    let sink = sink.context("cannot start the sink")?;
    if let Some(core) = common.core {
        process::pin_to_core(core).with_context(|| format!("cannot run on core {core}"))?;
    }
    let ceiling = match &sink {
        Some(sink) => Some(runtime.block_on(measure_ceiling(&plan, sink))?),
        None => None,
    };
    let tally = runtime.block_on(LocalSet::new().run_until(load(&plan)))?;
    report::print(name, &plan, &tally, ceiling.as_ref(), common.json)?;
    match tally.failures.values().sum() {
        0 => Ok(()),
        failures => bail!("{} failed", words::count(failures, "request")),
    }
}

/// The same load against a server that throws everything away: what this client can do at most.
async fn measure_ceiling(plan: &Plan, sink: &str) -> anyhow::Result<Tally> {
    let plan = Plan {
        producers: plan.producers.clone(),
        consumers: None,
        warmup: Duration::ZERO,
        measured: CEILING,
        target: Target {
            leaders: vec![(sink.to_owned(), plan.target.partitions().collect())],
            ..plan.target.clone()
        },
    };
    LocalSet::new().run_until(load(&plan)).await
}

/// Starts all connections, waits until the time is over, and gathers what they counted.
async fn load(plan: &Plan) -> anyhow::Result<Tally> {
    let tally = Rc::new(RefCell::new(Tally::new()));
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(consumers) = &plan.consumers {
        for connection in fetch::connections(&plan.target, consumers, &tally).await? {
            tasks.spawn_local(connection.run());
        }
    }
    let start = Instant::now();
    let from = start + plan.warmup;
    let to = from + plan.measured;
    tally.borrow_mut().measure_between(from, to);
    let is_read = plan.consumers.is_some();
    if let Some(producers) = &plan.producers {
        let target = &plan.target;
        for connection in produce::connections(target, producers, &tally, start, is_read).await? {
            tasks.spawn_local(connection.run());
        }
    }
    let bar_ms = (plan.warmup + plan.measured).as_millis() as u64;
    let bar = output::progress_bar(bar_ms, "{wide_bar} {msg}");
    let end = to + DRAIN;
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            done = tasks.join_next() => match done {
                None => break,
                Some(done) => done.context("a connection's task broke")??,
            },
            _ = tick.tick() => show(&bar, &tally.borrow(), start),
            () = tokio::time::sleep_until(end) => bail!("the broker did not answer what was under way within {} s", DRAIN.as_secs()),
        }
    }
    bar.finish_and_clear();
    drop(tasks);
    let tally = Rc::try_unwrap(tally);
    let tally = tally.map_err(|_| anyhow::anyhow!("a connection is still at work"))?;
    Ok(tally.into_inner())
}

fn show(bar: &ProgressBar, tally: &Tally, start: Instant) {
    let passed = start.elapsed();
    bar.set_position(passed.as_millis() as u64);
    let rate = |records: u64| records as f64 / passed.as_secs_f64().max(0.001);
    let (written, read) = tally.so_far;
    bar.set_message(format!(
        "{:.0} records/s written, {:.0} read",
        rate(written),
        rate(read)
    ));
}
