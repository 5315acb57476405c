//! A small blocking Kafka client, for the commands and the tests. It retries nothing by itself but what
//! `producer` and `offsets` say that they retry.
//!
//! - here: a cluster's metadata, and the connections to its brokers; `connection`: one of them; `call`: the
//!   requests that it may carry.
//! - `producer`: batches on their way to the leaders of their partitions, each exactly once.
//! - `offsets`: ListOffsets, asked of every leader; `fetch`: requests for records.
//! - `log_dirs`: what the disks hold; `http`: what a broker tells over HTTP, such as its metrics.
//! - `records`: records to batches, and batches out of a reply.
//! - `error`: what can go wrong, and error codes for people to read.

pub mod call;
mod connection;
mod error;
pub mod fetch;
pub mod http;
pub mod log_dirs;
pub mod offsets;
pub mod producer;
pub mod records;

pub use self::connection::{Connection, decode, encode_frame};
pub use self::error::{Error, Result, check, kafka_error, kafka_error_with};

use crate::kafka::data::metadata::{self, Partition};
use crate::kafka::error::ErrorCode;
use std::collections::{BTreeMap, HashMap};
use std::thread::sleep;
use std::time::{Duration, Instant};
use uuid::Uuid;

const DEFAULT_PORT: u16 = 9092;
/// How long a broker is asked to try, in milliseconds: less than the 30 s that a reply may take, so that
/// the broker's own account of what took so long arrives.
pub const REQUEST_TIMEOUT_MS: i32 = 25_000;
/// Between two looks for a topic that is being created.
const TOPIC_PAUSE: Duration = Duration::from_millis(50);

/// A topic as Metadata describes it.
#[derive(Clone, Debug, Default)]
pub struct Topic {
    /// Its name (empty if the broker did not say).
    pub name: String,
    /// Its id; nil before Kafka 2.8.
    pub id: Uuid,
    /// Whether it is one of the broker's own.
    pub internal: bool,
    /// `None` if there is nothing wrong with the topic.
    pub error: ErrorCode,
    /// In ascending order of their index; one without a leader has -1 as its.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// The node that leads partition `index`, if it exists and has one.
    pub fn leader_of(&self, index: i32) -> Option<i32> {
        let at = self
            .partitions
            .binary_search_by_key(&index, |partition| partition.index)
            .ok()?;
        Some(self.partitions[at].leader_id).filter(|&leader| leader >= 0)
    }
}

/// Connections to one cluster, made when first needed and again after they broke.
#[derive(Debug)]
pub struct Client {
    bootstrap: Vec<String>,
    entry: Option<Connection>,
    brokers: BTreeMap<i32, String>,
    controller: i32,
    connections: HashMap<i32, Connection>,
}

impl Client {
    /// Connects to the first of these addresses that answers: `host:port`, several with commas between them.
    pub fn connect(bootstrap: &str) -> Result<Client> {
        let bootstrap = bootstrap
            .split(',')
            .map(|address| with_port(address.trim()))
            .collect();
        let mut client = Client {
            bootstrap,
            entry: None,
            brokers: BTreeMap::new(),
            controller: -1,
            connections: HashMap::new(),
        };
        client.any()?;
        Ok(client)
    }

    /// The address that the user gave.
    pub fn address(&self) -> String {
        self.bootstrap.join(",")
    }

    /// A connection to whichever broker answered first.
    pub fn any(&mut self) -> Result<&mut Connection> {
        let connection = match self
            .entry
            .take()
            .filter(|connection| !connection.is_broken())
        {
            Some(connection) => connection,
            None => self.enter()?,
        };
        Ok(self.entry.insert(connection))
    }

    fn enter(&self) -> Result<Connection> {
        let mut last = None;
        for address in &self.bootstrap {
            match Connection::open(address) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        let none = || Error::Unreachable {
            address: String::new(),
            why: std::io::Error::other("no address given"),
        };
        Err(last.unwrap_or_else(none))
    }

    /// A connection to broker `node`, which the last [`metadata`](Client::metadata) named.
    pub fn broker(&mut self, node: i32) -> Result<&mut Connection> {
        let address = self
            .brokers
            .get(&node)
            .ok_or(Error::NoSuchBroker { node })?;
        let known = self.connections.remove(&node);
        let known = known.filter(|connection| connection.leads_to(address));
        let connection = match known {
            Some(connection) => connection,
            None => Connection::open(address).map_err(|error| advertised(error, node))?,
        };
        Ok(self
            .connections
            .entry(node)
            .insert_entry(connection)
            .into_mut())
    }

    /// A connection to the controller, which creates and deletes topics; to any broker if none is
    /// known.
    pub fn controller(&mut self) -> Result<&mut Connection> {
        if self.brokers.is_empty() {
            self.metadata(Some(&[]), false)?;
        }
        let node = self.controller;
        if self.brokers.contains_key(&node) {
            self.broker(node)
        } else {
            self.any()
        }
    }

    /// The named topics, or all of them. With `create`, a broker that creates topics on first use
    /// does so. A topic that does not exist is returned with its error code.
    pub fn metadata<'n>(&mut self, names: Option<&[&'n str]>, create: bool) -> Result<Vec<Topic>> {
        let connection = self.any()?;
        let version = connection.version::<metadata::Request>(i16::MAX)?;
        let topic = |name: &&'n str| metadata::TopicRequest {
            name: Some(name),
            ..metadata::TopicRequest::default()
        };
        let request = metadata::Request {
            topics: names.map(|names| names.iter().map(topic).collect()),
            allow_auto_topic_creation: create || version < 4,
            ..metadata::Request::default()
        };
        let reply = connection.call_at(&request, version)?;
        check(reply.error_code, "Metadata")?;
        let brokers = reply.brokers.iter();
        let brokers = brokers.map(|b| (b.node_id, host_and_port(&b.host, b.port)));
        let (brokers, controller) = (brokers.collect(), reply.controller_id);
        let topics = reply.topics.into_iter().map(Topic::from).collect();
        (self.brokers, self.controller) = (brokers, controller);
        Ok(topics)
    }

    /// The topic called `name`, which must exist.
    pub fn topic(&mut self, name: &str) -> Result<Topic> {
        let topic = self.metadata(Some(&[name]), false)?.pop();
        self.usable(name, topic)
    }

    /// The topic called `name` once it exists and `is_ready`. With `create`, a broker that creates topics on
    /// first use does so.
    ///
    /// # Errors
    /// After `wait` the error of the last attempt; at once those that another attempt cannot mend.
    pub fn await_topic(
        &mut self,
        name: &str,
        create: bool,
        wait: Duration,
        is_ready: impl Fn(&Topic) -> bool,
    ) -> Result<Topic> {
        let deadline = Instant::now() + wait;
        loop {
            let topic = self.metadata(Some(&[name]), create)?.pop();
            let error = match self.usable(name, topic) {
                Ok(topic) if is_ready(&topic) => return Ok(topic),
                Ok(_) => Error::NotReady(name.to_owned()),
                Err(error) => error,
            };
            let may_pass = match &error {
                Error::NoTopic { .. } | Error::NotReady(_) => true,
                Error::Topic { code, .. } => code.is_retriable(),
                _ => false,
            };
            if !may_pass || Instant::now() > deadline {
                return Err(error);
            }
            sleep(TOPIC_PAUSE);
        }
    }

    /// `topic`, the answer to a question for `name`, if it exists and works.
    fn usable(&self, name: &str, topic: Option<Topic>) -> Result<Topic> {
        let name = name.to_owned();
        match topic {
            Some(topic) if !topic.error.is_error() => Ok(topic),
            Some(topic) if topic.error != ErrorCode::UnknownTopicOrPartition => Err(Error::Topic {
                name,
                code: topic.error,
            }),
            _ => Err(Error::NoTopic {
                name,
                address: self.address(),
            }),
        }
    }

    /// The brokers that the last [`metadata`](Client::metadata) named.
    pub fn nodes(&self) -> Vec<i32> {
        self.brokers.keys().copied().collect()
    }

    /// Where broker `node` is, if the last [`metadata`](Client::metadata) named it.
    pub fn address_of(&self, node: i32) -> Option<&str> {
        self.brokers.get(&node).map(String::as_str)
    }

    /// Takes the word of a reply other than Metadata's for where broker `node` is.
    pub fn learn_broker(&mut self, node: i32, host: &str, port: i32) {
        self.brokers.insert(node, host_and_port(host, port));
    }
}

impl From<metadata::Topic<'_>> for Topic {
    fn from(topic: metadata::Topic<'_>) -> Topic {
        let mut partitions = topic.partitions;
        partitions.sort_by_key(|partition| partition.index);
        Topic {
            name: topic.name.unwrap_or_default().into_owned(),
            id: topic.topic_id,
            internal: topic.is_internal,
            error: topic.error_code,
            partitions,
        }
    }
}

/// The same failure of an address that came from the cluster and not from the user.
fn advertised(error: Error, node: i32) -> Error {
    match error {
        Error::Unreachable { address, why } => Error::LeaderUnreachable { node, address, why },
        other => other,
    }
}

fn host_and_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Adds Kafka's usual port to an address without one.
fn with_port(address: &str) -> String {
    let after_host = address.rfind(']').map_or(address, |end| &address[end..]);
    let is_bare_v6 = !address.starts_with('[') && address.matches(':').count() > 1;
    match (is_bare_v6, after_host.contains(':')) {
        (true, _) => format!("[{address}]:{DEFAULT_PORT}"),
        (false, true) => address.to_owned(),
        (false, false) => format!("{address}:{DEFAULT_PORT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn addresses_without_a_port_get_kafkas() {
        assert_eq!(with_port("broker"), "broker:9092");
        assert_eq!(with_port("broker:1"), "broker:1");
        assert_eq!(with_port("::1"), "[::1]:9092");
        assert_eq!(with_port("[::1]"), "[::1]:9092");
        assert_eq!(with_port("[::1]:1"), "[::1]:1");
    }
}
