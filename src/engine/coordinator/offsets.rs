//! Committed offsets: storing, finding, deleting and expiring them.

use super::check_group_id;
use crate::engine::catalog::Topic;
use crate::engine::groups::GroupError;
use crate::engine::groups::group::commit_check_without_group;
use crate::engine::groups::messages::CommitRequest;
use crate::engine::groups::offsets::{CommitId, CommittedOffset, GroupOffsets};
use crate::engine::offsets_topic::{self, Record};
use crate::engine::{Engine, PartitionKey};
use crate::io::clock;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::ops::Bound;
use std::rc::Rc;
use tokio::sync::oneshot;
use uuid::Uuid;

impl Engine {
    /// Stores offsets; answered when they are durable. `topics` names the partitions' topics.
    pub async fn commit_offsets(
        self: &Rc<Self>,
        group_id: String,
        request: CommitRequest,
        commits: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<(), GroupError> {
        let home = match self.home_of_group(&group_id) {
            Some(home) => home,
            None => {
                commit_check_without_group(request.generation)?;
                self.find_home(&group_id).await?
            }
        };
        self.run_at(home, move |engine, home| async move {
            if !engine.has_group(&group_id) {
                commit_check_without_group(request.generation)?;
                engine.check_group_limit(&group_id)?;
            }
            let records = engine.commit_records(&group_id, &commits);
            let commit = engine.with_group(&group_id, home, |slot, now_ms, _| {
                slot.group.commit_check(&request, now_ms)?;
                Ok(slot.offsets.begin_commit(commits))
            })?;
            let written = engine.write(home, records, clock::steady_ms());
            engine.finish_commit(&group_id, commit, written).await
        })
        .await
    }

    /// An offset to commit.
    ///
    /// # Errors
    /// `OffsetMetadataTooLarge`.
    pub fn new_committed_offset(
        &self,
        offset: i64,
        leader_epoch: i32,
        note: String,
        now_ms: i64,
    ) -> Result<CommittedOffset, GroupError> {
        CommittedOffset::new(&self.groups.config, offset, leader_epoch, note, now_ms)
    }

    fn commit_records(
        &self,
        group_id: &str,
        commits: &[(PartitionKey, CommittedOffset)],
    ) -> Vec<Record> {
        commits
            .iter()
            .filter_map(|(key, offset)| {
                let topic = self.topic_by_id(key.topic_id)?;
                Some(offsets_topic::offset_record(
                    group_id,
                    &topic.name,
                    key.index,
                    Some(offset),
                ))
            })
            .collect()
    }

    async fn finish_commit(
        self: &Rc<Self>,
        group_id: &str,
        commit: CommitId,
        written: oneshot::Receiver<bool>,
    ) -> Result<(), GroupError> {
        let ok = written.await.unwrap_or(false);
        self.with_known_group(group_id, |slot, _, _| slot.offsets.commit_done(commit, ok));
        match ok {
            true => Ok(()),
            false => Err(GroupError::NotCoordinator),
        }
    }

    /// The durable offsets of a group, for the partitions asked for, or all.
    pub async fn fetch_offsets(
        self: &Rc<Self>,
        group_id: String,
        keys: Option<Vec<PartitionKey>>,
    ) -> Result<Vec<(PartitionKey, CommittedOffset)>, GroupError> {
        self.at_home(
            &group_id.clone(),
            Ok(Vec::new()),
            move |engine, _| async move {
                let groups = engine.groups.groups.borrow();
                let Some(slot) = groups.get(&group_id) else {
                    return Ok(Vec::new());
                };
                let wanted =
                    |key: &PartitionKey| keys.as_ref().is_none_or(|keys| keys.contains(key));
                let found = slot.offsets.iter().filter(|(key, _)| wanted(key));
                Ok(found.map(|(key, offset)| (key, offset.clone())).collect())
            },
        )
        .await
    }

    /// Shows the durable offsets of at most `most` groups of this shard, those whose names follow
    /// `after`, in the order of their names. Returns the name of the last; `None` at the end.
    pub fn look_at_offsets(
        &self,
        after: Option<&str>,
        most: usize,
        mut look: impl FnMut(&str, &GroupOffsets),
    ) -> Option<String> {
        let groups = self.groups.groups.borrow();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let some = groups.range::<str, _>((from, Bound::Unbounded)).take(most);
        let seen = some.inspect(|(group_id, slot)| look(group_id, &slot.offsets));
        seen.last().map(|(group_id, _)| group_id.clone())
    }

    /// Deletes committed offsets of partitions; the result says of each whether it may.
    pub async fn delete_offsets(
        self: &Rc<Self>,
        group_id: String,
        keys: Vec<(String, PartitionKey)>,
    ) -> Result<Vec<(PartitionKey, Result<(), GroupError>)>, GroupError> {
        check_group_id(&group_id)?;
        self.at_home(
            &group_id.clone(),
            Err(GroupError::GroupIdNotFound),
            move |engine, home| async move {
                let mut results = Vec::with_capacity(keys.len());
                let mut allowed = Vec::new();
                let begun = engine.with_known_group(&group_id, |slot, _, _| {
                    slot.group.check_offset_delete()?;
                    for (topic, key) in keys {
                        let result = slot.group.check_offset_delete_of(&topic);
                        if result.is_ok() {
                            allowed.push(key);
                        }
                        results.push((key, result));
                    }
                    let gone = slot.offsets.existing(allowed);
                    Ok((slot.offsets.begin_delete(gone.clone()), gone))
                });
                let (commit, gone) = begun.unwrap_or(Err(GroupError::GroupIdNotFound))?;
                let records = engine.tombstones(&group_id, &gone);
                let written = engine.write(home, records, clock::steady_ms());
                engine.finish_commit(&group_id, commit, written).await?;
                Ok(results)
            },
        )
        .await
    }

    pub(super) fn tombstones(&self, group_id: &str, keys: &[PartitionKey]) -> Vec<Record> {
        keys.iter()
            .filter_map(|key| {
                let topic = self.topic_by_id(key.topic_id)?;
                Some(offsets_topic::offset_record(
                    group_id,
                    &topic.name,
                    key.index,
                    None,
                ))
            })
            .collect()
    }

    /// Removes offsets whose time is over, and groups of which nothing is left.
    pub async fn expire_offsets(self: &Rc<Self>) {
        let names: HashMap<Uuid, String> = self.with_catalog(|catalog| {
            let topics = catalog.topics();
            topics.map(|topic| (topic.id, topic.name.clone())).collect()
        });
        let ids: Vec<String> = self.groups.groups.borrow().keys().cloned().collect();
        for group_id in ids {
            self.expire_offsets_of(&group_id, &names).await;
            tokio::task::yield_now().await;
        }
    }

    /// `names` has all topics, but for those that are quite new.
    async fn expire_offsets_of(self: &Rc<Self>, group_id: &str, names: &HashMap<Uuid, String>) {
        let begun = self.with_known_group(group_id, |slot, now_ms, _| {
            let name = |id: Uuid| names.get(&id).map(String::as_str);
            let retention = slot.group.retention();
            let config = &self.groups.config;
            let mut keys = slot.offsets.expired(config, &retention, now_ms, name);
            // Offsets of deleted topics have nobody to read them.
            keys.retain(|key| names.contains_key(&key.topic_id));
            (!keys.is_empty()).then(|| (slot.home, slot.offsets.begin_delete(keys.clone()), keys))
        });
        let Some(Some((home, commit, keys))) = begun else {
            return;
        };
        let records = self.tombstones(group_id, &keys);
        let written = self.write(home, records, clock::steady_ms());
        if self.finish_commit(group_id, commit, written).await.is_ok() {
            tracing::info!(group = group_id, offsets = keys.len(), "expired offsets");
        }
        let empty = self.with_known_group(group_id, |slot, _, _| {
            slot.group.is_idle() && slot.offsets.is_empty()
        });
        if empty == Some(true) {
            // Nobody was in the way a moment ago; if someone is now, the group lives on.
            let _ = self.delete_group(group_id.to_owned()).await;
        }
    }

    /// Forgets the offsets of a deleted topic. Returns when that is durable, so that a topic of the
    /// same name does not inherit them; if it cannot be written, the next start tries again.
    pub async fn forget_offsets_of(self: &Rc<Self>, topic: &Topic) {
        let mut forgotten = Vec::new();
        let ids: Vec<String> = self.groups.groups.borrow().keys().cloned().collect();
        for group_id in ids {
            let begun = self.with_known_group(&group_id, |slot, _, _| {
                let keys = slot.offsets.of_topic(topic.id);
                let home = slot.home;
                (!keys.is_empty()).then(|| (home, slot.offsets.begin_delete(keys.clone()), keys))
            });
            let Some(Some((home, commit, keys))) = begun else {
                continue;
            };
            let tombstone = |key: &PartitionKey| {
                offsets_topic::offset_record(&group_id, &topic.name, key.index, None)
            };
            let records = keys.iter().map(tombstone).collect();
            let written = self.write(home, records, clock::steady_ms());
            forgotten.push(async move { self.finish_commit(&group_id, commit, written).await });
        }
        join_all(forgotten).await;
    }
}
