//! The files of deleted topics: moved out of the way of a new topic first, removed later.

use super::{Catalog, Entry, Topic};
use crate::config::Config;
use crate::engine::PartitionKey;
use crate::engine::catalog_log::CatalogLog;
use crate::io::file;
use crate::io::worker::Worker;
use crate::log::check::damage::DamageList;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// The end of the name of a directory that is being removed.
const DOOMED_SUFFIX: &str = "-delete";

/// Where a deleted partition's files wait for their removal.
pub(super) fn doomed_dir(config: &Config, key: PartitionKey) -> PathBuf {
    let name = format!("{}-{}{DOOMED_SUFFIX}", key.topic_id.simple(), key.index);
    config.data_dir.join(name)
}

/// Whether a directory of this name waits for its removal.
pub fn is_doomed(path: &Path) -> bool {
    path.to_string_lossy().ends_with(DOOMED_SUFFIX)
}

/// Removes directories; a failure is logged, and tried again at the next start.
pub(super) fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs {
        if let Err(error) = file::remove_dir(dir) {
            tracing::error!(dir = %dir.display(), %error, "a deleted partition's files cannot be removed");
        }
    }
}

/// Finishes deletions that a stop interrupted: moves the files of deleted topics away and removes all
/// that were moved. From then on their names are free, unless an internal topic is damaged. Blocks: at
/// start only, before partitions are opened.
///
/// # Errors
/// When a directory cannot be moved away.
pub fn finish_deletions(
    config: &Config,
    catalog: &mut Catalog,
    catalog_log: &mut CatalogLog,
    janitor: &Worker,
) -> io::Result<()> {
    for topic in catalog.deleting() {
        for key in topic.keys() {
            // While the name is taken, a directory of that name can only be this topic's, whether its
            // checkpoint says so or is damaged. Left there it would become the next topic's.
            let dir = config.data_dir.join(topic.dir_name(key.index));
            if dir.exists() {
                let doomed = doomed_dir(config, key);
                file::remove_dir(&doomed)?;
                file::rename(&dir, &doomed)?;
            }
        }
    }
    file::sync_dir(&config.data_dir)?;
    match damaged_internal_topic(config, catalog) {
        Some(topic) if catalog.deleting().next().is_some() => tracing::warn!(
            topic = topic.name,
            "an internal topic is damaged: the names of deleted topics stay taken, because new topics could inherit what it holds about them"
        ),
        _ => purge(catalog, catalog_log),
    }
    let mut doomed = Vec::new();
    for entry in std::fs::read_dir(&config.data_dir)? {
        let path = entry?.path();
        if is_doomed(&path) {
            doomed.push(path);
        }
    }
    janitor.start_job(move || remove_dirs(&doomed));
    Ok(())
}

/// What an internal topic holds about deleted topics may be among what cannot be read now, and be there
/// again when it is mended.
fn damaged_internal_topic<'a>(config: &Config, catalog: &'a Catalog) -> Option<&'a Arc<Topic>> {
    let is_damaged = |topic: &&Arc<Topic>| {
        (0..topic.partitions).any(|index| {
            let dir = config.data_dir.join(topic.dir_name(index));
            DamageList::read(&dir).map_or(true, |damage| !damage.is_empty())
        })
    };
    let mut internal = catalog.topics().filter(|topic| topic.is_internal());
    internal.find(is_damaged)
}

/// Frees the names of deleted topics whose files are out of the way. On a full disk they stay taken
/// until the next start.
fn purge(catalog: &mut Catalog, catalog_log: &mut CatalogLog) {
    let ids: Vec<Uuid> = catalog.deleting().map(|topic| topic.id).collect();
    for id in ids {
        let entry = Entry::TopicPurged { id };
        match catalog_log.append(&entry) {
            Ok(()) => catalog.apply(&entry),
            Err(error) => {
                tracing::error!(%error, "the end of a topic's deletion cannot be written");
                return;
            }
        }
    }
}
