//! Indexes, checkpoints and the catalog.

use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::json;

use super::{Dump, time};
use crate::engine::catalog::Entry as CatalogEntry;
use crate::engine::catalog_log;
use crate::engine::producers::{Producer, Producers};
use crate::io::file;
use crate::log::check::scan::is_zero;
use crate::log::checkpoint::{self, Checkpoint};
use crate::log::index::{ENTRY_BYTES, Entry};
use crate::log::index_file;
use crate::log::segment;

const NOT_SOUND: &str = "are not sound";

/// Prints the entries of a segment's index.
pub fn index(dump: &mut Dump, path: &Path) -> anyhow::Result<()> {
    let content = read(path, index_file::FILE_BYTES_MAX)?;
    let base = segment::base_of(path, "index").ok_or_else(|| {
        anyhow!(
            "{}: an index's checksums hold only under its own name, 20 digits and .index",
            path.display()
        )
    })?;
    let (entries, rest) = content.as_chunks::<ENTRY_BYTES>();
    dump.title(&format!("index, {} bytes", content.len()))?;
    dump.text("    BYTE           OFFSET  POSITION  CRC  LATEST TIMESTAMP BEFORE")?;
    for (number, bytes) in entries.iter().enumerate() {
        let at = number * ENTRY_BYTES;
        let Some(entry) = Entry::decode(bytes, base) else {
            if is_zero(&content[at..]) {
                return zeros(dump, at, content.len() - at);
            }
            dump.sound = false;
            let line = format!("{at:>8}  {:>15}  {:>8}  BAD", "", "");
            let fields = json!({ "byte": at, "crc_matches": false });
            dump.both(&line, "index_entry", fields)?;
            continue;
        };
        let offset = base + i64::from(entry.relative_offset);
        if offset < dump.from {
            continue;
        }
        let (position, timestamp) = (entry.position, entry.max_timestamp_before);
        let latest = time(timestamp);
        let line = format!("{at:>8}  {offset:>15}  {position:>8}  ok   {latest}");
        let fields = json!({
            "byte": at, "offset": offset, "position": position,
            "max_timestamp_before": timestamp, "crc_matches": true,
        });
        dump.both(&line, "index_entry", fields)?;
        if !dump.count() {
            return Ok(());
        }
    }
    match rest {
        [] => Ok(()),
        rest => {
            let at = content.len() - rest.len();
            dump.garbage(at, rest.len(), NOT_SOUND, "half an entry")
        }
    }
}

/// Prints a partition's checkpoint with its producers.
pub fn checkpoint(dump: &mut Dump, path: &Path) -> anyhow::Result<()> {
    let content = read(path, checkpoint::FILE_BYTES_MAX)?;
    dump.title(&format!("checkpoint, {} bytes", content.len()))?;
    let found = match Checkpoint::check(&content) {
        Ok(found) => found,
        Err(why) => return dump.garbage(0, content.len(), NOT_SOUND, &why.to_string()),
    };
    let segment = format!("{:020}.log", found.segment_base);
    dump.text(&format!("topic id          {}", found.topic_id))?;
    dump.text(&format!("log start offset  {}", found.log_start_offset))?;
    dump.text(&format!("durable offset    {}", found.durable_offset))?;
    dump.text(&format!(
        "which is at       byte {} of {segment}",
        found.position
    ))?;
    let fields = json!({
        "topic_id": found.topic_id, "log_start_offset": found.log_start_offset,
        "durable_offset": found.durable_offset, "segment_base": found.segment_base,
        "position": found.position,
    });
    dump.object("checkpoint", fields)?;
    let Some(producers) = Producers::decode(&found.snapshot) else {
        let at = checkpoint::SNAPSHOT_AT;
        return dump.garbage(at, found.snapshot.len(), NOT_SOUND, "no state of producers");
    };
    dump.text(&format!("producers         {}", producers.len()))?;
    let mut sorted: Vec<(i64, &Producer)> = producers.iter().collect();
    sorted.sort_by_key(|(id, _)| *id);
    for (id, found) in sorted {
        producer(dump, id, found)?;
        if !dump.count() {
            break;
        }
    }
    Ok(())
}

fn producer(dump: &mut Dump, id: i64, found: &Producer) -> anyhow::Result<()> {
    let last = time(found.last_ms);
    let epoch = found.epoch;
    dump.text(&format!(
        "  producer {id}  epoch {epoch}  last append {last}"
    ))?;
    let mut batches = Vec::new();
    for kept in &found.batches {
        dump.text(&format!(
            "    sequences {}..{}  offsets {}..{}",
            kept.base_sequence, kept.last_sequence, kept.base_offset, kept.last_offset
        ))?;
        batches.push(json!({
            "base_sequence": kept.base_sequence, "last_sequence": kept.last_sequence,
            "base_offset": kept.base_offset, "last_offset": kept.last_offset,
            "append_time_ms": kept.append_time_ms,
        }));
    }
    let fields = json!({
        "producer_id": id, "epoch": epoch, "last_append_ms": found.last_ms, "batches": batches,
    });
    dump.object("producer", fields)
}

/// Prints the entries of the catalog.
pub fn catalog(dump: &mut Dump, path: &Path) -> anyhow::Result<()> {
    let content = read(path, catalog_log::FILE_BYTES_MAX)?;
    dump.title(&format!("catalog, {} bytes", content.len()))?;
    let pieces = match catalog_log::pieces(&content) {
        Ok(pieces) => pieces,
        Err(why) => return dump.garbage(0, content.len(), NOT_SOUND, &why.to_string()),
    };
    for piece in pieces {
        let Some(entry) = piece.entry else {
            dump.garbage(piece.at, piece.size, NOT_SOUND, "no sound entry")?;
            continue;
        };
        let line = format!("{:>8}  {}", piece.at, entry_line(&entry));
        let fields = json!({ "byte": piece.at, "entry": entry });
        dump.both(&line, "catalog_entry", fields)?;
        if !dump.count() {
            break;
        }
    }
    Ok(())
}

fn entry_line(entry: &CatalogEntry) -> String {
    let shown = |configs: &std::collections::BTreeMap<String, String>| {
        if configs.is_empty() {
            "none".to_owned()
        } else {
            let pairs = configs
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        }
    };
    let line = match entry {
        CatalogEntry::TopicCreated {
            id,
            name,
            partitions,
            configs,
        } => format!(
            "topic created     {id}  {name}  partitions {partitions}  configs {}",
            shown(configs)
        ),
        CatalogEntry::TopicDeleted { id } => format!("topic deleted     {id}"),
        CatalogEntry::TopicPurged { id } => format!("topic purged      {id}"),
        CatalogEntry::PartitionsSet { id, partitions } => {
            format!("partitions set    {id}  {partitions}")
        }
        CatalogEntry::ConfigsSet { id, configs } => {
            format!("configs set       {id}  {}", shown(configs))
        }
        CatalogEntry::BrokerConfigsSet { scope, configs } => {
            format!("broker configs    {scope:?}  {}", shown(configs))
        }
        CatalogEntry::ProducerIdsReserved { next } => {
            format!("producer ids      reserved below {next}")
        }
    };
    line.replace(|c: char| c.is_control(), " ")
}

fn read(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let named = || path.display().to_string();
    let content = file::read(path, limit).with_context(named)?;
    content.ok_or_else(|| anyhow!("{}: there is no such file", path.display()))
}

fn zeros(dump: &mut Dump, at: usize, bytes: usize) -> anyhow::Result<()> {
    let fields = json!({ "position": at, "bytes": bytes });
    dump.both(&format!("{at:>8}  {bytes} bytes of zeros"), "zeros", fields)
}
