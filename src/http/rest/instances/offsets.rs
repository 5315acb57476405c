//! Where an instance reads on, and what its group has committed.

use super::instance::Instance;
use super::settings::Reset;
use super::state::Position;
use crate::engine::offsets::OffsetSpec;
use crate::engine::{EngineError, PartitionKey};
use crate::http::problem::Problem;
use crate::http::reading;
use crate::http::rest::error::refusal;
use crate::io::clock;
use crate::io::reactor::Slice;
use bytestring::ByteString;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// The most bytes of offsets' notes that are asked for at once.
const OFFSETS_BYTES_MAX: usize = 1 << 20;

/// An offset to commit, and a note about it.
pub struct Commit {
    pub key: PartitionKey,
    pub offset: i64,
    pub note: String,
}

/// Where positions are moved to.
pub enum Seek {
    To(i64),
    At(OffsetSpec),
}

impl Instance {
    // ---- positions ----

    /// The positions of an instance that has these partitions now: where its group has committed, else where it is to
    /// begin.
    ///
    /// # Errors
    /// Why the group or a partition fails.
    pub async fn positions_of(
        &self,
        keys: BTreeSet<PartitionKey>,
    ) -> Result<BTreeMap<PartitionKey, Position>, Problem> {
        let committed = self.committed(keys.clone()).await?;
        let mut positions = BTreeMap::new();
        let mut slice = Slice::new();
        for key in keys {
            slice.rest().await;
            let Some(topic) = self.engine.topic_by_id(key.topic_id) else {
                continue;
            };
            let committed = committed.get(&key).map(|(offset, _)| *offset);
            let next = match (committed, self.settings.reset) {
                (Some(offset), _) => offset,
                (None, Reset::Latest) => reading::at(&self.engine, key, OffsetSpec::Latest).await?,
                // With `none` a read is refused, for there is no such offset.
                (None, Reset::None) => i64::MAX,
                (None, Reset::Earliest) => {
                    reading::at(&self.engine, key, OffsetSpec::Earliest).await?
                }
            };
            let position = Position {
                topic,
                next,
                committed,
            };
            positions.insert(key, position);
        }
        Ok(positions)
    }

    /// Moves positions.
    ///
    /// # Errors
    /// 409 for a partition that the instance does not have.
    pub async fn seek(&self, moves: Vec<(PartitionKey, Seek)>) -> Result<(), Problem> {
        self.await_assignment(Duration::ZERO).await?;
        let mut found = Vec::with_capacity(moves.len());
        let mut slice = Slice::new();
        for (key, seek) in moves {
            slice.rest().await;
            let offset = match seek {
                Seek::To(offset) => offset,
                Seek::At(spec) => match reading::at(&self.engine, key, spec).await? {
                    // There is no record as late as that.
                    -1 => reading::at(&self.engine, key, OffsetSpec::Latest).await?,
                    offset => offset,
                },
            };
            found.push((key, offset));
        }
        let mut state = self.state.borrow_mut();
        if let Some((key, _)) = found
            .iter()
            .find(|(key, _)| !state.positions.contains_key(key))
        {
            let topic = self.engine.topic_by_id(key.topic_id);
            let topic = topic.map(|topic| topic.name.clone()).unwrap_or_default();
            let detail = format!(
                "Illegal state: No current position for partition {topic}-{}",
                key.index
            );
            return Err(refusal("illegal-state", &detail));
        }
        state.epoch += 1;
        for (key, offset) in found {
            if let Some(position) = state.positions.get_mut(&key) {
                position.next = offset;
            }
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    // ---- offsets ----

    /// Commits all that was returned.
    ///
    /// # Errors
    /// Why the group does not take it.
    pub async fn commit_all(&self) -> Result<(), Problem> {
        let offsets = self.state.borrow().uncommitted();
        // A position that no log has is none.
        let known = offsets
            .into_iter()
            .filter(|(_, offset)| *offset != i64::MAX);
        let commits = known.map(|(key, offset)| Commit {
            key,
            offset,
            note: String::new(),
        });
        self.commit(commits.collect()).await
    }

    /// Commits these offsets.
    ///
    /// # Errors
    /// Why the group does not take them.
    pub async fn commit(&self, commits: Vec<Commit>) -> Result<(), Problem> {
        if commits.is_empty() {
            return Ok(());
        }
        let now_ms = clock::stamp_ms();
        let committer = self.state.borrow().committer();
        let mut offsets = Vec::with_capacity(commits.len());
        let mut noted = Vec::with_capacity(commits.len());
        for commit in commits {
            let note = ByteString::from(commit.note);
            let offset = self
                .groups
                .new_committed_offset(commit.offset, -1, note, now_ms)?;
            noted.push((commit.key, commit.offset));
            offsets.push((commit.key, offset));
        }
        let group = self.group.clone();
        let results = self
            .groups
            .commit_offsets(group, committer, offsets)
            .await?;
        for result in results {
            result?;
        }
        self.state.borrow_mut().note_committed(&noted);
        Ok(())
    }

    /// What the group has committed, and the notes, of those of these partitions for which it has.
    ///
    /// # Errors
    /// Why the group does not tell.
    pub async fn committed(
        &self,
        keys: BTreeSet<PartitionKey>,
    ) -> Result<HashMap<PartitionKey, (i64, ByteString)>, Problem> {
        let group = self.group.clone();
        let found = self
            .groups
            .fetch_offsets(group, Some(keys), OFFSETS_BYTES_MAX)
            .await?;
        let each = found.into_iter();
        let each = each.map(|(key, offset)| (key, (offset.offset, offset.metadata)));
        Ok(each.collect())
    }

    /// The key of a partition that a client names.
    ///
    /// # Errors
    /// 404 where there is no such partition.
    pub fn key_of(&self, topic: &str, partition: i32) -> Result<PartitionKey, Problem> {
        let key = self.engine.key_of(topic, partition);
        Ok(key.ok_or(EngineError::UnknownTopicOrPartition)?)
    }
}
