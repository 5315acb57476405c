//! IncrementalAlterConfigs (key 44): change some configs of resources and leave the others
//! (KIP-339).

use super::alter_configs::{self, ResourceRequest};
pub use super::alter_configs::{ResourceResponse, Response};
use super::loggers;
use super::resources::{self, Resource};
use crate::config::ConfigChange;
use crate::engine::catalog::changes;
use crate::kafka::{ApiError, Context, ErrorCode, message};

message! {
    IncrementalAlterConfigs 0..=1, flexible 1..;

    Request<'a> {
        resources: Vec<ResourceRequest<'a, ConfigRequest<'a>>>,
        /// Check only, change nothing.
        validate_only: bool,
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

/// Changes configs of topics, of the broker and of its loggers, one after the other; of each all changes are made
/// or none. Those of topics and of the broker are durable, and in force on every shard, before they are answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let only_check = request.validate_only;
    alter_configs::alter_each(context, &request.resources, async |resource| {
        alter_configs::check_names(resource.configs.iter().map(|config| config.name))?;
        let mut changes = Vec::with_capacity(resource.configs.len());
        for config in &resource.configs {
            changes.push((config.name.to_owned(), change(config)?));
        }
        match resources::find(context, resource.resource_type, resource.resource_name)? {
            Resource::Topic(topic) => {
                changes::alter_topic_configs(context.engine, topic.id, changes, only_check).await?;
            }
            Resource::Broker(scope) => {
                changes::alter_broker_configs(context.engine, scope, changes, only_check).await?;
            }
            Resource::Loggers => loggers::alter(&changes, only_check)?,
            Resource::Group => {
                // What is not set can be deleted, as everywhere.
                let mut all = changes.iter();
                if !all.all(|(_, change)| *change == ConfigChange::Delete) {
                    return Err(alter_configs::no_group_configs());
                }
            }
        }
        Ok(())
    })
    .await
}

fn change(config: &ConfigRequest<'_>) -> Result<ConfigChange, ApiError> {
    let value = || {
        let value = config.value.map(str::to_owned);
        value.ok_or_else(|| alter_configs::no_value(config.name))
    };
    match config.operation {
        OPERATION_SET => Ok(ConfigChange::Set(value()?)),
        OPERATION_DELETE => Ok(ConfigChange::Delete),
        OPERATION_APPEND => Ok(ConfigChange::Append(value()?)),
        OPERATION_SUBTRACT => Ok(ConfigChange::Subtract(value()?)),
        other => Err(ApiError::new(
            ErrorCode::InvalidRequest,
            format!("there is no operation {other} on configs"),
        )),
    }
}
