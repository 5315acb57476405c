//! `millstream doctor`: what is wrong with a running broker, and what to do about it.
//!
//! What is asked, and how findings are told; [`crate::findings`] has what is found in the answers.

use crate::cli::broker_args::{BrokerArgs, HttpArgs};
use crate::cli::output::{AlreadyTold, Line, Output};
use crate::cli::screen::Every;
use crate::cli::words;
use crate::client::http::{self, Http};
use crate::client::{Client, kafka_error, log_dirs};
use crate::config::{Config, duration_ms};
use crate::findings::metrics::Metrics;
use crate::findings::{Disk, Evidence, Finding, Severity, checks};
use crate::io::clock;
use crate::kafka::admin::describe_configs;
use serde::Serialize;
use std::collections::BTreeMap;

const BROKER_RESOURCE: i8 = 4;

/// `millstream doctor …`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit status is 0 when nothing is wrong, else 1; notes alone are nothing wrong. An error is something that \
is lost, refused or stopped until somebody acts; a warning leads there, or holds clients back; a note is worth \
knowing. What is counted since the broker's start is a note; what is counted while the doctor looks is a \
warning.")]
pub struct Args {
    /// How long to look, for what grows meanwhile: seconds, or such as 500ms
    #[arg(long = "for", value_name = "TIME", default_value = "1")]
    look: Every,
    /// A group that is further behind is a finding
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = millis)]
    lag: i64,
    /// Less free disk than this many percent is a finding
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    disk_free: u8,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    http: HttpArgs,
}

fn millis(text: &str) -> Result<i64, String> {
    duration_ms(text).ok_or_else(|| "it is not a time such as 90s or 5m".to_owned())
}

/// Looks, and tells what is wrong. Fails if something is.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (mut findings, evidence) = examine(&args)?;
    findings.extend(checks::all(&evidence));
    // The worst first.
    findings.sort_by_key(|finding| finding.severity);
    let is_well = findings.iter().all(|f| f.severity == Severity::Note);
    let mut out = Output::new();
    if args.json {
        out.json(&Report {
            well: is_well,
            findings,
        })?;
    } else {
        out.print(&lines(&findings))?;
    }
    out.flush()?;
    if is_well {
        return Ok(());
    }
    Err(AlreadyTold.into())
}

#[derive(Serialize)]
struct Report {
    well: bool,
    findings: Vec<Finding>,
}

fn lines(findings: &[Finding]) -> Vec<Line> {
    let mut lines = Vec::new();
    for finding in findings {
        let severity = finding.severity.word().to_uppercase();
        lines.push(Line::heading(format!("{severity}  {}", finding.what)));
        if !finding.todo.is_empty() {
            lines.push(Line::from(format!("    {}", finding.todo)));
        }
    }
    let count = |severity, noun| {
        let found = findings.iter().filter(|f| f.severity == severity);
        words::count(found.count() as u64, noun)
    };
    let errors = count(Severity::Error, "error");
    let warnings = count(Severity::Warning, "warning");
    let notes = count(Severity::Note, "note");
    lines.push(Line::from(format!("{errors}, {warnings}, {notes}")));
    lines
}

/// Asks the broker everything. What does not answer is a finding itself.
fn examine(args: &Args) -> anyhow::Result<(Vec<Finding>, Evidence)> {
    let mut findings = Vec::new();
    let mut evidence = Evidence {
        lag_seconds_max: args.lag as f64 / 1e3,
        disk_free_min: f64::from(args.disk_free) / 100.0,
        now_seconds: clock::now_ms() as f64 / 1e3,
        ..Evidence::default()
    };
    if let Err(error) = ask_over_kafka(&args.broker.bootstrap, &mut evidence) {
        let todo = "if it runs, its log says more";
        findings.push(Finding::error("broker", format!("{error:#}"), todo));
    }
    let http = args.http.client()?;
    for path in ["/healthz", "/readyz"] {
        if let Err(error @ http::Error::Refused { .. }) = http.get(path) {
            let todo = "it is stopping, or a shard hangs: see its log, restart it";
            findings.push(Finding::error("health", error.to_string(), todo));
        }
    }
    if let Err(error) = ask_for_metrics(&http, args.look, &mut evidence) {
        let what = format!("the metrics cannot be read, most is not known: {error}");
        let todo = "turn HTTP on (`serve --http`), or say where it is with --http";
        findings.push(Finding::warning("metrics", what, todo));
    }
    Ok((findings, evidence))
}

fn ask_over_kafka(bootstrap: &str, evidence: &mut Evidence) -> anyhow::Result<()> {
    let mut client = Client::connect(bootstrap)?;
    let directories = log_dirs::describe(&mut client, false)?.into_iter();
    evidence.disks = directories.map(disk).collect();
    for node in client.nodes() {
        let name = node.to_string();
        let resource = describe_configs::ResourceRequest {
            resource_type: BROKER_RESOURCE,
            resource_name: &name,
            configuration_keys: None,
        };
        let request = describe_configs::Request {
            resources: vec![resource],
            ..describe_configs::Request::default()
        };
        let reply = client.broker(node)?.call(&request)?;
        let configs = reply.results.iter().flat_map(|result| &result.configs);
        let numbers = configs.filter_map(|config| {
            let knob = Config::KNOBS.iter();
            let knob = knob.into_iter().find(|k| k.broker_name() == config.name)?;
            Some((knob.field, config.value.as_ref()?.parse().ok()?))
        });
        evidence.knobs.extend(numbers.collect::<BTreeMap<_, f64>>());
    }
    Ok(())
}

fn disk(directory: log_dirs::Directory) -> Disk {
    let error = directory.error;
    Disk {
        node: directory.node,
        path: directory.path,
        error: error.is_error().then(|| kafka_error(error)),
        usable_bytes: directory.usable_bytes,
        total_bytes: directory.total_bytes,
    }
}

fn ask_for_metrics(http: &Http, look: Every, evidence: &mut Evidence) -> Result<(), http::Error> {
    let read = || Ok(Metrics::parse(&http.get("/metrics")?));
    let before = read()?;
    look.wait();
    evidence.after = read()?;
    evidence.before = before;
    evidence.has_metrics = true;
    Ok(())
}
