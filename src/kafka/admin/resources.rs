//! The resources that have configs: topics, this broker, its loggers, and groups.

use crate::config::BrokerScope;
use crate::engine::catalog::Topic;
use crate::io::reactor::Slice;
use crate::kafka::{ApiError, Context, ErrorCode};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// The types of resources in the protocol.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;

pub enum Resource {
    Topic(Arc<Topic>),
    Broker(BrokerScope),
    Loggers,
    /// No config can be set for one group.
    Group,
}

/// How often each is named.
pub async fn times_named<N: Eq + Hash>(
    names: impl ExactSizeIterator<Item = N>,
) -> HashMap<N, usize> {
    // To grow moves all of them at once.
    let mut times = HashMap::with_capacity(names.len());
    let mut slice = Slice::of(names.len());
    for name in names {
        *times.entry(name).or_default() += 1;
        slice.rest().await;
    }
    times
}

/// The resource of this type and name.
///
/// # Errors
/// When there is none.
pub fn find(context: &Context<'_>, kind: i8, name: &str) -> Result<Resource, ApiError> {
    let node_id = context.engine.config.node_id;
    match kind {
        TOPIC => match context.topic(name) {
            Ok(topic) => Ok(Resource::Topic(topic)),
            Err(code) => Err(ApiError::new(code, format!("there is no topic {name:?}"))),
        },
        BROKER if name.is_empty() => Ok(Resource::Broker(BrokerScope::Cluster)),
        BROKER if name == node_id.to_string() => Ok(Resource::Broker(BrokerScope::Node)),
        BROKER_LOGGER if name == node_id.to_string() => Ok(Resource::Loggers),
        GROUP if !name.is_empty() => Ok(Resource::Group),
        GROUP => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            "the name of the group is empty",
        )),
        BROKER | BROKER_LOGGER => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            format!("this is broker {node_id}, not {name}"),
        )),
        other => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            format!("resources of type {other} have no configs here"),
        )),
    }
}
