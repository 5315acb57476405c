//! What an instance has: partitions, and how far each is read.

use crate::coordinator::groups::classic::messages::CommitRequest;
use crate::engine::PartitionKey;
use crate::engine::catalog::Topic;
use crate::http::reading::Cursor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where an instance gets its partitions from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing is asked for.
    #[default]
    Nothing,
    /// Topics: its group gives it some of their partitions.
    Topics(Vec<String>),
    /// The same for all topics that match a pattern, as they come and go.
    Pattern(String),
    /// Partitions that it named itself.
    Partitions,
}

impl Wanted {
    /// Whether the group decides what is read.
    pub fn is_shared(&self) -> bool {
        matches!(self, Wanted::Topics(_) | Wanted::Pattern(_))
    }
}

/// A partition that an instance reads.
#[derive(Clone, Debug)]
pub struct Position {
    pub topic: Arc<Topic>,
    /// What is read next.
    pub next: i64,
    /// What was committed last, as far as is known.
    pub committed: Option<i64>,
}

/// What an instance has.
#[derive(Debug, Default)]
pub struct State {
    pub wanted: Wanted,
    /// The topics that it subscribes to, as of its last join.
    pub topics: Vec<String>,
    /// Grows whenever partitions or positions change otherwise than by a read.
    pub epoch: u64,
    /// The partitions are known; while the group rebalances they are not.
    pub is_assigned: bool,
    pub positions: BTreeMap<PartitionKey, Position>,
    /// The member that it is in its group; empty while it is none.
    pub member_id: String,
    pub generation: i32,
    /// The next read begins with another partition, so that each has its turn.
    turn: usize,
}

impl State {
    /// Other partitions, or `None` while it is not known which.
    pub fn set(&mut self, positions: Option<BTreeMap<PartitionKey, Position>>) {
        self.epoch += 1;
        self.is_assigned = positions.is_some();
        self.positions = positions.unwrap_or_default();
    }

    /// Whom a commit comes from: the member in its generation, or nobody in particular.
    pub fn committer(&self) -> CommitRequest {
        let is_member = self.wanted.is_shared() && !self.member_id.is_empty();
        CommitRequest {
            member_id: if is_member {
                self.member_id.clone()
            } else {
                String::new()
            },
            instance_id: None,
            generation: if is_member { self.generation } else { -1 },
            transactional: false,
        }
    }

    /// What was read and is not committed.
    pub fn uncommitted(&self) -> Vec<(PartitionKey, i64)> {
        let positions = self.positions.iter();
        let uncommitted =
            positions.filter(|(_, position)| position.committed != Some(position.next));
        let each = uncommitted.map(|(key, position)| (*key, position.next));
        each.collect()
    }

    /// Notes what was committed.
    pub fn note_committed(&mut self, offsets: &[(PartitionKey, i64)]) {
        for (key, offset) in offsets {
            if let Some(position) = self.positions.get_mut(key) {
                position.committed = Some(*offset);
            }
        }
    }

    /// Where a read goes on. Each cursor claims to be at its end: what is there already is read all the same, and
    /// nobody has to be asked where the ends are.
    pub fn cursors(&mut self) -> Vec<(Arc<Topic>, Cursor)> {
        let positions = self.positions.iter();
        let cursors = positions.map(|(key, position)| {
            let cursor = Cursor {
                index: key.index as i32,
                key: *key,
                next: position.next,
                end: position.next,
            };
            (Arc::clone(&position.topic), cursor)
        });
        let mut cursors: Vec<_> = cursors.collect();
        if !cursors.is_empty() {
            let first = self.turn % cursors.len();
            cursors.rotate_left(first);
            self.turn = first + 1;
        }
        cursors
    }

    /// Goes on behind what was read.
    pub fn advance(&mut self, cursors: &[Cursor]) {
        for cursor in cursors {
            if let Some(position) = self.positions.get_mut(&cursor.key) {
                position.next = cursor.next;
            }
        }
    }
}
