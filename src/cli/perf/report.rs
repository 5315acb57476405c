//! What came of a run: a table for people, a JSON object for programs.

use super::plan::Plan;
use super::tally::{Flow, Tally};
use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::cli::words;
use crate::client::kafka_error;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Prints the measured part of a run, and how it compares with the client's own ceiling.
pub fn print(
    mode: &str,
    plan: &Plan,
    tally: &Tally,
    ceiling: Option<&Tally>,
    json: bool,
) -> anyhow::Result<()> {
    let mut out = Output::new();
    let report = Report {
        mode,
        plan,
        tally,
        ceiling,
    };
    if json {
        out.line(&report.json().to_string())?;
    } else {
        report.text(&mut out)?;
    }
    out.flush()
}

struct Report<'a> {
    mode: &'a str,
    plan: &'a Plan,
    tally: &'a Tally,
    ceiling: Option<&'a Tally>,
}

impl Report<'_> {
    fn text(&self, out: &mut Output) -> anyhow::Result<()> {
        if self.plan.producers.is_some() {
            out.line(&self.flow_text("written", self.tally.written))?;
        }
        if self.plan.consumers.is_some() {
            out.line(&self.flow_text("read", self.tally.read))?;
        }
        if let Some(share) = self.share_of_ceiling() {
            out.line(&format!(
                "{:.0} % of what this client sends to a server that only answers",
                share * 100.0
            ))?;
        }
        for (code, count) in &self.tally.failures {
            let failures = words::count(*count, "failure");
            out.line(&format!("{failures}: {}", kafka_error(*code)))?;
        }
        let histograms = self.tally.histograms();
        if !histograms.is_empty() {
            out.line("")?;
            latencies(&histograms).print(out)?;
        }
        Ok(())
    }

    fn flow_text(&self, what: &str, flow: Flow) -> String {
        let seconds = self.plan.measured.as_secs_f64();
        format!(
            "{what}: {} in {seconds:.1} s: {} a second, {}/s, {} a second",
            words::count(flow.records, "record"),
            words::count((flow.records as f64 / seconds) as u64, "record"),
            words::size((flow.bytes as f64 / seconds) as u64),
            words::count((flow.requests as f64 / seconds) as u64, "batch"),
        )
    }

    /// Bytes a second here, divided by bytes a second into the sink.
    fn share_of_ceiling(&self) -> Option<f64> {
        let ceiling = self.ceiling?.written.bytes as f64 / super::CEILING.as_secs_f64();
        let here = self.tally.written.bytes as f64 / self.plan.measured.as_secs_f64();
        (ceiling > 0.0).then(|| here / ceiling)
    }

    fn json(&self) -> Value {
        let seconds = self.plan.measured.as_secs_f64();
        let mut object = json!({ "mode": self.mode, "seconds": seconds });
        if self.plan.producers.is_some() {
            object["written"] = flow_json(self.tally.written, seconds);
        }
        if self.plan.consumers.is_some() {
            object["read"] = flow_json(self.tally.read, seconds);
        }
        if let Some(ceiling) = self.ceiling {
            object["ceiling"] = flow_json(ceiling.written, super::CEILING.as_secs_f64());
        }
        for (name, histogram) in self.tally.histograms() {
            object[format!("{}_us", name.replace(' ', "_"))] = latency_json(histogram);
        }
        let failures = self.tally.failures.iter();
        let failures = failures.map(|(code, count)| (code.code().to_string(), json!(count)));
        object["failures"] = Value::Object(Map::from_iter(failures));
        object
    }
}

fn flow_json(flow: Flow, seconds: f64) -> Value {
    json!({
        "requests": flow.requests,
        "records": flow.records,
        "bytes": flow.bytes,
        "records_per_second": flow.records as f64 / seconds,
        "bytes_per_second": flow.bytes as f64 / seconds,
    })
}

fn latencies(histograms: &[(&'static str, &Histogram<u64>)]) -> Table {
    // The columns in the middle are QUANTILES.
    let mut table = Table::new(&[
        "LATENCY", ">COUNT", ">p50", ">p90", ">p99", ">p99.9", ">max",
    ]);
    for (name, histogram) in histograms {
        let mut row = vec![(*name).to_owned(), histogram.len().to_string()];
        row.extend(QUANTILES.map(|(_, quantile)| millis(histogram.value_at_quantile(quantile))));
        row.push(millis(histogram.max()));
        table.row(row);
    }
    table
}

fn millis(nanoseconds: u64) -> String {
    format!("{:.3} ms", nanoseconds as f64 / 1e6)
}

fn latency_json(histogram: &Histogram<u64>) -> Value {
    let micros = |nanoseconds: u64| json!(nanoseconds as f64 / 1e3);
    let mut object = json!({ "count": histogram.len(), "mean": histogram.mean() / 1e3 });
    for (name, quantile) in QUANTILES {
        object[name] = micros(histogram.value_at_quantile(quantile));
    }
    object["max"] = micros(histogram.max());
    object
}
