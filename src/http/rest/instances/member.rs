//! An instance as a member of its group: it joins, takes what it is given, and shows that it is alive.

use super::assignor;
use super::instance::Instance;
use super::state::Wanted;
use super::{pattern, settings};
use crate::coordinator::groups::classic::messages::{
    JoinReply, JoinRequest, LeavingMember, Protocol, SyncRequest,
};
use crate::coordinator::groups::consumer_protocol::{
    PROTOCOL_TYPE, decode_assignment, decode_subscription,
};
use crate::coordinator::groups::error::GroupError;
use crate::http::problem::Problem;
use crate::io::reactor::Slice;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::sleep;
use uuid::Uuid;

/// How often a member shows that it is alive, and learns that its group rebalances.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
/// A member that a restart of the broker brings back must be heard of within this time: as long as an instance may do
/// nothing.
const SESSION_MS: u64 = 300_000;
/// How long the others wait for this member in a rebalance; it takes part at once.
const REBALANCE_MS: i32 = 60_000;
/// Heartbeats after which a pattern is tried on the topics again.
const BEATS_A_PATTERN: u32 = 5;
/// What failed is tried again after this time.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Is a member of the instance's group for as long as this future is polled.
pub async fn run(instance: Rc<Instance>) {
    loop {
        match take_part(&instance).await {
            Ok(()) | Err(GroupError::RebalanceInProgress) => {}
            Err(error) => {
                if matches!(
                    error,
                    GroupError::UnknownMemberId
                        | GroupError::IllegalGeneration
                        | GroupError::FencedInstanceId
                ) {
                    // The group has gone on without it: it joins as another.
                    instance.state.borrow_mut().member_id.clear();
                } else if !instance.engine.is_stopping() {
                    tracing::debug!(group = instance.group, instance = instance.name, %error, "an instance cannot join");
                }
                let problem = Problem::from(error);
                let is_final = !problem.is_retriable && problem.kind != "unknown-member";
                *instance.failure.borrow_mut() = is_final.then_some(problem);
                instance.changed.notify_waiters();
                sleep(RETRY_PAUSE).await;
            }
        }
        if instance.state.borrow().is_assigned {
            instance.set(None);
        }
    }
}

/// One generation: from the join until the group rebalances.
async fn take_part(instance: &Rc<Instance>) -> Result<(), GroupError> {
    let topics = topics_of(instance).await;
    instance.state.borrow_mut().topics.clone_from(&topics);
    let wanted = instance.state.borrow().wanted.clone();
    let metadata = settings::metadata(&instance.name, &instance.settings, &wanted, &topics);
    let joined = join(instance, &metadata).await?;
    let generation = joined.generation;
    let leads = joined.leader == joined.member_id;
    let seen = partitions_wanted(instance, &joined).await;
    let assignments = if leads {
        assignor::assign(&instance.engine, &joined.members).await
    } else {
        Vec::new()
    };
    let sync = SyncRequest {
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments,
    };
    let (stored, _) = oneshot::channel();
    let group = instance.group.clone();
    let synced = instance.groups.sync_group(group, sync, stored).await?;
    {
        let mut state = instance.state.borrow_mut();
        state.generation = generation;
    }
    let keys = keys_of(instance, &synced.assignment).await;
    let positions = loop {
        match instance.positions_of(keys.clone()).await {
            Ok(positions) => break positions,
            Err(problem) => {
                tracing::debug!(group = instance.group, instance = instance.name, %problem, "an instance finds no positions");
                beat(instance, generation).await?;
                sleep(RETRY_PAUSE).await;
            }
        }
    };
    *instance.failure.borrow_mut() = None;
    instance.set(Some(positions));
    let mut beats = 0;
    loop {
        sleep(HEARTBEAT_EVERY).await;
        beats += 1;
        let beaten = beat(instance, generation).await;
        let is_pattern = matches!(wanted, Wanted::Pattern(_)) && beats % BEATS_A_PATTERN == 0;
        let has_new = (leads && partitions_wanted(instance, &joined).await != seen)
            || (is_pattern && topics_of(instance).await != topics);
        if beaten.is_err() || has_new {
            if instance.settings.auto_commit {
                // Before others have the partitions.
                let _ = instance.commit_all().await;
            }
            return beaten;
        }
    }
}

async fn beat(instance: &Instance, generation: i32) -> Result<(), GroupError> {
    let member_id = instance.state.borrow().member_id.clone();
    let group = instance.group.clone();
    let beat = instance
        .groups
        .heartbeat(group, member_id, None, generation);
    match beat.await {
        // The broker stops, or cannot write: it is tried again, and the partitions are kept meanwhile.
        Err(GroupError::NotCoordinator | GroupError::CoordinatorNotAvailable) => Ok(()),
        beaten => beaten,
    }
}

async fn join(instance: &Instance, metadata: &Bytes) -> Result<JoinReply, GroupError> {
    let config = &instance.engine.config;
    let known = instance.state.borrow().member_id.clone();
    let new = format!("{}-{}", instance.name, Uuid::new_v4());
    if known.is_empty() {
        // So that it can leave, whatever becomes of the join.
        instance.state.borrow_mut().member_id.clone_from(&new);
    }
    let session_ms = SESSION_MS
        .min(config.group_max_session_timeout_ms)
        .max(config.group_min_session_timeout_ms);
    let request = JoinRequest {
        member_id: known,
        new_member_id: new,
        instance_id: None,
        client_id: instance.name.clone(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: i32::try_from(session_ms).unwrap_or(i32::MAX),
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: PROTOCOL_TYPE.to_owned(),
        protocols: vec![Protocol {
            name: assignor::NAME.to_owned(),
            metadata: metadata.clone(),
        }],
        requires_known_member_id: false,
        supports_skip_assignment: false,
    };
    let (stored, _) = oneshot::channel();
    let group = instance.group.clone();
    let joined = instance.groups.join_group(group, request, stored).await?;
    let mut state = instance.state.borrow_mut();
    state.member_id.clone_from(&joined.member_id);
    Ok(joined)
}

/// The topics that the instance subscribes to now.
async fn topics_of(instance: &Instance) -> Vec<String> {
    let wanted = instance.state.borrow().wanted.clone();
    match wanted {
        Wanted::Topics(topics) => topics,
        // It was checked when it came.
        Wanted::Pattern(pattern) => {
            let found = pattern::topics(&instance.engine, &pattern).await;
            found.unwrap_or_default()
        }
        Wanted::Nothing | Wanted::Partitions => Vec::new(),
    }
}

/// How many partitions each topic has that the members want: with others, the leader has the group assign anew.
async fn partitions_wanted(instance: &Instance, joined: &JoinReply) -> BTreeMap<String, u32> {
    let mut wanted = BTreeMap::new();
    let mut slice = Slice::new();
    for member in &joined.members {
        slice.rest().await;
        let Ok(subscription) = decode_subscription(&member.metadata) else {
            continue;
        };
        for name in subscription.topics {
            let topic = instance.engine.topic(name);
            wanted.insert(name.to_owned(), topic.map_or(0, |topic| topic.partitions));
        }
    }
    wanted
}

/// The partitions that an assignment names.
async fn keys_of(instance: &Instance, assignment: &Bytes) -> BTreeSet<crate::engine::PartitionKey> {
    let mut keys = BTreeSet::new();
    let mut slice = Slice::new();
    // One without any has not even a version.
    if let Ok(assignment) = decode_assignment(assignment) {
        for topic in assignment.assigned_partitions {
            for index in topic.partitions {
                keys.extend(instance.engine.key_of(topic.topic, index));
                slice.rest().await;
            }
        }
    }
    keys
}

/// Leaves the group, with what was read committed if the instance commits by itself.
pub async fn leave(instance: &Instance) {
    if instance.settings.auto_commit {
        let _ = instance.commit_all().await;
    }
    let member_id = std::mem::take(&mut instance.state.borrow_mut().member_id);
    if member_id.is_empty() {
        return;
    }
    let member = LeavingMember {
        member_id,
        instance_id: None,
    };
    let group = instance.group.clone();
    // The group may know nothing of it.
    let _ = instance.groups.leave_group(group, vec![member]).await;
}
