//! `millstream topic`: create, list, describe, alter and delete topics.

use anyhow::{Context, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use serde::Serialize;
use uuid::Uuid;

use crate::cli::broker_args::BrokerArgs;
use crate::cli::output::{Output, all_or_nothing_failed};
use crate::cli::table::{Align, Table};
use crate::cli::words;
use crate::client::codes::kafka_error_with;
use crate::client::offsets::{self, EARLIEST, LATEST};
use crate::client::{Client, REQUEST_TIMEOUT_MS, Topic, text, topic_name};

const TOPIC_RESOURCE: i8 = 2;
const SOURCE_DEFAULT: i8 = 5;
const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
const TOPIC_ALREADY_EXISTS: i16 = 36;
/// The first version of CreateTopics in which -1 asks for the broker's default.
const CREATE_TOPICS_WITH_DEFAULTS: i16 = 4;
/// The first version of DeleteTopics that knows topics by id as well as by name.
const DELETE_TOPICS_WITH_IDS: i16 = 6;

/// `millstream topic …`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a topic
    Create(CreateArgs),
    /// List all topics
    List(ListArgs),
    /// Show topics' partitions, offsets and settings
    Describe(DescribeArgs),
    /// Add partitions to a topic, or change its settings
    Alter(AlterArgs),
    /// Delete topics with all their records
    Delete(DeleteArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The topic's name
    name: String,
    /// How many partitions it has [default: the broker's num.partitions]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A setting of the topic, such as retention.ms=86400000 (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    config: Vec<(String, String)>,
    /// Succeed without a change if the topic exists already
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
struct DescribeArgs {
    /// The topics' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
#[group(id = "change", required = true, multiple = true, args = ["partitions", "config", "delete_config"])]
struct AlterArgs {
    /// The topic's name
    name: String,
    /// How many partitions it shall have: more than now
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A setting to change (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    config: Vec<(String, String)>,
    /// A setting to put back to its default (may be repeated)
    #[arg(long, value_name = "KEY")]
    delete_config: Vec<String>,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// The topics' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Runs one of the actions on topics.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Create(args) => create(args),
        Action::List(args) => list(args),
        Action::Describe(args) => describe(args),
        Action::Alter(args) => alter(args),
        Action::Delete(args) => delete(args),
    }
}

fn create(args: CreateArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let result = ask_to_create(&mut client, &args.name, args.partitions, &args.config)?;
    let mut out = Output::new();
    match result.error_code {
        0 => out.line(&created(&args.name, &result))?,
        TOPIC_ALREADY_EXISTS if args.if_not_exists => {
            out.line(&format!(
                "topic {} exists already: nothing changed",
                args.name
            ))?;
        }
        _ => return Err(not_created(&args.name, &result)),
    }
    out.flush()
}

/// Creates a topic with so many partitions.
pub fn create_topic(client: &mut Client, name: &str, partitions: i32) -> anyhow::Result<()> {
    let result = ask_to_create(client, name, Some(partitions), &[])?;
    match result.error_code {
        0 => Ok(()),
        _ => Err(not_created(name, &result)),
    }
}

fn ask_to_create(
    client: &mut Client,
    name: &str,
    partitions: Option<i32>,
    configs: &[(String, String)],
) -> anyhow::Result<CreatableTopicResult> {
    let connection = client.controller()?;
    let version = connection.version::<CreateTopicsRequest>(i16::MAX)?;
    let default = if version >= CREATE_TOPICS_WITH_DEFAULTS {
        -1
    } else {
        1
    };
    let config = |(key, value): &(String, String)| {
        CreatableTopicConfig::default()
            .with_name(text(key))
            .with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions.unwrap_or(default))
        .with_replication_factor(default as i16)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(REQUEST_TIMEOUT_MS);
    let reply = connection.call_at(&request, version)?;
    let result = reply.topics.into_iter().next();
    result.context("the broker's reply names no topic")
}

fn not_created(name: &str, result: &CreatableTopicResult) -> anyhow::Error {
    let why = kafka_error_with(result.error_code, result.error_message.as_deref());
    anyhow!("cannot create topic {name}: {why}")
}

fn created(name: &str, result: &CreatableTopicResult) -> String {
    let mut line = format!("created topic {name}");
    if let Ok(partitions @ 1..) = u64::try_from(result.num_partitions) {
        line += &format!(" with {}", words::count(partitions, "partition"));
    }
    if let Some(id) = id_text(result.topic_id) {
        line += &format!(", id {id}");
    }
    line
}

#[derive(Debug, Serialize)]
struct ListedTopic {
    name: String,
    id: Option<String>,
    partitions: usize,
    internal: bool,
}

fn list(args: ListArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let listed = |topic: Topic| ListedTopic {
        id: id_text(topic.id),
        partitions: topic.partitions.len(),
        internal: topic.internal,
        name: topic.name,
    };
    let mut topics: Vec<_> = client
        .metadata(None, false)?
        .into_iter()
        .map(listed)
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Output::new();
    if args.json {
        out.line(&serde_json::to_string_pretty(&topics)?)?;
        return out.flush();
    }
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PARTITIONS", Align::Right),
        ("ID", Align::Left),
    ]);
    for topic in topics {
        let id = topic.id.unwrap_or_else(|| "-".to_owned());
        table.row(vec![topic.name, topic.partitions.to_string(), id]);
    }
    table.print_or_pipe(&mut out)?;
    out.flush()
}

#[derive(Debug, Serialize)]
struct Description {
    name: String,
    id: Option<String>,
    internal: bool,
    partitions: Vec<DescribedPartition>,
    configs: Vec<Setting>,
}

#[derive(Debug, Serialize)]
struct DescribedPartition {
    partition: i32,
    /// The leading node; None if there is none at the moment, and then the offsets are unknown.
    leader: Option<i32>,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
}

/// A setting that is not at its default.
#[derive(Debug, Serialize)]
struct Setting {
    name: String,
    /// None if the broker keeps it to itself.
    value: Option<String>,
    set_by: &'static str,
}

fn describe(args: DescribeArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let mut descriptions = Vec::new();
    let mut failures = Vec::new();
    for name in &args.names {
        match description_of(&mut client, name) {
            Ok(description) => descriptions.push(description),
            Err(error) => failures.push(error),
        }
    }
    let mut out = Output::new();
    if args.json {
        out.line(&serde_json::to_string_pretty(&descriptions)?)?;
    } else {
        for (at, description) in descriptions.iter().enumerate() {
            if at > 0 {
                out.line("")?;
            }
            print_description(description, &mut out)?;
        }
    }
    out.flush()?;
    all_or_nothing_failed(failures)
}

fn description_of(client: &mut Client, name: &str) -> anyhow::Result<Description> {
    let topic = client.topic(name)?;
    let led = topic
        .partitions
        .iter()
        .filter(|partition| partition.leader >= 0);
    let led: Vec<i32> = led.map(|partition| partition.index).collect();
    let starts = offsets::list(client, &topic, &led, EARLIEST)?;
    let ends = offsets::list(client, &topic, &led, LATEST)?;
    let configs = settings_of(client, name)?;
    let described = |partition: crate::client::Partition| DescribedPartition {
        partition: partition.index,
        leader: Some(partition.leader).filter(|&leader| leader >= 0),
        start_offset: starts.get(&partition.index).copied(),
        end_offset: ends.get(&partition.index).copied(),
        replicas: partition.replicas,
        in_sync: partition.in_sync,
    };
    Ok(Description {
        name: topic.name,
        id: id_text(topic.id),
        internal: topic.internal,
        partitions: topic.partitions.into_iter().map(described).collect(),
        configs,
    })
}

fn settings_of(client: &mut Client, topic: &str) -> anyhow::Result<Vec<Setting>> {
    let configs = configs_of(client, topic)?.into_iter();
    let changed = configs.filter(|config| config.config_source != SOURCE_DEFAULT);
    Ok(changed.map(Setting::from).collect())
}

/// Every setting that the broker knows of for a topic.
fn configs_of(
    client: &mut Client,
    topic: &str,
) -> anyhow::Result<Vec<DescribeConfigsResourceResult>> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(topic))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let reply = client.any()?.call(&request)?;
    let result = reply
        .results
        .into_iter()
        .next()
        .context("the broker's reply names no topic")?;
    if result.error_code != 0 {
        let why = kafka_error_with(result.error_code, result.error_message.as_deref());
        bail!("cannot read the settings of topic {topic}: {why}");
    }
    Ok(result.configs)
}

impl From<DescribeConfigsResourceResult> for Setting {
    fn from(config: DescribeConfigsResourceResult) -> Setting {
        Setting {
            name: config.name.to_string(),
            value: config.value.map(|value| value.to_string()),
            set_by: match config.config_source {
                1 => "topic",
                2 => "broker, while it runs",
                3 => "cluster, while it runs",
                4 => "broker, at start",
                _ => "broker",
            },
        }
    }
}

fn print_description(description: &Description, out: &mut Output) -> anyhow::Result<()> {
    let id = description
        .id
        .as_deref()
        .map_or(String::new(), |id| format!("  id {id}"));
    let internal = if description.internal {
        "  internal"
    } else {
        ""
    };
    out.line(&format!("topic {}{id}{internal}", description.name))?;
    out.line("")?;
    partition_table(&description.partitions).print(out)?;
    if description.configs.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(&[
        ("SETTING", Align::Left),
        ("VALUE", Align::Left),
        ("SET BY", Align::Left),
    ]);
    for config in &description.configs {
        let value = config
            .value
            .clone()
            .unwrap_or_else(|| "(hidden)".to_owned());
        table.row(vec![config.name.clone(), value, config.set_by.to_owned()]);
    }
    table.print(out)
}

fn partition_table(partitions: &[DescribedPartition]) -> Table {
    const COLUMNS: [(&str, Align); 7] = [
        ("PARTITION", Align::Right),
        ("LEADER", Align::Right),
        ("START", Align::Right),
        ("END", Align::Right),
        ("OFFSETS", Align::Right),
        ("REPLICAS", Align::Left),
        ("IN SYNC", Align::Left),
    ];
    let or_dash = |n: Option<i64>| n.map_or("-".to_owned(), |n| n.to_string());
    let nodes = |nodes: &[i32]| {
        nodes
            .iter()
            .map(i32::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut table = Table::new(&COLUMNS);
    for p in partitions {
        let held = p
            .end_offset
            .zip(p.start_offset)
            .map(|(end, start)| end - start);
        table.row(vec![
            p.partition.to_string(),
            or_dash(p.leader.map(i64::from)),
            or_dash(p.start_offset),
            or_dash(p.end_offset),
            or_dash(held),
            nodes(&p.replicas),
            nodes(&p.in_sync),
        ]);
    }
    table
}

fn alter(args: AlterArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let mut out = Output::new();
    client.topic(&args.name)?;
    require_apis(&mut client, &args)?;
    check_deletions(&mut client, &args)?;
    if !args.config.is_empty() || !args.delete_config.is_empty() {
        alter_settings(&mut client, &args)?;
        out.line(&format!("changed the settings of topic {}", args.name))?;
        out.flush()?;
    }
    if let Some(partitions) = args.partitions {
        add_partitions(&mut client, &args.name, partitions)?;
        let partitions = words::count(partitions.unsigned_abs().into(), "partition");
        out.line(&format!("topic {} has {partitions} now", args.name))?;
    }
    out.flush()
}

/// Finds out before the first of two changes whether the broker can make both.
fn require_apis(client: &mut Client, args: &AlterArgs) -> anyhow::Result<()> {
    let connection = client.controller()?;
    if args.partitions.is_some() {
        connection.version::<CreatePartitionsRequest>(i16::MAX)?;
    }
    if !args.config.is_empty() || !args.delete_config.is_empty() {
        connection.version::<IncrementalAlterConfigsRequest>(i16::MAX)?;
    }
    Ok(())
}

/// Brokers take it for done to delete what is not set, whatever its name: here it is a slip.
fn check_deletions(client: &mut Client, args: &AlterArgs) -> anyhow::Result<()> {
    if args.delete_config.is_empty() {
        return Ok(());
    }
    let known = configs_of(client, &args.name)?;
    let is_known = |name: &String| known.iter().any(|config| *config.name == **name);
    match args.delete_config.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => bail!(
            "cannot delete `{name}`: topics have no such setting; \
             `topic describe {}` shows those that are set",
            args.name
        ),
    }
}

fn alter_settings(client: &mut Client, args: &AlterArgs) -> anyhow::Result<()> {
    let set = args
        .config
        .iter()
        .map(|(key, value)| (key, OP_SET, Some(text(value))));
    let delete = args.delete_config.iter().map(|key| (key, OP_DELETE, None));
    let config = |(key, operation, value): (&String, i8, Option<_>)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(operation)
            .with_value(value)
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(&args.name))
        .with_configs(set.chain(delete).map(config).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let reply = client.controller()?.call(&request)?;
    match reply
        .responses
        .into_iter()
        .find(|response| response.error_code != 0)
    {
        None => Ok(()),
        Some(response) => {
            let why = kafka_error_with(response.error_code, response.error_message.as_deref());
            bail!("cannot change the settings of topic {}: {why}", args.name)
        }
    }
}

fn add_partitions(client: &mut Client, name: &str, count: i32) -> anyhow::Result<()> {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(name))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(REQUEST_TIMEOUT_MS);
    let reply = client.controller()?.call(&request)?;
    match reply
        .results
        .into_iter()
        .find(|result| result.error_code != 0)
    {
        None => Ok(()),
        Some(result) => {
            let why = kafka_error_with(result.error_code, result.error_message.as_deref());
            bail!("cannot give topic {name} {count} partitions: {why}")
        }
    }
}

fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let mut out = Output::new();
    let mut failures = Vec::new();
    for result in ask_to_delete(&mut client, &args.names)? {
        match deleted(&result) {
            Ok(line) => out.line(&line)?,
            Err(error) => failures.push(error),
        }
    }
    out.flush()?;
    all_or_nothing_failed(failures)
}

/// Deletes one topic.
pub fn delete_topic(client: &mut Client, name: &str) -> anyhow::Result<()> {
    let results = ask_to_delete(client, &[name.to_owned()])?;
    results
        .iter()
        .try_for_each(|result| deleted(result).map(drop))
}

fn ask_to_delete(
    client: &mut Client,
    names: &[String],
) -> anyhow::Result<Vec<DeletableTopicResult>> {
    let connection = client.controller()?;
    let version = connection.version::<DeleteTopicsRequest>(i16::MAX)?;
    let request = DeleteTopicsRequest::default().with_timeout_ms(REQUEST_TIMEOUT_MS);
    let names = names.iter().map(|name| topic_name(name));
    let request = if version >= DELETE_TOPICS_WITH_IDS {
        let topic = |name| DeleteTopicState::default().with_name(Some(name));
        request.with_topics(names.map(topic).collect())
    } else {
        request.with_topic_names(names.collect())
    };
    Ok(connection.call_at(&request, version)?.responses)
}

fn deleted(result: &DeletableTopicResult) -> anyhow::Result<String> {
    let name = result
        .name
        .as_ref()
        .map(|name| name.0.to_string())
        .unwrap_or_default();
    match result.error_code {
        0 => Ok(format!("deleted topic {name}")),
        code => {
            let why = kafka_error_with(code, result.error_message.as_deref());
            Err(anyhow!("cannot delete topic {name}: {why}"))
        }
    }
}

/// A topic's id as Kafka's own tools print it; None if the broker gave none.
fn id_text(id: Uuid) -> Option<String> {
    (!id.is_nil()).then(|| URL_SAFE_NO_PAD.encode(id.as_bytes()))
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.into())),
        _ => Err("it is not of the form KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{id_text, parse_setting};

    #[test]
    fn settings_are_split_at_the_first_equals_sign() {
        assert_eq!(parse_setting("a.b=c=d"), Ok(("a.b".into(), "c=d".into())));
        assert_eq!(parse_setting("a="), Ok(("a".into(), String::new())));
        assert!(parse_setting("a").is_err() && parse_setting("=b").is_err());
    }

    #[test]
    fn ids_look_as_kafka_prints_them() {
        assert_eq!(id_text(Uuid::nil()), None);
        assert_eq!(
            id_text(Uuid::from_u128(u128::MAX)).as_deref(),
            Some("_____________________w")
        );
    }
}
