//! Configs over the wire: set, replaced, described.

use super::wire::*;
use kafka_protocol::messages::alter_configs_request as alter;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::*;

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const GROUP: i8 = 32;
pub const SET: i8 = 0;
pub const DELETE: i8 = 1;
pub const APPEND: i8 = 2;
pub const SUBTRACT: i8 = 3;

pub type Change<'a> = (&'a str, i8, Option<&'a str>);

pub fn changes(kind: i8, name: &str, changes: &[Change]) -> incremental::AlterConfigsResource {
    let config = |(name, operation, value): &Change| {
        incremental::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    };
    incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(config).collect())
}

/// The error's code and message.
pub fn alter(wire: &mut Wire, kind: i8, name: &str, what: &[Change]) -> (i16, String) {
    let resources = vec![changes(kind, name, what)];
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
    let response = wire.call(&request, 1).responses.remove(0);
    let message = response.error_message.unwrap_or_default();
    (response.error_code, message.to_string())
}

/// Replaces all that was set of a topic; the error's code.
pub fn replace(wire: &mut Wire, name: &str, configs: &[(&str, &str)]) -> i16 {
    replace_of(wire, TOPIC, name, configs)
}

pub fn replace_of(wire: &mut Wire, kind: i8, name: &str, configs: &[(&str, &str)]) -> i16 {
    let config = |(name, value): &(&str, &str)| {
        alter::AlterableConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    };
    let resource = alter::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.iter().map(config).collect());
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    wire.call(&request, 2).responses[0].error_code
}

/// The configs that were set for a topic.
pub fn own_configs(wire: &mut Wire, topic: &str) -> Vec<(String, String)> {
    let configs = described(wire, TOPIC, topic).configs.into_iter();
    let own = configs.filter(|config| config.config_source == 1);
    let mut own: Vec<_> = own
        .map(|config| (config.name.to_string(), config.value.unwrap().to_string()))
        .collect();
    own.sort();
    own
}

pub fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs.iter().map(|(a, b)| (a.to_string(), b.to_string()));
    owned.collect()
}

/// A resource's configs, with synonyms and documentation.
pub fn described(wire: &mut Wire, kind: i8, name: &str) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    wire.call(&request, 4).results.remove(0)
}
