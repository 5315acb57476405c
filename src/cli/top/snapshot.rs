//! What two looks at the metrics say.

use crate::client::log_dirs::Directory;
use crate::findings::metrics::Metrics;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a broker did between two looks, and how it is at the second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The time between the looks.
    pub seconds: f64,
    pub version: String,
    pub records_in_per_second: f64,
    /// Bytes of batches appended.
    pub bytes_in_per_second: f64,
    /// Bytes of batches fetched.
    pub bytes_out_per_second: f64,
    pub requests_per_second: f64,
    pub flushes_per_second: f64,
    /// What a flush took in the mean; None without one.
    pub flush_ms: Option<f64>,
    pub connections: u64,
    pub inflight_requests: u64,
    pub inflight_bytes: u64,
    pub memory_bytes: u64,
    pub partitions: u64,
    /// Bytes of batches stored.
    pub log_bytes: u64,
    /// None if it is not known.
    pub disk: Option<Disk>,
    /// By their numbers.
    pub cores: Vec<Core>,
    /// The busiest first.
    pub topics: Vec<Topic>,
    /// Those furthest behind first.
    pub groups: Vec<Group>,
}

/// The volumes with the broker's logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Disk {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// One core, which is one shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Core {
    pub shard: usize,
    /// The share of time in which its thread worked.
    pub busy: f64,
    pub connections: u64,
    pub inflight_requests: u64,
    /// Calls of other shards that wait.
    pub mailbox_depth: u64,
}

/// One topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Topic {
    pub topic: String,
    pub records_in_per_second: f64,
    pub bytes_in_per_second: f64,
    pub bytes_out_per_second: f64,
    pub log_bytes: u64,
    /// Partitions that take no writes.
    pub stopped_partitions: u64,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    pub group: String,
    /// Records, of all partitions.
    pub lag: u64,
    /// Of the partition that is furthest behind; None if it is not known.
    pub lag_seconds: Option<f64>,
}

impl Disk {
    /// The volumes of all directories together, where a broker says.
    pub fn of(directories: &[Directory]) -> Disk {
        let sum = |of: fn(&Directory) -> Option<u64>| directories.iter().filter_map(of).sum();
        Disk {
            free_bytes: sum(|directory| directory.usable_bytes),
            total_bytes: sum(|directory| directory.total_bytes),
        }
    }
}

impl Snapshot {
    /// What happened from `before` to `after`, `seconds` later.
    pub fn between(before: &Metrics, after: &Metrics, seconds: f64) -> Snapshot {
        let rate = |name: &str| grown(before.sum(name), after.sum(name)) / seconds;
        let flushed = |name: &str| grown(before.sum(name), after.sum(name));
        let flushes = flushed("millstream_flush_seconds_count");
        let flush_seconds = flushed("millstream_flush_seconds_sum");
        let version = after.label("millstream_info", "version");
        Snapshot {
            time_ms: 0,
            seconds,
            version: version.unwrap_or_default().to_owned(),
            records_in_per_second: rate("millstream_topic_appended_records_total"),
            bytes_in_per_second: rate("millstream_topic_appended_bytes_total"),
            bytes_out_per_second: rate("millstream_topic_fetched_bytes_total"),
            requests_per_second: rate("millstream_request_seconds_count"),
            flushes_per_second: flushes / seconds,
            flush_ms: (flushes > 0.0).then(|| flush_seconds / flushes * 1e3),
            connections: after.sum("millstream_connections") as u64,
            inflight_requests: after.sum("millstream_inflight_requests") as u64,
            inflight_bytes: after.sum("millstream_inflight_bytes") as u64,
            memory_bytes: after.sum("process_resident_memory_bytes") as u64,
            partitions: after.sum("millstream_partitions") as u64,
            log_bytes: after.sum("millstream_topic_log_bytes") as u64,
            disk: None,
            cores: cores(before, after, seconds),
            topics: topics(before, after, seconds),
            groups: groups(after),
        }
    }
}

/// How much a counter grew; it began again at 0 with a restart.
fn grown(before: f64, after: f64) -> f64 {
    if after < before {
        after
    } else {
        after - before
    }
}

/// A counter's rates by a label.
fn rates<'a>(
    (before, after): (&Metrics, &'a Metrics),
    (name, label): (&str, &str),
    seconds: f64,
) -> BTreeMap<&'a str, f64> {
    let then = before.by(name, label);
    let rate = |(which, now)| {
        let then = then.get(which).copied().unwrap_or_default();
        (which, grown(then, now) / seconds)
    };
    after.by(name, label).into_iter().map(rate).collect()
}

fn cores(before: &Metrics, after: &Metrics, seconds: f64) -> Vec<Core> {
    let turns = ("millstream_shard_turn_seconds_sum", "shard");
    let busy = rates((before, after), turns, seconds);
    let gauge = |name: &str| after.by(name, "shard");
    let connections = gauge("millstream_connections");
    let inflight = gauge("millstream_inflight_requests");
    let waiting = gauge("millstream_mailbox_depth");
    let core = |(shard, busy): (&str, f64)| {
        let of = |gauge: &BTreeMap<&str, f64>| gauge.get(shard).copied().unwrap_or_default();
        Some(Core {
            shard: shard.parse().ok()?,
            // The two looks and the sums are not of exactly the same time.
            busy: busy.min(1.0),
            connections: of(&connections) as u64,
            inflight_requests: of(&inflight) as u64,
            mailbox_depth: of(&waiting) as u64,
        })
    };
    let mut cores: Vec<Core> = busy.into_iter().filter_map(core).collect();
    cores.sort_by_key(|core| core.shard);
    cores
}

fn topics(before: &Metrics, after: &Metrics, seconds: f64) -> Vec<Topic> {
    let rate = |name: &str| rates((before, after), (name, "topic"), seconds);
    let records = rate("millstream_topic_appended_records_total");
    let bytes_in = rate("millstream_topic_appended_bytes_total");
    let bytes_out = rate("millstream_topic_fetched_bytes_total");
    let stopped = after.by("millstream_topic_stopped_partitions", "topic");
    let sizes = after.by("millstream_topic_log_bytes", "topic");
    let topic = |(name, log_bytes): (&str, f64)| {
        let of = |values: &BTreeMap<&str, f64>| values.get(name).copied().unwrap_or_default();
        Topic {
            topic: name.to_owned(),
            records_in_per_second: of(&records),
            bytes_in_per_second: of(&bytes_in),
            bytes_out_per_second: of(&bytes_out),
            log_bytes: log_bytes as u64,
            stopped_partitions: of(&stopped) as u64,
        }
    };
    let mut topics: Vec<Topic> = sizes.into_iter().map(topic).collect();
    let load = |topic: &Topic| topic.bytes_in_per_second + topic.bytes_out_per_second;
    topics.sort_by(|a, b| {
        let by_load = load(b).total_cmp(&load(a));
        by_load.then(b.log_bytes.cmp(&a.log_bytes))
    });
    topics
}

fn groups(after: &Metrics) -> Vec<Group> {
    let seconds = after.max_by("millstream_group_lag_seconds", "group");
    let group = |(name, lag): (&str, f64)| Group {
        group: name.to_owned(),
        lag: lag as u64,
        lag_seconds: seconds.get(name).copied(),
    };
    let records = after.by("millstream_group_lag_records", "group");
    let mut groups: Vec<Group> = records.into_iter().map(group).collect();
    // One whose time is not known may be anywhere.
    let behind = |group: &Group| group.lag_seconds.unwrap_or(f64::INFINITY);
    groups.sort_by(|a, b| {
        let by_time = behind(b).total_cmp(&behind(a));
        by_time.then(b.lag.cmp(&a.lag))
    });
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_grew_in_the_time_between() {
        let page = |appended: u32, turns: f64| {
            format!(
                "millstream_topic_appended_records_total{{topic=\"a\"}} {appended}\n\
                 millstream_topic_log_bytes{{topic=\"a\"}} 70\n\
                 millstream_flush_seconds_sum{{shard=\"0\"}} {turns}\n\
                 millstream_flush_seconds_count{{shard=\"0\"}} {appended}\n\
                 millstream_shard_turn_seconds_sum{{shard=\"0\"}} {turns}\n\
                 millstream_connections{{shard=\"0\"}} 3\n"
            )
        };
        let (before, after) = (page(10, 1.0), page(30, 1.5));
        let (before, after) = (Metrics::parse(&before), Metrics::parse(&after));
        let snapshot = Snapshot::between(&before, &after, 2.0);
        assert_eq!(snapshot.records_in_per_second, 10.0);
        assert_eq!(snapshot.topics[0].records_in_per_second, 10.0);
        assert_eq!(snapshot.cores[0].busy, 0.25);
        assert_eq!(snapshot.cores[0].connections, 3);
        assert_eq!(snapshot.flush_ms, Some(25.0));
        let still = Snapshot::between(&after, &after, 2.0);
        assert_eq!((still.flush_ms, still.records_in_per_second), (None, 0.0));
        // A restart counts from 0.
        let restarted = Snapshot::between(&after, &before, 2.0);
        assert_eq!(restarted.records_in_per_second, 5.0);
    }

    #[test]
    fn the_busiest_topics_and_the_latest_groups_come_first() {
        let before = Metrics::default();
        let after = Metrics::parse(
            "millstream_topic_log_bytes{topic=\"idle\"} 5\nmillstream_topic_log_bytes{topic=\"large\"} 9\n\
             millstream_topic_log_bytes{topic=\"read\"} 1\n\
             millstream_topic_fetched_bytes_total{topic=\"read\"} 7\n\
             millstream_group_lag_records{group=\"near\",partition=\"0\"} 90\n\
             millstream_group_lag_records{group=\"far\",partition=\"0\"} 1\n\
             millstream_group_lag_records{group=\"far\",partition=\"1\"} 2\n\
             millstream_group_lag_seconds{group=\"near\",partition=\"0\"} 3\n\
             millstream_group_lag_seconds{group=\"far\",partition=\"0\"} 30\n\
             millstream_group_lag_records{group=\"unknown\",partition=\"0\"} 0\n\
             millstream_shard_turn_seconds_sum{shard=\"10\"} 1\n\
             millstream_shard_turn_seconds_sum{shard=\"9\"} 1\n",
        );
        let snapshot = Snapshot::between(&before, &after, 1.0);
        let topics: Vec<&str> = snapshot.topics.iter().map(|t| t.topic.as_str()).collect();
        assert_eq!(topics, ["read", "large", "idle"]);
        let groups = snapshot.groups.iter();
        let groups: Vec<_> = groups
            .map(|g| (g.group.as_str(), g.lag, g.lag_seconds))
            .collect();
        let expected = [
            ("unknown", 0, None),
            ("far", 3, Some(30.0)),
            ("near", 90, Some(3.0)),
        ];
        assert_eq!(groups, expected);
        let shards: Vec<usize> = snapshot.cores.iter().map(|core| core.shard).collect();
        assert_eq!(shards, [9, 10]);
    }
}
