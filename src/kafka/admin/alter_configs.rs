//! AlterConfigs (key 33): replace the whole configuration of resources. Clients are told to use
//! [`incremental_alter_configs`](super::incremental_alter_configs) instead.

use super::resources::{self, Resource, times_named};
use crate::engine::catalog::changes;
use crate::io::rate_limited::{self, RateLimited};
use crate::io::reactor::Slice;
use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

message! {
    AlterConfigs 0..=2, flexible 2..;

    Request<'a> {
        resources: Vec<ResourceRequest<'a, ConfigRequest<'a>>>,
        /// Check only, change nothing.
        validate_only: bool,
    }

    /// Also of IncrementalAlterConfigs.
    ResourceRequest<'a, C> {
        /// As in `resources.rs`.
        resource_type: i8,
        resource_name: &'a str,
        /// Here every config that is to be set; all others go back to their defaults.
        configs: Vec<C>,
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
        resource_type: i8,
        resource_name: Cow<'a, str>,
    }
}

/// Replaces the configs of topics and what was set of the broker's, one after the other; each is durable,
/// and in force on every shard, before it is answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let only_check = request.validate_only;
    alter_each(context, &request.resources, async |resource| {
        check_names(resource.configs.iter().map(|config| config.name))?;
        let mut configs = BTreeMap::new();
        for config in &resource.configs {
            let value = config.value.ok_or_else(|| no_value(config.name))?;
            configs.insert(config.name.to_owned(), value.to_owned());
        }
        match resources::find(context, resource.resource_type, resource.resource_name)? {
            Resource::Topic(topic) => {
                changes::set_topic_configs(context.engine, topic.id, configs, only_check).await?;
            }
            Resource::Broker(scope) => {
                changes::set_broker_configs(context.engine, scope, configs, only_check).await?;
            }
            Resource::Loggers => {
                let message = "levels of loggers change by IncrementalAlterConfigs";
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
            Resource::Group if configs.is_empty() => {}
            Resource::Group => return Err(no_group_configs()),
        }
        Ok(())
    })
    .await
}

/// Alters resources one after the other. One that is named more than once is not altered.
pub(super) async fn alter_each<'a, C>(
    context: &Context<'_>,
    resources: &[ResourceRequest<'a, C>],
    alter: impl AsyncFn(&ResourceRequest<'a, C>) -> Result<(), ApiError>,
) -> Response<'a> {
    let id = |resource: &ResourceRequest<'a, C>| (resource.resource_type, resource.resource_name);
    let times = times_named(resources.iter().map(id)).await;
    let mut responses = Vec::with_capacity(resources.len());
    let mut slice = Slice::new();
    for resource in resources {
        slice.rest().await;
        let altered = if times[&id(resource)] == 1 {
            alter(resource).await
        } else {
            let message = "the request names the resource more than once";
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        };
        if let Err(error) = &altered {
            log_refusal(context, id(resource), error);
        }
        let (error_code, error_message) = ApiError::fields(altered);
        responses.push(ResourceResponse {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: Cow::Borrowed(resource.resource_name),
        });
    }
    Response {
        responses,
        ..Response::default()
    }
}

fn log_refusal(context: &Context<'_>, (kind, name): (i8, &str), error: &ApiError) {
    static LINE: RateLimited = RateLimited::new(rate_limited::REFUSALS);
    if let Some(kept_back) = LINE.admit() {
        let topic = (kind == resources::TOPIC).then_some(name);
        let other = (kind != resources::TOPIC).then(|| format!("{name} of type {kind}"));
        tracing::warn!(
            topic, resource = other, client_id = context.client_id, address = %context.address,
            why = error.to_string(), kept_back, "refused to change configs"
        );
    }
}

/// Refuses a config that is named twice: it is unclear which value is meant.
pub(super) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            let message = format!("the config `{name}` is named more than once");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    }
    Ok(())
}

pub(super) fn no_value(name: &str) -> ApiError {
    let message = format!("the config `{name}` has no value");
    ApiError::new(ErrorCode::InvalidRequest, message)
}

/// Groups have no configs of their own here.
pub(super) fn no_group_configs() -> ApiError {
    let message = "no config can be set for one group: the broker's hold for all groups";
    ApiError::new(ErrorCode::InvalidRequest, message)
}
