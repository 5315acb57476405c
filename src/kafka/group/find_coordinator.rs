//! FindCoordinator (key 10): which broker coordinates a group, a transaction or a share group.
//!
//! Versions: 1 adds the key type (KIP-98), 4 asks for many keys at once (KIP-699), 6 allows share
//! groups (KIP-932).

use crate::io::reactor::Slice;
use crate::kafka::{Context, ErrorCode, message, txn};
use std::borrow::Cow;

message! {
    FindCoordinator 0..=6, flexible 3..;

    Request<'a> {
        key: &'a str [0..=3],
        /// 0 a group, 1 a transactional id, 2 a share group's partition.
        key_type: i8 [1..],
        coordinator_keys: Vec<&'a str> [4..],
    }

    Response<'a> {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode [0..=3],
        error_message: Option<Cow<'a, str>> [1..=3],
        node_id: i32 [0..=3] = -1,
        host: Cow<'a, str> [0..=3],
        port: i32 [0..=3] = -1,
        coordinators: Vec<Coordinator<'a>> [4..],
    }

    /// What Kafka answers by default when there is no coordinator to name.
    Coordinator<'a> {
        key: Cow<'a, str>,
        node_id: i32 = -1,
        host: Cow<'a, str>,
        port: i32 = -1,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
    }
}

const FIRST_VERSION_WITH_MANY_KEYS: i16 = 4;

impl<'a> Request<'a> {
    /// What is asked for, in any version.
    pub fn keys(&self, version: i16) -> &[&'a str] {
        if version < FIRST_VERSION_WITH_MANY_KEYS {
            return std::slice::from_ref(&self.key);
        }
        &self.coordinator_keys
    }
}

impl<'a> Response<'a> {
    /// The answer with one coordinator for each key. Old versions have room for the first.
    pub fn of(coordinators: Vec<Coordinator<'a>>, version: i16) -> Self {
        if version >= FIRST_VERSION_WITH_MANY_KEYS {
            return Self {
                coordinators,
                ..Self::default()
            };
        }
        let first = coordinators.into_iter().next();
        let only = first.unwrap_or_else(|| Coordinator {
            error_code: ErrorCode::CoordinatorNotAvailable,
            ..Coordinator::default()
        });
        Self {
            error_code: only.error_code,
            error_message: only.error_message,
            node_id: only.node_id,
            host: only.host,
            port: only.port,
            ..Self::default()
        }
    }
}

const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;
const NO_COORDINATOR: &str =
    "this broker coordinates groups only: there are no transactions and no share groups";
/// librdkafka asks in versions up to this one.
const LAST_VERSION_OF_LIBRDKAFKA: i16 = 2;

/// This broker coordinates every group. Transactions and share groups it does not have.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let advertised = context.engine.config.advertised();
    let coordinator = |key: &&'a str| {
        let mut coordinator = Coordinator {
            key: Cow::Borrowed(*key),
            ..Coordinator::default()
        };
        if request.key_type == KEY_TYPE_GROUP {
            coordinator.node_id = context.engine.config.node_id;
            coordinator.host = Cow::Owned(advertised.host.clone());
            coordinator.port = i32::from(advertised.port);
        } else {
            if request.key_type == KEY_TYPE_TRANSACTION {
                txn::log_refusal(context, key);
            }
            coordinator.error_code = refusal(request.key_type, context.version);
            coordinator.error_message = Some(Cow::Borrowed(NO_COORDINATOR));
        }
        coordinator
    };
    let keys = request.keys(context.version);
    let mut coordinators = Vec::with_capacity(keys.len());
    let mut slice = Slice::new();
    for key in keys {
        coordinators.push(coordinator(key));
        slice.rest().await;
    }
    Response::of(coordinators, context.version)
}

/// On any other code a transactional producer of librdkafka asks again until it times out, and never
/// reports the reason.
fn refusal(key_type: i8, version: i16) -> ErrorCode {
    match key_type {
        KEY_TYPE_TRANSACTION if version <= LAST_VERSION_OF_LIBRDKAFKA => {
            ErrorCode::TransactionalIdAuthorizationFailed
        }
        _ => ErrorCode::InvalidRequest,
    }
}
