//! What is asked of the brokers that coordinate groups.
//!
//! Answers come as Kafka's error code where the request as a whole was refused. Codes that pass,
//! such as those of a coordinator that has just started, are asked again for about two seconds.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail};
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetFetchResponse,
};

use super::TopicPartition;
use crate::client::codes::kafka_error;
use crate::client::{self, Client, Connection, text, topic_name};

const ATTEMPTS_MAX: u32 = 10;
const BACKOFF: Duration = Duration::from_millis(200);
/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR.
const PASSING: [i16; 3] = [14, 15, 16];
const GROUP_ID_NOT_FOUND: i16 = 69;
const DEAD: &str = "Dead";
/// The generation of a commit by somebody who is no member.
const NO_GENERATION: i32 = -1;
/// The first version of FindCoordinator that asks for many groups at once.
const FIND_COORDINATOR_WITH_KEYS: i16 = 4;
/// The first version of ListGroups that tells states and filters by them.
const LIST_GROUPS_WITH_STATES: i16 = 4;
/// The first version of OffsetFetch that can ask for all partitions.
const OFFSET_FETCH_OF_ALL: i16 = 2;
/// The first version of OffsetFetch that asks for many groups at once.
const OFFSET_FETCH_WITH_GROUPS: i16 = 8;

/// What was asked for, or the error code of the whole answer.
pub type Answer<T> = Result<T, i16>;

/// A group as ListGroups tells of it; what the broker does not say is empty.
#[derive(Debug)]
pub struct Listed {
    pub name: String,
    pub state: String,
    pub kind: String,
    pub protocol_type: String,
}

/// All groups of all brokers; with `states`, those in one of them.
pub fn list(client: &mut Client, states: &[&str]) -> anyhow::Result<Vec<Listed>> {
    client.metadata(Some(&[]), false)?;
    let mut groups = Vec::new();
    for node in client.nodes() {
        let answer = patiently(|| list_of(client.broker(node)?, states))?;
        match answer {
            Ok(listed) => groups.extend(listed),
            Err(code) => bail!(
                "cannot list the groups of broker {node}: {}",
                kafka_error(code)
            ),
        }
    }
    Ok(groups)
}

fn list_of(connection: &mut Connection, states: &[&str]) -> anyhow::Result<Answer<Vec<Listed>>> {
    let version = connection.version::<ListGroupsRequest>(i16::MAX)?;
    if version < LIST_GROUPS_WITH_STATES && !states.is_empty() {
        bail!("the broker does not tell the states of groups: leave --state out");
    }
    let states = states.iter().map(|state| text(state)).collect();
    let request = ListGroupsRequest::default().with_states_filter(states);
    let reply = connection.call_at(&request, version)?;
    let listed = reply.groups.into_iter().map(|group| Listed {
        name: group.group_id.0.to_string(),
        state: group.group_state.to_string(),
        kind: group.group_type.to_string(),
        protocol_type: group.protocol_type.to_string(),
    });
    Ok(unless(reply.error_code, listed.collect()))
}

/// The group's state and members; None if there is no such group.
pub fn describe(
    client: &mut Client,
    group: &str,
) -> anyhow::Result<Answer<Option<DescribedGroup>>> {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    ask(client, group, |connection| {
        let mut reply = connection.call(&request)?;
        let described = reply.groups.pop();
        let described = described.context("the broker's reply describes no group")?;
        Ok(match described.error_code {
            GROUP_ID_NOT_FOUND => Ok(None),
            0 if *described.group_state == *DEAD => Ok(None),
            code => unless(code, Some(described)),
        })
    })
}

/// Every offset that the group has committed.
pub fn committed(
    client: &mut Client,
    group: &str,
) -> anyhow::Result<Answer<BTreeMap<TopicPartition, i64>>> {
    ask(client, group, |connection| {
        let version = connection.version::<OffsetFetchRequest>(i16::MAX)?;
        if version < OFFSET_FETCH_OF_ALL {
            bail!("the broker does not tell all offsets of a group, which this command needs");
        }
        let request = if version >= OFFSET_FETCH_WITH_GROUPS {
            let of_group = OffsetFetchRequestGroup::default()
                .with_group_id(group_id(group))
                .with_member_epoch(-1)
                .with_topics(None);
            OffsetFetchRequest::default().with_groups(vec![of_group])
        } else {
            OffsetFetchRequest::default()
                .with_group_id(group_id(group))
                .with_topics(None)
        };
        let reply = connection.call_at(&request, version)?;
        Ok(offsets_of(reply))
    })
}

/// The offsets in a reply of any version.
fn offsets_of(mut reply: OffsetFetchResponse) -> Answer<BTreeMap<TopicPartition, i64>> {
    let mut found = Vec::new();
    let mut code = reply.error_code;
    if let Some(group) = reply.groups.pop() {
        code = group.error_code;
        for topic in group.topics {
            let of = |p: &OffsetFetchResponsePartitions| {
                (p.partition_index, p.committed_offset, p.error_code)
            };
            found.push((
                topic.name,
                topic.partitions.iter().map(of).collect::<Vec<_>>(),
            ));
        }
    }
    for topic in reply.topics {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|p| (p.partition_index, p.committed_offset, p.error_code));
        found.push((topic.name, partitions.collect()));
    }
    let mut offsets = BTreeMap::new();
    for (topic, partitions) in found {
        for (partition, offset, error) in partitions {
            code = if code == 0 { error } else { code };
            if offset >= 0 {
                offsets.insert((topic.0.to_string(), partition), offset);
            }
        }
    }
    unless(code, offsets)
}

/// Commits `offsets` for a group without members; the code of each partition.
pub fn commit(
    client: &mut Client,
    group: &str,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> anyhow::Result<Answer<BTreeMap<TopicPartition, i16>>> {
    let topic = |(name, partitions): (String, Vec<(i32, i64)>)| {
        let partition = |(index, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text("")))
        };
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    let offsets = offsets.iter().map(|((t, p), offset)| (t, (*p, *offset)));
    let request = OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(NO_GENERATION)
        .with_retention_time_ms(-1)
        .with_topics(by_topic(offsets).into_iter().map(topic).collect());
    ask(client, group, |connection| {
        let reply = connection.call(&request)?;
        let topics = reply.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter();
            let codes = partitions.map(|p| (p.partition_index, p.error_code));
            (topic.name.0.to_string(), codes.collect())
        });
        Ok(codes_of(topics))
    })
}

/// Deletes a group without members.
pub fn delete(client: &mut Client, group: &str) -> anyhow::Result<Answer<()>> {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
    ask(client, group, |connection| {
        let reply = connection.call(&request)?;
        let result = reply.results.first();
        let result = result.context("the broker's reply names no group")?;
        Ok(unless(result.error_code, ()))
    })
}

/// Deletes committed offsets; the code of each partition.
pub fn delete_offsets(
    client: &mut Client,
    group: &str,
    partitions: &[TopicPartition],
) -> anyhow::Result<Answer<BTreeMap<TopicPartition, i16>>> {
    let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
    let topic = |(name, partitions): (String, Vec<i32>)| {
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    let topics = by_topic(partitions.iter().map(|(topic, p)| (topic, *p)));
    let request = OffsetDeleteRequest::default()
        .with_group_id(group_id(group))
        .with_topics(topics.into_iter().map(topic).collect());
    ask(client, group, |connection| {
        let reply = connection.call(&request)?;
        let topics = reply.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter();
            let codes = partitions.map(|p| (p.partition_index, p.error_code));
            (topic.name.0.to_string(), codes.collect())
        });
        Ok(unless(reply.error_code, ()).and_then(|()| codes_of(topics)))
    })
}

/// Asks the coordinator of `group`, again if its answer may pass.
fn ask<T>(
    client: &mut Client,
    group: &str,
    mut question: impl FnMut(&mut Connection) -> anyhow::Result<Answer<T>>,
) -> anyhow::Result<Answer<T>> {
    patiently(|| match find(client, group)? {
        Ok(node) => question(client.broker(node)?),
        Err(code) => Ok(Err(code)),
    })
}

fn patiently<T>(
    mut question: impl FnMut() -> anyhow::Result<Answer<T>>,
) -> anyhow::Result<Answer<T>> {
    for _ in 1..ATTEMPTS_MAX {
        match question()? {
            Err(code) if PASSING.contains(&code) => sleep(BACKOFF),
            answer => return Ok(answer),
        }
    }
    question()
}

/// The node that coordinates `group`, made known to `client`.
fn find(client: &mut Client, group: &str) -> client::Result<Answer<i32>> {
    let connection = client.any()?;
    let version = connection.version::<FindCoordinatorRequest>(i16::MAX)?;
    let request = if version >= FIND_COORDINATOR_WITH_KEYS {
        FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)])
    } else {
        FindCoordinatorRequest::default().with_key(text(group))
    };
    let mut reply = connection.call_at(&request, version)?;
    let (code, node, host, port) = match reply.coordinators.pop() {
        Some(found) => (found.error_code, found.node_id, found.host, found.port),
        None => (reply.error_code, reply.node_id, reply.host, reply.port),
    };
    if code == 0 {
        client.learn_broker(node.0, &host, port);
    }
    Ok(unless(code, node.0))
}

/// The code of each partition, or one of them if it may pass.
fn codes_of(
    topics: impl Iterator<Item = (String, Vec<(i32, i16)>)>,
) -> Answer<BTreeMap<TopicPartition, i16>> {
    let mut codes = BTreeMap::new();
    for (topic, partitions) in topics {
        for (partition, code) in partitions {
            if PASSING.contains(&code) {
                return Err(code);
            }
            codes.insert((topic.clone(), partition), code);
        }
    }
    Ok(codes)
}

/// `things` of topics, gathered by topic.
fn by_topic<'a, T>(things: impl Iterator<Item = (&'a String, T)>) -> BTreeMap<String, Vec<T>> {
    let mut topics = BTreeMap::<_, Vec<_>>::new();
    for (topic, thing) in things {
        topics.entry(topic.clone()).or_default().push(thing);
    }
    topics
}

fn unless<T>(code: i16, value: T) -> Answer<T> {
    match code {
        0 => Ok(value),
        code => Err(code),
    }
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{codes_of, patiently};

    #[test]
    fn a_code_that_passes_is_asked_again_and_any_other_is_the_answer() {
        let mut answers = vec![Ok("here"), Err(16), Err(14)];
        let answer = patiently(|| Ok(answers.pop().expect("not asked again")));
        assert_eq!(answer.expect("no failure"), Ok("here"));
        let mut asked = 0;
        let refused = patiently(|| {
            asked += 1;
            Ok(Err::<(), _>(30))
        });
        assert_eq!((refused.expect("no failure"), asked), (Err(30), 1));
    }

    #[test]
    fn a_partition_that_must_wait_makes_all_wait() {
        let topic = |codes: &[(i32, i16)]| vec![("t".to_owned(), codes.to_vec())].into_iter();
        let kept = BTreeMap::from([(("t".to_owned(), 0), 0), (("t".to_owned(), 1), 3)]);
        assert_eq!(codes_of(topic(&[(0, 0), (1, 3)])), Ok(kept));
        assert_eq!(codes_of(topic(&[(0, 3), (1, 16)])), Err(16));
    }
}
