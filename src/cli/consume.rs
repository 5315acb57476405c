//! `millstream consume`: records become lines.

use crate::cli::broker_args::BrokerArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::position::{Start, chosen_partitions};
use crate::cli::render::{Format, render};
use crate::cli::words;
use crate::client::fetch::{self, Limits};
use crate::client::offsets::{self, Bounds, by_leader};
use crate::client::records::Batch;
use crate::client::{self, Client, Topic, kafka_error};
use crate::kafka::data::fetch::{PartitionResponse, Request};
use crate::kafka::error::ErrorCode;
use crate::log::records::Record;
use anyhow::{Context, anyhow, bail};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The broker waits for records before an empty answer.
const LIMITS: Limits = Limits {
    max_wait_ms: 500,
    min_bytes: 1,
    max_bytes: 16 << 20,
    partition_max_bytes: 4 << 20,
};
/// How long to go on without an answer that helps.
const PATIENCE: Duration = Duration::from_secs(30);
const BACKOFF: Duration = Duration::from_millis(250);

/// `millstream consume …`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --follow, reading stops where each partition ended when the command started. Within a \
partition records come in their order; across partitions they come as the broker sends them.")]
pub struct Args {
    /// The topic to read
    topic: String,
    /// Read this partition only (may be repeated) [default: all]
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// Where to begin: beginning, end, an offset, or a time such as 2026-01-31T12:00:00Z or
    /// @1767225600000 (milliseconds since 1970)
    #[arg(long, value_name = "WHERE", default_value = "beginning")]
    from: Start,
    /// Go on with records as they are written
    #[arg(long, short)]
    follow: bool,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
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
    let cursors = cursors(&mut client, &topic, &partitions, args.from, args.follow)?;
    let format = if args.json {
        Format::Json
    } else {
        Format::Plain {
            key_separator: args.key_separator,
            headers: args.headers,
        }
    };
    let printer = Printer {
        out: Output::new(),
        format,
        left: args.max.unwrap_or(u64::MAX),
        line: Vec::new(),
    };
    let mut reader = Reader {
        client,
        topic,
        cursors,
        printer,
    };
    let result = reader.read();
    let flushed = reader.printer.out.flush();
    result.and(flushed)
}

/// How far one partition has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    partition: i32,
    /// The offset of the next record.
    position: i64,
    /// Where to stop; None: never.
    end: Option<i64>,
}

impl Cursor {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.position >= end)
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
            end: (!follow).then_some(end),
        })
    };
    partitions.iter().map(cursor).collect()
}

fn out_of_range(topic: &Topic, partition: i32, offset: i64, bounds: Bounds) -> anyhow::Error {
    let (name, Bounds { start, end }) = (&topic.name, bounds);
    let holds = if start == end {
        format!("is empty, and its next record will have offset {end}")
    } else {
        format!("holds offsets {start} to {}", end - 1)
    };
    anyhow!("offset {offset} is out of range: {name} partition {partition} {holds}")
}

/// Reads until every cursor is at its end or enough has been printed.
struct Reader {
    client: Client,
    topic: Topic,
    cursors: Vec<Cursor>,
    printer: Printer,
}

impl Reader {
    fn read(&mut self) -> anyhow::Result<()> {
        let mut last_success = Instant::now();
        while self.printer.left > 0 && !self.cursors.iter().all(Cursor::is_done) {
            let trouble = self.round()?;
            self.printer.out.flush()?;
            // The first partition of a request is the last of the next: a busy one must not keep the
            // others waiting.
            self.cursors.rotate_left(1);
            match trouble {
                None => last_success = Instant::now(),
                Some(why) if last_success.elapsed() > PATIENCE => {
                    let why = format!("given up after {} s: {why}", PATIENCE.as_secs());
                    return Err(Failure::new(Exit::TimedOut, why).into());
                }
                Some(_) => self.wait_and_refresh()?,
            }
        }
        Ok(())
    }

    /// Asks every leader once, all of them before the first answers. Returns what went wrong if it
    /// may pass.
    fn round(&mut self) -> anyhow::Result<Option<String>> {
        let mut trouble = None;
        let mut asked = Vec::new();
        let open = self.cursors.iter().filter(|cursor| !cursor.is_done());
        for (leader, partitions) in by_leader(&self.topic, open.map(|cursor| cursor.partition)) {
            let Some(leader) = leader else {
                let (topic, partition) = (&self.topic.name, partitions[0]);
                trouble = Some(format!("{topic} partition {partition} has no leader"));
                continue;
            };
            let sent = self.ask(leader, &partitions);
            let sent = passing(sent, &mut trouble)?;
            asked.extend(sent.map(|version| (leader, version)));
        }
        for (leader, version) in asked {
            let answer = self.answer(leader, version);
            for data in passing(answer, &mut trouble)?.unwrap_or_default() {
                trouble = self.take(data)?.or(trouble);
            }
        }
        Ok(trouble)
    }

    fn ask(&mut self, leader: i32, partitions: &[i32]) -> client::Result<i16> {
        let connection = self.client.broker(leader)?;
        let version = fetch::version(connection, &self.topic)?;
        let cursors = self.cursors.iter();
        let cursors = cursors.filter(|cursor| partitions.contains(&cursor.partition));
        let positions = cursors.map(|cursor| (cursor.partition, cursor.position));
        let request = fetch::request(&self.topic, positions, LIMITS);
        connection.send(&request, version)?;
        Ok(version)
    }

    fn answer(&mut self, leader: i32, version: i16) -> client::Result<Vec<PartitionResponse>> {
        let connection = self.client.broker(leader)?;
        let reply = connection.receive::<Request>(version)?;
        client::check(reply.error_code, "Fetch")?;
        let topics = reply.topics.into_iter();
        Ok(topics.flat_map(|topic| topic.partitions).collect())
    }

    /// Prints what a partition gave. Returns what went wrong if it may pass.
    fn take(&mut self, data: PartitionResponse) -> anyhow::Result<Option<String>> {
        let partition = data.index;
        let Some(at) = self.cursors.iter().position(|c| c.partition == partition) else {
            return Ok(None);
        };
        let topic = &self.topic.name;
        match data.error_code {
            ErrorCode::None => {
                self.printer.print_all(&mut self.cursors[at], topic, data)?;
                Ok(None)
            }
            ErrorCode::OffsetOutOfRange => Err(self.lost_position(at)),
            code => {
                let why = format!("{topic} partition {partition}: {}", kafka_error(code));
                if code.is_retriable() {
                    return Ok(Some(why));
                }
                Err(Failure::refused(code, why).into())
            }
        }
    }

    /// What to say when the broker no longer has the offset that comes next.
    fn lost_position(&mut self, at: usize) -> anyhow::Error {
        let Cursor {
            partition,
            position,
            ..
        } = self.cursors[at];
        match offsets::bounds(&mut self.client, &self.topic, &[partition]) {
            Err(error) => {
                anyhow::Error::from(error).context(kafka_error(ErrorCode::OffsetOutOfRange))
            }
            Ok(bounds) => out_of_range(&self.topic, partition, position, bounds[&partition])
                .context("records were deleted before they could be read"),
        }
    }

    /// Looks for new leaders after a moment. A broker that cannot be reached now is left to the next
    /// round.
    fn wait_and_refresh(&mut self) -> anyhow::Result<()> {
        sleep(BACKOFF);
        match self.client.topic(&self.topic.name) {
            Ok(topic) => self.topic = topic,
            Err(error) if error.is_connection() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Sets failures of a connection aside as `trouble`; others remain failures.
fn passing<T>(
    result: client::Result<T>,
    trouble: &mut Option<String>,
) -> client::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_connection() => {
            *trouble = Some(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Prints records until enough have been printed.
struct Printer {
    out: Output,
    format: Format,
    /// How many more records to print.
    left: u64,
    line: Vec<u8>,
}

impl Printer {
    /// Prints what `data` holds from the cursor on, and moves the cursor.
    fn print_all(
        &mut self,
        cursor: &mut Cursor,
        topic: &str,
        data: PartitionResponse,
    ) -> anyhow::Result<()> {
        let partition = data.index;
        let mut bytes = data.records.0;
        let any_bytes = !bytes.is_empty();
        let started_at = cursor.position;
        let named = || format!("{topic} partition {partition}");
        while let Some(batch) = Batch::take(&mut bytes).with_context(named)? {
            if cursor.is_done() || self.left == 0 {
                return Ok(());
            }
            if batch.next_offset() <= cursor.position {
                continue;
            }
            if !batch.is_control() {
                let records = batch.records().with_context(named)?;
                for record in records.iter() {
                    let record = record.map_err(|error| batch.unreadable(error));
                    if !self.print(cursor, topic, &record.with_context(named)?)? {
                        break;
                    }
                }
            }
            if self.left > 0 {
                cursor.position = cursor.position.max(batch.next_offset());
            }
        }
        if any_bytes && cursor.position == started_at {
            bail!(
                "{}: the batch at offset {started_at} is larger than a fetch returns",
                named()
            );
        }
        Ok(())
    }

    /// Prints `record` unless it lies before the cursor; false when there is nothing more to print.
    fn print(
        &mut self,
        cursor: &mut Cursor,
        topic: &str,
        record: &Record<'_>,
    ) -> anyhow::Result<bool> {
        let beyond_end = cursor.end.is_some_and(|end| record.offset >= end);
        if beyond_end || self.left == 0 {
            return Ok(false);
        }
        if record.offset < cursor.position {
            return Ok(true);
        }
        self.line.clear();
        render(
            &mut self.line,
            &self.format,
            topic,
            cursor.partition,
            record,
        );
        self.out.write(&self.line)?;
        cursor.position = record.offset + 1;
        self.left -= 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn a_cursor_without_an_end_is_never_done() {
        let mut cursor = Cursor {
            partition: 0,
            position: 5,
            end: Some(5),
        };
        assert!(cursor.is_done());
        cursor.end = None;
        assert!(!cursor.is_done());
    }
}
