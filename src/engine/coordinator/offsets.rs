//! Committed offsets: storing, finding, deleting and expiring them.

use super::check_group_id;
use crate::engine::catalog::Topic;
use crate::engine::groups::GroupError;
use crate::engine::groups::group::commit_check_without_group;
use crate::engine::groups::messages::CommitRequest;
use crate::engine::groups::offsets::{CommitId, CommittedOffset, GroupOffsets};
use crate::engine::offsets_format::FormatError;
use crate::engine::offsets_topic::{self, Record};
use crate::engine::{Engine, EngineError, PartitionKey};
use crate::io::clock;
use futures_util::future::join_all;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::rc::Rc;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Groups that are looked through before others have their turn.
const GROUPS_AT_ONCE: usize = 256;

impl Engine {
    /// Stores offsets; answered when they are durable. The result says of each, in their order,
    /// whether its topic is there.
    pub async fn commit_offsets(
        self: &Rc<Self>,
        group_id: String,
        request: CommitRequest,
        commits: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
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
            let results = engine.check_topics(&commits);
            let commits = commits.into_iter().zip(&results);
            let commits: Vec<_> = commits
                .filter(|(_, result)| result.is_ok())
                .map(|(commit, _)| commit)
                .collect();
            let records = engine.records_of(
                &group_id,
                commits.iter().map(|(key, offset)| (key, Some(offset))),
            );
            let commit = engine.with_group(&group_id, home, |slot, now_ms, _| {
                slot.group.commit_check(&request, now_ms)?;
                Ok(slot.offsets.begin_commit(commits))
            })?;
            let written = engine.write(home, records, clock::steady_ms());
            engine.finish_commit(&group_id, commit, written).await?;
            Ok(results)
        })
        .await
    }

    /// Whether this shard knows the topics of these offsets. What it does not know was created a
    /// moment ago, or is deleted: an offset that is stored now could not be told from one of a later
    /// topic of that name, so it is not stored.
    fn check_topics(
        &self,
        commits: &[(PartitionKey, CommittedOffset)],
    ) -> Vec<Result<(), GroupError>> {
        let check = |(key, _): &(PartitionKey, CommittedOffset)| {
            let topic = self.topic_by_id(key.topic_id);
            topic.map(|_| ()).ok_or(GroupError::UnknownTopic)
        };
        commits.iter().map(check).collect()
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

    /// The records of offsets, or of their ends. A topic that is being deleted still has its name:
    /// a later topic that gets it must not find the old offsets.
    fn records_of<'a>(
        &self,
        group_id: &str,
        offsets: impl Iterator<Item = (&'a PartitionKey, Option<&'a CommittedOffset>)>,
    ) -> Result<Vec<Record>, FormatError> {
        let record = |(key, offset): (&PartitionKey, Option<&CommittedOffset>)| {
            let topic = self.with_catalog(|catalog| catalog.even_if_deleting(key.topic_id))?;
            Some(offsets_topic::offset_record(
                group_id,
                &topic.name,
                key.index,
                offset,
            ))
        };
        offsets.filter_map(record).collect()
    }

    async fn finish_commit(
        self: &Rc<Self>,
        group_id: &str,
        commit: CommitId,
        written: oneshot::Receiver<bool>,
    ) -> Result<(), GroupError> {
        let ok = written.await.unwrap_or(false);
        self.with_known_group(group_id, |slot, _, _| {
            let failed = slot.offsets.commit_done(commit, ok).into_iter();
            let failed = failed.map(|topic_id| (slot.home, topic_id));
            self.groups.failed.borrow_mut().extend(failed);
        });
        match ok {
            true => Ok(()),
            false => Err(GroupError::NotCoordinator),
        }
    }

    /// The durable offsets of a group, for the partitions asked for, or all.
    ///
    /// # Errors
    /// `TooManyOffsets` when their metadata and 8 bytes for each are more than `bytes_max`.
    pub async fn fetch_offsets(
        self: &Rc<Self>,
        group_id: String,
        keys: Option<BTreeSet<PartitionKey>>,
        bytes_max: usize,
    ) -> Result<Vec<(PartitionKey, CommittedOffset)>, GroupError> {
        self.at_home(
            &group_id.clone(),
            Ok(Vec::new()),
            move |engine, _| async move {
                let groups = engine.groups.groups.borrow();
                let Some(slot) = groups.get(&group_id) else {
                    return Ok(Vec::new());
                };
                let offsets = &slot.offsets;
                match keys {
                    Some(keys) => {
                        let found = |key| Some((key, offsets.fetch(key)?));
                        copy_offsets(keys.into_iter().filter_map(found), bytes_max)
                    }
                    None => copy_offsets(offsets.iter(), bytes_max),
                }
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

    pub(super) fn tombstones(
        &self,
        group_id: &str,
        keys: &[PartitionKey],
    ) -> Result<Vec<Record>, FormatError> {
        self.records_of(group_id, keys.iter().map(|key| (key, None)))
    }

    /// Removes offsets whose time is over, and groups of which nothing is left.
    pub async fn expire_offsets(self: &Rc<Self>) {
        let names: HashMap<Uuid, String> = self.with_catalog(|catalog| {
            let topics = catalog.topics();
            topics.map(|topic| (topic.id, topic.name.clone())).collect()
        });
        let ids: Vec<String> = self.groups.groups.borrow().keys().cloned().collect();
        for group_id in ids {
            self.expire_group(&group_id, &names).await;
            tokio::task::yield_now().await;
        }
    }

    async fn expire_group(self: &Rc<Self>, group_id: &str, names: &HashMap<Uuid, String>) {
        self.expire_offsets_of(group_id, names).await;
        let spent = self
            .groups
            .groups
            .borrow()
            .get(group_id)
            .is_some_and(|slot| {
                // Members may have come and gone, or offsets: of none of them anything is left.
                slot.group.is_idle() && slot.offsets.is_empty()
            });
        if spent {
            // Nobody was in the way a moment ago; if someone is now, the group lives on.
            let _ = self.delete_group(group_id.to_owned()).await;
        }
    }

    /// `names` has all topics, but for those that are quite new.
    async fn expire_offsets_of(self: &Rc<Self>, group_id: &str, names: &HashMap<Uuid, String>) {
        let begun = self.with_known_group(group_id, |slot, _, _| {
            let name = |id: Uuid| names.get(&id).map(String::as_str);
            let retention = slot.group.retention();
            let (config, now_ms) = (&self.groups.config, clock::cautious_ms());
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
    }

    /// Forgets the offsets of a deleted topic. Returns when that is durable, so that a topic of the
    /// same name does not inherit them.
    ///
    /// # Errors
    /// When it cannot be written. The next start tries again; until then there must be no other topic
    /// of that name.
    pub async fn forget_offsets_of(self: &Rc<Self>, topic: &Topic) -> Result<(), EngineError> {
        let mut forgotten = Vec::new();
        let mut after = None;
        loop {
            let mut having = Vec::new();
            after = self.look_at_offsets(after.as_deref(), GROUPS_AT_ONCE, |group_id, offsets| {
                if offsets.has_topic(topic.id) {
                    having.push(group_id.to_owned());
                }
            });
            for group_id in having {
                forgotten.extend(self.forget_offsets_in(group_id, topic));
            }
            if after.is_none() {
                break;
            }
            // Others have their turn. No offset of the topic is added: it is unknown by now.
            tokio::task::yield_now().await;
        }
        let forgotten: Result<(), GroupError> = join_all(forgotten).await.into_iter().collect();
        let may_come_back = self.may_come_back(topic);
        if forgotten.is_err() || may_come_back {
            tracing::error!(
                topic = topic.name,
                "the offsets of a deleted topic cannot be forgotten; a start tries again once they can be read"
            );
            return Err(EngineError::StorageFailed);
        }
        Ok(())
    }

    /// Whether the next start may find offsets of the topic that are not known now: those of a partition
    /// that could not be read, and one that was refused. A flush that fails leaves its records in the
    /// file, and nothing that ends them can be written any more.
    fn may_come_back(&self, topic: &Topic) -> bool {
        let mut failed = self.groups.failed.borrow_mut();
        let is_poisoned = |home: PartitionKey| {
            let partition = self.partition(home);
            partition.is_some_and(|partition| partition.borrow().log.is_poisoned())
        };
        let mut own = failed.iter().filter(|(_, id)| *id == topic.id);
        let was_refused = own.any(|(home, _)| is_poisoned(*home));
        failed.retain(|(_, id)| *id != topic.id);
        was_refused || !self.groups.unread.borrow().is_empty()
    }

    fn forget_offsets_in(
        self: &Rc<Self>,
        group_id: String,
        topic: &Topic,
    ) -> Option<impl Future<Output = Result<(), GroupError>>> {
        let (home, commit, keys) = self.with_known_group(&group_id, |slot, _, _| {
            let keys = slot.offsets.of_topic(topic.id);
            (slot.home, slot.offsets.begin_delete(keys.clone()), keys)
        })?;
        let records = self.tombstones(&group_id, &keys);
        let written = self.write(home, records, clock::steady_ms());
        let engine = Rc::clone(self);
        Some(async move { engine.finish_commit(&group_id, commit, written).await })
    }
}

fn copy_offsets<'a>(
    found: impl Iterator<Item = (PartitionKey, &'a CommittedOffset)>,
    bytes_max: usize,
) -> Result<Vec<(PartitionKey, CommittedOffset)>, GroupError> {
    let mut left_bytes = bytes_max;
    let copy = |(key, offset): (PartitionKey, &CommittedOffset)| {
        let left = left_bytes.checked_sub(size_of::<i64>() + offset.metadata.len());
        left_bytes = left.ok_or(GroupError::TooManyOffsets)?;
        Ok((key, offset.clone()))
    };
    found.map(copy).collect()
}
