//! The client matrix's program for rskafka, which has no consumer groups and no topic configs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::TryStreamExt;
use matrix_common::{Arguments, bootstrap, locked_version, print, records};
use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::consumer::{StartOffset, StreamConsumer, StreamConsumerBuilder};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};
use serde_json::json;

const NAME: &str = "rskafka";
const TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUT_MS: i32 = 30_000;
/// Records in one request.
const BATCH_MAX: usize = 1000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::of_process()?;
    match arguments.subcommand.as_str() {
        "version" => version(),
        "create" => unsupported("topics are created without configs"),
        "list" => list().await,
        "describe" => unsupported("configs cannot be read"),
        "alter" => unsupported("topics cannot be altered"),
        "delete" => delete(&arguments).await,
        "produce" => produce(&arguments).await,
        "consume" => consume(&arguments).await,
        "member" => unsupported("no groups"),
        "commit" | "committed" | "lag" => unsupported("no committed offsets"),
        "seek" => seek(&arguments).await,
        other => bail!("there is no subcommand {other}"),
    }
}

fn version() -> Result<()> {
    let client = locked_version(include_str!("Cargo.lock"), "rskafka")?;
    print(json!({"client": client}))
}

async fn list() -> Result<()> {
    let topics = client().await?.list_topics().await?;
    let names: Vec<String> = topics.into_iter().map(|topic| topic.name).collect();
    print(json!({"topics": names}))
}

async fn delete(arguments: &Arguments) -> Result<()> {
    let controller = client().await?.controller_client()?;
    let topic = arguments.text("topic")?;
    Ok(controller.delete_topic(topic, TIMEOUT_MS).await?)
}

async fn produce(arguments: &Arguments) -> Result<()> {
    if arguments.number::<u8>("idempotent")? == 1 {
        return unsupported("no idempotent producer");
    }
    let compression = compression(arguments.text("codec")?)?;
    let client = client().await?;
    let mut acked = 0;
    for (number, records) in by_partition(arguments)? {
        let partition = partition(&client, arguments, number).await?;
        for batch in records.chunks(BATCH_MAX) {
            acked += partition.produce(batch.to_vec(), compression).await?.len();
        }
    }
    print(json!({"acked": acked}))
}

fn compression(codec: &str) -> Result<Compression> {
    Ok(match codec {
        "none" => Compression::NoCompression,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => bail!("there is no codec {other}"),
    })
}

fn by_partition(arguments: &Arguments) -> Result<HashMap<i32, Vec<Record>>> {
    let mut found: HashMap<i32, Vec<Record>> = HashMap::new();
    for record in records(arguments, NAME)? {
        let timestamp = DateTime::from_timestamp_millis(record.timestamp);
        let headers = record
            .headers
            .map(|(key, value)| (key.to_owned(), value.into_bytes()));
        found.entry(record.partition).or_default().push(Record {
            key: Some(record.key.into_bytes()),
            value: Some(record.value.into_bytes()),
            headers: BTreeMap::from(headers),
            timestamp: timestamp.context("no such time")?,
        });
    }
    Ok(found)
}

/// Reads what there is at the start, and not what is added meanwhile.
async fn consume(arguments: &Arguments) -> Result<()> {
    let client = client().await?;
    for number in 0..arguments.number("partitions")? {
        let partition = partition(&client, arguments, number).await?;
        let mut next = partition.get_offset(OffsetAt::Earliest).await?;
        let end = partition.get_offset(OffsetAt::Latest).await?;
        let mut stream = stream(partition, next);
        while next < end {
            let (record, _) = stream
                .try_next()
                .await?
                .context("the stream of records ended")?;
            next = record.offset + 1;
            print_record(number, record)?;
        }
    }
    Ok(())
}

fn print_record(partition: i32, RecordAndOffset { record, offset }: RecordAndOffset) -> Result<()> {
    let headers = record.headers.into_iter();
    let headers: BTreeMap<String, String> = headers
        .map(|(key, value)| Ok((key, String::from_utf8(value)?)))
        .collect::<Result<_>>()?;
    print(json!({
        "partition": partition,
        "offset": offset,
        "key": record.key.map(String::from_utf8).transpose()?,
        "value": record.value.map(String::from_utf8).transpose()?,
        "timestamp": record.timestamp.timestamp_millis(),
        "headers": headers,
    }))
}

async fn seek(arguments: &Arguments) -> Result<()> {
    let partition = partition(&client().await?, arguments, 0).await?;
    let timestamp = DateTime::from_timestamp_millis(arguments.number("timestamp")?);
    let timestamp = timestamp.context("no such time")?;
    let offset = partition.get_offset(OffsetAt::Timestamp(timestamp)).await?;
    // The protocol's word for "none".
    if offset == -1 {
        return print(json!({"offset": null}));
    }
    let (found, _) = stream(partition, offset)
        .try_next()
        .await?
        .context("the stream ended")?;
    print(json!({
        "offset": found.offset,
        "timestamp": found.record.timestamp.timestamp_millis(),
        "key": found.record.key.map(String::from_utf8).transpose()?,
    }))
}

async fn client() -> Result<Client> {
    let backoff = BackoffConfig {
        deadline: Some(TIMEOUT),
        ..Default::default()
    };
    Ok(ClientBuilder::new(vec![bootstrap()?])
        .backoff_config(backoff)
        .build()
        .await?)
}

async fn partition(
    client: &Client,
    arguments: &Arguments,
    number: i32,
) -> Result<Arc<PartitionClient>> {
    let topic = arguments.text("topic")?;
    let partition = client
        .partition_client(topic, number, UnknownTopicHandling::Error)
        .await?;
    Ok(Arc::new(partition))
}

fn stream(partition: Arc<PartitionClient>, offset: i64) -> StreamConsumer {
    StreamConsumerBuilder::new(partition, StartOffset::At(offset)).build()
}

fn unsupported(why: &str) -> Result<()> {
    print(json!({"unsupported": why}))
}
