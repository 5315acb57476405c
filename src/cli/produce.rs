//! `millstream produce`: lines of text become records.

use crate::cli::broker_args::BrokerArgs;
use crate::cli::exit::Failure;
use crate::cli::format::{self, Line, LineFormat};
use crate::cli::lines::{self, Block};
use crate::cli::output::{self, Output};
use crate::cli::position::no_partition;
use crate::cli::words;
use crate::client::Client;
use crate::client::producer::{Acks, Origin, Producer, Settings, Totals};
use crate::client::records::{Header, NewRecord};
use crate::io::clock;
use crate::log::batch::Codec;
use crate::wire::partitioner::{Sticky, partition_for_key};
use anyhow::{Context, anyhow};
use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::json;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A name server that does not answer, or a host that drops packets, takes many times as long.
const CONNECT_PATIENCE: Duration = Duration::from_millis(800);
const BATCH_BYTES_DEFAULT: &str = "524288";

/// `millstream produce …`
#[derive(Debug, clap::Args)]
#[command(after_help = format!("\
Records with a key go to the partition that Kafka's Java client would pick; records without one fill \
a batch for one partition, then for the next. An empty line is a record with an empty value.

{} %t and %o cannot be chosen. A field ends where the text behind it begins first, the last one at \
the end of the line. So `consume -f '%k\\t%v\\n'` can be read with -f '%k\\t%v'.", format::HELP))]
pub struct Args {
    /// The topic to write to
    topic: String,
    /// Files to read; - or nothing is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What stands between key and value in each line; \t is a tab
    #[arg(long, value_name = "SEPARATOR", value_parser = words::separator)]
    key_separator: Option<String>,
    /// How to read a line, such as '%k\t%v' (below)
    #[arg(
        long,
        short,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        conflicts_with = "key_separator"
    )]
    format: Option<LineFormat>,
    /// The key of every record
    #[arg(long, value_name = "KEY", conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of every record (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = words::pair)]
    header: Vec<(String, String)>,
    /// Write everything to this partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// When a record counts as written: 0 sent, 1 received, all durable, and stored once even if retried
    #[arg(long, value_name = "0|1|all", default_value = "all", value_parser = words::acks)]
    acks: Acks,
    /// Compression of each batch
    #[arg(long, value_enum, default_value_t = Codec::None)]
    codec: Codec,
    /// Size at which a batch is sent, in bytes before compression
    #[arg(
        long,
        value_name = "BYTES",
        default_value = BATCH_BYTES_DEFAULT,
        value_parser = clap::value_parser!(u32).range(1..=16 << 20)
    )]
    batch_bytes: u32,
    /// How long a record waits for others to share its batch, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger_ms: u32,
    /// How long a batch is tried for before giving up, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120_000)]
    timeout_ms: u32,
    /// Print how many records and bytes were written as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Reads lines to their end and writes them to the topic; says on standard error how many.
pub fn run(args: Args) -> anyhow::Result<()> {
    check(&args)?;
    let bootstrap = args.broker.bootstrap.clone();
    let tell = move || output::say(&format!("still looking for a broker at {bootstrap}"));
    let connect = || Client::connect(&args.broker.bootstrap);
    let client = output::tell_if_slow(CONNECT_PATIENCE, tell, connect)?;
    let producer = Producer::open(client, &args.topic, settings(&args))?;
    let partitions = producer.partitions();
    if let Some(partition) = args.partition.filter(|&partition| partition >= partitions) {
        return Err(no_partition(&args.topic, partition, partitions - 1).into());
    }
    let blocks = lines::read(args.files.clone()).context("cannot start a thread")?;
    let mut session = Session {
        topic: args.topic.clone(),
        chooser: Chooser {
            fixed: args.partition,
            sticky: Sticky::new(partitions),
        },
        reading: Reading {
            separator: args
                .key_separator
                .as_ref()
                .map(|text| text.as_bytes().to_vec()),
            format: args.format.clone(),
            key: args.key.clone().map(Bytes::from),
        },
        linger: Duration::from_millis(args.linger_ms.into()),
        progress: progress_bar(&args.files),
        producer,
    };
    let result = session.pump(&blocks);
    session.progress.finish_and_clear();
    let totals = session.producer.totals();
    if totals == Totals::default() && result.is_err() {
        return result;
    }
    result.with_context(|| format!("stopped after {}", words::count(totals.records, "record")))?;
    let (records, bytes) = (
        words::count(totals.records, "record"),
        words::size(totals.bytes),
    );
    output::say(&format!("produced {records}, {bytes}, to {}", args.topic));
    if !args.json {
        return Ok(());
    }
    let Totals { records, bytes } = totals;
    let mut out = Output::new();
    out.json(&json!({ "topic": args.topic, "records": records, "bytes": bytes }))?;
    out.flush()
}

/// One run: lines in, batches out.
struct Session {
    topic: String,
    producer: Producer,
    chooser: Chooser,
    reading: Reading,
    linger: Duration,
    progress: ProgressBar,
}

impl Session {
    fn pump(&mut self, blocks: &Receiver<anyhow::Result<Block>>) -> anyhow::Result<()> {
        let mut oldest = Instant::now();
        loop {
            if !self.producer.has_pending() {
                oldest = Instant::now();
            }
            let patience = if self.producer.has_pending() {
                self.linger.saturating_sub(oldest.elapsed())
            } else {
                Duration::MAX
            };
            match next_block(blocks, patience) {
                Ok(block) => self.add(&block?)?,
                Err(RecvTimeoutError::Timeout) => self.flush()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(self.producer.finish()?)
    }

    fn add(&mut self, block: &Block) -> anyhow::Result<()> {
        let timestamp_ms = clock::now_ms();
        for (at, line) in block.lines.iter().enumerate() {
            let origin = Origin {
                source: block.source.clone(),
                line: block.first_line + at as u64,
            };
            let named = || format!("line {} of {}", origin.line, origin.source);
            let read = self.reading.read(line);
            let read = read.map_err(|why| anyhow!("{} {why}", named()))?;
            let last = self.chooser.sticky.partitions() - 1;
            if let Some(partition) = read.partition.filter(|&partition| partition > last) {
                return Err(no_partition(&self.topic, partition, last)).with_context(named);
            }
            let record = NewRecord {
                timestamp_ms: read.timestamp_ms.unwrap_or(timestamp_ms),
                key: read.key,
                value: read.value,
                headers: read.headers,
            };
            let chosen = self.chooser.partition_of(read.partition, &record);
            if !self.producer.has_room(chosen, &record) {
                self.flush()?;
            }
            // After a flush another one may be chosen.
            let chosen = self.chooser.partition_of(read.partition, &record);
            self.producer.add(chosen, record, origin);
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.producer.flush()?;
        self.chooser.sticky.advance();
        let Totals { records, bytes } = self.producer.totals();
        let (records, bytes) = (words::count(records, "record"), words::size(bytes));
        self.progress.set_message(format!("{records}, {bytes}"));
        self.progress.tick();
        Ok(())
    }
}

/// Which partition each record goes to.
#[derive(Debug)]
struct Chooser {
    fixed: Option<i32>,
    sticky: Sticky,
}

impl Chooser {
    /// The partition of a record that its line gave to `own`, or to none.
    fn partition_of(&self, own: Option<i32>, record: &NewRecord) -> i32 {
        match (own.or(self.fixed), &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, self.sticky.partitions()),
            (None, None) => self.sticky.current(),
        }
    }
}

fn settings(args: &Args) -> Settings {
    let header = |(key, value): &(String, String)| -> Header {
        (Bytes::from(key.clone()), Some(Bytes::from(value.clone())))
    };
    Settings {
        acks: args.acks,
        codec: args.codec,
        batch_bytes: args.batch_bytes as usize,
        timeout: Duration::from_millis(args.timeout_ms.into()),
        headers: args.header.iter().map(header).collect(),
        on_trouble: |why| output::say(&format!("not delivered yet, trying again: {why}")),
    }
}

fn next_block(
    blocks: &Receiver<anyhow::Result<Block>>,
    patience: Duration,
) -> Result<anyhow::Result<Block>, RecvTimeoutError> {
    match patience {
        Duration::MAX => blocks.recv().map_err(|_| RecvTimeoutError::Disconnected),
        patience => blocks.recv_timeout(patience),
    }
}

/// How a line becomes a record.
#[derive(Debug, Default)]
struct Reading {
    separator: Option<Vec<u8>>,
    format: Option<LineFormat>,
    key: Option<Bytes>,
}

impl Reading {
    /// What a line says; else what is wrong with it.
    fn read(&self, line: &Bytes) -> Result<Line, String> {
        let mut read = match (&self.format, &self.separator) {
            (Some(format), _) => format.read(line)?,
            (None, Some(separator)) => {
                let at = memchr::memmem::find(line, separator).ok_or("has no key separator")?;
                Line {
                    key: Some(line.slice(..at)),
                    value: line.slice(at + separator.len()..),
                    ..Line::default()
                }
            }
            (None, None) => Line {
                value: line.clone(),
                ..Line::default()
            },
        };
        read.key = read.key.or_else(|| self.key.clone());
        Ok(read)
    }
}

/// Refuses what is said twice.
fn check(args: &Args) -> Result<(), Failure> {
    let format = args.format.as_ref();
    if args.key.is_some() && format.is_some_and(LineFormat::has_key) {
        return Err(Failure::usage("the key is given twice: by --key and by %k"));
    }
    if args.partition.is_some() && format.is_some_and(LineFormat::has_partition) {
        let why = "the partition is given twice: by --partition and by %p";
        return Err(Failure::usage(why));
    }
    Ok(())
}

/// A line on standard error that counts along, if someone watches it and is not typing the records.
fn progress_bar(files: &[PathBuf]) -> ProgressBar {
    let reads_stdin = files.is_empty() || files.iter().any(|file| file.as_os_str() == "-");
    if reads_stdin && std::io::stdin().is_terminal() {
        return ProgressBar::hidden();
    }
    output::progress_bar(0, "{spinner} {msg}, {elapsed}")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Chooser, Reading, Sticky};
    use crate::client::records::NewRecord;

    #[test]
    fn keys_end_at_the_first_separator() {
        let reading = |separator: Option<&str>| Reading {
            separator: separator.map(|text| text.as_bytes().to_vec()),
            ..Reading::default()
        };
        let split = |separator, line: &'static str| {
            let read = reading(separator).read(&line.into()).ok()?;
            Some((read.key, read.value))
        };
        let keyed = |key: &'static str, value: &'static str| Some((Some(key.into()), value.into()));
        assert_eq!(split(Some("::"), "k::v::w"), keyed("k", "v::w"));
        assert_eq!(split(Some("::"), "::v"), keyed("", "v"));
        assert_eq!(split(Some("::"), "k::"), keyed("k", ""));
        assert_eq!(split(Some("::"), "k:v"), None);
        assert_eq!(split(Some("::"), ""), None);
        assert_eq!(split(None, "a::b"), Some((None, "a::b".into())));
    }

    #[test]
    fn one_key_is_for_all_lines() {
        let reading = Reading {
            key: Some("k".into()),
            ..Reading::default()
        };
        let read = reading.read(&"a:b".into()).expect("reads");
        assert_eq!((read.key, read.value), (Some("k".into()), "a:b".into()));
    }

    #[test]
    fn a_fixed_partition_wins_over_the_key_and_the_key_over_the_batch() {
        let record = |key: Option<&'static str>| NewRecord {
            timestamp_ms: 0,
            key: key.map(Bytes::from),
            value: Bytes::new(),
            headers: Vec::new(),
        };
        let mut chooser = Chooser {
            fixed: Some(4),
            sticky: Sticky::new(6),
        };
        assert_eq!(chooser.partition_of(None, &record(Some("abc"))), 4);
        assert_eq!(chooser.partition_of(Some(2), &record(Some("abc"))), 2);
        chooser.fixed = None;
        let by_key = chooser.partition_of(None, &record(Some("abc")));
        assert_eq!(by_key, 479470107 % 6);
        assert_eq!(
            chooser.partition_of(None, &record(None)),
            chooser.sticky.current()
        );
    }
}
