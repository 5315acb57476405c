//! DescribeConfigs (key 32): the configuration of topics, brokers and other resources.
//!
//! Versions: 3 adds types and documentation (KIP-569), 4 is flexible. 2 changes nothing on the
//! wire.

use crate::config::{Entry, TopicConfig};
use crate::engine::Engine;
use std::borrow::Cow;
use std::collections::HashSet;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_DOCUMENTATION: i16 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub resources: Vec<ResourceRequest<'a>>,
    pub include_synonyms: bool,
    /// From version 3.
    pub include_documentation: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRequest<'a> {
    /// 2 a topic, 4 a broker, 8 a broker's loggers, 16 client metrics, 32 a group.
    pub resource_type: i8,
    pub resource_name: &'a str,
    /// Null: every key.
    pub configuration_keys: Option<Vec<&'a str>>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        resources: r.array(decode_resource)?,
        include_synonyms: r.bool()?,
        include_documentation: version >= FIRST_VERSION_WITH_DOCUMENTATION && r.bool()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_resource<'a>(r: &mut Reader<'a>) -> Result<ResourceRequest<'a>, WireError> {
    let resource = ResourceRequest {
        resource_type: r.i8()?,
        resource_name: r.string()?,
        configuration_keys: r.nullable_array(Reader::string)?,
    };
    r.skip_tagged_fields()?;
    Ok(resource)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub results: Vec<ResourceResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceResponse<'a> {
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
    pub resource_type: i8,
    pub resource_name: Cow<'a, str>,
    pub configs: Vec<ConfigResponse<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigResponse<'a> {
    pub name: Cow<'a, str>,
    /// Null if it is sensitive.
    pub value: Option<Cow<'a, str>>,
    pub read_only: bool,
    /// 1 topic, 2 dynamic broker, 3 dynamic default broker, 4 static broker, 5 default,
    /// 6 dynamic broker logger, 7 client metrics, 8 group; -1 if unknown.
    pub config_source: i8,
    pub is_sensitive: bool,
    /// Empty unless asked for.
    pub synonyms: Vec<Synonym<'a>>,
    /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password; 0 if
    /// unknown. From version 3.
    pub config_type: i8,
    /// Null unless asked for. From version 3.
    pub documentation: Option<Cow<'a, str>>,
}

impl Default for ConfigResponse<'_> {
    fn default() -> Self {
        Self {
            name: Cow::Borrowed(""),
            value: None,
            read_only: false,
            config_source: -1,
            is_sensitive: false,
            synonyms: Vec::new(),
            config_type: 0,
            documentation: None,
        }
    }
}

/// Where else the value may come from, in the order in which it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym<'a> {
    pub name: Cow<'a, str>,
    pub value: Option<Cow<'a, str>>,
    /// As [`ConfigResponse::config_source`].
    pub source: i8,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.results, |w, resource| {
        encode_resource(w, resource, version);
    });
    w.no_tagged_fields();
}

fn encode_resource(w: &mut Writer, resource: &ResourceResponse<'_>, version: i16) {
    w.i16(resource.error_code.code());
    w.nullable_string(resource.error_message.as_deref());
    w.i8(resource.resource_type);
    w.string(&resource.resource_name);
    w.array(&resource.configs, |w, config| {
        encode_config(w, config, version);
    });
    w.no_tagged_fields();
}

fn encode_config(w: &mut Writer, config: &ConfigResponse<'_>, version: i16) {
    w.string(&config.name);
    w.nullable_string(config.value.as_deref());
    w.bool(config.read_only);
    w.i8(config.config_source);
    w.bool(config.is_sensitive);
    w.array(&config.synonyms, encode_synonym);
    if version >= FIRST_VERSION_WITH_DOCUMENTATION {
        w.i8(config.config_type);
        w.nullable_string(config.documentation.as_deref());
    }
    w.no_tagged_fields();
}

fn encode_synonym(w: &mut Writer, synonym: &Synonym<'_>) {
    w.string(&synonym.name);
    w.nullable_string(synonym.value.as_deref());
    w.i8(synonym.source);
    w.no_tagged_fields();
}

pub(super) const RESOURCE_TOPIC: i8 = 2;
pub(super) const RESOURCE_BROKER: i8 = 4;

/// Tells every config of topics and of the broker, from the one table of knobs.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    // One that is named again is not described again: an answer is a hundred times its question.
    let mut seen = HashSet::new();
    let describe = |resource: &ResourceRequest<'a>| {
        let described = entries_of(context.engine, resource);
        let (error_code, message) = described.as_ref().err().cloned().unzip();
        ResourceResponse {
            error_code: error_code.unwrap_or_default(),
            error_message: message.map(Cow::Owned),
            resource_type: resource.resource_type,
            resource_name: Cow::Borrowed(resource.resource_name),
            configs: described
                .unwrap_or_default()
                .into_iter()
                .filter(|entry| is_asked_for(entry, resource))
                .map(|entry| respond(entry, request))
                .collect(),
        }
    };
    Response {
        throttle_time_ms: 0,
        results: request
            .resources
            .iter()
            .filter(|resource| seen.insert((resource.resource_type, resource.resource_name)))
            .map(describe)
            .collect(),
    }
}

fn entries_of(
    engine: &Engine,
    resource: &ResourceRequest<'_>,
) -> Result<Vec<Entry>, (ErrorCode, String)> {
    let name = resource.resource_name;
    match resource.resource_type {
        RESOURCE_TOPIC => match engine.topic(name) {
            Some(topic) => Ok(TopicConfig::describe(
                &engine.config.topic_defaults,
                &topic.configs,
            )),
            None => Err((
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic {name:?}"),
            )),
        },
        // The empty name asks for what was set for all brokers while they ran: nothing.
        RESOURCE_BROKER if name.is_empty() => Ok(Vec::new()),
        RESOURCE_BROKER if name == engine.config.node_id.to_string() => {
            Ok(engine.config.describe())
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

fn is_asked_for(entry: &Entry, resource: &ResourceRequest<'_>) -> bool {
    let keys = resource.configuration_keys.as_ref();
    keys.is_none_or(|keys| keys.contains(&entry.name.as_str()))
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
        documentation: request
            .include_documentation
            .then_some(Cow::Borrowed(entry.documentation)),
    }
}
