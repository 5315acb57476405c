//! No bytes make the catalog's reader panic; what it accepts survives being written and read again.
//!
//! Every input is tried as a file, and once more as the contents of entries whose checksums are
//! right: one entry for each line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::config::TopicDefaults;
use millstream::engine::catalog::{Catalog, Entry};
use millstream::engine::catalog_log;
use std::collections::HashSet;

fuzz_target!(|data: &[u8]| {
    if let Ok(entries) = catalog_log::decode(data) {
        apply(&entries);
    }
    let mut file = b"MSCATLOG\0\0\0\x01".to_vec();
    for content in data.split(|byte| *byte == b'\n') {
        file.extend_from_slice(b"MSCE");
        file.extend_from_slice(&(content.len() as u32).to_be_bytes());
        file.extend_from_slice(&crc32fast::hash(content).to_be_bytes());
        file.extend_from_slice(content);
    }
    if let Ok(entries) = catalog_log::decode(&file) {
        apply(&entries);
    }
});

/// A catalog rebuilt from its own entries is the same catalog.
fn apply(entries: &[Entry]) {
    let mut catalog = Catalog::new(TopicDefaults::default());
    let mut ids = HashSet::new();
    for entry in entries {
        // The broker never creates a topic whose name or id is taken.
        if let Entry::TopicCreated { id, name, .. } = entry
            && (catalog.by_name(name).is_some() || !ids.insert(*id))
        {
            continue;
        }
        catalog.apply(entry);
    }
    let compact = catalog.entries();
    let mut again = Catalog::new(TopicDefaults::default());
    for entry in &compact {
        again.apply(entry);
    }
    assert_eq!(again.entries(), compact);
    assert_eq!(again.topic_count(), catalog.topic_count());
    assert_eq!(again.partition_count(), catalog.partition_count());
}
