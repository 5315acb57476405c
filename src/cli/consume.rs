//! `millstream consume`: records become lines.
//!
//! - `reader`: asks the leaders for records, from one offset of each partition to another.
//! - `filter`: which records are wanted.
//! - `last`: the newest records, looked for from the end backwards.

mod filter;
mod last;
mod reader;

use self::filter::Filter;
use self::reader::{Cursor, Reader, Sink, out_of_range};
use crate::cli::broker_args::BrokerArgs;
use crate::cli::format;
use crate::cli::output::Output;
use crate::cli::position::{self, Start, chosen_partitions};
use crate::cli::render::{Format, render};
use crate::cli::words;
use crate::client::offsets::{self, Bounds};
use crate::client::{Client, Topic};
use crate::log::records::Record;
use std::collections::BTreeMap;

/// `millstream consume …`
#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Without --follow, reading stops where each partition ended when the command started. Within a \
partition records come in their order; across partitions they come as the broker sends them, with --last \
in the order of their timestamps. --key, --grep, --since, --last, --max and --follow go together.

A TIME is a time ago such as 1h or -1h (ms, s, m, h, d), 2026-01-31T12:00:00Z, or @1767225600000 \
(milliseconds since 1970).

{} Nothing is added, so end it with \\n: -f '%p %o %k %v\\n'.", format::HELP))]
pub struct Args {
    /// The topic to read
    topic: String,
    /// Read this partition only (may be repeated) [default: all]
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// Where to begin: beginning, end, an offset, or a TIME such as -1h, 2026-01-31T12:00:00Z or
    /// @1767225600000 (milliseconds since 1970)
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "beginning",
        allow_hyphen_values = true
    )]
    from: Start,
    /// Only records of this TIME or later
    #[arg(
        long,
        value_name = "TIME",
        value_parser = position::time,
        allow_hyphen_values = true,
        conflicts_with = "from"
    )]
    since: Option<i64>,
    /// Only the newest N of the records that are wanted, all partitions together
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with = "from"
    )]
    last: Option<u32>,
    /// Only records with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only records whose key or value has this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Go on with records as they are written
    #[arg(long, short = 'F')]
    follow: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// How to print a record, such as '%k %v\n' (below)
    #[arg(
        long,
        short,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        conflicts_with_all = ["json", "key_separator", "headers"]
    )]
    format: Option<format::Format>,
    /// Print a JSON object a line
    #[arg(long, conflicts_with_all = ["key_separator", "headers"])]
    json: bool,
    /// Print keys before values, with this between them; \t is a tab
    #[arg(long, value_name = "SEPARATOR", value_parser = words::separator)]
    key_separator: Option<String>,
    /// Print headers as key=value,key=value and a tab at the start of each line
    #[arg(long)]
    headers: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Prints the records of a topic.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut client = Client::connect(&args.broker.bootstrap)?;
    let topic = client.topic(&args.topic)?;
    let partitions = chosen_partitions(&topic, &args.partition)?;
    let from = args.since.map_or(args.from, Start::Time);
    let mut cursors = cursors(&mut client, &topic, &partitions, from, args.follow)?;
    let format = format_of(&args);
    let filter = Filter::new(args.key.as_deref(), args.grep.as_deref(), args.since);
    let mut reader = Reader::new(client, topic);
    let mut printer = Printer {
        out: Output::new(),
        format,
        filter,
        left: args.max.unwrap_or(u64::MAX),
        line: Vec::new(),
    };
    if let Some(count) = args.last {
        let (format, filter) = (&printer.format, &printer.filter);
        let found = last::newest(&mut reader, &mut cursors, count as usize, format, filter)?;
        found.iter().try_for_each(|line| printer.write(line))?;
    }
    let result = reader.read(&mut cursors, &mut printer);
    let flushed = printer.out.flush();
    result.and(flushed)
}

fn format_of(args: &Args) -> Format {
    match &args.format {
        Some(format) => Format::Custom(format.clone()),
        None if args.json => Format::Json,
        None => Format::Plain {
            key_separator: args.key_separator.clone(),
            headers: args.headers,
        },
    }
}

fn cursors(
    client: &mut Client,
    topic: &Topic,
    partitions: &[i32],
    from: Start,
    follow: bool,
) -> anyhow::Result<Vec<Cursor>> {
    let bounds = offsets::bounds(client, topic, partitions)?;
    let at_time = match from {
        Start::Time(time) => offsets::list(client, topic, partitions, time)?,
        _ => BTreeMap::new(),
    };
    let cursor = |&partition: &i32| {
        let bounds = bounds[&partition];
        let Bounds { start, end } = bounds;
        let position = match from {
            Start::Beginning => start,
            Start::End => end,
            Start::Time(_) => Some(at_time[&partition])
                .filter(|&offset| offset >= 0)
                .unwrap_or(end),
            Start::Offset(offset) if (start..=end).contains(&offset) => offset,
            Start::Offset(offset) => return Err(out_of_range(topic, partition, offset, bounds)),
        };
        Ok(Cursor {
            partition,
            position,
            end,
            follow,
        })
    };
    partitions.iter().map(cursor).collect()
}

/// Prints records that are wanted until enough have been printed.
struct Printer {
    out: Output,
    format: Format,
    filter: Filter,
    /// How many more records to print.
    left: u64,
    line: Vec<u8>,
}

impl Printer {
    /// Writes a record that has been rendered, if more are wanted.
    fn write(&mut self, line: &[u8]) -> anyhow::Result<()> {
        if self.left > 0 {
            self.out.write(line)?;
            self.left -= 1;
        }
        Ok(())
    }
}

impl Sink for Printer {
    fn take(&mut self, topic: &str, partition: i32, record: &Record<'_>) -> anyhow::Result<()> {
        if !self.filter.wants(record) {
            return Ok(());
        }
        self.line.clear();
        render(&mut self.line, &self.format, topic, partition, record);
        self.out.write(&self.line)?;
        self.left -= 1;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.left == 0
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.out.flush()
    }
}
