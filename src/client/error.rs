//! What can go wrong in the client, and the error codes of replies for people to read.

use crate::kafka::error::ErrorCode;
use crate::log::batch::Codec;
use std::io::{self, ErrorKind};

/// What can go wrong between this client and a broker, before any error code of the protocol.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made to the address that the user gave.
    #[error(
        "no broker answers at {address}: {}. Is it running? Start one with `millstream serve`, \
         or name another with --bootstrap",
        io_words(why)
    )]
    Unreachable { address: String, why: io::Error },
    /// No connection could be made to the address that a broker gave.
    #[error(
        "broker {node} is advertised at {address}, which does not answer: {}. Is that address \
         right for clients? It is what the broker is configured to advertise",
        io_words(why)
    )]
    LeaderUnreachable {
        node: i32,
        address: String,
        why: io::Error,
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
    Kafka { api: &'static str, code: ErrorCode },
    /// There is no such topic.
    #[error(
        "topic {name} does not exist at {address}. `millstream topic list` shows those that do, \
         `millstream topic create {name}` makes it"
    )]
    NoTopic { name: String, address: String },
    /// There is something wrong with the topic.
    #[error("topic {name} cannot be used: {}", kafka_error(*code))]
    Topic { name: String, code: ErrorCode },
    /// No broker of that id is known.
    #[error("broker {node} leads a partition but is not among the brokers of the cluster")]
    NoSuchBroker { node: i32 },
    /// The topic is still being created, after all the time there was.
    #[error("topic {0} has no partitions yet, or no leaders for them")]
    NotReady(String),
    /// ListOffsets failed for a partition, after all attempts.
    #[error("no offsets of {topic} partition {partition}: {}", kafka_error(*code))]
    NoOffsets {
        topic: String,
        partition: i32,
        code: ErrorCode,
    },
    /// ListOffsets left a partition out.
    #[error("the broker gave no offsets of {topic} partition {partition}")]
    OffsetsLeftOut { topic: String, partition: i32 },
    /// An idempotent producer gets no id.
    #[error("the broker gives out no producer id: {}", kafka_error(*code))]
    NoProducerId { code: ErrorCode },
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
        code: ErrorCode,
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

    /// The error code that a broker answered with, or what stands for it.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Kafka { code, .. }
            | Error::Topic { code, .. }
            | Error::NoOffsets { code, .. }
            | Error::NoProducerId { code }
            | Error::Refused { code, .. } => Some(*code),
            Error::NoTopic { .. } => Some(ErrorCode::UnknownTopicOrPartition),
            Error::Unconfirmed(error) => error.code(),
            _ => None,
        }
    }

    /// Whether it was given up because an answer did not come in time.
    pub fn is_timeout(&self) -> bool {
        match self {
            Error::GivenUp { .. } => true,
            Error::Unreachable { why, .. }
            | Error::LeaderUnreachable { why, .. }
            | Error::Lost { why, .. } => {
                matches!(why.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
            }
            Error::Unconfirmed(error) => error.is_timeout(),
            _ => self.code() == Some(ErrorCode::RequestTimedOut),
        }
    }
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// Fails if `code`, which concerns a whole request, is not 0.
pub fn check(code: ErrorCode, api: &'static str) -> Result<()> {
    if code.is_error() {
        return Err(Error::Kafka { api, code });
    }
    Ok(())
}

/// What error `code` of a reply means, what to do about it if that is known, and its name and
/// number, which the documentation of any Kafka client explains further.
pub fn kafka_error(code: ErrorCode) -> String {
    let mut meaning = code.message().trim_end_matches('.').to_owned();
    // It goes on a sentence.
    if !meaning[1..].starts_with(|c: char| c.is_ascii_uppercase()) {
        meaning[..1].make_ascii_lowercase();
    }
    let advice = match code {
        ErrorCode::UnknownServerError | ErrorCode::KafkaStorageError => "; its log says more",
        ErrorCode::NonEmptyGroup | ErrorCode::GroupSubscribedToTopic => "; stop its members first",
        _ => "",
    };
    kafka_error_with(code, Some(&(meaning + advice)))
}

/// As [`kafka_error`], with the broker's own explanation if it sent one.
pub fn kafka_error_with(code: ErrorCode, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => {
            let message = message.trim_end_matches('.');
            format!("{message} ({}, code {})", code.name(), code.code())
        }
        None => kafka_error(code),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_words_with_kafkas_name() {
        assert_eq!(
            kafka_error(ErrorCode::UnknownTopicOrPartition),
            "there is no such topic or partition here (UNKNOWN_TOPIC_OR_PARTITION, code 3)"
        );
        assert_eq!(
            kafka_error(ErrorCode::NonEmptyGroup),
            "the group has members; stop its members first (NON_EMPTY_GROUP, code 68)"
        );
        assert_eq!(
            kafka_error(ErrorCode::SaslAuthenticationFailed),
            "SASL authentication failed (SASL_AUTHENTICATION_FAILED, code 58)"
        );
        let said = Some("Unknown topic config name: x.");
        assert_eq!(
            kafka_error_with(ErrorCode::InvalidConfig, said),
            "Unknown topic config name: x (INVALID_CONFIG, code 40)"
        );
        let exists = ErrorCode::TopicAlreadyExists;
        assert_eq!(kafka_error_with(exists, Some(" ")), kafka_error(exists));
    }
}
