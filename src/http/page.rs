//! The page at `/`: version, durability, topics, groups that are behind.

use super::Reports;
use crate::config::Durability;
use crate::coordinator::groups::lag;
use crate::engine::{Engine, reports};
use crate::io::reactor::Reactor;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The page lists at most this many topics.
const TOPICS_SHOWN_MAX: usize = 200;
/// The page lists at most this many groups, those with the greatest lag first.
const GROUPS_SHOWN_MAX: usize = 20;

pub async fn render(engine: &Engine, reports: &Reports) -> String {
    let topics = reports::by_topic(&reports.shards).await;
    let config = &engine.config;
    let durability = match config.durability {
        Durability::Fsync => "fsync: what is acknowledged survives a power cut",
        Durability::Os => "<strong>os: a power cut loses acknowledged records</strong>",
    };
    let mut rows = String::new();
    for (name, topic) in topics.iter().take(TOPICS_SHOWN_MAX) {
        // Topic names are letters, digits, `.`, `_` and `-`: nothing to escape. Writing to a string
        // does not fail.
        let _ = writeln!(
            rows,
            "<tr><td>{name}<td>{}<td>{}<td>{}",
            topic.partitions, topic.segments, topic.log_bytes
        );
    }
    let groups = groups_behind(engine, reports);
    let reactor = Reactor::current().name();
    let connections: u64 = reports
        .shards
        .iter()
        .map(|shard| shard.net.connections)
        .sum();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Millstream</title>\
<style>body{{font:16px/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem}}\
td,th{{text-align:right;padding:0 .8rem}}td:first-child,th:first-child{{text-align:left}}</style>\
<h1>Millstream {}</h1>\
<p>Kafka clients connect to <code>{}</code>. {} cores, {connections} connections.\
<p>Durability {durability}. Reactor {reactor}.\
<p><a href=/metrics>metrics</a> · <a href=/healthz>healthz</a> · <a href=/readyz>readyz</a>\
<h2>{} topics</h2><table><tr><th>topic<th>partitions<th>segments<th>bytes\n{rows}</table>\
{groups}",
        env!("CARGO_PKG_VERSION"),
        config.advertised(),
        reports.shards.len(),
        topics.len(),
    )
}

/// A table of the groups with the greatest lag; empty when no group has any.
fn groups_behind(engine: &Engine, reports: &Reports) -> String {
    let (lags, _) = lag::first_by_group(&reports.lags, engine.config.lag_series_max);
    let mut groups: BTreeMap<&str, (i64, f64)> = BTreeMap::new();
    for found in lags.iter().filter(|found| found.lag.records > 0) {
        let (records, seconds) = groups.entry(&found.group).or_default();
        *records = records.saturating_add(found.lag.records);
        *seconds = seconds.max(found.lag.seconds.unwrap_or(0.0));
    }
    if groups.is_empty() {
        return String::new();
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(_, a), (_, b)| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
    let mut rows = String::new();
    for (group, (records, seconds)) in groups.iter().take(GROUPS_SHOWN_MAX) {
        let group = escaped(group);
        let _ = writeln!(rows, "<tr><td>{group}<td>{records}<td>{seconds:.0}");
    }
    format!("<h2>Groups behind</h2><table><tr><th>group<th>records<th>seconds\n{rows}</table>")
}

/// A group's name may have any characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
