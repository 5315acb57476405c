//! Damage in partitions' logs: logs it once, and keeps it over a restart. What is
//! damaged, and what is refused because of it, is decided by the log.

use super::SharedPartition;
use super::partition::Partition;
use super::workers::Workers;
use crate::io::reactor;
use crate::log::check::damage::Damage;
use crate::log::recovery::Recovered;
use crate::log::segment;

impl Partition {
    /// How many offsets cannot be read because of damage.
    pub fn damaged_offsets(&self) -> u64 {
        let start = self.offsets().start;
        self.log.damage().offset_count(start)
    }

    /// Logs damage: one line for each stretch, with its exact place.
    pub fn tell_damage(&self, found: &[Damage]) {
        for damage in found.iter().filter(|damage| !damage.offsets.is_empty()) {
            let file = segment::file_path(self.log.dir(), damage.segment_base, "log");
            tracing::error!(
                topic = self.topic.name,
                partition = self.index,
                file = %file.display(),
                position = damage.bytes.start,
                bytes = damage.bytes.len(),
                first_offset = damage.offsets.start,
                last_offset = damage.offsets.end - 1,
                why = %damage.why,
                "the log is damaged: these offsets are refused; `millstream verify --repair` gives them up"
            );
        }
    }

    /// Logs what was wrong when the log was opened.
    pub fn tell_recovered(&self, recovered: &Recovered) {
        self.tell_damage(&recovered.new_damage);
        let dir = self.log.dir().display();
        if recovered.cut_bytes > 0 {
            tracing::warn!(
                %dir, bytes = recovered.cut_bytes, end_offset = recovered.end_offset,
                "cut a torn tail that was never acknowledged"
            );
        }
        if let Some(kept) = &recovered.cut_kept {
            tracing::warn!(
                %dir, kept = %kept.display(),
                "there were sound batches in what was cut, as a power cut leaves them, or damage: it is kept"
            );
        }
        if let Some(why) = recovered.read_only {
            tracing::error!(
                topic = self.topic.name, partition = self.index, %dir, why,
                "this partition takes no writes; restore the file, or `millstream verify --repair` gives up what is lost"
            );
        }
    }
}

/// Logs damage that was found, and keeps it for the next start.
pub fn note(workers: &Workers, partition: &SharedPartition, found: &[Damage]) {
    let inner = partition.borrow();
    if found.is_empty() || inner.is_closed() {
        return;
    }
    inner.tell_damage(found);
    let (list, dir) = (inner.log.damage().clone(), inner.log.dir().to_owned());
    let shown = dir.clone();
    let written = workers.run(move || list.write(&dir));
    reactor::spawn(async move {
        if let Err(error) = written.await {
            tracing::error!(dir = %shown.display(), %error,
                "what is damaged cannot be noted; it is found again when it is read");
        }
    });
}
