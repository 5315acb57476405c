//! A small blocking Kafka client: connections, version negotiation, metadata.
//!
//! One request at a time per connection, or several sent before their replies are read in the same
//! order. The broker is trusted with its own data but not with this process's memory: a reply's
//! claimed size is bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
use uuid::Uuid;

use crate::cli::words;

const CLIENT_ID: &str = "millstream-cli";
const DEFAULT_PORT: u16 = 9092;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a broker is asked to try, in milliseconds: less than [`REPLY_TIMEOUT`], so that its own
/// account of what took so long arrives.
pub const REQUEST_TIMEOUT_MS: i32 = 25_000;
/// The largest reply taken: far above any limit of a fetch, far below a size that hurts.
const REPLY_BYTES_MAX: usize = 256 << 20;
/// What is reserved on a reply's word alone; the rest grows as bytes arrive.
const REPLY_BYTES_RESERVED_MAX: usize = 16 << 20;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;

/// Where the broker is: shared by all commands that need one.
#[derive(Clone, Debug, clap::Args)]
pub struct BrokerArgs {
    /// The broker's address; several with commas between them are tried in turn
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "MILLSTREAM_BOOTSTRAP",
        default_value = "127.0.0.1:9092"
    )]
    pub bootstrap: String,
}

/// What can go wrong between this client and a broker, before any error code of the protocol.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made to the address that the user gave.
    #[error(
        "no broker answers at {address}: {why}. Is it running? Start one with `millstream serve`, \
         or name another with --bootstrap"
    )]
    Unreachable { address: String, why: String },
    /// No connection could be made to the address that a broker gave.
    #[error(
        "broker {node} is advertised at {address}, which does not answer: {why}. Is that address \
         right for clients? It is what the broker is configured to advertise"
    )]
    LeaderUnreachable {
        node: i32,
        address: String,
        why: String,
    },
    /// A connection broke.
    #[error("the connection to the broker at {address} was lost during {api}: {why}")]
    Lost {
        address: String,
        api: &'static str,
        why: String,
    },
    /// The other side speaks something else.
    #[error("what answers at {address} does not speak Kafka's protocol: {why}")]
    NotKafka { address: String, why: String },
    /// A reply to something else, of a hurtful size, or that cannot be decoded.
    #[error("the broker at {address} sent a reply to {api} that cannot be used: {why}")]
    BadReply {
        address: String,
        api: &'static str,
        why: String,
    },
    /// A request that its version cannot express: a mistake in this client.
    #[error("cannot write a {api} request of version {version}: {why}")]
    BadRequest {
        api: &'static str,
        version: i16,
        why: String,
    },
    /// The API is not among those that the broker advertises.
    #[error("the broker at {address} does not serve {api}, which this command needs")]
    NoApi { address: String, api: &'static str },
    /// The API is, but in no version that this client knows.
    #[error(
        "the broker at {address} serves {api} in versions {theirs} and this client knows {ours}: \
         one of the two is too old"
    )]
    NoVersion {
        address: String,
        api: &'static str,
        theirs: String,
        ours: String,
    },
    /// The reply carries an error code for the whole request.
    #[error("{api} failed: {}", words::kafka_error(*code))]
    Kafka { api: &'static str, code: i16 },
    /// There is no such topic.
    #[error(
        "topic {name} does not exist at {address}. `millstream topic list` shows those that do, \
         `millstream topic create {name}` makes it"
    )]
    NoTopic { name: String, address: String },
    /// There is something wrong with the topic.
    #[error("topic {name} cannot be used: {}", words::kafka_error(*code))]
    Topic { name: String, code: i16 },
    /// No broker of that id is known.
    #[error("broker {node} leads a partition but is not among the brokers of the cluster")]
    NoSuchBroker { node: i32 },
}

impl Error {
    /// Whether a new connection may do better.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. } | Error::LeaderUnreachable { .. } | Error::Lost { .. }
        )
    }
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// A topic as Metadata describes it.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name (empty if the broker did not say).
    pub name: String,
    /// Its id; nil before Kafka 2.8.
    pub id: Uuid,
    /// Whether it is one of the broker's own.
    pub internal: bool,
    /// Kafka's error code: 0 if there is nothing wrong with the topic.
    pub error: i16,
    /// In ascending order of their index.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// The node that leads partition `index`, if it exists and has one.
    pub fn leader_of(&self, index: i32) -> Option<i32> {
        let at = self
            .partitions
            .binary_search_by_key(&index, |partition| partition.index)
            .ok()?;
        Some(self.partitions[at].leader).filter(|&leader| leader >= 0)
    }
}

/// A partition as Metadata describes it.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its number, from 0.
    pub index: i32,
    /// The node that leads it, or -1.
    pub leader: i32,
    /// The nodes that hold it.
    pub replicas: Vec<i32>,
    /// Those that are in sync.
    pub in_sync: Vec<i32>,
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
    /// Connects to the first address of `args` that answers.
    pub fn connect(args: &BrokerArgs) -> Result<Client> {
        let bootstrap = args
            .bootstrap
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
        let connection = match self.entry.take().filter(|connection| !connection.broken) {
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
            why: "no address given".into(),
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
        let known = known.filter(|connection| !connection.broken && connection.address == *address);
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
    pub fn metadata(&mut self, names: Option<&[&str]>, create: bool) -> Result<Vec<Topic>> {
        let connection = self.any()?;
        let version = connection.version::<MetadataRequest>(i16::MAX)?;
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(names.map(|names| names.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(create || version < 4);
        let reply = connection.call_at(&request, version)?;
        check(reply.error_code, "Metadata")?;
        Ok(self.learn(reply))
    }

    /// The topic called `name`, which must exist.
    pub fn topic(&mut self, name: &str) -> Result<Topic> {
        let topic = self.metadata(Some(&[name]), false)?.pop();
        self.usable(name, topic)
    }

    /// `topic`, the answer to a question for `name`, if it exists and works.
    pub fn usable(&self, name: &str, topic: Option<Topic>) -> Result<Topic> {
        let name = name.to_owned();
        match topic {
            Some(topic) if topic.error == 0 => Ok(topic),
            Some(topic) if topic.error != UNKNOWN_TOPIC_OR_PARTITION => Err(Error::Topic {
                name,
                code: topic.error,
            }),
            _ => Err(Error::NoTopic {
                name,
                address: self.address(),
            }),
        }
    }

    fn learn(&mut self, reply: MetadataResponse) -> Vec<Topic> {
        let address = |host: &str, port: i32| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let brokers = reply.brokers.iter();
        self.brokers = brokers
            .map(|b| (b.node_id.0, address(&b.host, b.port)))
            .collect();
        self.controller = reply.controller_id.0;
        reply.topics.into_iter().map(Topic::from).collect()
    }
}

impl From<MetadataResponseTopic> for Topic {
    fn from(topic: MetadataResponseTopic) -> Topic {
        let mut partitions: Vec<_> = topic.partitions.into_iter().map(Partition::from).collect();
        partitions.sort_by_key(|partition| partition.index);
        Topic {
            name: topic
                .name
                .map(|name| name.0.to_string())
                .unwrap_or_default(),
            id: topic.topic_id,
            internal: topic.is_internal,
            error: topic.error_code,
            partitions,
        }
    }
}

impl From<MetadataResponsePartition> for Partition {
    fn from(partition: MetadataResponsePartition) -> Partition {
        let nodes =
            |nodes: Vec<kafka_protocol::messages::BrokerId>| nodes.iter().map(|n| n.0).collect();
        Partition {
            index: partition.partition_index,
            leader: partition.leader_id.0,
            replicas: nodes(partition.replica_nodes),
            in_sync: nodes(partition.isr_nodes),
        }
    }
}

/// One connection to one broker, with the versions that it advertised.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    versions: HashMap<i16, (i16, i16)>,
    last_correlation_id: i32,
    unanswered: VecDeque<i32>,
    broken: bool,
}

impl Connection {
    /// Connects to `address` (`host:port`) and asks which versions are served there.
    fn open(address: &str) -> Result<Connection> {
        let stream = connect(address).map_err(|error| Error::Unreachable {
            address: address.to_owned(),
            why: io_words(&error),
        })?;
        let mut connection = Connection {
            stream,
            address: address.to_owned(),
            versions: HashMap::new(),
            last_correlation_id: 0,
            unanswered: VecDeque::new(),
            broken: false,
        };
        connection.negotiate()?;
        Ok(connection)
    }

    /// Whether the broker advertises this API at all.
    pub fn serves<R: Request>(&self) -> bool {
        self.versions.contains_key(&R::KEY)
    }

    /// The highest version of `R` that both sides know, and that is not above `at_most`.
    pub fn version<R: Request>(&self, at_most: i16) -> Result<i16> {
        let api = api_name::<R>();
        let address = || self.address.clone();
        let &(min, max) = self.versions.get(&R::KEY).ok_or_else(|| Error::NoApi {
            address: address(),
            api,
        })?;
        let ours_max = R::VERSIONS.max.min(R::Response::VERSIONS.max).min(at_most);
        let ours_min = R::VERSIONS.min.max(R::Response::VERSIONS.min);
        let version = max.min(ours_max);
        if version < min || version < ours_min {
            let theirs = format!("{min} to {max}");
            let ours = format!("{ours_min} to {ours_max}");
            return Err(Error::NoVersion {
                address: address(),
                api,
                theirs,
                ours,
            });
        }
        Ok(version)
    }

    /// Sends a request in the highest common version and waits for its reply.
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        let version = self.version::<R>(i16::MAX)?;
        self.call_at(request, version)
    }

    /// Sends a request in `version` and waits for its reply.
    pub fn call_at<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    /// Sends a request whose reply is to be [`receive`](Connection::receive)d later, in the order
    /// of the requests.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        self.send_unanswered(request, version)?;
        self.unanswered.push_back(self.last_correlation_id);
        Ok(())
    }

    /// Sends a request that has no reply: a Produce with `acks` 0.
    pub fn send_unanswered<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        self.last_correlation_id = self.last_correlation_id.wrapping_add(1);
        let frame = encode_frame(request, version, self.last_correlation_id)?;
        self.stream
            .write_all(&frame)
            .map_err(|error| self.lost(api_name::<R>(), &error))
    }

    /// Waits for the reply to the oldest request without one; `R` and `version` must be those with
    /// which it was sent.
    pub fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let api = api_name::<R>();
        let mut body = self.receive_frame(api)?;
        let reply = ResponseHeader::decode(&mut body, R::Response::header_version(version))
            .and_then(|_| R::Response::decode(&mut body, version));
        reply.map_err(|error| self.bad_reply(api, format!("{error:#}")))
    }

    /// Asks something small. The answer shows that the broker has read all that was sent before.
    pub fn round_trip(&mut self) -> Result<()> {
        self.negotiate()
    }

    fn negotiate(&mut self) -> Result<()> {
        let newest = ApiVersionsRequest::VERSIONS.max;
        let reply = match self.api_versions(newest)? {
            reply if reply.error_code == UNSUPPORTED_VERSION => {
                let listed = reply
                    .api_keys
                    .iter()
                    .find(|api| api.api_key == ApiVersionsRequest::KEY);
                let version = listed.map_or(0, |api| api.max_version.clamp(0, newest - 1));
                self.api_versions(version)?
            }
            reply => reply,
        };
        check(reply.error_code, "ApiVersions")?;
        let ranges = reply.api_keys.iter();
        self.versions = ranges
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        Ok(())
    }

    fn api_versions(&mut self, version: i16) -> Result<ApiVersionsResponse> {
        let api = "ApiVersions";
        let request = match version {
            0..3 => ApiVersionsRequest::default(),
            _ => ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(CLIENT_ID))
                .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION"))),
        };
        self.send(&request, version)?;
        let mut body = self.receive_frame(api)?;
        body.advance(size_of::<i32>());
        // A broker that does not know the version says so in a reply of version 0.
        let refused = body.starts_with(&UNSUPPORTED_VERSION.to_be_bytes());
        let version = if refused { 0 } else { version };
        let reply = ApiVersionsResponse::decode(&mut body, version);
        reply.map_err(|error| self.bad_reply(api, format!("{error:#}")))
    }

    /// The next frame, from its correlation id on.
    fn receive_frame(&mut self, api: &'static str) -> Result<Bytes> {
        let mut size = [0; 4];
        self.stream
            .read_exact(&mut size)
            .map_err(|error| self.lost(api, &error))?;
        let bytes = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if !(size_of::<i32>()..=REPLY_BYTES_MAX).contains(&bytes) {
            return Err(self.absurd_size(api, size));
        }
        let mut frame = Vec::with_capacity(bytes.min(REPLY_BYTES_RESERVED_MAX));
        let read = (&self.stream).take(bytes as u64).read_to_end(&mut frame);
        match read {
            Ok(read) if read == bytes => {}
            Ok(_) => return Err(self.lost(api, &ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(self.lost(api, &error)),
        }
        let correlation_id = (&frame[..]).get_i32();
        self.check_correlation(api, correlation_id)?;
        Ok(frame.into())
    }

    fn check_correlation(&mut self, api: &'static str, id: i32) -> Result<()> {
        match self.unanswered.pop_front() {
            Some(awaited) if awaited == id => Ok(()),
            _ => Err(self.bad_reply(
                api,
                format!("it answers request {id}, which is not its turn"),
            )),
        }
    }

    fn absurd_size(&mut self, api: &'static str, size: [u8; 4]) -> Error {
        self.broken = true;
        let address = self.address.clone();
        let text = size.escape_ascii();
        if self.versions.is_empty() {
            return Error::NotKafka {
                address,
                why: format!("its answer begins with \"{text}\""),
            };
        }
        let why = format!(
            "it claims {} bytes; at most {REPLY_BYTES_MAX} are taken",
            i32::from_be_bytes(size)
        );
        Error::BadReply { address, api, why }
    }

    fn bad_reply(&mut self, api: &'static str, why: String) -> Error {
        self.broken = true;
        Error::BadReply {
            address: self.address.clone(),
            api,
            why,
        }
    }

    fn lost(&mut self, api: &'static str, error: &io::Error) -> Error {
        self.broken = true;
        Error::Lost {
            address: self.address.clone(),
            api,
            why: io_words(error),
        }
    }
}

/// Fails if `code`, which concerns a whole request, is not 0.
pub fn check(code: i16, api: &'static str) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(Error::Kafka { api, code })
    }
}

/// `name` as the codec wants it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// `text` as the codec wants it.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn encode_frame<R: Request>(request: &R, version: i16, correlation_id: i32) -> Result<BytesMut> {
    let api = api_name::<R>();
    let bad = |error: anyhow::Error| Error::BadRequest {
        api,
        version,
        why: format!("{error:#}"),
    };
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header
        .encode(&mut frame, R::header_version(version))
        .map_err(bad)?;
    request.encode(&mut frame, version).map_err(bad)?;
    let bytes = i32::try_from(frame.len() - 4);
    let bytes = bytes.map_err(|_| bad(anyhow::anyhow!("it has {} bytes", frame.len())))?;
    frame[..4].copy_from_slice(&bytes.to_be_bytes());
    Ok(frame)
}

fn api_name<R: Request>() -> &'static str {
    match ApiKey::try_from(R::KEY) {
        Ok(ApiKey::ApiVersions) => "ApiVersions",
        Ok(ApiKey::Metadata) => "Metadata",
        Ok(ApiKey::Produce) => "Produce",
        Ok(ApiKey::Fetch) => "Fetch",
        Ok(ApiKey::ListOffsets) => "ListOffsets",
        Ok(ApiKey::CreateTopics) => "CreateTopics",
        Ok(ApiKey::DeleteTopics) => "DeleteTopics",
        Ok(ApiKey::CreatePartitions) => "CreatePartitions",
        Ok(ApiKey::DescribeConfigs) => "DescribeConfigs",
        Ok(ApiKey::IncrementalAlterConfigs) => "IncrementalAlterConfigs",
        Ok(ApiKey::InitProducerId) => "InitProducerId",
        _ => "a request",
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for socket_address in address.to_socket_addrs()? {
        match connect_to(&socket_address) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_to(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    Ok(stream)
}

/// The same failure, told of an address that came from the cluster and not from the user.
fn advertised(error: Error, node: i32) -> Error {
    match error {
        Error::Unreachable { address, why } => Error::LeaderUnreachable { node, address, why },
        other => other,
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

fn io_words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "the broker reset it".to_owned(),
        ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => "the broker closed it".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::{BrokerArgs, Client, Error, with_port};

    #[test]
    fn addresses_without_a_port_get_kafkas() {
        assert_eq!(with_port("broker"), "broker:9092");
        assert_eq!(with_port("broker:1"), "broker:1");
        assert_eq!(with_port("::1"), "[::1]:9092");
        assert_eq!(with_port("[::1]"), "[::1]:9092");
        assert_eq!(with_port("[::1]:1"), "[::1]:1");
    }

    #[test]
    fn a_refused_connection_says_where_and_what_to_do() {
        let free = TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("bound");
        let error = Client::connect(&BrokerArgs {
            bootstrap: free.to_string(),
        })
        .expect_err("refused");
        let text = error.to_string();
        assert!(
            text.contains(&format!("no broker answers at {free}: connection refused")),
            "{text}"
        );
        assert!(text.contains("millstream serve"), "{text}");
        assert!(error.is_connection());
    }

    /// Connects to a peer that answers anything with `answer`.
    fn connect_to_peer(answer: &'static [u8]) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).expect("a request");
            stream.write_all(answer).expect("answers");
        });
        let error = Client::connect(&BrokerArgs { bootstrap: address }).expect_err("no broker");
        peer.join().expect("the peer is done");
        error
    }

    #[test]
    fn a_peer_that_is_no_broker_is_told_apart() {
        let http = connect_to_peer(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(
            http.to_string().contains("does not speak Kafka's protocol"),
            "{http}"
        );
        let tiny = connect_to_peer(&[0, 0, 0, 2, 0, 0]);
        assert!(matches!(tiny, Error::NotKafka { .. }), "{tiny}");
        let closed = connect_to_peer(b"");
        assert!(matches!(closed, Error::Lost { .. }), "{closed}");
        let stranger = connect_to_peer(&[0, 0, 0, 4, 0, 0, 0, 99]);
        assert!(
            stranger.to_string().contains("answers request 99"),
            "{stranger}"
        );
    }
}
