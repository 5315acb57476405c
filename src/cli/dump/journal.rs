//! Printing journals.

use super::Dump;
use crate::io::{file, map};
use crate::log::journal::{self, Group};
use anyhow::Context;
use serde_json::json;
use std::path::Path;

/// Prints the groups at the journal's start: what the next start would write back.
pub fn journal(dump: &mut Dump, path: &Path) -> anyhow::Result<()> {
    let named = || path.display().to_string();
    let file = file::open_for_reading(path).with_context(named)?;
    let bytes = file.metadata().with_context(named)?.len() as usize;
    let map = map::map_for_reading(&file, bytes).with_context(named)?;
    dump.title(&format!("journal, {bytes} bytes"))?;
    let mut at = 0;
    for found in journal::groups(map.bytes(0..bytes)) {
        group(dump, at, &found)?;
        at += found.size;
        if !dump.count() {
            break;
        }
    }
    Ok(())
}

fn group(dump: &mut Dump, at: usize, group: &Group<'_>) -> anyhow::Result<()> {
    let count = group.entries.len();
    dump.text(&format!(
        "{at:>8}  group {}  entries {count}",
        group.sequence
    ))?;
    for entry in &group.entries {
        let target = entry.target;
        dump.text(&format!(
            "          topic {}  partition {}  segment {}  position {}  bytes {}",
            target.topic_id,
            target.partition,
            target.segment_base,
            target.position,
            entry.bytes.len()
        ))?;
        let fields = json!({
            "position": at, "group": group.sequence, "topic_id": target.topic_id,
            "partition": target.partition, "segment": target.segment_base,
            "segment_position": target.position, "bytes": entry.bytes.len(),
        });
        dump.object("journal_entry", fields)?;
    }
    Ok(())
}
