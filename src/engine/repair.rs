//! Mends a data directory that no broker has open: writes journals back, and mends each partition in
//! which something is wrong. The catalog is not mended.

use super::replay;
use super::verify::{self, COPIES_PREFIX, Fault, Finding, PartitionJob};
use crate::io::file;
use crate::log::check::repair::{self, Repaired};
use crate::log::check::verify::{Fault as LogFault, Origin, Severity};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The directory in `data_dir` for copies. `now` makes its name different from those of other repairs.
pub fn copies_dir(data_dir: &Path, now: &str) -> PathBuf {
    data_dir.join(format!("{COPIES_PREFIX}{now}"))
}

/// Writes journals back to their partitions, as the next start would. Returns the bytes that were
/// written.
///
/// # Errors
/// The file system's; or when the catalog is damaged, which says which partitions they belong to.
pub fn write_journals_back(data_dir: &Path, copies: &Path) -> io::Result<u64> {
    let journals = replay::journals(data_dir)?;
    if journals.is_empty() {
        return Ok(0);
    }
    let catalog = verify::sound_catalog(data_dir).ok_or_else(|| {
        io::Error::other("the catalog is damaged, and without it the journal belongs to nobody")
    })?;
    for journal in journals {
        if replay::count_groups(&journal)? > 0 {
            repair::keep(&journal, &copies.join(replay::DIR_NAME))?;
        }
    }
    Ok(replay::replay(data_dir, &catalog)?.bytes)
}

/// Whether a partition with these findings is to be mended.
pub fn is_needed(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| {
        let is_torn = matches!(finding.fault, Fault::Log(LogFault::TornTail { .. }));
        is_torn || finding.fault.severity() == Severity::Error
    })
}

/// Mends a partition in which this was found.
///
/// # Errors
/// See [`repair::repair`].
pub fn mend(job: &PartitionJob, findings: &[Finding], copies: &Path) -> io::Result<Vec<Repaired>> {
    if !matches!(job.origin, Origin::Ours { .. }) || is_of_other_topic(findings) {
        return Ok(Vec::new());
    }
    let is_index = |path: &&PathBuf| path.extension().is_some_and(|it| it == "index");
    let at_fault = findings
        .iter()
        .filter(|finding| finding.fault.severity() == Severity::Error)
        .map(|finding| &finding.path);
    let bad_indexes: HashSet<PathBuf> = at_fault.filter(is_index).cloned().collect();
    let copies = copies.join(job.dir.file_name().unwrap_or_default());
    repair::repair(&job.dir, &copies, &bad_indexes)
}

/// Such a directory is removed by the next start; its files are not this topic's.
fn is_of_other_topic(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| {
        matches!(
            finding.fault,
            Fault::Log(LogFault::CheckpointOfOtherTopic { .. })
        )
    })
}

/// Makes the names of what was kept durable.
///
/// # Errors
/// The file system's.
pub fn finish(data_dir: &Path, copies: &Path) -> io::Result<()> {
    if fs::metadata(copies).is_ok() {
        file::sync_dir(copies)?;
        file::sync_dir(data_dir)?;
    }
    Ok(())
}
