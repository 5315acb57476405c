//! `millstream group`: list and describe consumer groups, reset and delete their offsets, delete
//! groups.
//!
//! - `describe`, `reset`: the two larger actions; the others are here.
//! - `coordinator`: what is asked of the brokers that look after groups.
//! - `lag`: how far behind a group is, in records and in time.

mod coordinator;
mod describe;
mod lag;
mod reset;

use crate::cli::broker_args::BrokerArgs;
use crate::cli::confirm::Consent;
use crate::cli::exit::Failure;
use crate::cli::output::Output;
use crate::cli::table::{or_dash, print_list};
use crate::cli::words;
use crate::client::{Client, kafka_error};
use clap::Subcommand;
use serde::Serialize;
use std::collections::BTreeMap;
use std::str::FromStr;

/// The states that a group may be in, of both of Kafka's protocols for consumers.
const STATES: [&str; 8] = [
    "Empty",
    "PreparingRebalance",
    "CompletingRebalance",
    "Stable",
    "Dead",
    "Assigning",
    "Reconciling",
    "NotReady",
];

/// `millstream group …`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all groups
    List(ListArgs),
    /// Show groups' committed offsets, how far behind they are, and their members
    Describe(describe::Args),
    /// Show what committed offsets would change to; with --execute, change them
    ResetOffsets(reset::Args),
    /// Delete groups with all their committed offsets
    Delete(DeleteArgs),
    /// Delete a group's committed offsets of some topics
    DeleteOffsets(DeleteOffsetsArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only groups in this state, such as Stable or Empty (may be repeated)
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    state: Vec<&'static str>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// The groups' names
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    consent: Consent,
    /// Print a JSON array of what was deleted
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
struct DeleteOffsetsArgs {
    /// The group's name
    group: String,
    /// A topic, or some partitions of it, such as orders:0,2 (may be repeated)
    #[arg(long, value_name = "TOPIC[:N,..]", required = true)]
    topic: Vec<Selection>,
    #[command(flatten)]
    consent: Consent,
    /// Print a JSON array of what was deleted
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// A topic's partition.
pub type TopicPartition = (String, i32);

/// Some partitions of a topic, as given on the command line: `orders` or `orders:0,2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    topic: String,
    /// Empty: all.
    partitions: Vec<i32>,
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Selection, String> {
        let (topic, list) = match text.split_once(':') {
            Some((topic, list)) => (topic, Some(list)),
            None => (text, None),
        };
        if topic.is_empty() {
            return Err("it names no topic".to_owned());
        }
        let number = |digits: &str| digits.trim().parse::<i32>().ok().filter(|&n| n >= 0);
        let partitions: Option<Vec<i32>> = match list {
            Some(list) => list.split(',').map(number).collect(),
            None => Some(Vec::new()),
        };
        let mut partitions = partitions
            .ok_or("what follows the colon is not a list of partitions, such as orders:0,2")?;
        partitions.sort_unstable();
        partitions.dedup();
        Ok(Selection {
            topic: topic.to_owned(),
            partitions,
        })
    }
}

/// Runs one of the actions on groups.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List(args) => list(args),
        Action::Describe(args) => describe::run(args),
        Action::ResetOffsets(args) => reset::run(args),
        Action::Delete(args) => delete(args),
        Action::DeleteOffsets(args) => delete_offsets(args),
    }
}

fn list(args: ListArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let mut groups = coordinator::list(&mut client, &args.state)?;
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    let columns = ["GROUP", "STATE", "TYPE", "PROTOCOL TYPE"];
    print_list(&groups, args.json, &columns, |group| {
        let protocol_type = Some(&group.protocol_type).filter(|text| !text.is_empty());
        vec![
            group.group.clone(),
            or_dash(group.state.as_ref()),
            or_dash(group.kind.as_ref()),
            or_dash(protocol_type),
        ]
    })
}

fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let groups = args.groups.join(", ");
    args.consent
        .ask(&format!("delete group {groups} with all committed offsets"))?;
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let delete = |group: &String| {
        coordinator::delete(&mut client, group)?;
        Ok(DeletedGroup {
            group: group.clone(),
        })
    };
    Output::new().done(args.groups.iter().map(delete), args.json, |one| {
        format!("deleted group {}", one.group)
    })
}

/// As `--json` shows it.
#[derive(Debug, Serialize)]
struct DeletedGroup {
    group: String,
}

/// As `--json` shows it.
#[derive(Debug, Serialize)]
struct DeletedOffset {
    group: String,
    topic: String,
    partition: i32,
}

impl DeletedOffset {
    fn text(&self) -> String {
        let (group, topic, partition) = (&self.group, &self.topic, self.partition);
        format!("the offset of group {group} in {topic} partition {partition}")
    }
}

fn delete_offsets(args: DeleteOffsetsArgs) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let group = &args.group;
    let committed = coordinator::committed(&mut client, group)?;
    let mut doomed = Vec::new();
    for selection in &args.topic {
        doomed.extend(committed_of(&committed, selection, group)?);
    }
    doomed.sort_unstable();
    doomed.dedup();
    let offsets = words::count(doomed.len() as u64, "committed offset");
    args.consent
        .ask(&format!("delete {offsets} of group {group}"))?;
    let codes = coordinator::delete_offsets(&mut client, group, &doomed)?;
    let results = codes.into_iter().map(|((topic, partition), code)| {
        let deleted = DeletedOffset {
            group: group.clone(),
            topic,
            partition,
        };
        if code.is_error() {
            let why = format!("cannot delete {}: {}", deleted.text(), kafka_error(code));
            return Err(Failure::refused(code, why).into());
        }
        Ok(deleted)
    });
    Output::new().done(results, args.json, |one| format!("deleted {}", one.text()))
}

/// What `group` has committed of the partitions in `selection`: all of those that it names.
fn committed_of(
    committed: &BTreeMap<TopicPartition, i64>,
    selection: &Selection,
    group: &str,
) -> anyhow::Result<Vec<TopicPartition>> {
    let topic = &selection.topic;
    let of_topic = committed.keys().filter(|(name, _)| name == topic);
    let all: Vec<i32> = of_topic.map(|&(_, partition)| partition).collect();
    if all.is_empty() {
        let why = format!("group {group} has committed no offsets of topic {topic}");
        return Err(Failure::not_found(why).into());
    }
    if let Some(missing) = selection.partitions.iter().find(|p| !all.contains(p)) {
        let why = format!("group {group} has committed no offset of {topic} partition {missing}");
        return Err(Failure::not_found(why).into());
    }
    let chosen = if selection.partitions.is_empty() {
        all
    } else {
        selection.partitions.clone()
    };
    Ok(chosen.into_iter().map(|p| (topic.clone(), p)).collect())
}

/// Says that there is no such group, where, and how to find those that are.
fn no_group(client: &Client, group: &str) -> anyhow::Error {
    let at = client.address();
    let why = format!(
        "group {group} does not exist at {at}. `millstream group list` shows those that do"
    );
    Failure::not_found(why).into()
}

fn parse_state(text: &str) -> Result<&'static str, String> {
    let known = STATES.iter().find(|state| state.eq_ignore_ascii_case(text));
    let unknown = || format!("it is none of {}", STATES.join(", "));
    known.copied().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Selection, committed_of, parse_state};

    fn selection(topic: &str, partitions: &[i32]) -> Selection {
        Selection {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        }
    }

    #[test]
    fn topics_come_with_or_without_partitions() {
        assert_eq!("orders".parse(), Ok(selection("orders", &[])));
        assert_eq!("orders:2,0,2".parse(), Ok(selection("orders", &[0, 2])));
        for text in ["", ":1", "orders:", "orders:-1", "orders:1,x", "a:b:0"] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }

    #[test]
    fn states_are_known_in_any_case() {
        assert_eq!(parse_state("stable"), Ok("Stable"));
        assert_eq!(parse_state("PREPARINGREBALANCE"), Ok("PreparingRebalance"));
        assert!(parse_state("idle").is_err_and(|why| why.contains("Empty")));
    }

    #[test]
    fn offsets_to_delete_are_those_committed() {
        let partition = |topic: &str, partition| (topic.to_owned(), partition);
        let committed = [("a", 0), ("a", 3), ("b", 1)].map(|(t, p)| (partition(t, p), 7));
        let committed = BTreeMap::from(committed);
        let of = |topic, partitions| committed_of(&committed, &selection(topic, partitions), "g");
        let all = of("a", &[]).expect("committed");
        assert_eq!(all, [partition("a", 0), partition("a", 3)]);
        assert_eq!(of("a", &[3]).expect("committed"), [partition("a", 3)]);
        for (topic, partitions) in [("a", &[1][..]), ("c", &[])] {
            let error = of(topic, partitions).expect_err("nothing there");
            assert!(
                error.to_string().contains("group g has committed no"),
                "{error}"
            );
        }
    }
}
