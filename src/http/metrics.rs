//! The metrics in Prometheus' text format. docs/operating.md explains each of them.

use super::Reports;
use crate::coordinator::groups::lag::{self, Lag, LagReport};
use crate::engine::stats::{
    BUCKETS_US, Histogram, SHARD_FAMILIES, ShardReport, TOPIC_FAMILIES, TopicReport,
};
use crate::engine::{Engine, reports};
use crate::io::counters::{Family, Kind};
use crate::io::limits::LIMITS;
use crate::io::reactor::{Reactor, Slice};
use crate::io::{map, process};
use crate::net::counters::FAMILIES as NET_FAMILIES;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;

/// The label under which topics beyond `metrics_topics_max` are summed up. No topic can have this
/// name.
const OTHER_TOPICS: &str = "(other)";

pub async fn render(engine: &Engine, reports: &Reports) -> String {
    let mut page = Page::default();
    let Reports { shards, lags } = reports;
    process_metrics(&mut page, engine);
    shard_metrics(&mut page, shards);
    request_metrics(&mut page, shards);
    topic_metrics(&mut page, engine, shards).await;
    lag_metrics(&mut page, engine, lags).await;
    page.text
}

fn process_metrics(page: &mut Page, engine: &Engine) {
    page.family(
        "millstream_info",
        "gauge",
        "Always 1; the labels say what runs.",
    );
    let version = env!("CARGO_PKG_VERSION");
    let durability = engine.config.durability.name();
    let reactor = Reactor::current().name();
    let labels: [(&str, &dyn Display); 3] = [
        ("version", &version),
        ("durability", &durability),
        ("reactor", &reactor),
    ];
    page.sample("", &labels, 1);
    page.gauge(
        "process_resident_memory_bytes",
        "Resident memory, mapped segments included.",
        process::resident_bytes(),
    );
    page.family(
        "millstream_limit_reached_total",
        "counter",
        "How often something did not fit into a limit, by its knob.",
    );
    for limit in LIMITS {
        page.sample("", &[("limit", &limit.knob)], limit.count());
    }
    let (topics, partitions) =
        engine.with_catalog(|all| (all.topic_count(), all.partition_count()));
    page.gauge(
        "millstream_maps",
        "Segments that are mapped.",
        map::mapped(),
    );
    page.gauge("millstream_topics", "Topics.", topics);
    page.gauge("millstream_partitions", "Partitions.", partitions);
}

fn shard_metrics(page: &mut Page, reports: &[ShardReport]) {
    let shards = reports.iter().map(|report| (report.shard, report));
    page.table(SHARD_FAMILIES, "shard", &Vec::from_iter(shards));
    let connections = reports.iter().map(|report| (report.shard, &report.net));
    page.table(NET_FAMILIES, "shard", &Vec::from_iter(connections));
    page.family(
        "millstream_connections_closed_total",
        "counter",
        "Connections that the broker closed, by reason.",
    );
    for report in reports {
        for (reason, count) in &report.net.refused {
            page.sample("", &[("shard", &report.shard), ("reason", reason)], count);
        }
    }
    page.family(
        "millstream_flush_seconds",
        "histogram",
        "Time that flushes took.",
    );
    for report in reports {
        page.histogram(&[("shard", &report.shard)], &report.flush_latency);
    }
    page.family(
        "millstream_shard_turn_seconds",
        "histogram",
        "How long tasks kept the shard's thread at a time, while all others waited.",
    );
    for report in reports {
        page.histogram(&[("shard", &report.shard)], &report.turns);
    }
}

fn request_metrics(page: &mut Page, reports: &[ShardReport]) {
    let mut latency: BTreeMap<&str, Histogram> = BTreeMap::new();
    let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
    for report in reports {
        for (api, histogram) in &report.request_latency {
            latency.entry(api).or_default().add(histogram);
        }
        for (name, count) in &report.errors {
            *errors.entry(name).or_default() += count;
        }
    }
    page.family(
        "millstream_request_seconds",
        "histogram",
        "From a request's arrival to its reply, waiting included, by API.",
    );
    for (api, histogram) in latency {
        page.histogram(&[("api", &api)], &histogram);
    }
    page.family(
        "millstream_partition_errors_total",
        "counter",
        "Partitions in produce and fetch replies that had an error, by its name.",
    );
    for (name, count) in errors {
        page.sample("", &[("error", &name)], count);
    }
}

async fn topic_metrics(page: &mut Page, engine: &Engine, shards: &[ShardReport]) {
    let topics = reports::by_topic(shards).await;
    let mut slice = Slice::new();
    let shown = engine.config.metrics_topics_max;
    let mut other = TopicReport::default();
    for report in topics.values().skip(shown) {
        other.add(report);
        slice.rest().await;
    }
    let is_cut = topics.len() > shown;
    let rows = topics.iter().map(|(name, report)| (*name, report));
    let rows = rows
        .take(shown)
        .chain(is_cut.then_some((OTHER_TOPICS, &other)));
    page.table(TOPIC_FAMILIES, "topic", &Vec::from_iter(rows));
}

/// A family with one sample for each group and partition: name, help, value if it is known.
type LagFamily = (&'static str, &'static str, fn(&Lag) -> Option<f64>);

const LAG_FAMILIES: &[LagFamily] = &[
    (
        "millstream_group_lag_records",
        "Records between what the group has committed and the end.",
        |lag| Some(lag.records as f64),
    ),
    (
        "millstream_group_lag_seconds",
        "Age of the oldest record that the group has not committed.",
        |lag| lag.seconds,
    ),
];

async fn lag_metrics(page: &mut Page, engine: &Engine, reports: &[Arc<LagReport>]) {
    let (lags, left_out) = lag::first_by_group(reports, engine.config.lag_series_max);
    let mut slice = Slice::new();
    for (name, help, value) in LAG_FAMILIES {
        page.family(name, "gauge", help);
        for found in &lags {
            slice.rest().await;
            let Some(value) = value(&found.lag) else {
                continue;
            };
            let (group, topic) = (&found.group, &found.topic.name);
            let labels: Labels<'_> = &[
                ("group", group),
                ("topic", topic),
                ("partition", &found.partition),
            ];
            page.sample("", labels, value);
        }
    }
    page.gauge(
        "millstream_group_lag_left_out_series",
        "Partitions of groups whose lag is not shown.",
        left_out,
    );
    page.family(
        "millstream_group_lag_last_run_timestamp_seconds",
        "gauge",
        "When lag was measured last; 0 before the first time.",
    );
    for report in reports {
        let last_run = report.last_run_ms as f64 / 1e3;
        page.sample("", &[("shard", &report.shard)], last_run);
    }
    page.family(
        "millstream_group_lag_last_duration_seconds",
        "gauge",
        "How long it took to measure lag.",
    );
    for report in reports {
        let duration = report.last_duration.as_secs_f64();
        page.sample("", &[("shard", &report.shard)], duration);
    }
}

type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a string does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A family with one sample.
    fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample("", &[], value);
    }

    /// The families of a table, with one sample for each report, under the label that tells them apart.
    fn table<R>(&mut self, families: &[Family<R>], label: &str, reports: &[(impl Display, &R)]) {
        for family in families.iter().filter(|family| !family.name.is_empty()) {
            let (kind, unit) = match family.kind {
                Kind::Counter => ("counter", 1.0),
                Kind::Gauge => ("gauge", 1.0),
                Kind::Millis => ("gauge", 1e3),
            };
            self.family(family.name, kind, family.help);
            for (which, report) in reports {
                self.sample("", &[(label, which)], (family.value)(report) as f64 / unit);
            }
        }
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.family);
        for (index, (name, value)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"");
            let _ = write!(Escaped(&mut self.text), "{value}");
            self.text.push('"');
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }

    fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut cumulative = 0;
        for (index, count) in histogram.buckets.iter().enumerate() {
            cumulative += count;
            let bound = BUCKETS_US
                .get(index)
                .map_or("+Inf".to_owned(), |us| (*us as f64 / 1e6).to_string());
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample("_bucket", &labels, cumulative);
        }
        self.sample("_sum", labels, histogram.sum_us as f64 / 1e6);
        self.sample("_count", labels, cumulative);
    }
}

/// Writes a label's value, in which the format gives three characters a meaning of their own.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_the_format_gives_a_meaning_is_escaped_in_labels() {
        let mut page = Page {
            family: "x",
            ..Page::default()
        };
        page.sample("", &[("group", &"a\"b\\c\nd"), ("topic", &"é")], 1);
        let expected = "x{group=\"a\\\"b\\\\c\\nd\",topic=\"é\"} 1\n";
        assert_eq!(page.text, expected);
    }

    #[test]
    fn samples_and_histograms_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.family("x_total", "counter", "Things.");
        page.sample("", &[("shard", &1), ("reason", &"idle")], 7);
        page.sample("", &[], 2);
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_micros(60));
        page.family("y_seconds", "histogram", "Times.");
        page.histogram(&[("shard", &0)], &histogram);
        assert!(page.text.starts_with(
            "# HELP x_total Things.\n# TYPE x_total counter\n\
             x_total{shard=\"1\",reason=\"idle\"} 7\nx_total 2\n"
        ));
        assert!(
            page.text
                .contains("y_seconds_bucket{shard=\"0\",le=\"0.00005\"} 0\n")
        );
        assert!(
            page.text
                .contains("y_seconds_bucket{shard=\"0\",le=\"0.0001\"} 1\n")
        );
        assert!(
            page.text
                .contains("y_seconds_bucket{shard=\"0\",le=\"+Inf\"} 1\n")
        );
        assert!(
            page.text
                .ends_with("y_seconds_sum{shard=\"0\"} 0.00006\ny_seconds_count{shard=\"0\"} 1\n")
        );
    }
}
