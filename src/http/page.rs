//! The page at `/`: what runs here, how it stores, what it holds.

use crate::config::Durability;
use crate::engine::Engine;
use crate::engine::stats::{ShardReport, TopicReport};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The page lists at most this many topics.
const TOPICS_SHOWN_MAX: usize = 200;

pub fn render(engine: &Engine, reports: &[ShardReport]) -> String {
    let mut topics: BTreeMap<&str, TopicReport> = BTreeMap::new();
    for (name, report) in reports.iter().flat_map(|shard| &shard.topics) {
        topics.entry(name).or_default().add(report);
    }
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
    let connections: u64 = reports.iter().map(|shard| shard.connections).sum();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Millstream</title>\
<style>body{{font:16px/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem}}\
td,th{{text-align:right;padding:0 .8rem}}td:first-child,th:first-child{{text-align:left}}</style>\
<h1>Millstream {}</h1>\
<p>Kafka clients connect to <code>{}</code>. {} cores, {connections} connections.\
<p>Durability {durability}.\
<p><a href=/metrics>metrics</a> · <a href=/healthz>healthz</a> · <a href=/readyz>readyz</a>\
<h2>{} topics</h2><table><tr><th>topic<th>partitions<th>segments<th>bytes\n{rows}</table>",
        env!("CARGO_PKG_VERSION"),
        config.advertised(),
        reports.len(),
        topics.len(),
    )
}
