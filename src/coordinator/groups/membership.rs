//! Members: joining, syncing, heartbeats, leaving.

use super::classic::group::{Group, NAME_BYTES_LOGGED_MAX};
use super::classic::messages::{
    JoinReply, JoinRequest, LeaveResult, LeavingMember, Reply, SyncReply, SyncRequest,
};
use super::error::GroupError;
use super::{Groups, HostedGroup, check_group_id};
use crate::coordinator::parked::Token;
use crate::engine::PartitionKey;
use crate::io::limits;
use crate::wire::cut_to;
use std::rc::Rc;
use tokio::sync::oneshot;

impl Groups {
    /// A member joins a group; answered when the group's members are complete. `stored` hears of it when the
    /// group has the request.
    ///
    /// # Errors
    /// See [`GroupError`]; so for all requests.
    pub async fn join_group(
        self: &Rc<Self>,
        group_id: String,
        request: JoinRequest,
        stored: oneshot::Sender<()>,
    ) -> Result<JoinReply, GroupError> {
        let event = move |groups: &Rc<Groups>, group_id: &str, home, token| {
            groups.check_group_limit(group_id)?;
            groups.check_room(group_id, |group| match group {
                Some(hosted) => hosted.group.growth_of(&request),
                None => Group::bytes_of_join(&request),
            })?;
            groups.with_group(group_id, home, |hosted, now_ms, out| {
                hosted.group.join(request, token, now_ms, out);
            });
            Ok(())
        };
        match self.park_at_home(group_id, event, stored).await? {
            Reply::Join(joined) => joined,
            Reply::Sync(_) => Err(GroupError::NotCoordinator),
        }
    }

    /// Whether another group may be created on this shard.
    pub(super) fn check_group_limit(&self, group_id: &str) -> Result<(), GroupError> {
        let hosted = self.hosted.borrow();
        let groups_max = self.engine().config.groups_max;
        let most = groups_max.div_ceil(self.runtime.shard_count());
        if hosted.contains_key(group_id) || hosted.len() < most {
            return Ok(());
        }
        limits::GROUPS.reached(format_args!("{:?}", short(group_id)));
        Err(GroupError::GroupMaxSizeReached)
    }

    /// Whether all groups together may grow by what an event makes this one grow.
    pub(super) fn check_room(
        &self,
        group_id: &str,
        growth_bytes: impl FnOnce(Option<&HostedGroup>) -> usize,
    ) -> Result<(), GroupError> {
        let hosted = self.hosted.borrow();
        let hosted = hosted.get(group_id);
        let new_bytes = hosted.map_or(HostedGroup::bytes_of_new(group_id), |_| 0);
        if self.memory.has_room_for(new_bytes + growth_bytes(hosted)) {
            return Ok(());
        }
        limits::GROUPS_BYTES.reached(format_args!("{:?}", short(group_id)));
        Err(GroupError::GroupMaxSizeReached)
    }

    /// A member asks for its assignment; answered when the leader's is durable. `stored` as with a join.
    pub async fn sync_group(
        self: &Rc<Self>,
        group_id: String,
        request: SyncRequest,
        stored: oneshot::Sender<()>,
    ) -> Result<SyncReply, GroupError> {
        let event = move |groups: &Rc<Groups>, group_id: &str, _, token| {
            let growth_bytes =
                |hosted: &HostedGroup| hosted.group.growth_with(&request.assignments);
            let room = groups.check_room(group_id, |group| group.map_or(0, growth_bytes));
            // Members try again.
            room.map_err(|_| GroupError::CoordinatorNotAvailable)?;
            let known = groups.with_known_group(group_id, |hosted, now_ms, out| {
                hosted.group.sync(request, token, now_ms, out);
            });
            known.ok_or(GroupError::UnknownMemberId)
        };
        match self.park_at_home(group_id, event, stored).await? {
            Reply::Sync(synced) => synced,
            Reply::Join(_) => Err(GroupError::NotCoordinator),
        }
    }

    /// Runs an event whose answer may take minutes, on the shard that the group lives on. When the client is
    /// gone, the group drops the request.
    async fn park_at_home(
        self: &Rc<Self>,
        group_id: String,
        event: impl FnOnce(&Rc<Groups>, &str, PartitionKey, Token) -> Result<(), GroupError>
        + Send
        + 'static,
        stored: oneshot::Sender<()>,
    ) -> Result<Reply, GroupError> {
        check_group_id(&group_id)?;
        let home = self.runtime.find_home(&group_id).await?;
        let park = move |groups: Rc<Groups>| async move {
            let begin = |token| {
                event(&groups, &group_id, home, token)?;
                // It may not be of interest.
                let _ = stored.send(());
                Ok(())
            };
            let given_up = |token| {
                groups.with_known_group(&group_id, |hosted, now_ms, out| {
                    hosted.group.remove_token(token, now_ms, out);
                });
            };
            groups.parked.park(begin, given_up).await
        };
        self.runtime.call_while_wanted(self, home, park).await
    }

    /// A member shows that it is alive.
    pub async fn heartbeat(
        self: &Rc<Self>,
        group_id: String,
        member_id: String,
        instance_id: Option<String>,
        generation: i32,
    ) -> Result<(), GroupError> {
        check_group_id(&group_id)?;
        let unknown = Err(GroupError::UnknownMemberId);
        let beat = {
            let group_id = group_id.clone();
            move |groups: Rc<Groups>| async move {
                let beat = groups.with_known_group(&group_id, |hosted, now_ms, _| {
                    let instance_id = instance_id.as_deref();
                    let group = &mut hosted.group;
                    group.heartbeat(&member_id, instance_id, generation, now_ms)
                });
                beat.unwrap_or(Err(GroupError::UnknownMemberId))
            }
        };
        self.at_home(&group_id, unknown, beat).await
    }

    /// Members leave a group.
    pub async fn leave_group(
        self: &Rc<Self>,
        group_id: String,
        members: Vec<LeavingMember>,
    ) -> Result<Vec<LeaveResult>, GroupError> {
        check_group_id(&group_id)?;
        let unknown = Err(GroupError::UnknownMemberId);
        let leave = {
            let group_id = group_id.clone();
            move |groups: Rc<Groups>| async move {
                let left = groups.with_known_group(&group_id, |hosted, now_ms, out| {
                    hosted.group.leave(members, now_ms, out)
                });
                left.unwrap_or(Err(GroupError::UnknownMemberId))
            }
        };
        self.at_home(&group_id, unknown, leave).await
    }
}

/// The beginning of a group's name, for a log line.
fn short(group_id: &str) -> &str {
    cut_to(group_id, NAME_BYTES_LOGGED_MAX)
}
