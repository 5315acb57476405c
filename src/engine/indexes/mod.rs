//! What a partition knows of its records beside the log, where its topic asks for it: which message ids it has
//! seen (`dedup.window.ms`), and where the newest record of each key is (`key.index`, `conditional.append`).
//!
//! Nothing of it is on disk: the ids and the keys are in the log, and `load` finds them there again. `marks` is
//! what a batch says of its records on the way in, `dedup` and `keys` are the tables, `judge` decides what of a
//! batch is stored. A topic that asks for none of it has none of it.

pub mod dedup;
pub mod judge;
pub mod keys;
pub mod known;
mod load;
pub mod marks;
mod memory;
pub mod newest;
mod parts;
pub mod rewrite;

pub use load::attach;
pub use memory::IndexMemory;

use crate::config::{HeaderName, TopicConfig};
use dedup::DedupWindow;
use keys::KeyIndex;

/// What a topic's configuration asks of the indexes of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub dedup: bool,
    pub keys: bool,
}

impl Wanted {
    /// `None` when nothing is asked: then nothing is done.
    pub fn of(config: &TopicConfig) -> Option<Wanted> {
        let dedup = config.dedup_window_ms > 0;
        let keys = config.key_index || config.conditional_append;
        (dedup || keys).then_some(Wanted { dedup, keys })
    }
}

/// What is looked at of records, and kept of them, as a topic's configuration has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    pub wanted: Wanted,
    pub id_header: HeaderName,
    pub conditions: bool,
}

impl Looks {
    /// `None` when nothing is looked at.
    pub fn of(config: &TopicConfig) -> Option<Looks> {
        Some(Looks {
            wanted: Wanted::of(config)?,
            id_header: config.dedup_header,
            conditions: config.conditional_append,
        })
    }
}

/// The indexes of one partition.
pub struct Indexes {
    /// Tells them from others that the partition had, or will have.
    pub number: u64,
    looks: Looks,
    pub dedup: Option<DedupWindow>,
    pub keys: Option<KeyIndex>,
}

impl Indexes {
    pub fn new(looks: Looks, memory: &IndexMemory) -> Indexes {
        let wanted = looks.wanted;
        Indexes {
            looks,
            number: memory.next_number(),
            dedup: wanted.dedup.then(|| DedupWindow::new(memory.dedup.clone())),
            keys: wanted.keys.then(|| KeyIndex::new(memory.keys.clone())),
        }
    }

    /// There is nothing in the log that they do not know.
    fn set_loaded(&mut self) {
        if let Some(dedup) = &mut self.dedup {
            dedup.set_loaded();
        }
        if let Some(keys) = &mut self.keys {
            keys.set_state(keys::KeyState::Ready);
        }
    }

    /// What they were made for.
    pub fn looks(&self) -> Looks {
        self.looks
    }
}
