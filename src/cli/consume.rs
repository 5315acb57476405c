//! `millstream consume`: records become lines.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;

use crate::cli::broker_args::BrokerArgs;
use crate::cli::output::Output;
use crate::cli::position::Start;
use crate::cli::render::{Format, render};
use crate::cli::words;
use crate::client::codes;
use crate::client::offsets::{self, EARLIEST, LATEST, by_leader};
use crate::client::records::Batch;
use crate::client::{self, Client, Topic, topic_name};
use crate::log::records::Record;

/// How long the broker waits for records before an empty answer.
const FETCH_WAIT_MS: i32 = 500;
const FETCH_BYTES_MAX: i32 = 16 << 20;
const PARTITION_BYTES_MAX: i32 = 4 << 20;
/// How long to go on without an answer that helps.
const PATIENCE: Duration = Duration::from_secs(30);
const BACKOFF: Duration = Duration::from_millis(250);
/// Start the next version on, Fetch names topics by their ids.
const FETCH_VERSION_BY_NAME_MAX: i16 = 12;
const OFFSET_OUT_OF_RANGE: i16 = 1;

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
    let format = match args.json {
        true => Format::Json,
        false => Format::Plain {
            key_separator: args.key_separator,
            headers: args.headers,
        },
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

/// Those asked for, or all.
fn chosen_partitions(topic: &Topic, asked: &[i32]) -> anyhow::Result<Vec<i32>> {
    let all: Vec<i32> = topic
        .partitions
        .iter()
        .map(|partition| partition.index)
        .collect();
    if asked.is_empty() {
        return Ok(all);
    }
    if let Some(missing) = asked.iter().find(|partition| !all.contains(partition)) {
        let last = all.len().saturating_sub(1);
        bail!(
            "topic {} has no partition {missing}: its partitions are 0 to {last}",
            topic.name
        );
    }
    let mut asked = asked.to_vec();
    asked.sort_unstable();
    asked.dedup();
    Ok(asked)
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
    let starts = offsets::list(client, topic, partitions, EARLIEST)?;
    let ends = offsets::list(client, topic, partitions, LATEST)?;
    let at_time = match from {
        Start::Time(time) => offsets::list(client, topic, partitions, time)?,
        _ => BTreeMap::new(),
    };
    let cursor = |&partition: &i32| {
        let (start, end) = (starts[&partition], ends[&partition]);
        let position = match from {
            Start::Beginning => start,
            Start::End => end,
            Start::Time(_) => Some(at_time[&partition])
                .filter(|&offset| offset >= 0)
                .unwrap_or(end),
            Start::Offset(offset) if (start..=end).contains(&offset) => offset,
            Start::Offset(offset) => {
                return Err(out_of_range(topic, partition, offset, start, end));
            }
        };
        Ok(Cursor {
            partition,
            position,
            end: (!follow).then_some(end),
        })
    };
    partitions.iter().map(cursor).collect()
}

fn out_of_range(topic: &Topic, partition: i32, offset: i64, start: i64, end: i64) -> anyhow::Error {
    let name = &topic.name;
    match start == end {
        true => anyhow!(
            "offset {offset} is out of range: {name} partition {partition} is empty, and its next \
             record will have offset {end}"
        ),
        false => anyhow!(
            "offset {offset} is out of range: {name} partition {partition} holds offsets {start} to \
             {}",
            end - 1
        ),
    }
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
            // Whoever came first in the request comes last in the next: a busy partition must not
            // keep the others waiting.
            self.cursors.rotate_left(1);
            match trouble {
                None => last_success = Instant::now(),
                Some(why) if last_success.elapsed() > PATIENCE => {
                    bail!("given up after {} s: {why}", PATIENCE.as_secs())
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
            let sent = match leader {
                Some(leader) => self
                    .ask(leader, &partitions)
                    .map(|version| (leader, version)),
                None => {
                    trouble = Some(format!(
                        "{} partition {} has no leader",
                        self.topic.name, partitions[0]
                    ));
                    continue;
                }
            };
            passing(sent, &mut trouble)?
                .into_iter()
                .for_each(|sent| asked.push(sent));
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
        let at_most = if self.topic.id.is_nil() {
            FETCH_VERSION_BY_NAME_MAX
        } else {
            i16::MAX
        };
        let version = connection.version::<FetchRequest>(at_most)?;
        let cursors = self
            .cursors
            .iter()
            .filter(|cursor| partitions.contains(&cursor.partition));
        let partition = |cursor: &Cursor| {
            FetchPartition::default()
                .with_partition(cursor.partition)
                .with_fetch_offset(cursor.position)
                .with_partition_max_bytes(PARTITION_BYTES_MAX)
        };
        let topic = FetchTopic::default()
            .with_topic(topic_name(&self.topic.name))
            .with_topic_id(self.topic.id)
            .with_partitions(cursors.map(partition).collect());
        let request = FetchRequest::default()
            .with_max_wait_ms(FETCH_WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_BYTES_MAX)
            .with_topics(vec![topic]);
        connection.send(&request, version)?;
        Ok(version)
    }

    fn answer(&mut self, leader: i32, version: i16) -> client::Result<Vec<PartitionData>> {
        let reply = self
            .client
            .broker(leader)?
            .receive::<FetchRequest>(version)?;
        client::check(reply.error_code, "Fetch")?;
        Ok(reply
            .responses
            .into_iter()
            .flat_map(|topic| topic.partitions)
            .collect())
    }

    /// Prints what a partition gave. Returns what went wrong if it may pass.
    fn take(&mut self, data: PartitionData) -> anyhow::Result<Option<String>> {
        let partition = data.partition_index;
        let Some(at) = self.cursors.iter().position(|c| c.partition == partition) else {
            return Ok(None);
        };
        match data.error_code {
            0 => {
                let (cursor, topic) = (&mut self.cursors[at], &self.topic.name);
                self.printer.print_all(cursor, topic, data)?;
                Ok(None)
            }
            OFFSET_OUT_OF_RANGE => Err(self.lost_position(at)),
            code => {
                let why = format!(
                    "{} partition {partition}: {}",
                    self.topic.name,
                    codes::kafka_error(code)
                );
                let retriable =
                    ResponseError::try_from_code(code).is_some_and(|e| e.is_retriable());
                if retriable {
                    Ok(Some(why))
                } else {
                    Err(anyhow!(why))
                }
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
        let bounds = offsets::list(&mut self.client, &self.topic, &[partition], EARLIEST).and_then(
            |starts| {
                let ends = offsets::list(&mut self.client, &self.topic, &[partition], LATEST)?;
                Ok((starts[&partition], ends[&partition]))
            },
        );
        match bounds {
            Err(error) => {
                anyhow::Error::from(error).context(codes::kafka_error(OFFSET_OUT_OF_RANGE))
            }
            Ok((start, end)) => {
                let error = out_of_range(&self.topic, partition, position, start, end);
                error.context("records were deleted before they could be read")
            }
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
        data: PartitionData,
    ) -> anyhow::Result<()> {
        let mut bytes = data.records.unwrap_or_default();
        let any_bytes = !bytes.is_empty();
        let started_at = cursor.position;
        let named = || format!("{topic} partition {}", data.partition_index);
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
