//! What people and CI see: progress, the summary, the violation.

use crate::cycle::{Counts, Cycles};
use crate::model::Tally;
use crate::violation::{Kind, Violation};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(10);

pub struct Report {
    fault: String,
    seed: u64,
    started: Instant,
    limit: Duration,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Report {
    pub fn new(fault: &str, seed: u64, limit: Duration) -> Report {
        let report = Report {
            fault: fault.to_owned(),
            seed,
            started: Instant::now(),
            limit,
            bar: std::io::stderr().is_terminal().then(|| bar(limit)),
            last_line: Instant::now(),
        };
        if report.bar.is_none() {
            eprintln!("{fault}: seed {seed}");
        }
        report
    }

    /// Whether the time is up.
    pub fn is_over(&self) -> bool {
        self.started.elapsed() >= self.limit
    }

    /// How much of the time is up.
    pub fn share(&self) -> f64 {
        self.started.elapsed().as_secs_f64() / self.limit.as_secs_f64()
    }

    pub fn progress(&mut self, cycles: &Cycles) {
        let acknowledged = load(&cycles.model.tally.acknowledged);
        let line = format!(
            "{} cycles, {acknowledged} acknowledged",
            cycles.counts.cycles
        );
        if let Some(bar) = &self.bar {
            bar.set_position(self.started.elapsed().as_secs().min(self.limit.as_secs()));
            bar.set_message(line);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!("{} s: {line}", self.started.elapsed().as_secs());
        }
    }

    /// The summary, and the violation if there is one.
    pub fn finish(&self, cycles: &Cycles, violation: Option<&Violation>, json: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let mut rows = self.rows(&cycles.counts, &cycles.model.tally);
        if cycles.hostile > 0 {
            rows.push(("hostile connections", load(&cycles.hostile_met)));
            rows.push(("memory at most, KiB", cycles.memory_bytes_max / 1024));
        }
        rows.extend(kinds(violation));
        if json {
            let mut summary: Map<String, Value> = Map::new();
            summary.insert("fault".to_owned(), self.fault.clone().into());
            summary.extend(
                rows.iter()
                    .map(|(name, value)| (key(name), (*value).into())),
            );
            summary.insert(
                "violation".to_owned(),
                violation.map(Violation::to_string).into(),
            );
            println!("{}", Value::from(summary));
        } else {
            println!("{}", self.fault);
            for (name, value) in &rows {
                println!("  {name:<26}{value:>12}");
            }
            print!("{}", cycles.soak.table());
        }
        if let Some(violation) = violation {
            let cycle = cycles.counts.cycles.saturating_sub(1);
            eprintln!("\nVIOLATION in cycle {cycle}: {violation}\n");
            eprintln!(
                "again: millstream-torture {} --seed {} --cycles {}",
                self.fault,
                self.seed,
                cycle + 1
            );
        }
    }

    fn rows(&self, counts: &Counts, tally: &Tally) -> Vec<(&'static str, u64)> {
        vec![
            ("seed", self.seed),
            ("seconds", self.started.elapsed().as_secs()),
            ("cycles", counts.cycles),
            ("faults under load", counts.faults_under_load),
            ("faults at start", counts.faults_at_start),
            ("faults in a clean stop", counts.faults_in_stop),
            ("clean stops", counts.clean_stops),
            ("jumps of the clock", counts.jumps),
            ("times full", counts.times_full),
            ("starts on a full disk", counts.starts_full),
            ("records sent", load(&tally.sent)),
            ("records acknowledged", load(&tally.acknowledged)),
            ("records read", load(&tally.seen)),
            ("records checked", load(&tally.checked)),
            ("offsets committed", load(&tally.commits)),
            ("catalog changes", load(&tally.catalog_changes)),
        ]
    }
}

/// How many violations of each kind: one at most, for the first ends the run.
fn kinds(violation: Option<&Violation>) -> Vec<(&'static str, u64)> {
    let kinds = [
        Kind::Lost,
        Kind::Doubled,
        Kind::Reordered,
        Kind::Unseen,
        Kind::Changed,
        Kind::Stranger,
        Kind::Gap,
        Kind::Start,
        Kind::Commit,
        Kind::Catalog,
        Kind::Broker,
    ];
    let found = |kind| u64::from(violation.is_some_and(|violation| violation.kind == kind));
    kinds
        .into_iter()
        .map(|kind| (kind.name(), found(kind)))
        .collect()
}

fn key(name: &str) -> String {
    name.replace([' ', '-'], "_").replace(',', "")
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn bar(limit: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}");
    ProgressBar::new(limit.as_secs()).with_style(style.expect("a sound template"))
}
