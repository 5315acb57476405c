//! The metrics in Prometheus' text format. docs/operating.md explains each of them.

use super::Reports;
use crate::config::Durability;
use crate::coordinator::groups::lag::{self, Lag, LagReport};
use crate::engine::Engine;
use crate::engine::limits::LIMITS;
use crate::engine::stats::{BUCKETS_US, Histogram, ShardReport, TopicReport};
use crate::io::{map, process};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;
use tokio::task::yield_now;

/// The label under which topics beyond `metrics_topics_max` are summed up. No topic can have this
/// name.
const OTHER_TOPICS: &str = "(other)";

/// Samples of a large family that are written without a pause.
const SAMPLES_AT_ONCE: usize = 1000;

pub async fn render(engine: &Engine, reports: &Reports) -> String {
    let mut page = Page::default();
    let Reports { shards, lags } = reports;
    process_metrics(&mut page, engine);
    shard_metrics(&mut page, shards);
    compaction_metrics(&mut page, shards);
    scrub_metrics(&mut page, shards);
    request_metrics(&mut page, shards);
    topic_metrics(&mut page, engine, shards);
    lag_metrics(&mut page, engine, lags).await;
    page.text
}

fn process_metrics(page: &mut Page, engine: &Engine) {
    page.family(
        "millstream_info",
        "gauge",
        "Always 1; the labels say what runs.",
    );
    let durability = match engine.config.durability {
        Durability::Fsync => "fsync",
        Durability::Os => "os",
    };
    let version = env!("CARGO_PKG_VERSION");
    page.sample("", &[("version", &version), ("durability", &durability)], 1);
    page.family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory, mapped segments included.",
    );
    page.sample("", &[], process::resident_bytes());
    page.family(
        "millstream_limit_reached_total",
        "counter",
        "How often something did not fit into a limit, by its knob.",
    );
    for limit in LIMITS {
        page.sample("", &[("limit", &limit.knob)], limit.count());
    }
    page.family("millstream_maps", "gauge", "Segments that are mapped.");
    page.sample("", &[], map::mapped());
    page.family("millstream_topics", "gauge", "Topics.");
    page.sample("", &[], engine.with_catalog(|all| all.topic_count()));
    page.family("millstream_partitions", "gauge", "Partitions.");
    page.sample("", &[], engine.with_catalog(|all| all.partition_count()));
}

/// A family with one sample for each shard: name, kind, help, value.
type ShardFamily = (
    &'static str,
    &'static str,
    &'static str,
    fn(&ShardReport) -> u64,
);

const SHARD_FAMILIES: &[ShardFamily] = &[
    (
        "millstream_connections",
        "gauge",
        "Open client connections.",
        |r| r.connections,
    ),
    (
        "millstream_connections_accepted_total",
        "counter",
        "Connections taken in.",
        |r| r.connections_accepted,
    ),
    (
        "millstream_received_bytes_total",
        "counter",
        "Bytes read from clients.",
        |r| r.received_bytes,
    ),
    (
        "millstream_sent_bytes_total",
        "counter",
        "Bytes written to clients.",
        |r| r.sent_bytes,
    ),
    (
        "millstream_inflight_requests",
        "gauge",
        "Requests that are not answered yet.",
        |r| r.inflight_requests,
    ),
    (
        "millstream_inflight_bytes",
        "gauge",
        "Bytes that requests take of inflight_bytes_max.",
        |r| r.inflight_bytes,
    ),
    (
        "millstream_parked_fetches",
        "gauge",
        "Fetches that wait for records.",
        |r| r.parked_fetches,
    ),
    (
        "millstream_fetch_sessions",
        "gauge",
        "Fetch sessions that are open.",
        |r| r.fetch_sessions,
    ),
    (
        "millstream_fetch_session_partitions",
        "gauge",
        "Partitions in fetch sessions.",
        |r| r.fetch_session_partitions,
    ),
    (
        "millstream_fetch_session_evictions_total",
        "counter",
        "Fetch sessions that were closed for lack of room.",
        |r| r.fetch_session_evictions,
    ),
    (
        "millstream_mailbox_depth",
        "gauge",
        "Calls from other shards that wait.",
        |r| r.mailbox_depth,
    ),
    (
        "millstream_flushes_total",
        "counter",
        "Flushes of a partition's log.",
        |r| r.flushes,
    ),
    (
        "millstream_flush_errors_total",
        "counter",
        "Flushes that failed; each stops a log.",
        |r| r.flush_errors,
    ),
    (
        "millstream_journal_groups_total",
        "counter",
        "Flushes that went to the journal, of several partitions each.",
        |r| r.journal_groups,
    ),
    (
        "millstream_journal_bytes_total",
        "counter",
        "Bytes written to the journal.",
        |r| r.journal_bytes,
    ),
    (
        "millstream_journal_full_total",
        "counter",
        "Partitions flushed on their own because the journal had no room.",
        |r| r.journal_full,
    ),
    (
        "millstream_journal_errors_total",
        "counter",
        "Writes to the journal that failed; the first ends its use.",
        |r| r.journal_errors,
    ),
];

fn shard_metrics(page: &mut Page, reports: &[ShardReport]) {
    for (name, kind, help, value) in SHARD_FAMILIES {
        page.shard_family(name, kind, help, reports, value);
    }
    page.family(
        "millstream_connections_closed_total",
        "counter",
        "Connections that the broker closed, by reason.",
    );
    for report in reports {
        for (reason, count) in &report.connections_refused {
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
}

const COMPACTION_FAMILIES: &[ShardFamily] = &[
    (
        "millstream_compaction_runs_total",
        "counter",
        "Compactions of a partition that came to their end.",
        |r| r.compaction.runs,
    ),
    (
        "millstream_compaction_errors_total",
        "counter",
        "Compactions of a partition that failed.",
        |r| r.compaction.errors,
    ),
    (
        "millstream_compaction_read_bytes_total",
        "counter",
        "Bytes that compaction read.",
        |r| r.compaction.read_bytes,
    ),
    (
        "millstream_compaction_written_bytes_total",
        "counter",
        "Bytes that compaction wrote.",
        |r| r.compaction.written_bytes,
    ),
    (
        "millstream_compaction_dropped_records_total",
        "counter",
        "Records that compaction took away.",
        |r| r.compaction.dropped_records,
    ),
    (
        "millstream_compaction_debt_bytes",
        "gauge",
        "Bytes of closed segments of compacted topics that are not compacted yet.",
        |r| r.compaction.debt_bytes,
    ),
    (
        "millstream_compaction_failed_partitions",
        "gauge",
        "Partitions whose last compaction failed.",
        |r| r.compaction.failed_partitions,
    ),
];

fn compaction_metrics(page: &mut Page, reports: &[ShardReport]) {
    for (name, kind, help, value) in COMPACTION_FAMILIES {
        page.shard_family(name, kind, help, reports, value);
    }
    page.shard_family(
        "millstream_compaction_last_run_timestamp_seconds",
        "gauge",
        "When the last compaction ended, well or not; 0 before the first.",
        reports,
        |r| r.compaction.last_run_ms as f64 / 1e3,
    );
    page.shard_family(
        "millstream_compaction_last_duration_seconds",
        "gauge",
        "How long the last compaction took.",
        reports,
        |r| r.compaction.last_duration_ms as f64 / 1e3,
    );
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

/// A family with one sample for each topic: name, kind, help, value.
type TopicFamily = (
    &'static str,
    &'static str,
    &'static str,
    fn(&TopicReport) -> u64,
);

const TOPIC_FAMILIES: &[TopicFamily] = &[
    (
        "millstream_topic_appended_records_total",
        "counter",
        "Records appended.",
        |t| t.appended_records,
    ),
    (
        "millstream_topic_appended_batches_total",
        "counter",
        "Record batches appended.",
        |t| t.appended_batches,
    ),
    (
        "millstream_topic_appended_bytes_total",
        "counter",
        "Bytes of batches appended.",
        |t| t.appended_bytes,
    ),
    (
        "millstream_topic_fetched_bytes_total",
        "counter",
        "Bytes of batches fetched.",
        |t| t.fetched_bytes,
    ),
    (
        "millstream_topic_log_bytes",
        "gauge",
        "Bytes of batches in the log.",
        |t| t.log_bytes,
    ),
    (
        "millstream_topic_segments",
        "gauge",
        "Segments in the log.",
        |t| t.segments,
    ),
    (
        "millstream_topic_producers",
        "gauge",
        "Idempotent producers remembered.",
        |t| t.producers,
    ),
    (
        "millstream_topic_stopped_partitions",
        "gauge",
        "Partitions that take no writes: a flush failed, or the log's end is lost.",
        |t| t.poisoned_partitions,
    ),
    (
        "millstream_topic_offline_partitions",
        "gauge",
        "Partitions that could not be opened.",
        |t| t.offline_partitions,
    ),
    (
        "millstream_topic_damaged_partitions",
        "gauge",
        "Partitions in whose log damage was found.",
        |t| t.damaged_partitions,
    ),
    (
        "millstream_topic_damaged_offsets",
        "gauge",
        "Offsets that cannot be read because of damage.",
        |t| t.damaged_offsets,
    ),
];

fn scrub_metrics(page: &mut Page, reports: &[ShardReport]) {
    page.shard_family(
        "millstream_scrub_read_bytes_total",
        "counter",
        "Bytes of segments that scrubs read.",
        reports,
        |r| r.scrub_read_bytes,
    );
    page.shard_family(
        "millstream_scrub_findings_total",
        "counter",
        "Segments in which scrubs found damage.",
        reports,
        |r| r.scrub_findings,
    );
    page.shard_family(
        "millstream_scrub_rounds_total",
        "counter",
        "Scrubs of all segments that came to their end.",
        reports,
        |r| r.scrub_rounds,
    );
    page.shard_family(
        "millstream_scrub_last_round_timestamp_seconds",
        "gauge",
        "When the last scrub of all segments ended; 0 before the first.",
        reports,
        |r| r.scrub_last_round_ms as f64 / 1e3,
    );
}

fn topic_metrics(page: &mut Page, engine: &Engine, reports: &[ShardReport]) {
    let mut topics: BTreeMap<&str, TopicReport> = BTreeMap::new();
    for (name, report) in reports.iter().flat_map(|report| &report.topics) {
        topics.entry(name).or_default().add(report);
    }
    let shown = engine.config.metrics_topics_max;
    let mut other = TopicReport::default();
    for report in topics.values().skip(shown) {
        other.add(report);
    }
    let is_cut = topics.len() > shown;
    let rows: Vec<(&str, TopicReport)> = topics
        .into_iter()
        .take(shown)
        .chain(is_cut.then_some((OTHER_TOPICS, other)))
        .collect();
    for (name, kind, help, value) in TOPIC_FAMILIES {
        page.family(name, kind, help);
        for (topic, report) in &rows {
            page.sample("", &[("topic", topic)], value(report));
        }
    }
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

/// There can be very many of these: requests pass in between.
async fn lag_metrics(page: &mut Page, engine: &Engine, reports: &[Arc<LagReport>]) {
    let (lags, left_out) = lag::first_by_group(reports, engine.config.lag_series_max);
    for (name, help, value) in LAG_FAMILIES {
        page.family(name, "gauge", help);
        for (place, found) in lags.iter().enumerate() {
            if place % SAMPLES_AT_ONCE == SAMPLES_AT_ONCE - 1 {
                yield_now().await;
            }
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
    page.family(
        "millstream_group_lag_left_out_series",
        "gauge",
        "Partitions of groups whose lag is not shown.",
    );
    page.sample("", &[], left_out);
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

    /// A family with one sample for each shard.
    fn shard_family<V: Display>(
        &mut self,
        name: &'static str,
        kind: &str,
        help: &str,
        reports: &[ShardReport],
        value: impl Fn(&ShardReport) -> V,
    ) {
        self.family(name, kind, help);
        for report in reports {
            self.sample("", &[("shard", &report.shard)], value(report));
        }
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.family);
        for (place, (name, value)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"");
            let _ = write!(Escaped(&mut self.text), "{value}");
            self.text.push('"');
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }

    fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut cumulative = 0;
        for (place, count) in histogram.buckets.iter().enumerate() {
            cumulative += count;
            let bound = BUCKETS_US
                .get(place)
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
