//! The offsets that one group committed.
//!
//! A commit is visible when it is durable: a consumer that restarts must not read an offset that a power
//! cut could take back. Writes become durable in the order in which they began, as in a log.

use super::config::GroupConfig;
use super::error::GroupError;
use crate::engine::PartitionKey;
use bytestring::ByteString;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use uuid::Uuid;

/// An offset that a group committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    /// The epoch of the last record consumed; -1 when the client gives none.
    pub leader_epoch: i32,
    /// Returned to the client unchanged.
    pub metadata: ByteString,
    /// When it was committed (ms).
    pub commit_ms: i64,
    /// When it expires (ms), if the client said so (OffsetCommit v2 to v4).
    pub expire_ms: Option<i64>,
}

impl CommittedOffset {
    /// An offset without an expiry of its own.
    ///
    /// # Errors
    /// `OffsetMetadataTooLarge`.
    pub fn new(
        config: &GroupConfig,
        offset: i64,
        leader_epoch: i32,
        metadata: ByteString,
        now_ms: i64,
    ) -> Result<CommittedOffset, GroupError> {
        // Kafka counts in UTF-16, as Java does.
        if metadata.encode_utf16().count() > config.offset_metadata_bytes_max {
            return Err(GroupError::OffsetMetadataTooLarge);
        }
        Ok(CommittedOffset {
            offset,
            leader_epoch,
            metadata,
            commit_ms: now_ms,
            expire_ms: None,
        })
    }
}

/// Bytes of memory that an offset takes beside its note.
const OFFSET_BYTES: usize = 128;

impl CommittedOffset {
    fn bytes(&self) -> usize {
        OFFSET_BYTES + self.metadata.len()
    }
}

/// Which offsets of a group may expire, given its members (KIP-211).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retention {
    /// None.
    Keep,
    /// All; the retention time starts at the last commit. For groups that never had members.
    SinceCommit,
    /// All; the retention time starts when the last member left (ms), or at a later commit.
    SinceEmpty(i64),
    /// Those of topics other than these; the retention time starts at the last commit.
    Unsubscribed(BTreeSet<String>),
}

/// Identifies a change that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitId(pub u64);

/// New offsets; `None` for those to delete.
type Changes = Vec<(PartitionKey, Option<CommittedOffset>)>;

/// The offsets of one group.
#[derive(Debug, Default)]
pub struct GroupOffsets {
    durable: BTreeMap<PartitionKey, CommittedOffset>,
    /// In the order in which they began.
    in_flight: VecDeque<(CommitId, Changes)>,
    /// The partitions of those changes, and how many changes each is in.
    keys_in_flight: BTreeMap<PartitionKey, usize>,
    next_commit: u64,
    /// Of the durable ones and those in flight.
    bytes: usize,
}

impl GroupOffsets {
    /// The offsets as they were stored.
    pub fn restore(
        offsets: impl IntoIterator<Item = (PartitionKey, CommittedOffset)>,
    ) -> GroupOffsets {
        let durable: BTreeMap<_, _> = offsets.into_iter().collect();
        GroupOffsets {
            bytes: durable.values().map(CommittedOffset::bytes).sum(),
            durable,
            ..GroupOffsets::default()
        }
    }

    /// Bytes of memory that the offsets take, those that are being written included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes by which the offsets would grow with these; 0 if they would shrink.
    pub fn growth_with<'a>(
        &self,
        commits: impl IntoIterator<Item = (&'a PartitionKey, &'a CommittedOffset)>,
    ) -> usize {
        let (mut new_bytes, mut old_bytes) = (0, 0);
        for (key, offset) in commits {
            new_bytes += offset.bytes();
            old_bytes += self.durable.get(key).map_or(0, CommittedOffset::bytes);
        }
        new_bytes.saturating_sub(old_bytes)
    }

    /// Begins a change: the caller now writes these offsets.
    pub fn begin_commit(&mut self, commits: Vec<(PartitionKey, CommittedOffset)>) -> CommitId {
        let commits = commits.into_iter();
        self.begin(commits.map(|(key, offset)| (key, Some(offset))).collect())
    }

    /// Begins a change: the caller now writes the deletion of these offsets.
    pub fn begin_delete(&mut self, keys: Vec<PartitionKey>) -> CommitId {
        self.begin(keys.into_iter().map(|key| (key, None)).collect())
    }

    fn begin(&mut self, changes: Changes) -> CommitId {
        let id = CommitId(self.next_commit);
        self.next_commit += 1;
        self.bytes += bytes_of(&changes);
        for (key, _) in &changes {
            *self.keys_in_flight.entry(*key).or_default() += 1;
        }
        self.in_flight.push_back((id, changes));
        id
    }

    /// Ends a change. If it is not durable the next start may find it all the same: returns the topics of
    /// such a change.
    pub fn commit_done(&mut self, id: CommitId, is_durable: bool) -> BTreeSet<Uuid> {
        let found = self.in_flight.binary_search_by_key(&id, |(id, _)| *id);
        let removed = found.ok().and_then(|index| self.in_flight.remove(index));
        let (_, changes) = removed.unwrap_or((id, Changes::new()));
        self.bytes -= bytes_of(&changes);
        for (key, _) in &changes {
            if let Entry::Occupied(mut count) = self.keys_in_flight.entry(*key) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        if !is_durable {
            return changes.iter().map(|(key, _)| key.topic_id).collect();
        }
        for (key, change) in changes {
            let before = match change {
                Some(offset) => {
                    self.bytes += offset.bytes();
                    self.durable.insert(key, offset)
                }
                None => self.durable.remove(&key),
            };
            self.bytes -= before.map_or(0, |offset| offset.bytes());
        }
        BTreeSet::new()
    }

    /// The durable offset of a partition.
    pub fn fetch(&self, key: PartitionKey) -> Option<&CommittedOffset> {
        self.durable.get(&key)
    }

    /// All durable offsets, by topic id and partition.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionKey, &CommittedOffset)> {
        self.durable.iter().map(|(key, offset)| (*key, offset))
    }

    /// The durable offsets behind one, by topic id and partition; all if there is none.
    pub fn after(
        &self,
        key: Option<PartitionKey>,
    ) -> impl Iterator<Item = (PartitionKey, &CommittedOffset)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.durable.range((from, Bound::Unbounded));
        rest.map(|(key, offset)| (*key, offset))
    }

    pub fn len(&self) -> usize {
        self.durable.len()
    }

    /// Whether there are no offsets, durable or being written.
    pub fn is_empty(&self) -> bool {
        self.durable.is_empty() && self.in_flight.is_empty()
    }

    /// Those of `keys` that have an offset, durable or being written.
    pub fn existing(&self, keys: impl IntoIterator<Item = PartitionKey>) -> Vec<PartitionKey> {
        let exists = |key: &PartitionKey| {
            self.durable.contains_key(key) || self.keys_in_flight.contains_key(key)
        };
        keys.into_iter().filter(exists).collect()
    }

    /// All partitions with an offset, durable or being written.
    pub fn keys(&self) -> Vec<PartitionKey> {
        let in_flight = self.keys_in_flight.keys();
        let keys: BTreeSet<_> = in_flight.chain(self.durable.keys()).copied().collect();
        keys.into_iter().collect()
    }

    /// Whether a topic has an offset, durable or being written.
    pub fn has_topic(&self, topic_id: Uuid) -> bool {
        let in_flight = keys_of(&self.keys_in_flight, topic_id);
        in_flight
            .chain(keys_of(&self.durable, topic_id))
            .next()
            .is_some()
    }

    /// The partitions of a topic with an offset, durable or being written.
    pub fn of_topic(&self, topic_id: Uuid) -> Vec<PartitionKey> {
        let in_flight = keys_of(&self.keys_in_flight, topic_id);
        let keys: BTreeSet<_> = in_flight.chain(keys_of(&self.durable, topic_id)).collect();
        keys.into_iter().collect()
    }

    /// The offsets that have expired. `topic_name` finds the name of a topic; a topic without a name has no
    /// subscribers.
    pub fn expired<'a>(
        &self,
        config: &GroupConfig,
        retention: &Retention,
        now_ms: i64,
        topic_name: impl Fn(Uuid) -> Option<&'a str>,
    ) -> Vec<PartitionKey> {
        let since_ms = |key: &PartitionKey, offset: &CommittedOffset| match retention {
            Retention::Keep => None,
            Retention::SinceCommit => Some(offset.commit_ms),
            Retention::SinceEmpty(since_ms) => Some(offset.commit_ms.max(*since_ms)),
            Retention::Unsubscribed(topics) => {
                let name = topic_name(key.topic_id);
                let subscribed = name.is_some_and(|name| topics.contains(name));
                (!subscribed).then_some(offset.commit_ms)
            }
        };
        let is_expired = |key: &PartitionKey, offset: &CommittedOffset| {
            since_ms(key, offset).is_some_and(|since_ms| {
                let retained_ms = since_ms.saturating_add(config.offset_retention_ms);
                now_ms >= offset.expire_ms.unwrap_or(retained_ms)
            })
        };
        let expired = self.durable.iter().filter(|(key, offset)| {
            is_expired(key, offset) && !self.keys_in_flight.contains_key(key)
        });
        expired.map(|(key, _)| *key).collect()
    }
}

/// The keys of a topic.
fn keys_of<T>(
    map: &BTreeMap<PartitionKey, T>,
    topic_id: Uuid,
) -> impl Iterator<Item = PartitionKey> {
    let at = |index| PartitionKey { topic_id, index };
    map.range(at(0)..=at(u32::MAX)).map(|(key, _)| *key)
}

fn bytes_of(changes: &Changes) -> usize {
    let bytes = |change: &Option<CommittedOffset>| {
        let note = change.as_ref().map_or(0, |offset| offset.metadata.len());
        OFFSET_BYTES + note
    };
    changes.iter().map(|(_, change)| bytes(change)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    fn key(topic: u128, index: u32) -> PartitionKey {
        PartitionKey {
            topic_id: Uuid::from_u128(topic),
            index,
        }
    }

    fn at(offset: i64, now_ms: i64) -> CommittedOffset {
        CommittedOffset::new(&GroupConfig::default(), offset, -1, "".into(), now_ms).unwrap()
    }

    fn expired(offsets: &GroupOffsets, retention: &Retention, now_ms: i64) -> Vec<PartitionKey> {
        let name = |id: Uuid| (id.as_u128() == 1).then_some("orders");
        offsets.expired(&GroupConfig::default(), retention, now_ms, name)
    }

    #[test]
    fn a_commit_shows_up_once_it_is_durable() {
        let mut offsets = GroupOffsets::default();
        let first = offsets.begin_commit(vec![(key(1, 0), at(5, 0))]);
        assert_eq!(offsets.fetch(key(1, 0)), None);
        assert!(!offsets.is_empty());
        let second = offsets.begin_commit(vec![(key(1, 0), at(6, 0)), (key(1, 1), at(1, 0))]);
        offsets.commit_done(first, true);
        assert_eq!(offsets.fetch(key(1, 0)).unwrap().offset, 5);
        offsets.commit_done(second, false);
        assert_eq!(offsets.fetch(key(1, 0)).unwrap().offset, 5);
        assert_eq!(offsets.fetch(key(1, 1)), None);
        offsets.commit_done(second, true);
        assert_eq!(offsets.len(), 1);
    }

    #[test]
    fn metadata_comes_back_as_it_was_and_has_a_limit() {
        let config = GroupConfig::default();
        let text = ByteString::from("é".repeat(2048));
        let offset = CommittedOffset::new(&config, 1, 7, text.clone(), 0).unwrap();
        assert_eq!((offset.metadata, offset.leader_epoch), (text, 7));
        let refused = CommittedOffset::new(&config, 1, 7, "x".repeat(4097).into(), 0);
        assert_eq!(refused, Err(GroupError::OffsetMetadataTooLarge));
    }

    #[test]
    fn a_deletion_takes_effect_once_it_is_durable() {
        let mut offsets = GroupOffsets::restore([(key(1, 0), at(5, 0)), (key(2, 0), at(5, 0))]);
        let commit = offsets.begin_commit(vec![(key(1, 1), at(9, 0))]);
        let keys = offsets.existing([key(1, 0), key(1, 1), key(1, 2)]);
        assert_eq!(keys, [key(1, 0), key(1, 1)]);
        assert_eq!(offsets.of_topic(Uuid::from_u128(1)), keys);
        let has = [1, 2, 3].map(|topic| offsets.has_topic(Uuid::from_u128(topic)));
        assert_eq!(has, [true, true, false]);
        let delete = offsets.begin_delete(keys);
        offsets.commit_done(commit, true);
        assert_eq!(offsets.len(), 3);
        offsets.commit_done(delete, true);
        assert_eq!(
            offsets.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            [key(2, 0)]
        );
    }

    #[test]
    fn what_is_being_written_is_counted_and_forgotten_when_it_is_written_or_refused() {
        let mut offsets = GroupOffsets::default();
        let change = || vec![(key(1, 0), at(5, 0)), (key(1, 1), at(5, 0))];
        let commits = [(); 2].map(|()| offsets.begin_commit(change()));
        let in_flight_bytes = offsets.bytes();
        assert_eq!(offsets.existing([key(1, 0), key(1, 2)]), [key(1, 0)]);
        offsets.commit_done(commits[0], false);
        assert_eq!(offsets.bytes(), in_flight_bytes / 2);
        assert!(
            offsets.has_topic(Uuid::from_u128(1)),
            "the other is on its way"
        );
        offsets.commit_done(commits[1], false);
        assert_eq!(offsets.bytes(), 0);
        assert!(offsets.is_empty() && offsets.keys().is_empty());
        assert!(!offsets.has_topic(Uuid::from_u128(1)));
        let commit = offsets.begin_commit(change());
        offsets.commit_done(commit, true);
        assert_eq!(offsets.bytes(), in_flight_bytes / 2);
        let growth = |note: &str| {
            let longer = CommittedOffset {
                metadata: note.into(),
                ..at(6, 0)
            };
            offsets.growth_with([(&key(1, 0), &longer)])
        };
        assert_eq!([growth(""), growth("abc")], [0, 3]);
        let delete = offsets.begin_delete(offsets.keys());
        offsets.commit_done(delete, true);
        assert_eq!(offsets.bytes(), 0);
    }

    #[test]
    fn offsets_of_a_group_without_members_expire_seven_days_after_each_commit() {
        let offsets = GroupOffsets::restore([(key(1, 0), at(5, 0)), (key(1, 1), at(5, DAY_MS))]);
        let rule = Retention::SinceCommit;
        assert_eq!(expired(&offsets, &rule, 7 * DAY_MS - 1), []);
        assert_eq!(expired(&offsets, &rule, 7 * DAY_MS), [key(1, 0)]);
        assert_eq!(expired(&offsets, &rule, 8 * DAY_MS).len(), 2);
        assert_eq!(expired(&offsets, &Retention::Keep, 80 * DAY_MS), []);
    }

    #[test]
    fn offsets_of_an_empty_group_expire_seven_days_after_it_became_empty_or_a_later_commit() {
        let offsets =
            GroupOffsets::restore([(key(1, 0), at(5, 0)), (key(1, 1), at(5, 4 * DAY_MS))]);
        let rule = Retention::SinceEmpty(3 * DAY_MS);
        assert_eq!(expired(&offsets, &rule, 10 * DAY_MS - 1), []);
        assert_eq!(expired(&offsets, &rule, 10 * DAY_MS), [key(1, 0)]);
        assert_eq!(expired(&offsets, &rule, 11 * DAY_MS).len(), 2);
    }

    #[test]
    fn a_group_with_members_keeps_the_offsets_of_its_topics() {
        let offsets = GroupOffsets::restore([(key(1, 0), at(5, 0)), (key(2, 0), at(5, 0))]);
        let rule = Retention::Unsubscribed(BTreeSet::from(["orders".to_owned()]));
        assert_eq!(expired(&offsets, &rule, 7 * DAY_MS), [key(2, 0)]);
    }

    #[test]
    fn an_offset_with_an_expiry_of_its_own_goes_by_that() {
        let mut offset = at(5, 0);
        offset.expire_ms = Some(100);
        let offsets = GroupOffsets::restore([(key(1, 0), offset)]);
        assert_eq!(expired(&offsets, &Retention::SinceCommit, 99), []);
        assert_eq!(expired(&offsets, &Retention::SinceCommit, 100).len(), 1);
    }

    #[test]
    fn an_offset_with_a_commit_on_its_way_does_not_expire() {
        let mut offsets = GroupOffsets::restore([(key(1, 0), at(5, 0))]);
        let commit = offsets.begin_commit(vec![(key(1, 0), at(6, 7 * DAY_MS))]);
        assert_eq!(expired(&offsets, &Retention::SinceCommit, 7 * DAY_MS), []);
        offsets.commit_done(commit, true);
        assert_eq!(expired(&offsets, &Retention::SinceCommit, 7 * DAY_MS), []);
    }
}
