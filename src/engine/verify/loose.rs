//! Logs that are in no catalog: Kafka's log directories, partitions' directories, single segments.

use super::{PartitionJob, is_data_dir};
use crate::log::check::verify::Origin;
use crate::log::{checkpoint, segment};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The file that marks a log directory of Kafka's.
const KAFKA_FILE: &str = "meta.properties";

/// Whether it is a segment's file.
pub fn is_segment(path: &Path) -> bool {
    segment::base_of(path, "log").is_some() && path.is_file()
}

/// The partitions in a partition's directory or in one of Kafka's log directories; `None` for what is
/// neither.
pub fn jobs_in(path: &Path) -> Option<Vec<PartitionJob>> {
    if is_data_dir(path) {
        return None;
    }
    if has_segments(path) {
        return Some(vec![job_of_partition(path)]);
    }
    let partitions = partitions_in(path);
    let is_kafkas = path.join(KAFKA_FILE).exists()
        || (partitions.iter().any(|dir| has_segments(dir)) && !partitions.iter().any(is_ours));
    is_kafkas.then(|| partitions.iter().map(|dir| job_of_partition(dir)).collect())
}

/// Segments given one by one: those of one directory are one log.
pub fn jobs_of_segments<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<PartitionJob> {
    let mut dirs: BTreeMap<&Path, BTreeSet<i64>> = BTreeMap::new();
    for path in paths {
        let dir = path.parent().unwrap_or(Path::new(""));
        dirs.entry(dir)
            .or_default()
            .extend(segment::base_of(path, "log"));
    }
    dirs.into_iter()
        .map(|(dir, bases)| {
            let segments = Some(bases.into_iter().collect());
            PartitionJob::new(topic_of(dir), dir.to_owned(), Origin::Foreign { segments })
        })
        .collect()
}

fn job_of_partition(dir: &Path) -> PartitionJob {
    let origin = if is_ours(dir) {
        Origin::Ours { topic_id: None }
    } else {
        Origin::Foreign { segments: None }
    };
    PartitionJob::new(topic_of(dir), dir.to_owned(), origin)
}

/// Kafka keeps its checkpoints elsewhere, and under other names.
fn is_ours(partition: impl AsRef<Path>) -> bool {
    partition.as_ref().join(checkpoint::FILE_NAME).exists()
}

fn has_segments(dir: &Path) -> bool {
    segment::list(dir).is_ok_and(|bases| !bases.is_empty())
}

/// The directories with a partition's name, `<topic>-<partition>`.
fn partitions_in(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && split_name(path).is_some())
        .collect();
    found.sort();
    found
}

/// A partition's topic by the name of its directory; a directory of another name stands for one.
fn topic_of(partition: &Path) -> String {
    match split_name(partition) {
        Some((topic, _)) => topic.to_owned(),
        None => partition.to_string_lossy().into_owned(),
    }
}

fn split_name(partition: &Path) -> Option<(&str, u32)> {
    let (topic, number) = partition.file_name()?.to_str()?.rsplit_once('-')?;
    let number = number.parse().ok()?;
    (!topic.is_empty()).then_some((topic, number))
}
