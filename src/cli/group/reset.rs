//! `millstream group reset-offsets`: a group without members begins elsewhere.

use super::{Selection, TopicPartition, coordinator, lag};
use crate::cli::broker_args::BrokerArgs;
use crate::cli::output::{self, all_or_nothing_failed};
use crate::cli::position::{Start, chosen_partitions};
use crate::cli::table::{or_dash, print_list};
use crate::cli::words;
use crate::client::offsets::{self, Bounds};
use crate::client::{Client, Topic, kafka_error};
use anyhow::{anyhow, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::str::FromStr;

const EMPTY: &str = "Empty";

/// `millstream group reset-offsets …`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --execute nothing is changed. A target outside of what a partition holds becomes the nearest \
offset inside. The group must have no members: stop its consumers first.")]
#[group(id = "what", required = true, multiple = false, args = ["topic", "all_topics"])]
pub struct Args {
    /// The group's name
    group: String,
    /// A topic, or some partitions of it, such as orders:0,2 (may be repeated)
    #[arg(long, value_name = "TOPIC[:N,..]")]
    topic: Vec<Selection>,
    /// All partitions that the group has committed
    #[arg(long)]
    all_topics: bool,
    /// The new offset: beginning, end, an offset, a time such as -1h, 2026-01-31T12:00:00Z or
    /// @1767225600000 (milliseconds since 1970), or a step from the committed one such as +10 or -10
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    to: Target,
    /// Change the offsets
    #[arg(long)]
    execute: bool,
    /// Only show what would change: the default
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    At(Start),
    /// This many records from the committed offset.
    By(i64),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        if text.starts_with(['+', '-'])
            && let Ok(step) = text.parse()
        {
            return Ok(Target::By(step));
        }
        let forms = |why| format!("{why}, nor is it a step such as +10 or -10");
        text.parse().map(Target::At).map_err(forms)
    }
}

/// What happens to one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Move {
    topic: String,
    partition: i32,
    /// What is committed now; None if nothing is.
    from: Option<i64>,
    to: i64,
}

/// Shows or makes the moves.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let group = &args.group;
    let exists = require_empty(&mut client, group)?;
    let committed = coordinator::committed(&mut client, group)?;
    let partitions = if args.all_topics {
        committed.keys().cloned().collect()
    } else {
        chosen(&mut client, &args.topic)?
    };
    if partitions.is_empty() {
        bail!("group {group} has committed no offsets: name what to reset with --topic");
    }
    let moves = plan(&mut client, &partitions, &committed, args.to)?;
    let (moves, failures) = if args.execute {
        execute(&mut client, group, moves)?
    } else {
        (moves, Vec::new())
    };
    print(&moves, args.json)?;
    let offsets = words::count(moves.len() as u64, "offset");
    output::say(&match (args.execute, exists) {
        (true, _) => format!("committed {offsets} of group {group}"),
        (false, true) => {
            format!("nothing changed yet: --execute commits {offsets} of group {group}")
        }
        (false, false) => format!(
            "nothing changed yet: group {group} does not exist, --execute makes it with {offsets}"
        ),
    });
    all_or_nothing_failed(failures)
}

/// Whether the group exists. A group with members is refused.
fn require_empty(client: &mut Client, group: &str) -> anyhow::Result<bool> {
    let described = coordinator::describe(client, group, |group| {
        (group.group_state.to_string(), group.members.len() as u64)
    })?;
    let Some((state, members)) = described else {
        return Ok(false);
    };
    if state != EMPTY {
        let members = words::count(members, "member");
        bail!(
            "group {group} is {state} with {members}: its offsets can be reset only while it is \
             Empty. Stop its consumers, wait until they have left (`millstream group describe \
             {group}`), and try again"
        );
    }
    Ok(true)
}

/// The partitions that were asked for, which must exist.
fn chosen(client: &mut Client, selections: &[Selection]) -> anyhow::Result<Vec<TopicPartition>> {
    let mut chosen = Vec::new();
    for selection in selections {
        let topic = client.topic(&selection.topic)?;
        let partitions = chosen_partitions(&topic, &selection.partitions)?;
        chosen.extend(partitions.into_iter().map(|p| (topic.name.clone(), p)));
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

fn plan(
    client: &mut Client,
    partitions: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, i64>,
    target: Target,
) -> anyhow::Result<Vec<Move>> {
    let (bounds, topics) = lag::bounds(client, partitions)?;
    let at_time = match target {
        Target::At(Start::Time(time)) => offsets_at(client, &topics, &bounds, time)?,
        _ => BTreeMap::new(),
    };
    let planned = |key: &TopicPartition| {
        let (topic, partition) = key;
        let Some(&bounds) = bounds.get(key) else {
            bail!(
                "{topic} partition {partition} cannot be reset: it does not exist any more, or has \
                 no leader. `--topic` names those to reset"
            );
        };
        let from = committed.get(key).copied();
        let Some(to) = target_offset(target, from, bounds, at_time.get(key).copied()) else {
            bail!(
                "{topic} partition {partition} has no committed offset to step from: name another \
                 target with --to"
            );
        };
        Ok(Move {
            topic: topic.clone(),
            partition: *partition,
            from,
            to,
        })
    };
    partitions.iter().map(planned).collect()
}

/// Each partition's first record at or after `time`; nothing where there is none.
fn offsets_at(
    client: &mut Client,
    topics: &[Topic],
    bounds: &BTreeMap<TopicPartition, Bounds>,
    time: i64,
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let mut found = BTreeMap::new();
    for topic in topics {
        let of_topic = bounds.keys().filter(|(name, _)| *name == topic.name);
        let partitions: Vec<i32> = of_topic.map(|&(_, partition)| partition).collect();
        let offsets = offsets::list(client, topic, &partitions, time)?.into_iter();
        let offsets = offsets.filter(|&(_, offset)| offset >= 0);
        found.extend(offsets.map(|(partition, offset)| ((topic.name.clone(), partition), offset)));
    }
    Ok(found)
}

/// The offset to commit, inside of what the partition holds; None for a step from nowhere.
fn target_offset(
    target: Target,
    committed: Option<i64>,
    bounds: Bounds,
    at_time: Option<i64>,
) -> Option<i64> {
    let wanted = match target {
        Target::At(Start::Beginning) => bounds.start,
        Target::At(Start::End) => bounds.end,
        Target::At(Start::Offset(offset)) => offset,
        Target::At(Start::Time(_)) => at_time.unwrap_or(bounds.end),
        Target::By(step) => committed?.saturating_add(step),
    };
    Some(wanted.min(bounds.end).max(bounds.start))
}

/// Commits; the moves that were made, and why others were not.
fn execute(
    client: &mut Client,
    group: &str,
    moves: Vec<Move>,
) -> anyhow::Result<(Vec<Move>, Vec<anyhow::Error>)> {
    let key = |m: &Move| (m.topic.clone(), m.partition);
    let offsets = moves.iter().map(|m| (key(m), m.to)).collect();
    let codes = coordinator::commit(client, group, &offsets)?;
    let code_of = |m: &Move| codes.get(&key(m)).copied();
    let (made, refused): (Vec<_>, Vec<_>) = moves
        .into_iter()
        .partition(|m| code_of(m).is_some_and(|code| !code.is_error()));
    let failure = |m: &Move| {
        let why = code_of(m).map_or("the broker did not answer for it".to_owned(), kafka_error);
        let (topic, partition) = (&m.topic, m.partition);
        anyhow!("cannot commit the offset of group {group} in {topic} partition {partition}: {why}")
    };
    let failures = refused.iter().map(failure).collect();
    Ok((made, failures))
}

fn print(moves: &[Move], json: bool) -> anyhow::Result<()> {
    print_list(moves, json, &["TOPIC", ">PARTITION", ">FROM", ">TO"], |m| {
        let (partition, to) = (m.partition.to_string(), m.to.to_string());
        vec![m.topic.clone(), partition, or_dash(m.from), to]
    })
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Start, Target, target_offset};

    #[test]
    fn a_sign_makes_a_step() {
        assert_eq!("+5".parse(), Ok(Target::By(5)));
        assert_eq!("-5".parse(), Ok(Target::By(-5)));
        assert_eq!("5".parse(), Ok(Target::At(Start::Offset(5))));
        assert_eq!("end".parse(), Ok(Target::At(Start::End)));
        assert_eq!("@7".parse(), Ok(Target::At(Start::Time(7))));
        assert!(matches!("-1h".parse(), Ok(Target::At(Start::Time(_)))));
        for text in ["", "+", "-", "+-1", "-1x", "+1h", "latest"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn targets_stay_inside_the_partition() {
        let bounds = Bounds { start: 10, end: 20 };
        let at = |start| target_offset(Target::At(start), Some(15), bounds, None);
        assert_eq!(at(Start::Beginning), Some(10));
        assert_eq!(at(Start::End), Some(20));
        assert_eq!(at(Start::Offset(12)), Some(12));
        assert_eq!(at(Start::Offset(3)), Some(10));
        assert_eq!(at(Start::Offset(99)), Some(20));
        assert_eq!(at(Start::Time(0)), Some(20), "no record is as young");
        let found = target_offset(Target::At(Start::Time(0)), None, bounds, Some(11));
        assert_eq!(found, Some(11));
    }

    #[test]
    fn steps_start_from_what_is_committed() {
        let bounds = Bounds { start: 10, end: 20 };
        let by = |step, committed| target_offset(Target::By(step), committed, bounds, None);
        assert_eq!(by(-3, Some(15)), Some(12));
        assert_eq!(by(i64::MIN, Some(15)), Some(10));
        assert_eq!(by(i64::MAX, Some(15)), Some(20));
        assert_eq!(by(1, None), None);
    }
}
