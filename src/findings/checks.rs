//! What is found in a broker's answers. Each check knows one thing that can be wrong.

use super::metrics::Metrics;
use super::{Disk, Evidence, Finding, Severity, words};
use std::collections::BTreeMap;

/// A limit that is used to this share is told of.
const NEARLY: f64 = 0.9;
/// Below half of what is asked for the disk is an error.
const DISK_ERROR: f64 = 0.5;
/// Lag that was measured longer ago than this is out of date.
const LAG_AGE_SECONDS_MAX: f64 = 120.0;
/// Two hosts' clocks may differ by this much.
const CLOCK_SECONDS_MAX: f64 = 60.0;
/// So many calls that wait for a shard, at two looks, are more than chance: to ask for metrics is a call, too.
const CALLS_MANY: f64 = 16.0;
/// A bucket of `millstream_shard_turn_seconds`: longer turns are worth a report.
const TURN_BUCKET: &str = "0.1024";

/// All that is wrong.
pub fn all(evidence: &Evidence) -> Vec<Finding> {
    let mut found = disks(evidence);
    if evidence.has_metrics {
        let checks = [
            partitions,
            storage,
            compaction,
            limits_reached,
            limits_near,
            closed,
            lag,
            lag_age,
            shards,
            mode,
        ];
        found.extend(checks.iter().flat_map(|check| check(evidence)));
    }
    found
}

fn disks(evidence: &Evidence) -> Vec<Finding> {
    let disk = |disk: &Disk| {
        let Disk { node, path, .. } = disk;
        if let Some(why) = &disk.error {
            let what = format!("the data directory {path} of broker {node} cannot be used: {why}");
            return Some(Finding::error(
                "disk",
                what,
                "check the disk; the broker's log says more",
            ));
        }
        let (free, total) = (disk.usable_bytes?, disk.total_bytes?);
        let share = free as f64 / total.max(1) as f64;
        let kept_free = evidence.knobs.get("free_bytes_min").copied();
        let is_full = kept_free.is_some_and(|kept| free as f64 <= kept);
        if share >= evidence.disk_free_min && !is_full {
            return None;
        }
        let (free, total) = (words::size(free), words::size(total));
        let percent = share * 100.0;
        let what = format!(
            "the disk of {path} (broker {node}) is nearly full: {free} of {total} are free, {percent:.1} %"
        );
        let todo = "make space: delete topics or records, keep less (retention.ms, retention.bytes), or a \
                    larger disk. `millstream topic list --size` shows what takes it";
        let is_error = is_full || share < evidence.disk_free_min * DISK_ERROR;
        let severity = if is_error {
            Severity::Error
        } else {
            Severity::Warning
        };
        Some(Finding::new(severity, "disk", what, todo))
    };
    evidence.disks.iter().filter_map(disk).collect()
}

/// Partitions that are offline, stopped or damaged.
fn partitions(evidence: &Evidence) -> Vec<Finding> {
    let of = |name: &str| evidence.after.by(name, "topic");
    let offline = of("millstream_topic_offline_partitions");
    let stopped = of("millstream_topic_stopped_partitions");
    let damaged = of("millstream_topic_damaged_partitions");
    let offsets = of("millstream_topic_damaged_offsets");
    let mut found = Vec::new();
    for (topic, stopped) in stopped {
        let of_topic =
            |counts: &BTreeMap<&str, f64>| counts.get(topic).copied().unwrap_or_default();
        // Those that are offline take no writes either.
        let offline = of_topic(&offline);
        if offline > 0.0 {
            let what = format!(
                "{} of topic {topic} could not be opened",
                partitions_text(offline)
            );
            let todo = "the broker's log says why: permissions or the disk; then restart it";
            found.push(Finding::error("offline-partitions", what, todo));
        }
        if stopped > offline {
            let count = partitions_text(stopped - offline);
            let what = format!("{count} of topic {topic} stopped: no more writes are taken");
            let todo = "a flush or a write failed, or the log's end is lost: check the disk and the kernel's \
                        log, then restart the broker (docs/operating.md, A failed flush)";
            found.push(Finding::error("stopped-partitions", what, todo));
        }
        let damaged = of_topic(&damaged);
        if damaged > 0.0 {
            let (count, refused) = (partitions_text(damaged), of_topic(&offsets));
            let what = format!("{count} of topic {topic} damaged: {refused} offsets are refused");
            let todo = "save a copy, stop the broker, `millstream verify DIR`; restore the segments from a \
                        backup, or give up what is lost with --repair (docs/operating.md, Damage)";
            found.push(Finding::error("damage", what, todo));
        }
    }
    found
}

fn partitions_text(count: f64) -> String {
    words::count(count as u64, "partition")
}

/// What the disk refused.
fn storage(evidence: &Evidence) -> Vec<Finding> {
    let mut found = Vec::new();
    let flushes = evidence.after.sum("millstream_flush_errors_total");
    if flushes > 0.0 {
        let what = format!(
            "{} failed since the start",
            words::count(flushes as u64, "flush")
        );
        let todo = "check the disk and the kernel's log, then restart the broker";
        found.push(Finding::error("flush-errors", what, todo));
    }
    let journal = evidence
        .after
        .by("millstream_journal_errors_total", "shard");
    let broken: Vec<&str> = journal
        .into_iter()
        .filter(|one| one.1 > 0.0)
        .map(|one| one.0)
        .collect();
    if !broken.is_empty() {
        let shards = broken.join(", ");
        let what = format!(
            "the journal of shard {shards} is not used any more: a write to it failed; flushes are slower"
        );
        let todo = "free space, check the disk, then restart the broker";
        found.push(Finding::error("journal", what, todo));
    }
    let scrubbed = evidence.after.sum("millstream_scrub_findings_total");
    if scrubbed > 0.0 {
        let segments = words::count(scrubbed as u64, "segment");
        let what = format!("scrubs found {segments} that are not sound on the disk");
        let todo = "the broker's log says which; docs/operating.md, Damage";
        found.push(Finding::error("scrub", what, todo));
    }
    for (error, grown, total) in evidence.growth("millstream_partition_errors_total", "error") {
        if error == "KAFKA_STORAGE_ERROR" && total > 0.0 {
            let todo =
                "the disk is full or failed, or a partition stopped: the broker's log says which";
            let check = "storage-errors";
            found.push(if grown > 0.0 {
                let what =
                    format!("appends or reads are refused now: {grown} in this moment ({error})");
                Finding::error(check, what, todo)
            } else {
                let what =
                    format!("{total} appends or reads were refused since the start ({error})");
                Finding::note(check, what, todo)
            });
        }
    }
    found
}

fn compaction(evidence: &Evidence) -> Vec<Finding> {
    let failed = evidence
        .after
        .sum("millstream_compaction_failed_partitions");
    if failed == 0.0 {
        return Vec::new();
    }
    let what = format!(
        "{} could not be compacted, and grow",
        partitions_text(failed)
    );
    let todo = "the broker's log says why: damage (`millstream verify`), or more keys than \
                log_cleaner_dedupe_buffer_bytes has room for";
    vec![Finding::error("compaction", what, todo)]
}

fn limits_reached(evidence: &Evidence) -> Vec<Finding> {
    let reached = evidence.growth("millstream_limit_reached_total", "limit");
    let reached = reached.into_iter().filter(|&(_, _, total)| total > 0.0);
    let finding = |(limit, grown, total): (&str, f64, f64)| {
        let times = words::count(total as u64, "time");
        let check = "limits";
        let todo =
            "the broker's log names who met it; docs/operating.md, Limits, says what each does";
        if grown > 0.0 {
            let what =
                format!("the limit {limit} is reached now: {grown} in this moment, {times} in all");
            return Finding::warning(check, what, todo);
        }
        let what = format!("the limit {limit} was reached {times} since the start");
        Finding::note(check, what, todo)
    };
    reached.map(finding).collect()
}

/// Gauges, and the knobs that bound the sums over all shards.
const GAUGES: [(&str, &str); 6] = [
    ("millstream_connections", "connections_max"),
    ("millstream_topics", "topics_max"),
    ("millstream_partitions", "partitions_max"),
    ("millstream_maps", "maps_max"),
    ("millstream_group_bytes", "groups_bytes_max"),
    ("millstream_inflight_bytes", "inflight_bytes_max"),
];

fn limits_near(evidence: &Evidence) -> Vec<Finding> {
    let finding = |&(gauge, knob): &(&str, &str)| {
        let (used, limit) = (evidence.after.sum(gauge), *evidence.knobs.get(knob)?);
        if used < limit * NEARLY {
            return None;
        }
        let what = format!("{gauge} is {used}, and {knob} is {limit}");
        let todo =
            format!("what goes beyond is refused or waits: raise {knob}, or find out who takes it");
        Some(Finding::warning("limits", what, &todo))
    };
    GAUGES.iter().filter_map(finding).collect()
}

/// Connections that the broker closed. Those that were only silent are not told of.
fn closed(evidence: &Evidence) -> Vec<Finding> {
    let closed = evidence.growth("millstream_connections_closed_total", "reason");
    let closed = closed
        .into_iter()
        .filter(|&(reason, _, total)| reason != "idle" && total > 0.0);
    let finding = |(reason, grown, total): (&str, f64, f64)| {
        let check = "connections";
        let todo = "the broker's log has a line for each, docs/protocol.md the reasons";
        let connections = words::count(total as u64, "connection");
        if grown > 0.0 {
            let what =
                format!("the broker closes connections now ({reason}): {grown} in this moment");
            return Finding::warning(check, what, todo);
        }
        let what = format!("{connections} closed since the start ({reason})");
        Finding::note(check, what, todo)
    };
    closed.map(finding).collect()
}

fn lag(evidence: &Evidence) -> Vec<Finding> {
    let mut found = Vec::new();
    let seconds = evidence
        .after
        .max_by("millstream_group_lag_seconds", "group");
    let records = evidence.after.by("millstream_group_lag_records", "group");
    for (group, seconds) in seconds {
        if seconds <= evidence.lag_seconds_max {
            continue;
        }
        let records = records.get(group).copied().unwrap_or_default();
        let records = words::count(records as u64, "record");
        let behind = words::duration(seconds);
        let what = format!("group {group} is {behind} behind, by {records}");
        let todo = format!(
            "`millstream group describe {group}` shows where, and whether it has members; delete it if nobody \
             needs it"
        );
        found.push(Finding::warning("lag", what, &todo));
    }
    let left_out = evidence.after.sum("millstream_group_lag_left_out_series");
    if left_out > 0.0 {
        let what = format!(
            "the lag of {} is not shown to anybody",
            partitions_text(left_out)
        );
        found.push(Finding::warning("lag", what, "raise lag_series_max"));
    }
    found
}

/// Whether what is known of lag is of today, and whether the two clocks agree.
fn lag_age(evidence: &Evidence) -> Vec<Finding> {
    if evidence.knobs.get("lag_interval_ms") == Some(&0.0) {
        let what = "lag is not measured (lag_interval_ms is 0)";
        return vec![Finding::note("lag", what, "")];
    }
    const LAST_RUN: &str = "millstream_group_lag_last_run_timestamp_seconds";
    let (Some(first), Some(last)) = (evidence.after.min(LAST_RUN), evidence.after.max(LAST_RUN))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (age, ahead) = (evidence.now_seconds - first, last - evidence.now_seconds);
    if ahead > CLOCK_SECONDS_MAX {
        let ahead = words::duration(ahead);
        let what = format!("the broker's clock is {ahead} ahead of this host's");
        let todo = "let both hosts take their time from one place: lag and --since go by it";
        found.push(Finding::warning("clock", what, todo));
    }
    // 0: it was not measured yet.
    if first > 0.0 && age > LAG_AGE_SECONDS_MAX {
        let age = words::duration(age);
        let what =
            format!("lag was measured last {age} ago, or the broker's clock is behind this host's");
        let todo = "an overloaded shard, or clocks that differ: see millstream_mailbox_depth and both clocks";
        found.push(Finding::warning("lag", what, todo));
    }
    found
}

/// Shards that do not keep up.
fn shards(evidence: &Evidence) -> Vec<Finding> {
    let mut found = Vec::new();
    let waited = evidence.before.by("millstream_mailbox_depth", "shard");
    for (shard, depth) in evidence.after.by("millstream_mailbox_depth", "shard") {
        let is_deep = |depth: f64| depth >= CALLS_MANY;
        if is_deep(depth) && waited.get(shard).is_some_and(|&before| is_deep(before)) {
            let what =
                format!("shard {shard} is overloaded: {depth} calls of other shards wait for it");
            let todo =
                "`millstream top` shows its load; more cores, or fewer clients and partitions";
            found.push(Finding::warning("shards", what, todo));
        }
    }
    let long = |metrics: &Metrics, shard: &str| {
        const TURNS: &str = "millstream_shard_turn_seconds";
        let buckets = metrics.where_by(&format!("{TURNS}_bucket"), "shard", shard, "le");
        let all = metrics.by(&format!("{TURNS}_count"), "shard");
        let short = buckets.get(TURN_BUCKET).copied()?;
        Some(all.get(shard)? - short)
    };
    for shard in evidence
        .after
        .by("millstream_shard_turn_seconds_count", "shard")
        .into_keys()
    {
        let (before, after) = (long(&evidence.before, shard), long(&evidence.after, shard));
        if after > before {
            let what = format!(
                "a task kept shard {shard} for more than 100 ms while all its clients waited"
            );
            let todo = "a stalled machine; if it comes often on one that is not, report it";
            found.push(Finding::note("shards", what, todo));
        }
    }
    found
}

/// How the broker runs, where that may not be meant.
fn mode(evidence: &Evidence) -> Vec<Finding> {
    let says = |label| {
        evidence
            .after
            .label("millstream_info", label)
            .unwrap_or_default()
    };
    let mut found = Vec::new();
    if says("reactor") == "epoll" {
        let what = "the broker runs on epoll, which is slower";
        let todo = "allow io_uring (kernel.io_uring_disabled, the sandbox), unless --reactor epoll is meant";
        found.push(Finding::note("reactor", what, todo));
    }
    if says("durability") == "os" {
        let what = "durability is os: a power cut loses acknowledged records";
        found.push(Finding::note(
            "durability",
            what,
            "set durability to fsync unless that is meant",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(before: &str, after: &str) -> Evidence {
        Evidence {
            has_metrics: true,
            before: Metrics::parse(before),
            after: Metrics::parse(after),
            now_seconds: 10_000.0,
            lag_seconds_max: 300.0,
            disk_free_min: 0.1,
            ..Evidence::default()
        }
    }

    fn found(evidence: &Evidence) -> Vec<(Severity, &'static str)> {
        let found = all(evidence).into_iter();
        found
            .map(|finding| (finding.severity, finding.check))
            .collect()
    }

    fn now(page: &str) -> Vec<(Severity, &'static str)> {
        found(&evidence(page, page))
    }

    #[test]
    fn a_broker_where_nothing_is_wrong_has_no_findings() {
        let page = "millstream_info{durability=\"fsync\",reactor=\"uring\"} 1\n\
                    millstream_topic_stopped_partitions{topic=\"t\"} 0\n\
                    millstream_limit_reached_total{limit=\"topics_max\"} 0\n\
                    millstream_connections_closed_total{shard=\"0\",reason=\"idle\"} 7\n\
                    millstream_group_lag_seconds{group=\"g\",topic=\"t\",partition=\"0\"} 300\n\
                    millstream_group_lag_last_run_timestamp_seconds{shard=\"0\"} 9995\n\
                    millstream_flush_errors_total{shard=\"0\"} 0\n\
                    millstream_mailbox_depth{shard=\"0\"} 0\n";
        assert_eq!(now(page), []);
    }

    #[test]
    fn partitions_are_told_apart_by_what_is_wrong_with_them() {
        let page = "millstream_topic_stopped_partitions{topic=\"a\"} 3\n\
                    millstream_topic_offline_partitions{topic=\"a\"} 1\n\
                    millstream_topic_stopped_partitions{topic=\"b\"} 1\n\
                    millstream_topic_offline_partitions{topic=\"b\"} 1\n\
                    millstream_topic_stopped_partitions{topic=\"c\"} 0\n\
                    millstream_topic_damaged_partitions{topic=\"c\"} 1\n\
                    millstream_topic_damaged_offsets{topic=\"c\"} 10\n";
        let found = all(&evidence(page, page));
        let told: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        let expected = [
            "1 partition of topic a could not be opened",
            "2 partitions of topic a stopped: no more writes are taken",
            "1 partition of topic b could not be opened",
            "1 partition of topic c damaged: 10 offsets are refused",
        ];
        assert_eq!(told, expected);
        assert!(
            found
                .iter()
                .all(|f| f.severity == Severity::Error && !f.todo.is_empty())
        );
    }

    #[test]
    fn what_grows_is_worse_than_what_was() {
        let pages = ["5", "6"].map(|count| {
            format!(
                "millstream_limit_reached_total{{limit=\"topics_max\"}} {count}\n\
                 millstream_connections_closed_total{{shard=\"0\",reason=\"malformed\"}} {count}\n\
                 millstream_partition_errors_total{{error=\"KAFKA_STORAGE_ERROR\"}} {count}\n"
            )
        });
        let [before, after] = &pages;
        let checks = ["storage-errors", "limits", "connections"];
        assert_eq!(now(after), checks.map(|check| (Severity::Note, check)));
        let severities = [Severity::Error, Severity::Warning, Severity::Warning];
        let grown: Vec<_> = severities.into_iter().zip(checks).collect();
        assert_eq!(found(&evidence(before, after)), grown);
    }

    #[test]
    fn failures_of_the_disk_are_errors() {
        for metric in [
            "millstream_flush_errors_total{shard=\"0\"} 1",
            "millstream_journal_errors_total{shard=\"1\"} 1",
            "millstream_scrub_findings_total{shard=\"0\"} 1",
            "millstream_compaction_failed_partitions{shard=\"0\"} 1",
        ] {
            assert_eq!(now(metric).len(), 1, "{metric}");
            assert_eq!(now(metric)[0].0, Severity::Error, "{metric}");
        }
    }

    #[test]
    fn groups_and_clocks_are_measured_in_seconds() {
        let lag = |seconds: u32, last_run: u32| {
            let page = format!(
                "millstream_group_lag_seconds{{group=\"g\",partition=\"0\"}} 1\n\
                 millstream_group_lag_seconds{{group=\"g\",partition=\"1\"}} {seconds}\n\
                 millstream_group_lag_last_run_timestamp_seconds{{shard=\"0\"}} {last_run}\n"
            );
            now(&page)
        };
        assert_eq!(lag(300, 9_990), []);
        assert_eq!(lag(301, 9_990), [(Severity::Warning, "lag")]);
        assert_eq!(lag(0, 0), [], "it was not measured yet");
        assert_eq!(lag(0, 9_870), [(Severity::Warning, "lag")]);
        assert_eq!(lag(0, 10_100), [(Severity::Warning, "clock")]);
        let mut off = evidence("", "");
        off.knobs.insert("lag_interval_ms", 0.0);
        assert_eq!(found(&off), [(Severity::Note, "lag")]);
    }

    #[test]
    fn limits_are_told_of_before_they_are_reached() {
        let near = |topics: u32| {
            let page = format!("millstream_topics {topics}\n");
            let mut evidence = evidence(&page, &page);
            evidence.knobs.insert("topics_max", 100.0);
            found(&evidence)
        };
        assert_eq!(near(89), []);
        assert_eq!(near(90), [(Severity::Warning, "limits")]);
    }

    #[test]
    fn a_disk_is_told_of_by_what_is_free() {
        let disk = |free: u64| {
            let mut evidence = evidence("", "");
            evidence.disks = vec![Disk {
                usable_bytes: Some(free),
                total_bytes: Some(1000),
                ..Disk::default()
            }];
            evidence
        };
        assert_eq!(found(&disk(100)), []);
        assert_eq!(found(&disk(99)), [(Severity::Warning, "disk")]);
        assert_eq!(found(&disk(49)), [(Severity::Error, "disk")]);
        let mut kept = disk(500);
        kept.knobs.insert("free_bytes_min", 500.0);
        assert_eq!(found(&kept), [(Severity::Error, "disk")]);
        let mut failed = disk(500);
        failed.disks[0].error = Some("it failed".to_owned());
        assert_eq!(found(&failed), [(Severity::Error, "disk")]);
    }

    #[test]
    fn shards_are_overloaded_when_calls_wait_twice_and_slow_when_a_turn_was_long() {
        let depth = |depth: u32| format!("millstream_mailbox_depth{{shard=\"0\"}} {depth}\n");
        assert_eq!(found(&evidence(&depth(0), &depth(90))), []);
        assert_eq!(found(&evidence(&depth(1), &depth(15))), []);
        let overloaded = found(&evidence(&depth(16), &depth(90)));
        assert_eq!(overloaded, [(Severity::Warning, "shards")]);
        let turns = |short: u32, all: u32| {
            let name = "millstream_shard_turn_seconds";
            format!(
                "{name}_bucket{{shard=\"0\",le=\"0.1024\"}} {short}\n{name}_count{{shard=\"0\"}} {all}\n"
            )
        };
        assert_eq!(found(&evidence(&turns(5, 6), &turns(7, 8))), []);
        let slow = found(&evidence(&turns(5, 6), &turns(7, 9)));
        assert_eq!(slow, [(Severity::Note, "shards")]);
    }

    #[test]
    fn a_mode_that_may_not_be_meant_is_a_note() {
        let page = "millstream_info{durability=\"os\",reactor=\"epoll\"} 1\n";
        let notes = [(Severity::Note, "reactor"), (Severity::Note, "durability")];
        assert_eq!(now(page), notes);
    }
}
