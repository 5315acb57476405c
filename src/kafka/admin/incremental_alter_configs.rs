//! IncrementalAlterConfigs (key 44): change some configs of resources and leave the others
//! (KIP-339).
//!
//! Versions: 1 is flexible.

use super::alter_configs::{self, Refusal, Target};
pub use super::alter_configs::{ResourceResponse, Response};
use crate::engine::Engine;
use crate::engine::catalog::changes::{self, ConfigChange};
use crate::kafka::{Context, ErrorCode, message};
use std::rc::Rc;

message! {
    IncrementalAlterConfigs 0..=1, flexible 1..;

    Request<'a> {
        resources: Vec<ResourceRequest<'a>>,
        /// Check only, change nothing.
        validate_only: bool,
    }

    ResourceRequest<'a> {
        /// As in [`describe_configs`](super::describe_configs).
        resource_type: i8,
        resource_name: &'a str,
        configs: Vec<ConfigRequest<'a>>,
    }

    #[derive(Copy)]
    ConfigRequest<'a> {
        name: &'a str,
        /// 0 set, 1 delete, 2 append to a list, 3 subtract from a list.
        operation: i8,
        /// Null for a delete.
        value: Option<&'a str>,
    }
}

const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;
const OPERATION_APPEND: i8 = 2;
const OPERATION_SUBTRACT: i8 = 3;

/// Changes configs of topics, one topic after the other; of a topic all changes are made or none.
/// Each topic's are durable, and in force on every shard, before it is answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let id = |resource: &ResourceRequest<'a>| (resource.resource_type, resource.resource_name);
    let twice = alter_configs::named_twice(request.resources.iter().map(id));
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let id = id(resource);
        let altered = match twice.contains(&id) {
            true => Err(alter_configs::refused_as_twice()),
            false => alter(context.engine, resource, request.validate_only).await,
        };
        responses.push(alter_configs::respond(id, altered));
    }
    Response {
        throttle_time_ms: 0,
        responses,
    }
}

async fn alter(
    engine: &Rc<Engine>,
    resource: &ResourceRequest<'_>,
    only_check: bool,
) -> Result<(), Refusal> {
    alter_configs::check_names(resource.configs.iter().map(|config| config.name))?;
    let mut changes = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        changes.push((config.name.to_owned(), change(config)?));
    }
    match alter_configs::target(engine, (resource.resource_type, resource.resource_name))? {
        Target::Topic(id) => {
            let altered = changes::alter_topic_configs(engine, id, changes, only_check).await;
            altered.map_err(|error| ((&error).into(), error.to_string()))
        }
        // Kafka's tools clean up behind themselves: nothing was set, so nothing is left to delete.
        Target::Broker
            if changes
                .iter()
                .all(|(_, change)| *change == ConfigChange::Delete) =>
        {
            Ok(())
        }
        Target::Broker => Err(alter_configs::read_only()),
    }
}

fn change(config: &ConfigRequest<'_>) -> Result<ConfigChange, Refusal> {
    let value = || {
        let value = config.value.map(str::to_owned);
        value.ok_or_else(|| alter_configs::no_value(config.name))
    };
    match config.operation {
        OPERATION_SET => Ok(ConfigChange::Set(value()?)),
        OPERATION_DELETE => Ok(ConfigChange::Delete),
        OPERATION_APPEND => Ok(ConfigChange::Append(value()?)),
        OPERATION_SUBTRACT => Ok(ConfigChange::Subtract(value()?)),
        other => Err((
            ErrorCode::InvalidRequest,
            format!("there is no operation {other} on configs"),
        )),
    }
}
