//! DescribeLogDirs: how much each topic takes on the brokers' disks, and how much room there is.

use super::{Client, Result, check};
use crate::kafka::admin::describe_log_dirs::{LogDir, PartitionResponse, Request};
use crate::kafka::error::ErrorCode;
use std::collections::BTreeMap;

/// A directory with logs, of one broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The broker whose directory it is.
    pub node: i32,
    /// Where it is on the broker's host.
    pub path: String,
    /// `None` if it can be used.
    pub error: ErrorCode,
    /// Size of its volume; `None` from brokers that do not say.
    pub total_bytes: Option<u64>,
    /// What the broker could still write to the volume; `None` from brokers that do not say.
    pub usable_bytes: Option<u64>,
    /// What each topic takes in it.
    pub topics: BTreeMap<String, u64>,
}

/// The directories of all brokers; the topics in them only if they are asked for.
pub fn describe(client: &mut Client, with_topics: bool) -> Result<Vec<Directory>> {
    client.metadata(Some(&[]), false)?;
    let mut all = Vec::new();
    for node in client.nodes() {
        // An empty list asks for no topic, none at all for every one.
        let request = Request {
            topics: (!with_topics).then(Vec::new),
        };
        let reply = client.broker(node)?.call(&request)?;
        check(reply.error_code, "DescribeLogDirs")?;
        all.extend(
            reply
                .results
                .into_iter()
                .map(|found| directory(node, found)),
        );
    }
    Ok(all)
}

fn directory(node: i32, found: LogDir<'_>) -> Directory {
    let known = |bytes: i64| u64::try_from(bytes).ok();
    let bytes_of = |partitions: &[PartitionResponse]| {
        let sizes = partitions.iter().filter_map(|p| known(p.size_bytes));
        sizes.sum::<u64>()
    };
    let topics = found.topics.iter();
    let topics = topics.map(|topic| (topic.name.to_string(), bytes_of(&topic.partitions)));
    Directory {
        node,
        topics: topics.collect(),
        path: found.log_dir.into_owned(),
        error: found.error_code,
        total_bytes: known(found.total_bytes),
        usable_bytes: known(found.usable_bytes),
    }
}
