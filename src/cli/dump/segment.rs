//! A segment's batches and records.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::{Dump, readable, time};
use crate::cli::render::put_record;
use crate::client::records::UNPACKED_BYTES_MAX;
use crate::log::batch::BatchHeader;
use crate::log::check::scan::{Found, Scan, Step};
use crate::log::records::{Record, Records};

/// Prints the batches of the segment at `path`.
pub fn dump(dump: &mut Dump, path: &Path) -> anyhow::Result<()> {
    let named = || path.display().to_string();
    let mut scan = Scan::open(path).with_context(named)?;
    dump.title(&format!("segment, {} bytes", scan.size()))?;
    dump.text("POSITION          OFFSETS  COUNT    BYTES  CODEC   CRC  TIMESTAMP")?;
    while let Some(step) = scan.step().with_context(named)? {
        let goes_on = match step {
            Step::Batch(found) => batch(dump, &scan, &found)?,
            Step::Zeros { position, bytes } => {
                let line = format!("{position:>8}  {bytes} bytes of zeros: reserved space");
                let fields = json!({ "position": position, "bytes": bytes });
                dump.both(&line, "zeros", fields)?;
                true
            }
            Step::Recycled { position, bytes } => {
                let line = format!(
                    "{position:>8}  {bytes} bytes of the segment that the file was before: reserved space"
                );
                let fields = json!({ "position": position, "bytes": bytes });
                dump.both(&line, "recycled", fields)?;
                true
            }
            Step::Damage {
                position,
                bytes,
                why,
            } => {
                dump.garbage(position, bytes, "are no batch", &why.to_string())?;
                true
            }
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// False when enough was printed.
fn batch(dump: &mut Dump, scan: &Scan, found: &Found) -> anyhow::Result<bool> {
    let header = &found.header;
    dump.sound &= found.crc_matches;
    if found.crc_matches && header.last_offset() < dump.from {
        return Ok(true);
    }
    if dump.left == 0 {
        return Ok(false);
    }
    dump.both(&line_of(found), "batch", json_of(found))?;
    if dump.records {
        records(dump, header, scan.bytes(found))
    } else {
        Ok(dump.count())
    }
}

fn line_of(found: &Found) -> String {
    let header = &found.header;
    let mut line = format!(
        "{:>8}  {:>15}  {:>5}  {:>7}  {:<6}  {:<3}  {}",
        found.position,
        format!("{}..{}", header.base_offset, header.last_offset()),
        header.record_count,
        header.size(),
        header.codec().map_or("?", |codec| codec.name()),
        if found.crc_matches { "ok" } else { "BAD" },
        time(header.base_timestamp),
    );
    let lasts_ms = header.max_timestamp.saturating_sub(header.base_timestamp);
    if lasts_ms != 0 {
        line += &format!(" {lasts_ms:+} ms");
    }
    if let Some(mark) = header.producer() {
        line += &format!(
            "  producer {} epoch {} sequence {}",
            mark.producer_id, mark.epoch, mark.base_sequence
        );
    }
    if header.leader_epoch != 0 {
        line += &format!("  leader epoch {}", header.leader_epoch);
    }
    for (is_set, word) in [
        (header.is_log_append_time(), "append time"),
        (header.is_transactional(), "transactional"),
        (header.is_control(), "control"),
    ] {
        if is_set {
            line += &format!("  {word}");
        }
    }
    if found.end != found.position + header.size() {
        line += &format!(
            "  its length is not believed: going on at byte {}",
            found.end
        );
    }
    line
}

fn json_of(found: &Found) -> Value {
    let header = &found.header;
    json!({
        "position": found.position,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset(),
        "records": header.record_count,
        "bytes": header.size(),
        "codec": header.codec().map(|codec| codec.name()),
        "crc": header.crc,
        "crc_matches": found.crc_matches,
        "leader_epoch": header.leader_epoch,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "append_time": header.is_log_append_time(),
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.is_transactional(),
        "control": header.is_control(),
    })
}

fn records(dump: &mut Dump, header: &BatchHeader, batch: &[u8]) -> anyhow::Result<bool> {
    let records = match Records::unpack(*header, batch, UNPACKED_BYTES_MAX) {
        Ok(records) => records,
        Err(error) => {
            unreadable(dump, &error.to_string())?;
            return Ok(true);
        }
    };
    for record in records.iter() {
        match record {
            Err(error) => unreadable(dump, &error.to_string())?,
            Ok(record) if record.offset < dump.from => {}
            Ok(record) => {
                let mut object = json!({});
                put_record(&mut object, &record);
                dump.both(&record_line(&record), "record", object)?;
                if !dump.count() {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

fn unreadable(dump: &mut Dump, why: &str) -> anyhow::Result<()> {
    dump.sound = false;
    let fields = json!({ "reason": why });
    dump.both(&format!("          {why}"), "unreadable_records", fields)
}

fn record_line(record: &Record<'_>) -> String {
    let mut line = format!(
        "          offset {}  {}  {} = {}",
        record.offset,
        time(record.timestamp),
        readable(record.key),
        readable(record.value)
    );
    for (name, value) in &record.headers {
        line += &format!("  {}: {}", readable(Some(name)), readable(*value));
    }
    line
}
