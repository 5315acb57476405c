//! ListConfigResources (key 74): the resources that have a dynamic configuration.
//!
//! Versions: 0 was ListClientMetricsResources (KIP-1000) and asks for client metrics only, 1 for
//! resources of any type (KIP-1142).

use std::borrow::Cow;

use super::context::Context;
use super::describe_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_RESOURCE_TYPE: i16 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As in [`describe_configs`](super::describe_configs). Empty: all types. Version 0 means
    /// client metrics (16). From version 1.
    pub resource_types: Vec<i8>,
}

pub fn decode(r: &mut Reader<'_>, version: i16) -> Result<Request, WireError> {
    let request = Request {
        resource_types: if version >= FIRST_VERSION_WITH_RESOURCE_TYPE {
            r.array(Reader::i8)?
        } else {
            Vec::new()
        },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub config_resources: Vec<ConfigResource<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigResource<'a> {
    pub resource_name: Cow<'a, str>,
    /// As in [`describe_configs`](super::describe_configs). From version 1.
    pub resource_type: i8,
}

impl Default for ConfigResource<'_> {
    fn default() -> Self {
        Self {
            resource_name: Cow::Borrowed(""),
            resource_type: 16,
        }
    }
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.i16(response.error_code.code());
    w.array(&response.config_resources, |w, config_resource| {
        encode_config_resource(w, config_resource, version)
    });
    w.no_tagged_fields();
}

fn encode_config_resource(w: &mut Writer, config_resource: &ConfigResource<'_>, version: i16) {
    w.string(&config_resource.resource_name);
    if version >= FIRST_VERSION_WITH_RESOURCE_TYPE {
        w.i8(config_resource.resource_type);
    }
    w.no_tagged_fields();
}

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
