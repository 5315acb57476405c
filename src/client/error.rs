//! What can go wrong in the client, and the error codes of replies for people to read.

use super::codes::kafka_error;
use crate::log::batch::Codec;
use std::io::{self, ErrorKind};

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
    #[error(
        "the connection to the broker at {address} was lost during {api}: {}",
        io_words(why)
    )]
    Lost {
        address: String,
        api: &'static str,
        why: io::Error,
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
    #[error("{api} failed: {}", kafka_error(*code))]
    Kafka { api: &'static str, code: i16 },
    /// There is no such topic.
    #[error(
        "topic {name} does not exist at {address}. `millstream topic list` shows those that do, \
         `millstream topic create {name}` makes it"
    )]
    NoTopic { name: String, address: String },
    /// There is something wrong with the topic.
    #[error("topic {name} cannot be used: {}", kafka_error(*code))]
    Topic { name: String, code: i16 },
    /// No broker of that id is known.
    #[error("broker {node} leads a partition but is not among the brokers of the cluster")]
    NoSuchBroker { node: i32 },
    /// The topic was created without partitions.
    #[error("topic {0} has no partitions")]
    NoPartitions(String),
    /// ListOffsets failed for a partition, after all attempts.
    #[error("no offsets of {topic} partition {partition}: {}", kafka_error(*code))]
    NoOffsets {
        topic: String,
        partition: i32,
        code: i16,
    },
    /// ListOffsets left a partition out.
    #[error("the broker gave no offsets of {topic} partition {partition}")]
    OffsetsLeftOut { topic: String, partition: i32 },
    /// An idempotent producer gets no id.
    #[error("the broker gives out no producer id: {}", kafka_error(*code))]
    NoProducerId { code: i16 },
    /// A codec failed.
    #[error("cannot compress with {}: {why}", codec.name())]
    Compress { codec: Codec, why: io::Error },
    /// A batch was tried for as long as the settings say.
    #[error("given up after {tried_ms} ms (--timeout-ms): {trouble}")]
    GivenUp { tried_ms: u128, trouble: String },
    /// The broker refused a batch, and will refuse it again.
    #[error("{records} cannot be written to {topic} partition {partition}: {why}")]
    Refused {
        records: String,
        topic: String,
        partition: i32,
        why: String,
    },
    /// A single record is larger than a batch of the topic may be.
    #[error(
        "{record} has {bytes} bytes, which is more than the broker takes for topic {topic} (its \
         max.message.bytes)"
    )]
    TooLarge {
        record: String,
        bytes: u64,
        topic: String,
    },
    /// Nothing shows that the broker has read what was sent with acks=0.
    #[error("records may be missing, as acks=0 allows: {0}")]
    Unconfirmed(Box<Error>),
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

/// Fails if `code`, which concerns a whole request, is not 0.
pub fn check(code: i16, api: &'static str) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(Error::Kafka { api, code })
    }
}

/// An error of the operating system as it concerns a connection.
pub fn io_words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "the broker reset it".to_owned(),
        ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => "the broker closed it".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}
