//! `millstream group describe`: a group's state, members, committed offsets and lag.

use super::{TopicPartition, coordinator, lag, no_group};
use crate::cli::broker_args::BrokerArgs;
use crate::cli::exit::is_connection;
use crate::cli::output::{self, Line, Output, all_or_nothing_failed, sort_out};
use crate::cli::screen::{self, Every};
use crate::cli::table::{Table, or_dash};
use crate::cli::words;
use crate::client::offsets::Bounds;
use crate::client::{Client, Topic};
use crate::coordinator::groups::consumer_protocol::{self, decode_assignment};
use crate::coordinator::groups::lag::{age_seconds, records_behind};
use crate::io::clock;
use crate::kafka::group::describe_groups;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// `millstream group describe …`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
LAG counts the records between the committed offset and the end of the partition. LAG S is the age \
in seconds of the oldest of them, by its timestamp: how far the group is behind. - stands for what \
is not known. In a pipe, rows are separated by tabs and begin with the group's name; --watch has an empty \
line between one look and the next.")]
pub struct Args {
    /// The groups' names
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Show the members and their partitions instead of the offsets
    #[arg(long, conflicts_with = "json")]
    members: bool,
    /// Print a JSON array, members included; with --watch one a line
    #[arg(long)]
    json: bool,
    /// Show it again and again, until it is interrupted
    #[arg(long)]
    watch: bool,
    /// How often, in seconds, or such as 500ms
    #[arg(long, value_name = "TIME", default_value = "2", requires = "watch")]
    interval: Every,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, Serialize)]
struct Description {
    group: String,
    state: String,
    protocol_type: String,
    /// The assignor that the members agreed on; empty without members.
    protocol: String,
    members: Vec<Member>,
    partitions: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Member {
    member: String,
    /// What a static member calls itself.
    instance: Option<String>,
    client: String,
    host: String,
    /// Partitions by topic; empty if the members' protocol is not that of consumers.
    assigned: BTreeMap<String, Vec<i32>>,
}

/// A partition that the group has committed or is assigned. None is what is not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    topic: String,
    partition: i32,
    committed_offset: Option<i64>,
    end_offset: Option<i64>,
    lag: Option<i64>,
    lag_seconds: Option<f64>,
    member: Option<String>,
    host: Option<String>,
}

/// Describes groups.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.watch {
        return watch(&args);
    }
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let groups = args.groups.iter();
    let (descriptions, failures) = sort_out(groups.map(|g| description_of(&mut client, g)));
    let mut out = Output::new();
    if args.json {
        out.json(&descriptions)?;
    } else {
        let is_terminal = out.is_terminal();
        for (at, description) in descriptions.iter().enumerate() {
            if at > 0 && is_terminal {
                out.line("")?;
            }
            let lines = lines(description, args.members, is_terminal);
            out.print(&lines)?;
        }
    }
    out.flush()?;
    all_or_nothing_failed(failures)
}

/// Shows the groups until it is interrupted. A connection that is lost on the way is made again.
fn watch(args: &Args) -> anyhow::Result<()> {
    let mut client = Some(Client::connect(&args.broker.bootstrap)?);
    let mut out = Output::new();
    loop {
        match look(&mut client, args) {
            Ok(descriptions) => show(&descriptions, args, &mut out)?,
            Err(error) if is_connection(&error) => {
                client = None;
                output::say(&format!("{error:#}"));
            }
            Err(error) => return Err(error),
        }
        args.interval.wait();
    }
}

fn look(client: &mut Option<Client>, args: &Args) -> anyhow::Result<Vec<Description>> {
    let client = match client {
        Some(client) => client,
        none => none.insert(Client::connect(&args.broker.bootstrap)?),
    };
    let groups = args.groups.iter();
    groups.map(|group| description_of(client, group)).collect()
}

fn show(descriptions: &[Description], args: &Args, out: &mut Output) -> anyhow::Result<()> {
    if args.json {
        out.line(&serde_json::to_string(descriptions)?)?;
        return out.flush();
    }
    let mut all = Vec::new();
    for description in descriptions {
        all.extend(lines(description, args.members, out.is_terminal()));
        if out.is_terminal() {
            all.push(Line::default());
        }
    }
    if !out.is_terminal() {
        all.push(Line::default());
    }
    screen::show(out, &all)
}

fn description_of(client: &mut Client, group: &str) -> anyhow::Result<Description> {
    let Some(mut description) = coordinator::describe(client, group, Description::of)? else {
        return Err(no_group(client, group));
    };
    let committed = coordinator::committed(client, group)?;
    description.partitions = rows(&committed, &description.members);
    add_lag(client, &mut description.partitions)?;
    Ok(description)
}

impl Description {
    /// Without partitions.
    fn of(group: &describe_groups::Group<'_>) -> Description {
        let is_consumers = group.protocol_type == consumer_protocol::PROTOCOL_TYPE;
        let member = |member: &describe_groups::Member<'_>| Member {
            member: member.member_id.to_string(),
            instance: member.group_instance_id.as_ref().map(ToString::to_string),
            client: member.client_id.to_string(),
            // Kafka's own brokers put a slash before it.
            host: member.client_host.trim_start_matches('/').to_owned(),
            assigned: if is_consumers {
                assigned(member)
            } else {
                BTreeMap::new()
            },
        };
        let mut members: Vec<_> = group.members.iter().map(member).collect();
        members.sort_by(|a, b| a.member.cmp(&b.member));
        Description {
            group: group.group_id.to_string(),
            state: group.group_state.to_string(),
            protocol_type: group.protocol_type.to_string(),
            protocol: group.protocol_data.to_string(),
            members,
            partitions: Vec::new(),
        }
    }
}

/// What the member was assigned; nothing where that cannot be read: only the members need to.
fn assigned(member: &describe_groups::Member<'_>) -> BTreeMap<String, Vec<i32>> {
    let mut assigned = BTreeMap::<String, Vec<i32>>::new();
    if let Ok(assignment) = decode_assignment(&member.member_assignment) {
        for topic in assignment.assigned_partitions {
            let partitions = assigned.entry(topic.topic.to_owned()).or_default();
            partitions.extend(topic.partitions);
            partitions.sort_unstable();
        }
    }
    assigned
}

/// A row for each partition that was committed or is assigned, without ends and lag.
fn rows(committed: &BTreeMap<TopicPartition, i64>, members: &[Member]) -> Vec<Row> {
    let mut owners = BTreeMap::<TopicPartition, &Member>::new();
    for member in members {
        for (topic, partitions) in &member.assigned {
            let owned = partitions.iter().map(|&p| ((topic.clone(), p), member));
            owners.extend(owned);
        }
    }
    let all: BTreeSet<_> = committed.keys().chain(owners.keys()).collect();
    let row = |key: &TopicPartition| Row {
        topic: key.0.clone(),
        partition: key.1,
        committed_offset: committed.get(key).copied(),
        end_offset: None,
        lag: None,
        lag_seconds: None,
        member: owners.get(key).map(|member| member.member.clone()),
        host: owners.get(key).map(|member| member.host.clone()),
    };
    all.into_iter().map(row).collect()
}

fn add_lag(client: &mut Client, rows: &mut [Row]) -> anyhow::Result<()> {
    let keys: Vec<_> = rows
        .iter()
        .map(|r| (r.topic.clone(), r.partition))
        .collect();
    let (bounds, topics) = lag::bounds(client, &keys)?;
    for (row, key) in rows.iter_mut().zip(&keys) {
        let (Some(&bounds), Some(topic)) = (
            bounds.get(key),
            topics.iter().find(|topic| topic.name == key.0),
        ) else {
            continue;
        };
        row.end_offset = Some(bounds.end);
        if let Some(committed) = row.committed_offset {
            row.lag = Some(records_behind(committed, bounds.start, bounds.end));
            row.lag_seconds = seconds_behind(client, topic, key.1, committed, bounds);
        }
    }
    Ok(())
}

/// The age of the oldest record that the group has not committed; None if that is not known.
fn seconds_behind(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    committed: i64,
    bounds: Bounds,
) -> Option<f64> {
    // Records below the start are gone: they do not count as lag.
    let from = committed.max(bounds.start);
    match lag::first_timestamp(client, topic, partition, from, bounds.end) {
        Ok(None) => Some(0.0),
        Ok(Some(timestamp)) => age_seconds(timestamp, clock::now_ms()),
        Err(_) => None,
    }
}

fn lines(description: &Description, members: bool, is_terminal: bool) -> Vec<Line> {
    let (columns, rows, none) = if members {
        (&MEMBER_COLUMNS[..], member_cells(description), "no members")
    } else {
        let none = "no offsets committed and no partitions assigned";
        (&PARTITION_COLUMNS[..], partition_cells(description), none)
    };
    // A heading names the group to a person; a pipe has it in each row.
    let skip = usize::from(is_terminal);
    let is_empty = rows.is_empty();
    let mut table = Table::new(&columns[skip..]);
    for cells in rows {
        table.row(cells.into_iter().skip(skip).collect());
    }
    if !is_terminal {
        return table.tabbed().collect();
    }
    let mut lines = vec![Line::from(heading(description)), Line::default()];
    if is_empty {
        lines.push(Line::from(none));
    } else {
        lines.extend(table.lines());
    }
    lines
}

fn heading(description: &Description) -> String {
    let mut line = format!("group {}  {}", description.group, description.state);
    if !description.protocol.is_empty() {
        line += &format!("  protocol {}", description.protocol);
    }
    let members = words::count(description.members.len() as u64, "member");
    format!("{line}  {members}")
}

const PARTITION_COLUMNS: [&str; 9] = [
    "GROUP",
    "TOPIC",
    ">PARTITION",
    ">COMMITTED",
    ">END",
    ">LAG",
    ">LAG S",
    "MEMBER",
    "HOST",
];

fn partition_cells(description: &Description) -> Vec<Vec<String>> {
    let row = |row: &Row| {
        vec![
            description.group.clone(),
            row.topic.clone(),
            row.partition.to_string(),
            or_dash(row.committed_offset),
            or_dash(row.end_offset),
            or_dash(row.lag),
            or_dash(row.lag_seconds.map(seconds)),
            or_dash(row.member.as_ref()),
            or_dash(row.host.as_ref()),
        ]
    };
    description.partitions.iter().map(row).collect()
}

const MEMBER_COLUMNS: [&str; 7] = [
    "GROUP",
    "MEMBER",
    "INSTANCE",
    "CLIENT",
    "HOST",
    ">PARTITIONS",
    "ASSIGNED",
];

fn member_cells(description: &Description) -> Vec<Vec<String>> {
    let row = |member: &Member| {
        let partitions: usize = member.assigned.values().map(Vec::len).sum();
        vec![
            description.group.clone(),
            member.member.clone(),
            or_dash(member.instance.as_ref()),
            member.client.clone(),
            member.host.clone(),
            partitions.to_string(),
            assigned_text(&member.assigned),
        ]
    };
    description.members.iter().map(row).collect()
}

/// Such as `clicks:0 orders:0,2`: each word is what `--topic` takes.
fn assigned_text(assigned: &BTreeMap<String, Vec<i32>>) -> String {
    if assigned.is_empty() {
        return "-".to_owned();
    }
    let topic = |(topic, partitions): (&String, &Vec<i32>)| {
        let partitions: Vec<_> = partitions.iter().map(i32::to_string).collect();
        format!("{topic}:{}", partitions.join(","))
    };
    assigned.iter().map(topic).collect::<Vec<_>>().join(" ")
}

/// Seconds to a tenth; 0 without one.
fn seconds(seconds: f64) -> String {
    if seconds == 0.0 {
        return "0".to_owned();
    }
    format!("{seconds:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, topic: &str, partitions: &[i32]) -> Member {
        Member {
            member: name.to_owned(),
            instance: None,
            client: "c".to_owned(),
            host: "h".to_owned(),
            assigned: BTreeMap::from([(topic.to_owned(), partitions.to_vec())]),
        }
    }

    #[test]
    fn rows_are_what_was_committed_and_what_is_assigned() {
        let committed = BTreeMap::from([(("a".to_owned(), 0), 5), (("a".to_owned(), 1), 6)]);
        let rows = rows(
            &committed,
            &[member("m1", "a", &[1]), member("m2", "b", &[0])],
        );
        let told: Vec<_> = rows
            .iter()
            .map(|r| {
                (
                    r.topic.as_str(),
                    r.partition,
                    r.committed_offset,
                    r.member.as_deref(),
                )
            })
            .collect();
        let expected = [
            ("a", 0, Some(5), None),
            ("a", 1, Some(6), Some("m1")),
            ("b", 0, None, Some("m2")),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn cells_say_what_is_known() {
        assert_eq!(or_dash(None::<String>), "-");
        assert_eq!(seconds(0.0), "0");
        assert_eq!(seconds(61.25), "61.2");
        assert_eq!(assigned_text(&BTreeMap::new()), "-");
        let mut member = member("m", "b", &[0, 2]);
        member.assigned.insert("a".to_owned(), vec![1]);
        assert_eq!(assigned_text(&member.assigned), "a:1 b:0,2");
    }
}
