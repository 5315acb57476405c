//! Checks a data directory that no broker has open: the catalog, which directories its topics own,
//! and what only this room can read in the partitions' checkpoints. Or logs without a catalog: see
//! [`plan`]. Changes nothing.

mod loose;

use super::catalog::{Catalog, Entry, check_topic_name};
use super::catalog_log::{self, Piece};
use super::data_dir::{DataDirError, FORMAT_FILE, read_format};
use super::producers::Producers;
use super::replay;
use crate::io::file;
use crate::log::check::verify::{self as log, Origin, Severity, Totals};
use crate::log::segment;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// How the name of a directory begins that has copies of what a repair changed.
pub(super) const COPIES_PREFIX: &str = "repaired.";

/// One thing that was found, and where.
pub type Finding = log::Finding<Fault>;

/// What was found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    #[error("{0}")]
    Log(log::Fault),
    #[error("the file that says which format the directory has cannot be read")]
    FormatUnreadable,
    #[error("there is no catalog")]
    CatalogMissing,
    #[error("the catalog cannot be read: {0}")]
    CatalogUnreadable(String),
    #[error("{bytes} bytes of the catalog are no sound entry")]
    CatalogDamaged { bytes: usize },
    #[error("the last {bytes} bytes of the catalog are a torn entry")]
    CatalogTorn { bytes: usize },
    #[error("the catalog's entry does not fit those before it: {0}")]
    CatalogContradiction(String),
    #[error("the producers' state in the checkpoint cannot be read")]
    ProducersUnreadable,
    #[error(
        "the journal has {groups} groups that are still to be written back to their partitions"
    )]
    JournalPending { groups: u64 },
    #[error("the journal cannot be read: {0}")]
    JournalUnreadable(String),
    #[error("the directory belongs to no topic of the catalog")]
    StrayDirectory,
    #[error("the directory belongs to a topic that was deleted")]
    DeletedDirectory,
}

impl Fault {
    pub fn severity(&self) -> Severity {
        match self {
            Fault::Log(fault) => fault.severity(),
            Fault::CatalogTorn { .. }
            | Fault::JournalPending { .. }
            | Fault::StrayDirectory
            | Fault::DeletedDirectory => Severity::Note,
            _ => Severity::Error,
        }
    }

    /// A name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Log(fault) => fault.name(),
            Fault::FormatUnreadable => "format_unreadable",
            Fault::CatalogMissing => "catalog_missing",
            Fault::CatalogUnreadable(_) => "catalog_unreadable",
            Fault::CatalogDamaged { .. } => "catalog_damaged",
            Fault::CatalogTorn { .. } => "catalog_torn",
            Fault::CatalogContradiction(_) => "catalog_contradiction",
            Fault::ProducersUnreadable => "producers_unreadable",
            Fault::JournalPending { .. } => "journal_pending",
            Fault::JournalUnreadable(_) => "journal_unreadable",
            Fault::StrayDirectory => "stray_directory",
            Fault::DeletedDirectory => "deleted_directory",
        }
    }

    /// What it means, and what happens because of it.
    pub fn meaning(&self) -> &'static str {
        match self {
            Fault::Log(fault) => fault.meaning(),
            Fault::CatalogMissing => {
                "this is no data directory, or its topics are forgotten: the next start begins with \
                 none"
            }
            Fault::FormatUnreadable | Fault::CatalogUnreadable(_) => {
                "the broker does not start on it"
            }
            Fault::CatalogDamaged { .. } => {
                "a change of the topics is lost; the broker does not start where sound entries \
                 follow, and drops the entry where none do"
            }
            Fault::CatalogTorn { .. } => "the change was never in force; the next start cuts it",
            Fault::CatalogContradiction(_) => "an entry is missing before it, or was written twice",
            Fault::ProducersUnreadable => {
                "the broker will not recognise retries of batches before the checkpoint"
            }
            Fault::JournalPending { .. } => {
                "a crash left them; the next start does it, and until then the ends of partitions may \
                 look torn"
            }
            Fault::JournalUnreadable(_) => "the broker does not start on it",
            Fault::StrayDirectory => "the broker neither reads nor removes it",
            Fault::DeletedDirectory => "the next start removes it",
        }
    }
}

/// What is to be checked, and what catalogs show already.
#[derive(Default)]
pub struct Plan {
    pub findings: Vec<Finding>,
    pub jobs: Vec<PartitionJob>,
}

/// One partition's directory to check, or some segments of it.
pub struct PartitionJob {
    pub topic: String,
    pub dir: PathBuf,
    pub origin: Origin,
    /// Bytes of its segments.
    pub bytes: u64,
}

/// Finds out what each path is, and what is to be checked there: a data directory; a partition's directory
/// or segments of one, ours or Kafka's; or a log directory of Kafka's. What is none of these is held
/// to be a data directory that has lost its catalog.
pub fn plan(paths: &[impl AsRef<Path>]) -> Plan {
    let paths = || paths.iter().map(|path| path.as_ref());
    let mut plan = Plan::default();
    for path in paths().filter(|path| !loose::is_segment(path)) {
        match loose::jobs_in(path) {
            Some(jobs) => plan.jobs.extend(jobs),
            None => plan.add_data_dir(path),
        }
    }
    let segments = paths().filter(|path| loose::is_segment(path));
    plan.jobs.extend(loose::jobs_of_segments(segments));
    plan
}

/// Whether it has the marks of a data directory of this broker.
pub fn is_data_dir(path: &Path) -> bool {
    path.join(catalog_log::FILE_NAME).exists() || path.join(FORMAT_FILE).exists()
}

impl Plan {
    /// How many topics the partitions belong to, by name.
    pub fn topics(&self) -> usize {
        let names: HashSet<&str> = self.jobs.iter().map(|job| job.topic.as_str()).collect();
        names.len()
    }

    fn add_data_dir(&mut self, data_dir: &Path) {
        check_format(data_dir, &mut self.findings);
        self.findings.extend(journals(data_dir));
        let catalog = read_catalog(data_dir, &mut self.findings);
        let partitions = catalog
            .topics()
            .flat_map(|topic| (0..topic.partitions).map(move |index| (topic, index)));
        let jobs: Vec<PartitionJob> = partitions
            .map(|(topic, index)| {
                let topic_id = Some(topic.id);
                let dir = data_dir.join(topic.dir_name(index));
                PartitionJob::new(topic.name.to_string(), dir, Origin::Ours { topic_id })
            })
            .collect();
        self.findings
            .extend(stray_directories(data_dir, &catalog, &jobs));
        self.jobs.extend(jobs);
    }
}

impl PartitionJob {
    fn new(topic: String, dir: PathBuf, origin: Origin) -> PartitionJob {
        PartitionJob {
            bytes: segment_bytes(&dir, &origin),
            topic,
            dir,
            origin,
        }
    }

    /// Checks the directory. See [`log::verify`].
    pub fn run(&self, unpack: bool, progress: &dyn Fn(u64)) -> (Totals, Vec<Finding>) {
        let report = log::verify(&self.dir, &self.origin, unpack, progress);
        let mut findings: Vec<Finding> = report.findings.into_iter().map(of_log).collect();
        let snapshot = report.checkpoint.map(|found| found.snapshot);
        if snapshot.is_some_and(|snapshot| Producers::decode(&snapshot).is_none()) {
            let path = self.dir.join(crate::log::checkpoint::FILE_NAME);
            let at = crate::log::checkpoint::SNAPSHOT_AT;
            findings.push(finding(&path, Some(at), Fault::ProducersUnreadable));
        }
        (report.totals, findings)
    }
}

/// A newer version is no damage.
fn check_format(data_dir: &Path, findings: &mut Vec<Finding>) {
    if let Err(DataDirError::Io { .. } | DataDirError::NotOurs { .. }) = read_format(data_dir) {
        let path = data_dir.join(FORMAT_FILE);
        findings.push(finding(&path, None, Fault::FormatUnreadable));
    }
}

/// The catalog of a data directory, when nothing is wrong with it.
pub fn sound_catalog(data_dir: &Path) -> Option<Catalog> {
    let mut findings = Vec::new();
    let catalog = read_catalog(data_dir, &mut findings);
    let is_sound = |finding: &Finding| finding.fault.severity() == Severity::Note;
    findings.iter().all(is_sound).then_some(catalog)
}

fn read_catalog(data_dir: &Path, findings: &mut Vec<Finding>) -> Catalog {
    let path = data_dir.join(catalog_log::FILE_NAME);
    let mut catalog = Catalog::default();
    let content = match file::read(&path, catalog_log::FILE_BYTES_MAX) {
        Ok(Some(content)) => content,
        Ok(None) => {
            findings.push(finding(&path, None, Fault::CatalogMissing));
            return catalog;
        }
        Err(error) => {
            let fault = Fault::CatalogUnreadable(error.to_string());
            findings.push(finding(&path, None, fault));
            return catalog;
        }
    };
    let pieces = match catalog_log::pieces(&content) {
        Ok(pieces) => pieces,
        Err(error) => {
            let fault = Fault::CatalogUnreadable(error.to_string());
            findings.push(finding(&path, Some(0), fault));
            return catalog;
        }
    };
    for piece in &pieces {
        let fault = match &piece.entry {
            None => Some(fault_of_unsound(&content, piece)),
            Some(entry) => contradiction(&catalog, entry).map(Fault::CatalogContradiction),
        };
        if let Some(fault) = fault {
            findings.push(finding(&path, Some(piece.at), fault));
        }
        if let Some(entry) = &piece.entry {
            catalog.apply(entry);
        }
    }
    catalog
}

fn fault_of_unsound(content: &[u8], piece: &Piece) -> Fault {
    let bytes = piece.size;
    let is_end = piece.at + bytes == content.len();
    if is_end && !catalog_log::is_whole(&content[piece.at..]) {
        Fault::CatalogTorn { bytes }
    } else {
        Fault::CatalogDamaged { bytes }
    }
}

fn contradiction(catalog: &Catalog, entry: &Entry) -> Option<String> {
    match entry {
        Entry::TopicCreated { id, name, .. } => {
            let twice = catalog.by_id(*id).is_some() || catalog.by_name(name).is_some();
            match check_topic_name(name) {
                Err(error) => Some(error.to_string()),
                Ok(()) => twice.then(|| format!("topic {name} is there already")),
            }
        }
        Entry::TopicPurged { .. }
        | Entry::BrokerConfigsSet { .. }
        | Entry::ProducerIdsReserved { .. } => None,
        Entry::TopicDeleted { id }
        | Entry::PartitionsSet { id, .. }
        | Entry::ConfigsSet { id, .. } => {
            let unknown = catalog.by_id(*id).is_none();
            unknown.then(|| format!("there is no topic with id {id}"))
        }
    }
}

/// The directories that no partition owns. Other files in a data directory are not looked at.
/// What journals have that is not in the segments for certain.
fn journals(data_dir: &Path) -> Vec<Finding> {
    let dir = data_dir.join(replay::DIR_NAME);
    let unreadable = |path: &Path, error: std::io::Error| {
        Some(finding(
            path,
            None,
            Fault::JournalUnreadable(error.to_string()),
        ))
    };
    let paths = match replay::journals(data_dir) {
        Ok(paths) => paths,
        Err(error) => return unreadable(&dir, error).into_iter().collect(),
    };
    let fault = |path: &PathBuf| match replay::count_groups(path) {
        Ok(0) => None,
        Ok(groups) => Some(finding(path, None, Fault::JournalPending { groups })),
        Err(error) => unreadable(path, error),
    };
    paths.iter().filter_map(fault).collect()
}

fn stray_directories(data_dir: &Path, catalog: &Catalog, jobs: &[PartitionJob]) -> Vec<Finding> {
    let owned: HashSet<&Path> = jobs.iter().map(|job| job.dir.as_path()).collect();
    let deleted: HashSet<PathBuf> = catalog
        .deleting()
        .flat_map(|topic| (0..topic.partitions).map(|index| topic.dir_name(index)))
        .map(|name| data_dir.join(name))
        .collect();
    let mut strays: Vec<PathBuf> = std::fs::read_dir(data_dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && !owned.contains(path.as_path()))
        .filter(|path| *path != data_dir.join(replay::DIR_NAME) && !has_copies(path))
        .collect();
    strays.sort();
    let fault = |path: &PathBuf| {
        if deleted.contains(path) || super::catalog::deletions::is_doomed(path) {
            Fault::DeletedDirectory
        } else {
            Fault::StrayDirectory
        }
    };
    strays
        .iter()
        .map(|path| finding(path, None, fault(path)))
        .collect()
}

/// Whether a directory has copies of what a repair changed.
fn has_copies(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(COPIES_PREFIX)
}

fn segment_bytes(dir: &Path, origin: &Origin) -> u64 {
    let bases = origin.segments(dir).unwrap_or_default();
    bases
        .into_iter()
        .flat_map(|base| std::fs::metadata(segment::file_path(dir, base, "log")))
        .map(|found| found.len())
        .sum()
}

fn of_log(found: log::Finding) -> Finding {
    Finding {
        path: found.path,
        position: found.position,
        offset: found.offset,
        fault: Fault::Log(found.fault),
    }
}

fn finding(path: &Path, position: Option<usize>, fault: Fault) -> Finding {
    Finding {
        path: path.to_owned(),
        position: position.map(|at| at as u64),
        offset: None,
        fault,
    }
}
