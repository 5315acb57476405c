//! AlterConfigs (key 33): replace the whole configuration of resources. Clients are told to use
//! [`incremental_alter_configs`](super::incremental_alter_configs) instead.
//!
//! Versions: 2 is flexible. 1 changes nothing on the wire.

use super::describe_configs::{RESOURCE_BROKER, RESOURCE_TOPIC};
use crate::engine::Engine;
use crate::engine::catalog::changes;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use uuid::Uuid;

message! {
    AlterConfigs 0..=2, flexible 2..;

    Request<'a> {
        resources: Vec<ResourceRequest<'a>>,
        /// Check only, change nothing.
        validate_only: bool,
    }

    ResourceRequest<'a> {
        /// As in [`describe_configs`](super::describe_configs).
        resource_type: i8,
        resource_name: &'a str,
        /// Every config that is to be set; all others go back to their defaults.
        configs: Vec<ConfigRequest<'a>>,
    }

    #[derive(Copy)]
    ConfigRequest<'a> {
        name: &'a str,
        value: Option<&'a str>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        responses: Vec<ResourceResponse<'a>>,
    }

    ResourceResponse<'a> {
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        /// As in [`describe_configs`](super::describe_configs).
        resource_type: i8,
        resource_name: Cow<'a, str>,
    }
}

/// A resource by its type and name.
pub(super) type ResourceId<'a> = (i8, &'a str);
pub(super) type Refusal = (ErrorCode, String);

/// A resource whose configs can be asked to change.
pub(super) enum Target {
    Topic(Uuid),
    /// Every setting of the broker is from its start.
    Broker,
}

/// Replaces the configs of topics, one topic after the other; each is durable, and in force on every
/// shard, before it is answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let id = |resource: &ResourceRequest<'a>| (resource.resource_type, resource.resource_name);
    let twice = named_twice(request.resources.iter().map(id));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let id = id(resource);
        let replaced = match twice.contains(&id) {
            true => Err(refused_as_twice()),
            false => replace(context.engine, resource, request.validate_only).await,
        };
        responses.push(respond(id, replaced));
    }
    Response {
        throttle_time_ms: 0,
        responses,
    }
}

async fn replace(
    engine: &Rc<Engine>,
    resource: &ResourceRequest<'_>,
    only_check: bool,
) -> Result<(), Refusal> {
    check_names(resource.configs.iter().map(|config| config.name))?;
    let mut configs = BTreeMap::new();
    for config in &resource.configs {
        let value = config.value.ok_or_else(|| no_value(config.name))?;
        configs.insert(config.name.to_owned(), value.to_owned());
    }
    match target(engine, (resource.resource_type, resource.resource_name))? {
        Target::Topic(id) => {
            let set = changes::set_topic_configs(engine, id, configs, only_check).await;
            set.map_err(|error| ((&error).into(), error.to_string()))
        }
        Target::Broker if configs.is_empty() => Ok(()),
        Target::Broker => Err(read_only()),
    }
}

/// The resources that a request names more than once.
pub(super) fn named_twice<'a>(
    resources: impl Iterator<Item = ResourceId<'a>>,
) -> HashSet<ResourceId<'a>> {
    let mut times: HashMap<ResourceId<'a>, usize> = HashMap::new();
    for resource in resources {
        *times.entry(resource).or_default() += 1;
    }
    times.retain(|_, times| *times > 1);
    times.into_keys().collect()
}

pub(super) fn refused_as_twice() -> Refusal {
    let message = "the request names the resource more than once";
    (ErrorCode::InvalidRequest, message.to_owned())
}

/// Refuses a config that is named twice: which one would hold is anybody's guess.
pub(super) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            let message = format!("the config `{name}` is named more than once");
            return Err((ErrorCode::InvalidRequest, message));
        }
    }
    Ok(())
}

pub(super) fn no_value(name: &str) -> Refusal {
    let message = format!("the config `{name}` has no value");
    (ErrorCode::InvalidRequest, message)
}

pub(super) fn read_only() -> Refusal {
    let message = "the broker's settings cannot change while it runs: \
        change its flags or its configuration file, then restart it";
    (ErrorCode::InvalidRequest, message.to_owned())
}

pub(super) fn target(engine: &Engine, (kind, name): ResourceId<'_>) -> Result<Target, Refusal> {
    match kind {
        RESOURCE_TOPIC => match engine.topic(name) {
            Some(topic) => Ok(Target::Topic(topic.id)),
            None => Err((
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic {name:?}"),
            )),
        },
        // The empty name is for all brokers together.
        RESOURCE_BROKER if name.is_empty() || name == engine.config.node_id.to_string() => {
            Ok(Target::Broker)
        }
        RESOURCE_BROKER => Err((
            ErrorCode::InvalidRequest,
            format!("this is broker {}, not {name}", engine.config.node_id),
        )),
        other => Err((
            ErrorCode::InvalidRequest,
            format!("resources of type {other} have no configs here"),
        )),
    }
}

pub(super) fn respond<'a>(
    (resource_type, resource_name): ResourceId<'a>,
    altered: Result<(), Refusal>,
) -> ResourceResponse<'a> {
    let (error_code, message) = altered.err().unzip();
    ResourceResponse {
        error_code: error_code.unwrap_or_default(),
        error_message: message.map(Cow::Owned),
        resource_type,
        resource_name: Cow::Borrowed(resource_name),
    }
}
