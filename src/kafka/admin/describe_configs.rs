//! DescribeConfigs (key 32): the configuration of topics, brokers and other resources.
//!
//! Version 3 adds types and documentation (KIP-569).

use super::loggers;
use super::resources::{self, Resource};
use crate::config::{BrokerScope, Entry, TopicConfig};
use crate::io::reactor::Slice;
use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashSet;

message! {
    DescribeConfigs 1..=4, flexible 4..;

    Request<'a> {
        resources: Vec<ResourceRequest<'a>>,
        include_synonyms: bool,
        include_documentation: bool [3..],
    }

    ResourceRequest<'a> {
        /// As in `resources.rs`.
        resource_type: i8,
        resource_name: &'a str,
        /// Null: every key.
        configuration_keys: Option<Vec<&'a str>>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        results: Vec<ResourceResponse<'a>>,
    }

    ResourceResponse<'a> {
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        resource_type: i8,
        resource_name: Cow<'a, str>,
        configs: Vec<ConfigResponse<'a>>,
    }

    ConfigResponse<'a> {
        name: Cow<'a, str>,
        /// Null if it is sensitive.
        value: Option<Cow<'a, str>>,
        read_only: bool,
        /// 1 topic, 2 dynamic broker, 3 dynamic default broker, 4 static broker, 5 default,
        /// 6 dynamic broker logger, 7 client metrics, 8 group; -1 if unknown.
        config_source: i8 = -1,
        is_sensitive: bool,
        /// Empty unless asked for.
        synonyms: Vec<Synonym<'a>>,
        /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password; 0 if
        /// unknown.
        config_type: i8 [3..],
        /// Null unless asked for.
        documentation: Option<Cow<'a, str>> [3..],
    }

    /// Where else the value may come from, in the order in which it is looked for.
    Synonym<'a> {
        name: Cow<'a, str>,
        value: Option<Cow<'a, str>>,
        /// As [`ConfigResponse::config_source`].
        source: i8,
    }
}

/// What a described resource takes, here and as it is written: some 70 configs.
const RESOURCE_BYTES: usize = 24 << 10;
const RESOURCE_BYTES_WITH_WORDS: usize = 64 << 10;

/// What the reply takes at most, in bytes.
pub fn reply_bytes(_: &Context<'_>, request: &Request<'_>) -> usize {
    let each = if request.include_documentation || request.include_synonyms {
        RESOURCE_BYTES_WITH_WORDS
    } else {
        RESOURCE_BYTES
    };
    request.resources.len() * each
}

/// Describes every config of topics and of the broker, from the one table of knobs, and the levels of
/// loggers. Of all brokers together it tells what was set while they ran, as Kafka does.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    // A resource that is named again is not described again: an answer is a hundred times its question.
    let mut seen = HashSet::with_capacity(request.resources.len());
    let mut results = Vec::new();
    let mut slice = Slice::new();
    for resource in &request.resources {
        if seen.insert((resource.resource_type, resource.resource_name)) {
            results.push(describe(context, request, resource));
        }
        slice.rest().await;
    }
    Response {
        results,
        ..Response::default()
    }
}

fn describe<'a>(
    context: &Context<'_>,
    request: &Request<'a>,
    resource: &ResourceRequest<'a>,
) -> ResourceResponse<'a> {
    let mut response = ResourceResponse {
        resource_type: resource.resource_type,
        resource_name: Cow::Borrowed(resource.resource_name),
        ..ResourceResponse::default()
    };
    match entries_of(context, resource) {
        Ok(entries) => {
            let keys = resource.configuration_keys.as_ref();
            let keys: Option<HashSet<&str>> = keys.map(|keys| keys.iter().copied().collect());
            let is_asked_for = |entry: &Entry| {
                let keys = keys.as_ref();
                keys.is_none_or(|keys| keys.contains(entry.name.as_str()))
            };
            let asked = entries.into_iter().filter(is_asked_for);
            response.configs = asked.map(|entry| respond(entry, request)).collect();
        }
        Err(error) => {
            (response.error_code, response.error_message) = (error.code, error.message);
        }
    }
    response
}

fn entries_of(
    context: &Context<'_>,
    resource: &ResourceRequest<'_>,
) -> Result<Vec<Entry>, ApiError> {
    let engine = context.engine;
    let found = resources::find(context, resource.resource_type, resource.resource_name)?;
    Ok(engine.with_catalog(|catalog| {
        let defaults = catalog.defaults();
        match found {
            Resource::Topic(topic) => TopicConfig::describe(defaults, &topic.configs),
            Resource::Broker(BrokerScope::Node) => engine.config.describe(defaults),
            Resource::Broker(BrokerScope::Cluster) => defaults.describe_cluster(),
            Resource::Loggers => loggers::describe(),
            Resource::Group => Vec::new(),
        }
    }))
}

fn respond(entry: Entry, request: &Request<'_>) -> ConfigResponse<'static> {
    let synonyms = entry.synonyms.into_iter().map(|synonym| Synonym {
        name: Cow::Owned(synonym.name),
        value: Some(Cow::Owned(synonym.value)),
        source: synonym.source.code(),
    });
    ConfigResponse {
        name: Cow::Owned(entry.name),
        value: Some(Cow::Owned(entry.value)),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.is_sensitive,
        synonyms: synonyms.filter(|_| request.include_synonyms).collect(),
        config_type: entry.type_code,
        documentation: request.include_documentation.then_some(entry.documentation),
    }
}
