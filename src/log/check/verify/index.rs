//! Compares a segment's index file with its batches.

use super::finding::{Fault, Finding};
use crate::io::file;
use crate::log::batch::BatchHeader;
use crate::log::check::scan::is_zero;
use crate::log::index::{ENTRY_BYTES, Entry};
use crate::log::index_file;
use std::path::PathBuf;

/// The sound entries of an index file that no batch has been compared with yet.
pub struct IndexCheck {
    path: PathBuf,
    base: i64,
    /// Each with its place in the file.
    entries: Vec<(usize, Entry)>,
    next: usize,
    max_timestamp: i64,
    /// False behind damage, where the highest timestamp is not known.
    timestamps_known: bool,
    findings: Vec<Finding>,
}

impl IndexCheck {
    /// Without an index.
    pub fn without(path: PathBuf, base: i64) -> IndexCheck {
        IndexCheck {
            path,
            base,
            entries: Vec::new(),
            next: 0,
            max_timestamp: -1,
            timestamps_known: true,
            findings: Vec::new(),
        }
    }

    pub fn read(path: PathBuf, base: i64, must_be_there: bool) -> IndexCheck {
        let mut check = IndexCheck::without(path, base);
        match file::read(&check.path, index_file::FILE_BYTES_MAX) {
            Err(error) => check.find(None, None, Fault::Unreadable(error.to_string())),
            Ok(Some(content)) => check.decode(&content),
            Ok(None) if must_be_there => check.find(None, None, Fault::IndexMissing),
            Ok(None) => {}
        }
        check
    }

    fn decode(&mut self, content: &[u8]) {
        let (chunks, torn) = content.as_chunks::<ENTRY_BYTES>();
        for (number, bytes) in chunks.iter().enumerate() {
            let at = number * ENTRY_BYTES;
            match Entry::decode(bytes, self.base) {
                Some(entry) => self.entries.push((at, entry)),
                None if is_zero(&content[at..]) => return self.torn(at, content.len()),
                None => self.find(Some(at), None, Fault::IndexDamaged),
            }
        }
        if !torn.is_empty() {
            self.torn(content.len() - torn.len(), content.len());
        }
    }

    fn torn(&mut self, at: usize, end: usize) {
        self.find(Some(at), None, Fault::IndexTorn { bytes: end - at });
    }

    /// A batch begins at `position` and has `offset`.
    pub fn note(&mut self, position: usize, offset: i64, header: &BatchHeader) {
        self.pass(position);
        if let Some((at, entry)) = self.entry_before(position + 1) {
            self.next += 1;
            self.compare(at, entry, offset);
        }
        self.max_timestamp = self.max_timestamp.max(header.known_max_timestamp());
    }

    fn compare(&mut self, at: usize, entry: Entry, offset: i64) {
        let claims = self.base + i64::from(entry.relative_offset);
        if claims != offset {
            let position = entry.position;
            let fault = Fault::IndexOffset { position, claims };
            self.find(Some(at), Some(offset), fault);
        } else if self.timestamps_known && entry.max_timestamp_before != self.max_timestamp {
            let fault = Fault::IndexTimestamp {
                position: entry.position,
                claims: entry.max_timestamp_before,
                found: self.max_timestamp,
            };
            self.find(Some(at), Some(offset), fault);
        }
    }

    /// What lies before `position` has no batches that can be read.
    pub fn skip(&mut self, position: usize) {
        self.timestamps_known = false;
        while self.entry_before(position).is_some() {
            self.next += 1;
        }
    }

    /// What was found; the last batch ends at `end`.
    pub fn finish(mut self, end: usize) -> Vec<Finding> {
        self.pass(end);
        let entries = self.entries.len() - self.next;
        if let Some((at, _)) = self.entries.get(self.next) {
            self.find(Some(*at), None, Fault::IndexStale { entries });
        }
        self.findings
    }

    /// No batch begins between the last one and `position`.
    fn pass(&mut self, position: usize) {
        while let Some((at, entry)) = self.entry_before(position) {
            self.next += 1;
            let position = entry.position;
            let offset = self.base + i64::from(entry.relative_offset);
            self.find(Some(at), Some(offset), Fault::IndexOffBoundary { position });
        }
    }

    fn entry_before(&self, position: usize) -> Option<(usize, Entry)> {
        let next = self.entries.get(self.next).copied();
        next.filter(|(_, entry)| (entry.position as usize) < position)
    }

    fn find(&mut self, at: Option<usize>, offset: Option<i64>, fault: Fault) {
        self.findings.push(Finding {
            path: self.path.clone(),
            position: at.map(|at| at as u64),
            offset,
            fault,
        });
    }
}
