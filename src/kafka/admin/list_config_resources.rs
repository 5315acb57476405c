//! ListConfigResources (key 74): the resources that have a dynamic configuration.
//!
//! Versions: 0 was ListClientMetricsResources (KIP-1000) and asks for client metrics only, 1 for
//! resources of any type (KIP-1142).

use super::describe_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    ListConfigResources 0..=1, flexible 0..;

    Request {
        /// As in [`describe_configs`](super::describe_configs). Empty: all types. Version 0 means
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
        /// As in [`describe_configs`](super::describe_configs).
        resource_type: i8 [1..] = RESOURCE_CLIENT_METRICS,
    }
}

const FIRST_VERSION_WITH_RESOURCE_TYPE: i16 = 1;

const RESOURCE_BROKER_LOGGER: i8 = 8;
const RESOURCE_CLIENT_METRICS: i8 = 16;
const RESOURCE_GROUP: i8 = 32;

/// Topics and the broker have configs; there are no loggers, client metrics and groups that have.
pub async fn handle(context: &Context<'_>, request: &Request) -> Response<'static> {
    let asks_for = |kind: i8| {
        let kinds = &request.resource_types;
        context.version >= FIRST_VERSION_WITH_RESOURCE_TYPE
            && (kinds.is_empty() || kinds.contains(&kind))
    };
    let known = |kind: &i8| {
        let without_any = [
            RESOURCE_BROKER_LOGGER,
            RESOURCE_CLIENT_METRICS,
            RESOURCE_GROUP,
        ];
        matches!(*kind, RESOURCE_TOPIC | RESOURCE_BROKER) || without_any.contains(kind)
    };
    if !request.resource_types.iter().all(known) {
        return Response {
            error_code: ErrorCode::UnsupportedVersion,
            ..Response::default()
        };
    }
    let mut config_resources = Vec::new();
    if asks_for(RESOURCE_TOPIC) {
        let topic = |name: &str| resource(RESOURCE_TOPIC, name.to_owned());
        let topics = context.engine.with_catalog(|catalog| {
            let topics = catalog.topics().map(|one| topic(&one.name));
            topics.collect::<Vec<_>>()
        });
        config_resources.extend(topics);
    }
    if asks_for(RESOURCE_BROKER) {
        config_resources.push(resource(
            RESOURCE_BROKER,
            context.engine.config.node_id.to_string(),
        ));
    }
    Response {
        config_resources,
        ..Response::default()
    }
}

fn resource(resource_type: i8, name: String) -> ConfigResource<'static> {
    ConfigResource {
        resource_name: Cow::Owned(name),
        resource_type,
    }
}
