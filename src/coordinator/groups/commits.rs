//! Committed offsets: storing, finding, deleting and expiring them, and forgetting those of deleted
//! topics.

use super::classic::group::commit_check_without_group;
use super::classic::messages::CommitRequest;
use super::error::GroupError;
use super::offsets::{CommitId, CommittedOffset, GroupOffsets};
use super::records::offset_record;
use super::{Groups, HostedGroup, check_group_id};
use crate::coordinator::records::Record;
use crate::coordinator::records::offsets_format::FormatError;
use crate::engine::catalog::{Catalog, Topic};
use crate::engine::events::Listener;
use crate::engine::{EngineError, PartitionKey};
use crate::io::clock;
use crate::io::reactor::{self, Slice};
use bytestring::ByteString;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// Groups that are looked through without a pause.
const GROUPS_AT_ONCE: usize = 256;
/// Offsets of a group that are copied without a pause. So many are of one moment.
const OFFSETS_AT_ONCE: usize = 4_096;
/// Offsets of a commit that are appended without a pause.
const COMMITS_AT_ONCE: usize = 256;

impl Groups {
    // ---- requests ----

    /// Stores offsets; answered when they are durable. The result says of each, in their order, whether
    /// its topic is there.
    ///
    /// # Errors
    /// See [`GroupError`]; so for all requests.
    pub async fn commit_offsets(
        self: &Rc<Self>,
        group_id: String,
        request: CommitRequest,
        commits: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let home = match self.runtime.home_of(&group_id) {
            Some(home) => home,
            None => {
                commit_check_without_group(request.generation)?;
                self.runtime.find_home(&group_id).await?
            }
        };
        let commit = move |groups: Rc<Groups>| async move {
            let committed = groups.commit_here(&group_id, home, &request, commits);
            committed.await
        };
        self.runtime.call(self, home, commit).await
    }

    /// The offsets of a large request are appended in pieces, so that others pass between them. A piece that is
    /// refused holds none of the others back: each offset has its own result.
    async fn commit_here(
        self: &Rc<Self>,
        group_id: &str,
        home: PartitionKey,
        request: &CommitRequest,
        commits: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let is_one = commits.len() <= COMMITS_AT_ONCE;
        let mut commits = commits.into_iter().peekable();
        let mut slice = Slice::new();
        let mut pieces = Vec::new();
        loop {
            let piece: Vec<_> = commits.by_ref().take(COMMITS_AT_ONCE).collect();
            let count = piece.len();
            let begun = self.begin_commit(group_id, home, request, piece);
            if is_one {
                let (results, written) = begun?;
                written.await?;
                return Ok(results);
            }
            pieces.push((count, begun));
            if commits.peek().is_none() {
                break;
            }
            slice.rest().await;
        }
        let mut all = Vec::new();
        for (count, begun) in pieces {
            let done = match begun {
                Ok((results, written)) => written.await.map(|()| results),
                Err(error) => Err(error),
            };
            match done {
                Ok(results) => all.extend(results),
                Err(error) => all.extend((0..count).map(|_| Err(error.clone()))),
            }
            slice.rest().await;
        }
        Ok(all)
    }

    /// Checks offsets and appends their records; they are durable when the future says so.
    #[expect(
        clippy::type_complexity,
        reason = "what each came to, and the end of the rest"
    )]
    fn begin_commit(
        self: &Rc<Self>,
        group_id: &str,
        home: PartitionKey,
        request: &CommitRequest,
        commits: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<
        (
            Vec<Result<(), GroupError>>,
            impl Future<Output = Result<(), GroupError>> + use<>,
        ),
        GroupError,
    > {
        if !self.has_group(group_id) {
            commit_check_without_group(request.generation)?;
            self.check_group_limit(group_id)?;
        }
        self.check_room(group_id, |group| {
            let commits = commits.iter().map(|(key, offset)| (key, offset));
            match group {
                Some(hosted) => hosted.offsets.growth_with(commits),
                None => GroupOffsets::default().growth_with(commits),
            }
        })?;
        let results = self.check_topics(&commits);
        let commits = commits.into_iter().zip(&results);
        let commits: Vec<_> = commits
            .filter(|(_, result)| result.is_ok())
            .map(|(commit, _)| commit)
            .collect();
        let offsets = commits.iter().map(|(key, offset)| (key, Some(offset)));
        let records = self.records_of(group_id, offsets);
        let commit = self.with_group(group_id, home, |hosted, now_ms, _| {
            let checked = hosted.group.commit_check(request, now_ms);
            checked.map(|()| hosted.offsets.begin_commit(commits))
        })?;
        Ok((results, self.write(group_id, home, commit, records)))
    }

    /// Whether this shard knows the topics of these offsets. A topic that it does not know was created a
    /// moment ago, or is deleted: an offset that is stored now would look like one of a later topic of
    /// that name, so it is not stored.
    fn check_topics(
        &self,
        commits: &[(PartitionKey, CommittedOffset)],
    ) -> Vec<Result<(), GroupError>> {
        let check = |(key, _): &(PartitionKey, CommittedOffset)| {
            let topic = self.engine().topic_by_id(key.topic_id);
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
        note: ByteString,
        now_ms: i64,
    ) -> Result<CommittedOffset, GroupError> {
        CommittedOffset::new(&self.config, offset, leader_epoch, note, now_ms)
    }

    /// The durable offsets of a group, for the partitions asked for, or all; by topic id and partition.
    ///
    /// # Errors
    /// `TooManyOffsets` when their metadata and 8 bytes for each are more than `bytes_max`.
    pub async fn fetch_offsets(
        self: &Rc<Self>,
        group_id: String,
        keys: Option<BTreeSet<PartitionKey>>,
        bytes_max: usize,
    ) -> Result<Vec<(PartitionKey, CommittedOffset)>, GroupError> {
        let fetch = {
            let group_id = group_id.clone();
            move |groups: Rc<Groups>| async move {
                let mut found = Found::new(bytes_max);
                let mut asked = keys.map(BTreeSet::into_iter);
                let mut slice = Slice::new();
                loop {
                    let asked = asked.as_mut().map(|keys| keys.take(OFFSETS_AT_ONCE));
                    let is_all = groups.find_some(&group_id, asked, &mut found)?;
                    if is_all {
                        return Ok(found.offsets);
                    }
                    slice.rest().await;
                }
            }
        };
        self.at_home(&group_id, Ok(Vec::new()), fetch).await
    }

    /// Adds the offsets of the next keys, or those that follow what was found before. True at the end.
    fn find_some(
        &self,
        group_id: &str,
        keys: Option<impl Iterator<Item = PartitionKey>>,
        found: &mut Found,
    ) -> Result<bool, GroupError> {
        let hosted = self.hosted.borrow();
        let Some(HostedGroup { offsets, .. }) = hosted.get(group_id) else {
            return Ok(true);
        };
        let mut looked_at = 0;
        match keys {
            Some(keys) => {
                for key in keys {
                    looked_at += 1;
                    if let Some(offset) = offsets.fetch(key) {
                        found.add(key, offset)?;
                    }
                }
            }
            None => {
                let after = found.offsets.last().map(|(key, _)| *key);
                for (key, offset) in offsets.after(after).take(OFFSETS_AT_ONCE) {
                    looked_at += 1;
                    found.add(key, offset)?;
                }
            }
        }
        Ok(looked_at < OFFSETS_AT_ONCE)
    }

    /// Deletes committed offsets of partitions, named topic by topic; the result says of each topic whether it
    /// may.
    pub async fn delete_offsets(
        self: &Rc<Self>,
        group_id: String,
        keys: BTreeMap<String, BTreeSet<PartitionKey>>,
    ) -> Result<HashMap<String, Result<(), GroupError>>, GroupError> {
        check_group_id(&group_id)?;
        let not_found = Err(GroupError::GroupIdNotFound);
        let delete = {
            let group_id = group_id.clone();
            move |groups: Rc<Groups>| async move { groups.delete_offsets_here(&group_id, keys).await }
        };
        self.at_home(&group_id, not_found, delete).await
    }

    async fn delete_offsets_here(
        self: &Rc<Self>,
        group_id: &str,
        keys: BTreeMap<String, BTreeSet<PartitionKey>>,
    ) -> Result<HashMap<String, Result<(), GroupError>>, GroupError> {
        let begun = self.with_known_group(group_id, |hosted, _, _| {
            let topics: Vec<&str> = keys.keys().map(String::as_str).collect();
            let deletable = hosted.group.deletable(&topics)?;
            let mut results = HashMap::with_capacity(keys.len());
            let mut allowed = Vec::new();
            for (topic, keys) in &keys {
                let result = if deletable.contains(topic.as_str()) {
                    allowed.extend(keys);
                    Ok(())
                } else {
                    Err(GroupError::GroupSubscribedToTopic)
                };
                results.insert(topic.clone(), result);
            }
            let gone = hosted.offsets.existing(allowed);
            let commit = hosted.offsets.begin_delete(gone.clone());
            Ok((hosted.home, commit, gone, results))
        });
        let (home, commit, gone, results) = begun.unwrap_or(Err(GroupError::GroupIdNotFound))?;
        let records = self.tombstones(group_id, &gone);
        self.write(group_id, home, commit, records).await?;
        Ok(results)
    }

    // ---- changes on their way to the disk ----

    /// The records of offsets, or of their deletion. A topic that is being deleted still has its name: a
    /// later topic that gets it must not find the old offsets.
    fn records_of<'a>(
        &self,
        group_id: &str,
        offsets: impl Iterator<Item = (&'a PartitionKey, Option<&'a CommittedOffset>)>,
    ) -> Result<Vec<Record>, FormatError> {
        let record = |(key, offset): (&PartitionKey, Option<&CommittedOffset>)| {
            let even_if_deleting = |catalog: &Catalog| catalog.even_if_deleting(key.topic_id);
            let topic = self.engine().with_catalog(even_if_deleting)?;
            Some(offset_record(group_id, &topic.name, key.index, offset))
        };
        offsets.filter_map(record).collect()
    }

    pub(super) fn tombstones(
        &self,
        group_id: &str,
        keys: &[PartitionKey],
    ) -> Result<Vec<Record>, FormatError> {
        self.records_of(group_id, keys.iter().map(|key| (key, None)))
    }

    /// Writes the records of a change of offsets that was begun, and ends the change. The records are
    /// appended before this returns.
    fn write(
        self: &Rc<Self>,
        group_id: &str,
        home: PartitionKey,
        commit: CommitId,
        records: Result<Vec<Record>, FormatError>,
    ) -> impl Future<Output = Result<(), GroupError>> + use<> {
        let written = self.runtime.write(home, records);
        let (groups, group_id) = (Rc::clone(self), group_id.to_owned());
        async move {
            let is_durable = written.await;
            groups.with_known_group(&group_id, |hosted, _, _| {
                let failed = hosted.offsets.commit_done(commit, is_durable).into_iter();
                let failed = failed.map(|topic_id| (home, topic_id));
                groups.failed.borrow_mut().extend(failed);
            });
            if !is_durable {
                return Err(GroupError::NotCoordinator);
            }
            Ok(())
        }
    }

    /// Shows the durable offsets of at most `most` groups of this shard, those whose names follow
    /// `after`, in the order of their names. Returns the name of the last; `None` at the end.
    pub(super) fn look_at_offsets(
        &self,
        after: Option<&str>,
        most: usize,
        mut look: impl FnMut(&str, &GroupOffsets),
    ) -> Option<String> {
        let hosted = self.hosted.borrow();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let some = hosted.range::<str, _>((from, Bound::Unbounded)).take(most);
        let seen = some.inspect(|(group_id, hosted)| look(group_id, &hosted.offsets));
        seen.last().map(|(group_id, _)| group_id.clone())
    }

    // ---- expiry ----

    /// Removes offsets whose time is over, and groups that have nothing left.
    pub(super) async fn expire_offsets(self: &Rc<Self>) {
        let names: HashMap<Uuid, String> = self.engine().with_catalog(|catalog| {
            let topics = catalog.topics();
            topics.map(|topic| (topic.id, topic.name.clone())).collect()
        });
        let mut slice = Slice::new();
        let mut after: Option<String> = None;
        while let Some(group_id) = self.name_after(after.as_deref()) {
            self.expire_group(&group_id, &names).await;
            after = Some(group_id);
            slice.rest().await;
        }
    }

    /// The first group of this shard whose name follows `after`.
    fn name_after(&self, after: Option<&str>) -> Option<String> {
        let hosted = self.hosted.borrow();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = hosted.range::<str, _>((from, Bound::Unbounded));
        rest.next().map(|(group_id, _)| group_id.clone())
    }

    async fn expire_group(self: &Rc<Self>, group_id: &str, names: &HashMap<Uuid, String>) {
        self.expire_offsets_of(group_id, names).await;
        // Members may have come and gone, or offsets: nothing of them is left.
        let is_spent = self
            .hosted
            .borrow()
            .get(group_id)
            .is_some_and(|hosted| hosted.group.is_idle() && hosted.offsets.is_empty());
        if is_spent {
            // If it is in use again meanwhile, it is refused, and the group lives on.
            let _ = self.delete_group(group_id.to_owned()).await;
        }
    }

    /// `names` has all topics but those that were created a moment ago.
    async fn expire_offsets_of(self: &Rc<Self>, group_id: &str, names: &HashMap<Uuid, String>) {
        let begun = self.with_known_group(group_id, |hosted, _, _| {
            let name = |id: Uuid| names.get(&id).map(String::as_str);
            let retention = hosted.group.retention();
            let (config, now_ms) = (&self.config, clock::cautious_ms());
            let mut keys = hosted.offsets.expired(config, &retention, now_ms, name);
            // Offsets of deleted topics are forgotten with the topic.
            keys.retain(|key| names.contains_key(&key.topic_id));
            (!keys.is_empty()).then(|| {
                let commit = hosted.offsets.begin_delete(keys.clone());
                (hosted.home, commit, keys)
            })
        });
        let Some(Some((home, commit, keys))) = begun else {
            return;
        };
        let records = self.tombstones(group_id, &keys);
        let written = self.write(group_id, home, commit, records);
        if written.await.is_ok() {
            tracing::info!(group = group_id, offsets = keys.len(), "expired offsets");
        }
    }

    // ---- deleted topics ----

    /// Forgets the offsets of a deleted topic. Returns when that is durable, so that a topic of the same
    /// name does not inherit them.
    ///
    /// # Errors
    /// When it cannot be written. The next start tries again; until then there must be no other topic of
    /// that name.
    async fn forget_offsets_of(self: &Rc<Self>, topic: &Topic) -> Result<(), EngineError> {
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
                forgotten.extend(self.forget_offsets_in(&group_id, topic));
            }
            if after.is_none() {
                break;
            }
            // Other requests pass in between. No offset of the topic is added: it is unknown by now.
            reactor::yield_now().await;
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

    fn forget_offsets_in(
        self: &Rc<Self>,
        group_id: &str,
        topic: &Topic,
    ) -> Option<impl Future<Output = Result<(), GroupError>> + use<>> {
        let (home, commit, keys) = self.with_known_group(group_id, |hosted, _, _| {
            let keys = hosted.offsets.of_topic(topic.id);
            let commit = hosted.offsets.begin_delete(keys.clone());
            (hosted.home, commit, keys)
        })?;
        let records = self.tombstones(group_id, &keys);
        Some(self.write(group_id, home, commit, records))
    }

    /// Whether the next start may find offsets of the topic that are not known now: those of a partition
    /// that could not be read, and those that were refused. A flush that fails leaves its records in the
    /// file, and nothing that deletes them can be written any more.
    fn may_come_back(&self, topic: &Topic) -> bool {
        let mut failed = self.failed.borrow_mut();
        let is_poisoned = |home: PartitionKey| {
            let partition = self.engine().partition(home);
            partition.is_some_and(|partition| partition.borrow().log.is_poisoned())
        };
        let mut own = failed.iter().filter(|(_, id)| *id == topic.id);
        let was_refused = own.any(|(home, _)| is_poisoned(*home));
        failed.retain(|(_, id)| *id != topic.id);
        was_refused || self.runtime.has_unread()
    }
}

impl Listener for Groups {
    fn topic_deleted(
        self: Rc<Self>,
        topic: Arc<Topic>,
    ) -> LocalBoxFuture<'static, Result<(), EngineError>> {
        async move { self.forget_offsets_of(&topic).await }.boxed_local()
    }
}

/// Copies of offsets, up to so many bytes.
struct Found {
    offsets: Vec<(PartitionKey, CommittedOffset)>,
    left_bytes: usize,
}

impl Found {
    fn new(bytes_max: usize) -> Found {
        Found {
            offsets: Vec::new(),
            left_bytes: bytes_max,
        }
    }

    fn add(&mut self, key: PartitionKey, offset: &CommittedOffset) -> Result<(), GroupError> {
        let bytes = size_of::<i64>() + offset.metadata.len();
        let left = self.left_bytes.checked_sub(bytes);
        self.left_bytes = left.ok_or(GroupError::TooManyOffsets)?;
        self.offsets.push((key, offset.clone()));
        Ok(())
    }
}
