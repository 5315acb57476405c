//! The answer to a request: a reply, nothing, or the end of its connection; at once or later.

use super::api_names;
use crate::wire::{Reply, WireError, Writer};
use std::future::Future;
use std::pin::Pin;
use thiserror::Error;

/// A reply of up to this many bytes is covered by what its request was charged.
pub const REPLY_BYTES_FREE: usize = 16 << 10;

/// Why a connection has to be closed: the protocol has no answer for it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CloseReason {
    #[error("the request header is malformed: {0}")]
    BadHeader(WireError),
    #[error("API key {key} ({}) is not served; client id {client_id:?}", name(*key))]
    UnknownApi { key: i16, client_id: String },
    #[error("{api} version {version} is not served")]
    UnknownVersion { api: &'static str, version: i16 },
    #[error("the {api} request (version {version}) is malformed: {error}")]
    BadRequest {
        api: &'static str,
        version: i16,
        error: WireError,
    },
    #[error("a produce request without acknowledgement failed: {0}")]
    UnansweredError(&'static str),
    #[error("{0}")]
    BadReply(WireError),
}

fn name(key: i16) -> &'static str {
    api_names::name_of(key).unwrap_or("Kafka has none with this key")
}

impl CloseReason {
    /// A short name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            CloseReason::BadHeader(_) => "bad_header",
            CloseReason::UnknownApi { .. } => "unknown_api",
            CloseReason::UnknownVersion { .. } => "unknown_version",
            CloseReason::BadRequest { .. } => "bad_request",
            CloseReason::UnansweredError(_) => "unanswered_error",
            CloseReason::BadReply(_) => "reply_size",
        }
    }
}

/// What is sent back for a request.
#[derive(Debug)]
pub enum Answer {
    Reply(Reply),
    /// Nothing: the client asked for no acknowledgement.
    Nothing,
    Close(CloseReason),
}

impl Answer {
    /// What was written, if the protocol can say it.
    pub fn of(writer: Writer) -> Answer {
        match writer.finish() {
            Ok(reply) => Answer::Reply(reply),
            Err(error) => Answer::Close(CloseReason::BadReply(error)),
        }
    }
}

pub type LaterAnswer = Pin<Box<dyn Future<Output = Answer>>>;

/// A request that was handled as far as the connection's next request must see it.
pub enum Handled {
    Now(Answer),
    /// The answer waits for something: the disk, records to fetch, the members of a group.
    Later(LaterAnswer),
    /// Likewise, for others that may take minutes. It keeps nothing of the request: what is stored of it is
    /// counted where it is stored.
    Parked(LaterAnswer),
}
