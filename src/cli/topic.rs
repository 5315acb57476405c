//! `millstream topic`: create, list, describe, alter and delete topics.

use crate::cli::broker_args::BrokerArgs;
use crate::cli::confirm::Consent;
use crate::cli::exit::Failure;
use crate::cli::output::{Output, all_or_nothing_failed, sort_out};
use crate::cli::table::{Table, or_dash, print_list};
use crate::cli::words;
use crate::client::{
    Client, REQUEST_TIMEOUT_MS, Topic, kafka_error, kafka_error_with, log_dirs, offsets,
};
use crate::config::WITHOUT_EFFECT;
use crate::kafka::admin::alter_configs::ConfigRequest;
use crate::kafka::admin::{
    create_partitions, create_topics, delete_topics, describe_configs, incremental_alter_configs,
};
use crate::kafka::data::metadata::Partition;
use crate::kafka::error::ErrorCode;
use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use uuid::Uuid;

const TOPIC_RESOURCE: i8 = 2;
const SOURCE_DEFAULT: i8 = 5;
const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
/// The first version of CreateTopics in which -1 asks for the broker's default.
const CREATE_TOPICS_WITH_DEFAULTS: i16 = 4;
/// What is wrong with a reply that should be about a topic.
const NOTHING: &str = "the broker's reply names no topic";

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
    #[arg(long, value_name = "KEY=VALUE", value_parser = words::pair)]
    config: Vec<(String, String)>,
    /// Succeed without a change if the topic exists already
    #[arg(long)]
    if_not_exists: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Show what each topic takes on disk, the largest first; bytes in a pipe
    #[arg(long)]
    size: bool,
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
    /// The new number of partitions: more than now
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A setting to change (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = words::pair)]
    config: Vec<(String, String)>,
    /// A setting to put back to its default (may be repeated)
    #[arg(long, value_name = "KEY")]
    delete_config: Vec<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// The topics' names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    consent: Consent,
    /// Print a JSON array of what was deleted
    #[arg(long)]
    json: bool,
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
    let created = ask_to_create(&mut client, &args)?;
    let mut out = Output::new();
    if args.json {
        out.json(&created)?;
    } else {
        out.line(&created.text())?;
    }
    out.flush()
}

/// Creates a topic with this number of partitions.
pub fn create_topic(client: &mut Client, name: &str, partitions: i32) -> anyhow::Result<()> {
    let args = CreateArgs {
        name: name.to_owned(),
        partitions: Some(partitions),
        config: Vec::new(),
        if_not_exists: false,
        json: false,
        broker: BrokerArgs::default(),
    };
    ask_to_create(client, &args).map(drop)
}

/// What came of it, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Created {
    name: String,
    /// Whether it was not there before.
    created: bool,
    /// None if the broker did not say.
    partitions: Option<u64>,
    id: Option<String>,
}

impl Created {
    fn text(&self) -> String {
        let name = &self.name;
        if !self.created {
            return format!("topic {name} exists already: nothing changed");
        }
        let mut line = format!("created topic {name}");
        if let Some(partitions) = self.partitions {
            line += &format!(" with {}", words::count(partitions, "partition"));
        }
        if let Some(id) = &self.id {
            line += &format!(", id {id}");
        }
        line
    }
}

fn ask_to_create(client: &mut Client, args: &CreateArgs) -> anyhow::Result<Created> {
    let name = &args.name;
    let connection = client.controller()?;
    let version = connection.version::<create_topics::Request>(i16::MAX)?;
    let default = if version >= CREATE_TOPICS_WITH_DEFAULTS {
        -1
    } else {
        1
    };
    let configs = args.config.iter();
    let configs = configs.map(|(name, value)| ConfigRequest {
        name,
        value: Some(value),
    });
    let topic = create_topics::TopicRequest {
        name,
        num_partitions: args.partitions.unwrap_or(default),
        replication_factor: default as i16,
        configs: configs.collect(),
        ..create_topics::TopicRequest::default()
    };
    let request = create_topics::Request {
        topics: vec![topic],
        timeout_ms: REQUEST_TIMEOUT_MS,
        ..create_topics::Request::default()
    };
    let reply = connection.call_at(&request, version)?;
    let result = reply.topics.first().context(NOTHING)?;
    if args.if_not_exists && result.error_code == ErrorCode::TopicAlreadyExists {
        return Ok(Created {
            name: name.clone(),
            created: false,
            partitions: None,
            id: None,
        });
    }
    let what = format!("create topic {name}");
    allowed(result.error_code, &result.error_message, &what)?;
    let partitions = u64::try_from(result.num_partitions).ok();
    Ok(Created {
        name: name.clone(),
        created: true,
        partitions: partitions.filter(|&partitions| partitions > 0),
        id: id_text(result.topic_id),
    })
}

/// Fails where the broker refused to do `what`.
fn allowed(code: ErrorCode, message: &Option<Cow<'_, str>>, what: &str) -> anyhow::Result<()> {
    if code.is_error() {
        let why = kafka_error_with(code, message.as_deref());
        return Err(Failure::refused(code, format!("cannot {what}: {why}")).into());
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct ListedTopic {
    name: String,
    id: Option<String>,
    partitions: usize,
    internal: bool,
    /// On all brokers together; None if it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

fn list(args: ListArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let sizes = args.size.then(|| sizes(&mut client)).transpose()?;
    let bytes_of = |name: &str| {
        let sizes = sizes.as_ref()?;
        Some(sizes.get(name).copied().unwrap_or_default())
    };
    let listed = |topic: Topic| ListedTopic {
        id: id_text(topic.id),
        bytes: bytes_of(&topic.name),
        partitions: topic.partitions.len(),
        internal: topic.internal,
        name: topic.name,
    };
    let topics = client.metadata(None, false)?.into_iter();
    let mut topics: Vec<_> = topics.map(listed).collect();
    topics.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    let is_terminal = io::stdout().is_terminal();
    let size_text = |bytes: u64| match is_terminal {
        true => words::size(bytes),
        false => bytes.to_string(),
    };
    let mut columns = vec!["TOPIC", ">PARTITIONS", "ID"];
    columns.extend(args.size.then_some(">SIZE"));
    print_list(&topics, args.json, &columns, |topic| {
        let (partitions, id) = (topic.partitions.to_string(), or_dash(topic.id.as_ref()));
        let mut cells = vec![topic.name.clone(), partitions, id];
        cells.extend(topic.bytes.map(size_text));
        cells
    })
}

/// What each topic takes on the disks of all brokers together.
fn sizes(client: &mut Client) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    for directory in log_dirs::describe(client, true)? {
        if directory.error.is_error() {
            let (node, path) = (directory.node, directory.path);
            let why = kafka_error(directory.error);
            let why = format!("the sizes in {path} of broker {node} are not known: {why}");
            return Err(Failure::refused(directory.error, why).into());
        }
        for (topic, bytes) in directory.topics {
            *sizes.entry(topic).or_default() += bytes;
        }
    }
    Ok(sizes)
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
    /// The broker says that it only stores and shows it.
    without_effect: bool,
}

fn describe(args: DescribeArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let names = args.names.iter();
    let (descriptions, failures) = sort_out(names.map(|name| description_of(&mut client, name)));
    let mut out = Output::new();
    if args.json {
        out.json(&descriptions)?;
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
    let led = topic.partitions.iter().filter(|p| p.leader_id >= 0);
    let led: Vec<i32> = led.map(|partition| partition.index).collect();
    let bounds = offsets::bounds(client, &topic, &led)?;
    let configs = settings_of(client, name)?.into_iter();
    let configs = configs.filter(|(_, source)| *source != SOURCE_DEFAULT);
    let described = |partition: Partition| {
        let bounds = bounds.get(&partition.index);
        DescribedPartition {
            partition: partition.index,
            leader: Some(partition.leader_id).filter(|&leader| leader >= 0),
            start_offset: bounds.map(|bounds| bounds.start),
            end_offset: bounds.map(|bounds| bounds.end),
            replicas: partition.replica_nodes,
            in_sync: partition.isr_nodes,
        }
    };
    Ok(Description {
        name: topic.name,
        id: id_text(topic.id),
        internal: topic.internal,
        partitions: topic.partitions.into_iter().map(described).collect(),
        configs: configs.map(|(setting, _)| setting).collect(),
    })
}

/// Every setting that the broker knows of for a topic, with the number of what set it.
fn settings_of(client: &mut Client, topic: &str) -> anyhow::Result<Vec<(Setting, i8)>> {
    let resource = describe_configs::ResourceRequest {
        resource_type: TOPIC_RESOURCE,
        resource_name: topic,
        configuration_keys: None,
    };
    let request = describe_configs::Request {
        resources: vec![resource],
        include_documentation: true,
        ..describe_configs::Request::default()
    };
    let reply = client.any()?.call(&request)?;
    let result = reply.results.first().context(NOTHING)?;
    let what = format!("read the settings of topic {topic}");
    allowed(result.error_code, &result.error_message, &what)?;
    let setting = |config: &describe_configs::ConfigResponse<'_>| Setting {
        name: config.name.to_string(),
        value: config.value.as_ref().map(ToString::to_string),
        set_by: match config.config_source {
            1 => "topic",
            2 => "broker, while it runs",
            3 => "cluster, while it runs",
            4 => "broker, at start",
            _ => "broker",
        },
        without_effect: config
            .documentation
            .as_ref()
            .is_some_and(|text| text.contains(WITHOUT_EFFECT)),
    };
    let configs = result.configs.iter();
    Ok(configs.map(|c| (setting(c), c.config_source)).collect())
}

fn print_description(description: &Description, out: &mut Output) -> anyhow::Result<()> {
    let id = description.id.as_ref();
    let id = id.map_or(String::new(), |id| format!("  id {id}"));
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
    let mut table = Table::new(&["SETTING", "VALUE", "SET BY"]);
    for config in &description.configs {
        let value = config.value.as_deref().unwrap_or("(hidden)");
        table.row(vec![
            config.name.clone(),
            value.into(),
            config.set_by.into(),
        ]);
    }
    table.print(out)?;
    let idle = description.configs.iter().filter(|one| one.without_effect);
    let idle: Vec<&str> = idle.map(|one| one.name.as_str()).collect();
    if !idle.is_empty() {
        out.line("")?;
        out.line(&format!("stored without effect: {}", idle.join(", ")))?;
    }
    Ok(())
}

fn partition_table(partitions: &[DescribedPartition]) -> Table {
    let nodes = |nodes: &[i32]| {
        let nodes: Vec<_> = nodes.iter().map(i32::to_string).collect();
        nodes.join(",")
    };
    let mut table = Table::new(&[
        ">PARTITION",
        ">LEADER",
        ">START",
        ">END",
        ">OFFSETS",
        "REPLICAS",
        "IN SYNC",
    ]);
    for p in partitions {
        let bounds = p.end_offset.zip(p.start_offset);
        table.row(vec![
            p.partition.to_string(),
            or_dash(p.leader),
            or_dash(p.start_offset),
            or_dash(p.end_offset),
            or_dash(bounds.map(|(end, start)| end - start)),
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
        if !args.json {
            out.line(&format!("changed the settings of topic {}", args.name))?;
            out.flush()?;
        }
    }
    if let Some(partitions) = args.partitions {
        add_partitions(&mut client, &args.name, partitions)?;
        if !args.json {
            let partitions = words::count(partitions.unsigned_abs().into(), "partition");
            out.line(&format!("topic {} has {partitions} now", args.name))?;
        }
    }
    if args.json {
        let set: BTreeMap<_, _> = args.config.iter().cloned().collect();
        out.json(&json!({
            "name": args.name, "partitions": args.partitions, "set": set,
            "deleted": args.delete_config,
        }))?;
    }
    out.flush()
}

/// Finds out before the first of two changes whether the broker can make both.
fn require_apis(client: &mut Client, args: &AlterArgs) -> anyhow::Result<()> {
    let connection = client.controller()?;
    if args.partitions.is_some() {
        connection.version::<create_partitions::Request>(i16::MAX)?;
    }
    if !args.config.is_empty() || !args.delete_config.is_empty() {
        connection.version::<incremental_alter_configs::Request>(i16::MAX)?;
    }
    Ok(())
}

/// A broker answers that it deleted a setting which was never set, whatever its name: here it is a slip.
fn check_deletions(client: &mut Client, args: &AlterArgs) -> anyhow::Result<()> {
    if args.delete_config.is_empty() {
        return Ok(());
    }
    let known = settings_of(client, &args.name)?;
    let is_known = |name: &String| known.iter().any(|(setting, _)| setting.name == *name);
    if let Some(name) = args.delete_config.iter().find(|name| !is_known(name)) {
        bail!(
            "cannot delete `{name}`: topics have no such setting; \
             `topic describe {}` shows those that are set",
            args.name
        );
    }
    Ok(())
}

fn alter_settings(client: &mut Client, args: &AlterArgs) -> anyhow::Result<()> {
    use crate::kafka::admin::alter_configs::ResourceRequest;
    use incremental_alter_configs::{ConfigRequest, Request};
    let set = args.config.iter().map(|(name, value)| ConfigRequest {
        name,
        operation: OP_SET,
        value: Some(value),
    });
    let delete = args.delete_config.iter().map(|name| ConfigRequest {
        name,
        operation: OP_DELETE,
        value: None,
    });
    let resource = ResourceRequest {
        resource_type: TOPIC_RESOURCE,
        resource_name: &args.name,
        configs: set.chain(delete).collect(),
    };
    let request = Request {
        resources: vec![resource],
        ..Request::default()
    };
    let reply = client.controller()?.call(&request)?;
    let what = format!("change the settings of topic {}", args.name);
    let mut results = reply.responses.iter();
    results.try_for_each(|result| allowed(result.error_code, &result.error_message, &what))
}

fn add_partitions(client: &mut Client, name: &str, count: i32) -> anyhow::Result<()> {
    let topic = create_partitions::TopicRequest {
        name,
        count,
        assignments: None,
    };
    let request = create_partitions::Request {
        topics: vec![topic],
        timeout_ms: REQUEST_TIMEOUT_MS,
        ..create_partitions::Request::default()
    };
    let reply = client.controller()?.call(&request)?;
    let what = format!("give topic {name} {count} partitions");
    let mut results = reply.topics.iter();
    results.try_for_each(|result| allowed(result.error_code, &result.error_message, &what))
}

fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let names = args.names.join(", ");
    args.consent
        .ask(&format!("delete topic {names} with all records"))?;
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let results = ask_to_delete(&mut client, &args.names)?;
    Output::new().done(results, args.json, |one| {
        format!("deleted topic {}", one.name)
    })
}

/// Deletes one topic.
pub fn delete_topic(client: &mut Client, name: &str) -> anyhow::Result<()> {
    let results = ask_to_delete(client, &[name.to_owned()])?;
    results.into_iter().try_for_each(|result| result.map(drop))
}

/// As `--json` shows it.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
}

/// What was deleted, and why the rest was not.
fn ask_to_delete(
    client: &mut Client,
    names: &[String],
) -> anyhow::Result<Vec<anyhow::Result<Deleted>>> {
    let connection = client.controller()?;
    let version = connection.version::<delete_topics::Request>(i16::MAX)?;
    let topics = names.iter().map(|name| delete_topics::TopicRequest {
        name: Some(name),
        topic_id: Uuid::nil(),
    });
    // A version writes the one that it has.
    let request = delete_topics::Request {
        topics: topics.collect(),
        topic_names: names.iter().map(String::as_str).collect(),
        timeout_ms: REQUEST_TIMEOUT_MS,
    };
    let reply = connection.call_at(&request, version)?;
    let results = reply.topics.iter().map(|result| {
        let name = result.name.as_deref().unwrap_or_default();
        let what = format!("delete topic {name}");
        allowed(result.error_code, &result.error_message, &what)?;
        let name = name.to_owned();
        Ok(Deleted { name })
    });
    Ok(results.collect())
}

/// A topic's id as Kafka's own tools print it; None if the broker gave none.
fn id_text(id: Uuid) -> Option<String> {
    (!id.is_nil()).then(|| URL_SAFE_NO_PAD.encode(id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::id_text;
    use uuid::Uuid;

    #[test]
    fn ids_look_as_kafka_prints_them() {
        assert_eq!(id_text(Uuid::nil()), None);
        assert_eq!(
            id_text(Uuid::from_u128(u128::MAX)).as_deref(),
            Some("_____________________w")
        );
    }
}
