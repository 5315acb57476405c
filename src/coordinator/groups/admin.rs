//! Administration: deleting, describing and listing groups.

use super::classic::messages::GroupDescription;
use super::error::GroupError;
use super::{Groups, check_group_id, records};
use crate::io::reactor;
use std::ops::Bound;
use std::rc::Rc;

/// A group in a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    pub group_id: String,
    /// As Kafka prints it.
    pub state: &'static str,
    /// Empty for a group that never had members.
    pub protocol_type: String,
}

/// Groups that are listed or looked through without a pause.
const LISTED_AT_ONCE: usize = 1_000;

impl Groups {
    /// Deletes a group that has no members, with its offsets.
    ///
    /// # Errors
    /// See [`GroupError`]; so for all requests.
    pub async fn delete_group(self: &Rc<Self>, group_id: String) -> Result<(), GroupError> {
        let not_found = Err(GroupError::GroupIdNotFound);
        let delete = {
            let group_id = group_id.clone();
            move |groups: Rc<Groups>| async move { groups.delete_group_here(&group_id).await }
        };
        self.at_home(&group_id, not_found, delete).await
    }

    async fn delete_group_here(self: &Rc<Self>, group_id: &str) -> Result<(), GroupError> {
        let deleted = self.with_known_group(group_id, |hosted, _, _| {
            hosted.group.delete()?;
            Ok((hosted.home, hosted.offsets.keys()))
        });
        let (home, keys) = deleted.unwrap_or(Err(GroupError::GroupIdNotFound))?;
        let records = self.tombstones(group_id, &keys).and_then(|mut records| {
            records.push(records::group_record(group_id, None)?);
            Ok(records)
        });
        let is_durable = self.runtime.write(home, records).await;
        self.end_deletion(group_id, is_durable)
    }

    /// While its end is on the way to the disk a group is dead and still there, so no other of its name
    /// can come between.
    pub(super) fn end_deletion(
        self: &Rc<Self>,
        group_id: &str,
        is_durable: bool,
    ) -> Result<(), GroupError> {
        if is_durable {
            self.forget(group_id);
            return Ok(());
        }
        // A group that was unloaded meanwhile has left the memory only.
        if !self.engine().is_stopping() {
            self.with_known_group(group_id, |hosted, _, _| hosted.group.delete_failed());
        }
        Err(GroupError::NotCoordinator)
    }

    /// What DescribeGroups shows of a group; `None` when there is no such group.
    pub async fn describe_group(
        self: &Rc<Self>,
        group_id: String,
    ) -> Result<Option<GroupDescription>, GroupError> {
        check_group_id(&group_id)?;
        let describe = {
            let group_id = group_id.clone();
            move |groups: Rc<Groups>| async move {
                let hosted = groups.hosted.borrow();
                Ok(hosted.get(&group_id).map(|hosted| hosted.group.describe()))
            }
        };
        self.at_home(&group_id, Ok(None), describe).await
    }

    /// All groups of all shards, by name. Shards that have stopped are left out.
    pub async fn list_groups(self: &Rc<Self>) -> Vec<ListedGroup> {
        let mut listed: Vec<ListedGroup> = Vec::new();
        for shard in 0..self.runtime.shard_count() {
            let mut after: Option<String> = None;
            loop {
                let list = move |groups: &Groups| groups.list_some(after.as_deref());
                let Some(some) = self.runtime.ask(self, shard, list).await else {
                    break;
                };
                after = some.last().map(|group| group.group_id.clone());
                if after.is_none() {
                    break;
                }
                listed.extend(some);
                reactor::yield_now().await;
            }
        }
        // Each shard's are in order.
        listed.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        listed
    }

    /// Some of this shard's groups, those whose names follow `after`; none at the end.
    fn list_some(&self, after: Option<&str>) -> Vec<ListedGroup> {
        let hosted = self.hosted.borrow();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let some = hosted.range::<str, _>((from, Bound::Unbounded));
        let listed = some.map(|(group_id, hosted)| ListedGroup {
            group_id: group_id.clone(),
            state: hosted.group.state().name(),
            protocol_type: hosted.group.protocol_type().unwrap_or_default().to_owned(),
        });
        listed.take(LISTED_AT_ONCE).collect()
    }
}
