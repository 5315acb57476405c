//! IncrementalAlterConfigs (key 44): change some configs of resources and leave the others
//! (KIP-339).

use super::alter_configs::{self, ResourceRequest};
pub use super::alter_configs::{ResourceResponse, Response};
use crate::engine::catalog::changes::{self, ConfigChange};
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

/// Changes configs of topics, one topic after the other; of a topic all changes are made or none.
/// Each topic's are durable, and in force on every shard, before it is answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let only_check = request.validate_only;
    alter_configs::alter_each(context, &request.resources, async |resource| {
        alter_configs::check_names(resource.configs.iter().map(|config| config.name))?;
        let mut changes = Vec::with_capacity(resource.configs.len());
        for config in &resource.configs {
            changes.push((config.name.to_owned(), change(config)?));
        }
        // Kafka's tools clean up behind themselves: nothing was set on a broker, so a deletion changes nothing.
        let mut all = changes.iter();
        let only_deletes = all.all(|(_, change)| *change == ConfigChange::Delete);
        if let Some(topic) = alter_configs::topic_of(context, resource, only_deletes)? {
            changes::alter_topic_configs(context.engine, topic, changes, only_check).await?;
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
