//! ListConfigResources (key 74): the resources that have a dynamic configuration.
//!
//! Versions: 0 was ListClientMetricsResources (KIP-1000) and asks for client metrics only, 1 for
//! resources of any type (KIP-1142).

use super::resources;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    ListConfigResources 0..=1, flexible 0..;

    Request {
        /// As in `resources.rs`. Empty: all types. Version 0 means
        /// client metrics (16).
        resource_types: Vec<i8> [1..],
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        config_resources: Vec<ConfigResource<'a>>,
    }

    ConfigResource<'a> {
        resource_name: Cow<'a, str>,
        /// As in `resources.rs`.
        resource_type: i8 [1..] = resources::CLIENT_METRICS,
    }
}

const FIRST_VERSION_WITH_RESOURCE_TYPE: i16 = 1;

/// What a resource takes with its name, here and as it is written.
const RESOURCE_BYTES: usize = 256;

/// What the reply takes at most, in bytes.
pub fn reply_bytes(context: &Context<'_>, _: &Request) -> usize {
    let topics = context.engine.with_catalog(|all| all.topic_count());
    topics * RESOURCE_BYTES
}

/// Topics, the broker and its loggers have configs; client metrics and groups have none.
pub async fn handle(context: &Context<'_>, request: &Request) -> Response<'static> {
    let kinds = &request.resource_types;
    let known = [
        resources::TOPIC,
        resources::BROKER,
        resources::BROKER_LOGGER,
        resources::CLIENT_METRICS,
        resources::GROUP,
    ];
    if !kinds.iter().all(|kind| known.contains(kind)) {
        return Response {
            error_code: ErrorCode::UnsupportedVersion,
            ..Response::default()
        };
    }
    let resource = |resource_type: i8, name: String| ConfigResource {
        resource_name: Cow::Owned(name),
        resource_type,
    };
    let asks_for = |kind: i8| {
        context.version >= FIRST_VERSION_WITH_RESOURCE_TYPE
            && (kinds.is_empty() || kinds.contains(&kind))
    };
    let mut config_resources = Vec::new();
    if asks_for(resources::TOPIC) {
        context.engine.with_catalog(|catalog| {
            let names = catalog.topics().map(|topic| topic.name.clone());
            config_resources.extend(names.map(|name| resource(resources::TOPIC, name)));
        });
    }
    for kind in [resources::BROKER, resources::BROKER_LOGGER] {
        if asks_for(kind) {
            let name = context.engine.config.node_id.to_string();
            config_resources.push(resource(kind, name));
        }
    }
    Response {
        config_resources,
        ..Response::default()
    }
}
