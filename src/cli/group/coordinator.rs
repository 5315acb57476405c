//! What is asked of the brokers that coordinate groups.
//!
//! Error codes that pass, such as those of a coordinator that has just started, are asked again for about
//! two seconds.

use super::TopicPartition;
use crate::cli::exit::Failure;
use crate::client::{self, Client, Connection, kafka_error};
use crate::kafka::error::ErrorCode;
use crate::kafka::group::{
    delete_groups, describe_groups, find_coordinator, list_groups, offset_commit, offset_delete,
    offset_fetch,
};
use crate::kafka::topics::{PartitionCode, TopicRequest, TopicResponse};
use anyhow::{Context, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

const ATTEMPTS_MAX: u32 = 10;
const BACKOFF: Duration = Duration::from_millis(200);
const PASSING: [ErrorCode; 3] = [
    ErrorCode::CoordinatorLoadInProgress,
    ErrorCode::CoordinatorNotAvailable,
    ErrorCode::NotCoordinator,
];
const DEAD: &str = "Dead";
/// The first version of ListGroups with states, and a filter by them.
const LIST_GROUPS_WITH_STATES: i16 = 4;
/// The first version of OffsetFetch that can ask for all partitions.
const OFFSET_FETCH_OF_ALL: i16 = 2;

/// The answer, or the error code of all of it.
type Answer<T> = Result<T, ErrorCode>;
type Codes = BTreeMap<TopicPartition, ErrorCode>;

/// A group as ListGroups and `--json` show it.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub group: String,
    /// None from brokers before Kafka 2.6.
    pub state: Option<String>,
    /// `classic`, `consumer` and so on; None before Kafka 3.8.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub protocol_type: String,
}

/// All groups of all brokers; with `states`, those in one of them.
pub fn list(client: &mut Client, states: &[&str]) -> anyhow::Result<Vec<Listed>> {
    client.metadata(Some(&[]), false)?;
    let mut groups = Vec::new();
    for node in client.nodes() {
        let what = format!("list the groups of broker {node}");
        groups.extend(patiently(&what, || list_of(client.broker(node)?, states))?);
    }
    Ok(groups)
}

fn list_of(connection: &mut Connection, states: &[&str]) -> anyhow::Result<Answer<Vec<Listed>>> {
    let version = connection.version::<list_groups::Request>(i16::MAX)?;
    if version < LIST_GROUPS_WITH_STATES && !states.is_empty() {
        bail!("the broker does not tell the states of groups: leave --state out");
    }
    let request = list_groups::Request {
        states_filter: states.to_vec(),
        types_filter: Vec::new(),
    };
    let reply = connection.call_at(&request, version)?;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let groups = reply.groups.iter().map(|group| Listed {
        group: group.group_id.to_string(),
        state: given(&group.group_state),
        kind: given(&group.group_type),
        protocol_type: group.protocol_type.to_string(),
    });
    Ok(unless(reply.error_code, groups.collect()))
}

/// What `read` takes of the group's description; None if there is no such group.
pub fn describe<T>(
    client: &mut Client,
    group: &str,
    read: impl Fn(&describe_groups::Group<'_>) -> T,
) -> anyhow::Result<Option<T>> {
    let request = describe_groups::Request {
        groups: vec![group],
        ..describe_groups::Request::default()
    };
    let what = format!("describe group {group}");
    ask(client, group, &what, |connection| {
        let reply = connection.call(&request)?;
        let described = reply.groups.first();
        let described = described.context("the broker's reply describes no group")?;
        Ok(match described.error_code {
            ErrorCode::GroupIdNotFound => Ok(None),
            ErrorCode::None if described.group_state == DEAD => Ok(None),
            code => unless(code, Some(read(described))),
        })
    })
}

/// Every offset that the group has committed.
pub fn committed(
    client: &mut Client,
    group: &str,
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    // A version writes what it has of both forms.
    let request = offset_fetch::Request {
        group_id: group,
        groups: vec![offset_fetch::GroupRequest {
            group_id: group,
            ..offset_fetch::GroupRequest::default()
        }],
        ..offset_fetch::Request::default()
    };
    let what = format!("read the offsets of group {group}");
    ask(client, group, &what, |connection| {
        let version = connection.version::<offset_fetch::Request>(i16::MAX)?;
        if version < OFFSET_FETCH_OF_ALL {
            bail!("the broker does not tell all offsets of a group, which this command needs");
        }
        Ok(offsets_of(connection.call_at(&request, version)?))
    })
}

/// The offsets in a reply of any version.
fn offsets_of(mut reply: offset_fetch::Response<'_>) -> Answer<BTreeMap<TopicPartition, i64>> {
    let of_group = reply.groups.pop().unwrap_or_default();
    let codes = [reply.error_code, of_group.error_code];
    let mut offsets = BTreeMap::new();
    let mut first_error = codes.into_iter().find(|code| code.is_error());
    for topic in reply.topics.into_iter().chain(of_group.topics) {
        for partition in topic.partitions {
            let error = Some(partition.error_code).filter(|code| code.is_error());
            first_error = first_error.or(error);
            if partition.committed_offset >= 0 {
                let key = (topic.name.to_string(), partition.index);
                offsets.insert(key, partition.committed_offset);
            }
        }
    }
    first_error.map_or(Ok(offsets), Err)
}

/// Commits `offsets` for a group without members; the code of each partition.
pub fn commit(
    client: &mut Client,
    group: &str,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> anyhow::Result<Codes> {
    let partitions = offsets.iter().map(|((topic, index), offset)| {
        let partition = offset_commit::PartitionRequest {
            index: *index,
            committed_offset: *offset,
            committed_metadata: Some(""),
            ..offset_commit::PartitionRequest::default()
        };
        (topic.as_str(), partition)
    });
    let request = offset_commit::Request {
        group_id: group,
        topics: by_topic(partitions),
        ..offset_commit::Request::default()
    };
    let what = format!("commit offsets of group {group}");
    ask(client, group, &what, |connection| {
        Ok(codes_of(&connection.call(&request)?.topics))
    })
}

/// Deletes a group without members.
pub fn delete(client: &mut Client, group: &str) -> anyhow::Result<()> {
    let request = delete_groups::Request {
        groups: vec![group],
    };
    let what = format!("delete group {group}");
    ask(client, group, &what, |connection| {
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
) -> anyhow::Result<Codes> {
    let partitions = partitions.iter().map(|(topic, p)| (topic.as_str(), *p));
    let request = offset_delete::Request {
        group_id: group,
        topics: by_topic(partitions),
    };
    let what = format!("delete offsets of group {group}");
    ask(client, group, &what, |connection| {
        let reply = connection.call(&request)?;
        Ok(unless(reply.error_code, ()).and_then(|()| codes_of(&reply.topics)))
    })
}

/// Asks the coordinator of `group` to do `what`, again if its answer may pass.
fn ask<T>(
    client: &mut Client,
    group: &str,
    what: &str,
    mut question: impl FnMut(&mut Connection) -> anyhow::Result<Answer<T>>,
) -> anyhow::Result<T> {
    patiently(what, || match find(client, group)? {
        Ok(node) => question(client.broker(node)?),
        Err(code) => Ok(Err(code)),
    })
}

fn patiently<T>(
    what: &str,
    mut question: impl FnMut() -> anyhow::Result<Answer<T>>,
) -> anyhow::Result<T> {
    let mut attempt = 1;
    loop {
        match question()? {
            Ok(answer) => return Ok(answer),
            Err(code) if PASSING.contains(&code) && attempt < ATTEMPTS_MAX => sleep(BACKOFF),
            Err(code) => {
                let why = format!("cannot {what}: {}", kafka_error(code));
                return Err(Failure::refused(code, why).into());
            }
        }
        attempt += 1;
    }
}

/// The node that coordinates `group`, made known to `client`.
fn find(client: &mut Client, group: &str) -> client::Result<Answer<i32>> {
    // A version writes the one that it has.
    let request = find_coordinator::Request {
        key: group,
        coordinator_keys: vec![group],
        ..find_coordinator::Request::default()
    };
    let reply = client.any()?.call(&request)?;
    let (code, node, host, port) = match reply.coordinators.first() {
        Some(found) => (found.error_code, found.node_id, &found.host, found.port),
        None => (reply.error_code, reply.node_id, &reply.host, reply.port),
    };
    let host = host.to_string();
    if !code.is_error() {
        client.learn_broker(node, &host, port);
    }
    Ok(unless(code, node))
}

/// The code of each partition, or one of them if it may pass.
fn codes_of(topics: &[TopicResponse<'_, PartitionCode>]) -> Answer<Codes> {
    let mut codes = Codes::new();
    for topic in topics {
        for partition in &topic.partitions {
            if PASSING.contains(&partition.error_code) {
                return Err(partition.error_code);
            }
            let key = (topic.name.to_string(), partition.index);
            codes.insert(key, partition.error_code);
        }
    }
    Ok(codes)
}

/// Partitions of topics, gathered by topic.
fn by_topic<'a, P>(partitions: impl Iterator<Item = (&'a str, P)>) -> Vec<TopicRequest<'a, P>> {
    let mut topics = BTreeMap::<_, Vec<_>>::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(partition);
    }
    let topics = topics.into_iter();
    let request = |(name, partitions)| TopicRequest { name, partitions };
    topics.map(request).collect()
}

fn unless<T>(code: ErrorCode, value: T) -> Answer<T> {
    if code.is_error() {
        Err(code)
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_passes_is_asked_again_and_any_other_is_the_answer() {
        let mut answers = vec![
            Ok("here"),
            Err(ErrorCode::NotCoordinator),
            Err(ErrorCode::CoordinatorLoadInProgress),
        ];
        let answer = patiently("ask", || Ok(answers.pop().expect("not asked again")));
        assert_eq!(answer.expect("no failure"), "here");
        let mut asked = 0;
        let refused = patiently("ask", || {
            asked += 1;
            Ok(Err::<(), _>(ErrorCode::GroupAuthorizationFailed))
        });
        let refused = refused.expect_err("refused").to_string();
        assert!(refused.starts_with("cannot ask: "), "{refused}");
        assert!(refused.contains("code 30"), "{refused}");
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_partition_that_must_wait_makes_all_wait() {
        let of = |codes: [ErrorCode; 2]| {
            let code = |(index, error_code)| PartitionCode { index, error_code };
            let topic = TopicResponse {
                name: "t".into(),
                partitions: (0..).zip(codes).map(code).collect(),
            };
            codes_of(&[topic])
        };
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let kept = [(0, ErrorCode::None), (1, unknown)];
        let kept = kept.map(|(index, code)| (("t".to_owned(), index), code));
        assert_eq!(of([ErrorCode::None, unknown]), Ok(kept.into()));
        let passing = ErrorCode::NotCoordinator;
        assert_eq!(of([unknown, passing]), Err(passing));
    }
}
