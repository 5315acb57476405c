//! What was measured in a round, as people and machines read it.

use super::loads::Round;
use super::probe::Latency;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// The aims: no test decides by them, since a busy machine misses them too.
const P99_AIM: Duration = Duration::from_millis(20);
const WORST_AIM: Duration = Duration::from_millis(100);

/// The broker's own memory in bytes, without mapped segments.
#[derive(Clone, Copy)]
pub struct Memory {
    pub before: u64,
    pub peak: u64,
    /// A while after the load.
    pub after: u64,
}

/// A round.
pub struct Row {
    load: &'static str,
    does: String,
    requests: u64,
    p50: Duration,
    p99: Duration,
    pub worst: Duration,
    /// The request that waited for so long.
    slowest: &'static str,
    errors: u64,
    /// The upper bound of the longest time that a task kept the shard's thread, in seconds.
    turn: Option<f64>,
    pub memory: Memory,
    /// What the loads say.
    notes: String,
}

impl Memory {
    pub fn new(before: u64) -> Memory {
        Memory {
            before,
            peak: before,
            after: before,
        }
    }

    pub fn saw(&mut self, bytes: u64) {
        self.peak = self.peak.max(bytes);
    }
}

impl Row {
    pub fn new(
        round: &Round,
        latency: &Latency,
        turn: Option<f64>,
        memory: Memory,
        notes: Vec<String>,
    ) -> Row {
        Row {
            load: round.name,
            does: round.does(),
            requests: latency.count() as u64,
            p50: latency.quantile(0.5),
            p99: latency.quantile(0.99),
            worst: latency.quantile(1.0),
            slowest: latency.slowest(),
            errors: u64::from(latency.error.is_some()),
            turn,
            memory,
            notes: notes.join("; "),
        }
    }

    fn meets_aims(&self) -> bool {
        self.errors == 0 && self.p99 <= P99_AIM && self.worst <= WORST_AIM
    }

    pub fn json(&self) -> Value {
        json!({
            "load": self.load,
            "does": self.does,
            "requests": self.requests,
            "p50_us": self.p50.as_micros() as u64,
            "p99_us": self.p99.as_micros() as u64,
            "worst_us": self.worst.as_micros() as u64,
            "slowest": self.slowest,
            "errors": self.errors,
            "aims_met": self.meets_aims(),
            "longest_turn_seconds_max": self.turn.filter(|turn| turn.is_finite()),
            "memory_before_bytes": self.memory.before,
            "memory_peak_bytes": self.memory.peak,
            "memory_after_bytes": self.memory.after,
            "notes": self.notes,
        })
    }

    fn turn(&self) -> String {
        match self.turn {
            Some(seconds) if seconds.is_finite() => format!("≤ {} ms", seconds * 1000.0),
            Some(_) => "more".to_owned(),
            None => "-".to_owned(),
        }
    }

    fn cells(&self) -> [String; 11] {
        [
            self.load.to_owned(),
            self.requests.to_string(),
            ms(self.p50),
            ms(self.p99),
            ms(self.worst),
            self.errors.to_string(),
            self.turn(),
            mib(self.memory.before),
            mib(self.memory.peak),
            mib(self.memory.after),
            self.notes.clone(),
        ]
    }
}

/// A line for those who watch.
impl fmt::Display for Row {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, worst) = (ms(self.p50), ms(self.p99), ms(self.worst));
        write!(
            to,
            "{:<18} {:>6} requests, p50 {p50} p99 {p99} worst {worst} ms ({}), {} errors, turn {}, \
             {} MiB, then {} MiB; {}",
            self.load,
            self.requests,
            self.slowest,
            self.errors,
            self.turn(),
            mib(self.memory.peak),
            mib(self.memory.after),
            self.notes,
        )
    }
}

/// What the summary has of all rounds.
pub fn totals(rows: &[Row]) -> Vec<(&'static str, u64)> {
    let most = |of: fn(&Row) -> u64| rows.iter().map(of).max().unwrap_or(0);
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum();
    vec![
        ("rounds", rows.len() as u64),
        (
            "rounds that meet aims",
            sum(|row| u64::from(row.meets_aims())),
        ),
        ("requests", sum(|row| row.requests)),
        ("errors", sum(|row| row.errors)),
        (
            "worst latency, us",
            most(|row| row.worst.as_micros() as u64),
        ),
        ("most memory, MiB", most(|row| row.memory.peak >> 20)),
    ]
}

/// A table for docs/testing.md.
pub fn table(rows: &[Row]) -> String {
    let mut table = "| Load | requests | p50, ms | p99, ms | worst, ms | errors | longest turn | \
                     MiB before | MiB at most | MiB after | |\n\
                     |---|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        table += &format!("| {} |\n", row.cells().join(" | "));
    }
    let missed = rows.iter().filter(|row| !row.meets_aims());
    let missed: Vec<&str> = missed.map(|row| row.load).collect();
    let (p99, worst) = (P99_AIM.as_millis(), WORST_AIM.as_millis());
    let by = if missed.is_empty() {
        "all".to_owned()
    } else {
        format!("all but {}", missed.join(", "))
    };
    table + &format!("The aims, a p99 of {p99} ms and a worst of {worst} ms, are met by {by}.\n")
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

fn mib(bytes: u64) -> String {
    (bytes >> 20).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steady::loads;

    #[test]
    fn a_round_is_a_row_and_says_whether_it_meets_the_aims() {
        let round = &loads::chosen(&["alone".to_owned()]).unwrap()[0];
        let new = |error: Option<&str>| {
            let latency = Latency {
                error: error.map(str::to_owned),
                ..Latency::default()
            };
            Row::new(
                round,
                &latency,
                Some(0.0512),
                Memory::new(3 << 20),
                Vec::new(),
            )
        };
        let good = table(&[new(None)]);
        let row = "| alone | 0 | 0.0 | 0.0 | 0.0 | 0 | ≤ 51.2 ms | 3 | 3 | 3 |  |";
        assert!(good.contains(row), "{good}");
        assert!(good.contains("are met by all."), "{good}");
        let bad = table(&[new(Some("no answer"))]);
        assert!(bad.contains("are met by all but alone."), "{bad}");
    }
}
