//! What people and CI see: progress, the summary, the violation.

use crate::violation::{Kind, Violation};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

const LINE_EVERY: Duration = Duration::from_secs(10);

pub struct Report {
    fault: String,
    seed: u64,
    started: Instant,
    limit: Duration,
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// What only the summary for machines has beside the counts.
    details: Map<String, Value>,
}

/// A violation, where it was found, and the arguments that find it again.
pub struct Found {
    pub violation: Violation,
    pub place: String,
    pub again: String,
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
            details: Map::new(),
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

    /// When it is; `None` for never.
    pub fn deadline(&self) -> Option<Instant> {
        self.started.checked_add(self.limit)
    }

    pub fn progress(&mut self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.started.elapsed().as_secs().min(self.limit.as_secs()));
            bar.set_message(line.to_owned());
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!("{} s: {line}", self.started.elapsed().as_secs());
        }
    }

    /// A line that is shown at once.
    pub fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{} s: {line}", self.started.elapsed().as_secs()),
        }
    }

    /// Adds this to the summary for machines.
    pub fn attach(&mut self, name: &str, details: Value) {
        self.details.insert(name.to_owned(), details);
    }

    /// The summary, and the violation if there is one.
    pub fn finish(&self, counts: Vec<(&'static str, u64)>, found: Option<&Found>, json: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let violation = found.map(|found| &found.violation);
        let mut rows = vec![
            ("seed", self.seed),
            ("seconds", self.started.elapsed().as_secs()),
        ];
        rows.extend(counts);
        rows.extend(kinds(violation));
        if json {
            let mut summary: Map<String, Value> = Map::new();
            summary.insert("fault".to_owned(), self.fault.clone().into());
            summary.extend(
                rows.iter()
                    .map(|(name, value)| (key(name), (*value).into())),
            );
            summary.extend(self.details.clone());
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
        }
        if let Some(found) = found {
            eprintln!("\nVIOLATION in {}: {}\n", found.place, found.violation);
            eprintln!("again: millstream-torture {}", found.again);
        }
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
        Kind::Condition,
        Kind::Key,
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

fn bar(limit: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}");
    ProgressBar::new(limit.as_secs()).with_style(style.expect("a sound template"))
}
