//! FindCoordinator (key 10): which broker coordinates a group, a transaction or a share group.
//!
//! Versions: 1 adds the key type and the throttle time (KIP-98), 3 is flexible, 4 asks for many
//! keys at once (KIP-699), 6 allows share groups (KIP-932). 2 and 5 change nothing on the wire.

use std::borrow::Cow;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_KEY_TYPE: i16 = 1;
const FIRST_VERSION_WITH_THROTTLE: i16 = 1;
const FIRST_VERSION_WITH_ERROR_MESSAGE: i16 = 1;
const FIRST_VERSION_WITH_MANY_KEYS: i16 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// 0 a group, 1 a transactional id, 2 a share group's partition. Versions below 1 mean 0.
    pub key_type: i8,
    /// Before version 4 exactly one.
    pub coordinator_keys: Vec<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let only_key = if version < FIRST_VERSION_WITH_MANY_KEYS {
        Some(r.string()?)
    } else {
        None
    };
    let key_type = if version >= FIRST_VERSION_WITH_KEY_TYPE {
        r.i8()?
    } else {
        0
    };
    let coordinator_keys = match only_key {
        Some(key) => vec![key],
        None => r.array(Reader::string)?,
    };
    r.skip_tagged_fields()?;
    Ok(Request {
        key_type,
        coordinator_keys,
    })
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// From version 1.
    pub throttle_time_ms: i32,
    /// One for each key. Versions before 4 hold one: the first is written.
    pub coordinators: Vec<Coordinator<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator<'a> {
    /// From version 4.
    pub key: Cow<'a, str>,
    pub node_id: i32,
    pub host: Cow<'a, str>,
    pub port: i32,
    pub error_code: ErrorCode,
    /// From version 1.
    pub error_message: Option<Cow<'a, str>>,
}

impl Default for Coordinator<'_> {
    /// What Kafka answers when there is no coordinator to name.
    fn default() -> Self {
        Self {
            key: Cow::Borrowed(""),
            node_id: -1,
            host: Cow::Borrowed(""),
            port: -1,
            error_code: ErrorCode::None,
            error_message: None,
        }
    }
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    if version >= FIRST_VERSION_WITH_MANY_KEYS {
        w.array(&response.coordinators, encode_coordinator);
    } else {
        encode_only_coordinator(w, response, version);
    }
    w.no_tagged_fields();
}

fn encode_coordinator(w: &mut Writer, coordinator: &Coordinator<'_>) {
    w.string(&coordinator.key);
    encode_node(w, coordinator);
    w.i16(coordinator.error_code.code());
    w.nullable_string(coordinator.error_message.as_deref());
    w.no_tagged_fields();
}

fn encode_only_coordinator(w: &mut Writer, response: &Response<'_>, version: i16) {
    let nobody = Coordinator {
        error_code: ErrorCode::CoordinatorNotAvailable,
        ..Coordinator::default()
    };
    let coordinator = response.coordinators.first().unwrap_or(&nobody);
    w.i16(coordinator.error_code.code());
    if version >= FIRST_VERSION_WITH_ERROR_MESSAGE {
        w.nullable_string(coordinator.error_message.as_deref());
    }
    encode_node(w, coordinator);
}

fn encode_node(w: &mut Writer, coordinator: &Coordinator<'_>) {
    w.i32(coordinator.node_id);
    w.string(&coordinator.host);
    w.i32(coordinator.port);
}

const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;
/// librdkafka asks in versions up to this one.
const LAST_VERSION_OF_LIBRDKAFKA: i16 = 2;

/// This broker coordinates every group. Transactions and share groups it does not have.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let advertised = context.engine.config.advertised();
    let coordinator = |key: &&'a str| match request.key_type {
        KEY_TYPE_GROUP => Coordinator {
            key: Cow::Borrowed(*key),
            node_id: context.engine.config.node_id,
            host: Cow::Owned(advertised.host.clone()),
            port: i32::from(advertised.port),
            error_code: ErrorCode::None,
            error_message: None,
        },
        other => Coordinator {
            key: Cow::Borrowed(*key),
            node_id: -1,
            host: Cow::Borrowed(""),
            port: -1,
            error_code: refusal(other, context.version),
            error_message: Some(Cow::Borrowed(
                "this broker coordinates groups only: there are no transactions and no share groups",
            )),
        },
    };
    Response {
        throttle_time_ms: 0,
        coordinators: request.coordinator_keys.iter().map(coordinator).collect(),
    }
}

/// Whatever else it is told, a transactional producer of librdkafka asks again until its time is up,
/// and never says why.
fn refusal(key_type: i8, version: i16) -> ErrorCode {
    match key_type {
        KEY_TYPE_TRANSACTION if version <= LAST_VERSION_OF_LIBRDKAFKA => {
            ErrorCode::TransactionalIdAuthorizationFailed
        }
        _ => ErrorCode::InvalidRequest,
    }
}
