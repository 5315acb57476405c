//! The client matrix's program for rust-rdkafka, which stands on librdkafka.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use matrix_common::{Arguments, Record, bootstrap, locked_version, print, records};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::{Timeout, get_rdkafka_version};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

const NAME: &str = "rdkafka";
const TIMEOUT: Duration = Duration::from_secs(30);
const MEMBER_TIMEOUT: Duration = Duration::from_secs(300);
/// Records on their way to the broker at one time.
const IN_FLIGHT_MAX: usize = 10_000;
/// Records that a member processes between two commits.
const BATCH_MAX: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::of_process()?;
    match arguments.subcommand.as_str() {
        "version" => version(),
        "create" => create(&arguments).await,
        "list" => list(),
        "describe" => describe(&arguments).await,
        "alter" => alter(&arguments).await,
        "delete" => delete(&arguments).await,
        "produce" => produce(&arguments).await,
        "consume" => consume(&arguments).await,
        "member" => member(&arguments).await,
        "commit" => commit(&arguments),
        "committed" => committed(&arguments),
        "seek" => seek(&arguments).await,
        "lag" => lag(&arguments),
        other => bail!("there is no subcommand {other}"),
    }
}

fn version() -> Result<()> {
    let client = locked_version(include_str!("Cargo.lock"), "rdkafka")?;
    print(json!({"client": client, "library": get_rdkafka_version().1}))
}

async fn create(arguments: &Arguments) -> Result<()> {
    let (name, value) = arguments.config()?;
    let (topic, partitions) = (arguments.text("topic")?, arguments.number("partitions")?);
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set(&name, &value);
    let (admin, options) = (admin()?, AdminOptions::new());
    succeeded(admin.create_topics(&[topic], &options).await?)
}

fn list() -> Result<()> {
    let metadata = consumer("unused")?.fetch_metadata(None, TIMEOUT)?;
    let topics: Vec<&str> = metadata.topics().iter().map(|topic| topic.name()).collect();
    print(json!({"topics": topics}))
}

async fn describe(arguments: &Arguments) -> Result<()> {
    let topic = arguments.text("topic")?;
    let metadata = consumer("unused")?.fetch_metadata(Some(topic), TIMEOUT)?;
    let found = metadata.topics().first().context("no such topic")?;
    let (admin, options) = (admin()?, AdminOptions::new());
    let resource = ResourceSpecifier::Topic(topic);
    let described = admin.describe_configs(&[resource], &options).await?;
    let resource = described.into_iter().next().context("no configs")??;
    let entries = resource.entries.into_iter();
    let configs: BTreeMap<_, _> = entries.map(|entry| (entry.name, entry.value)).collect();
    print(json!({"partitions": found.partitions().len(), "configs": configs}))
}

/// The config is set with AlterConfigs, which replaces all others: this library has no incremental one.
async fn alter(arguments: &Arguments) -> Result<()> {
    let (name, value) = arguments.config()?;
    let topic = arguments.text("topic")?;
    let (admin, options) = (admin()?, AdminOptions::new());
    let partitions = NewPartitions::new(topic, arguments.number("partitions")?);
    succeeded(admin.create_partitions(&[partitions], &options).await?)?;
    let config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(&name, &value);
    succeeded(admin.alter_configs(&[config], &options).await?)
}

async fn delete(arguments: &Arguments) -> Result<()> {
    let (admin, options) = (admin()?, AdminOptions::new());
    let topics = [arguments.text("topic")?];
    succeeded(admin.delete_topics(&topics, &options).await?)
}

async fn produce(arguments: &Arguments) -> Result<()> {
    let producer: FutureProducer = config()?
        .set("acks", "all")
        .set("compression.codec", arguments.text("codec")?)
        .set("enable.idempotence", arguments.text("idempotent")?)
        .create()?;
    let topic = arguments.text("topic")?;
    let acked = stream::iter(records(arguments, NAME)?)
        .map(|record| send(&producer, topic, record))
        .buffered(IN_FLIGHT_MAX)
        .try_fold(0, async |acked, ()| Ok(acked + 1))
        .await?;
    print(json!({"acked": acked}))
}

async fn send(producer: &FutureProducer, topic: &str, record: Record) -> Result<()> {
    let headers = record
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        });
    let message = FutureRecord::to(topic)
        .partition(record.partition)
        .key(&record.key)
        .payload(&record.value)
        .timestamp(record.timestamp)
        .headers(headers);
    producer
        .send(message, Timeout::Never)
        .await
        .map_err(|(error, _)| error)?;
    Ok(())
}

/// Reads what there is at the start, and not what is added meanwhile.
async fn consume(arguments: &Arguments) -> Result<()> {
    let topic = arguments.text("topic")?;
    let consumer = consumer("unused")?;
    let mut unread: BTreeMap<i32, i64> = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..arguments.number("partitions")? {
        let (start, end) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        if start < end {
            unread.insert(partition, end);
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    while !unread.is_empty() {
        let message = consumer.recv().await?;
        let (partition, offset) = (message.partition(), message.offset());
        let Some(end) = unread.get(&partition) else {
            continue;
        };
        if offset < *end {
            print_record(&message)?;
        }
        if offset + 1 >= *end {
            unread.remove(&partition);
        }
    }
    Ok(())
}

fn print_record(message: &BorrowedMessage) -> Result<()> {
    let headers: BTreeMap<&str, Option<&str>> = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| Ok((header.key, header.value.map(str::from_utf8).transpose()?)))
        .collect::<Result<_>>()?;
    print(json!({
        "partition": message.partition(),
        "offset": message.offset(),
        "key": message.key_view::<str>().transpose()?,
        "value": message.payload_view::<str>().transpose()?,
        "timestamp": message.timestamp().to_millis(),
        "headers": headers,
    }))
}

/// Dropping the consumer, at the end, leaves the group.
async fn member(arguments: &Arguments) -> Result<()> {
    let topic = arguments.text("topic")?;
    let mut left = arguments.number_or("max", usize::MAX)?;
    let consumer = consumer(arguments.text("group")?)?;
    consumer.subscribe(&[topic])?;
    let mut terminate = signal(SignalKind::terminate())?;
    let deadline = Instant::now() + MEMBER_TIMEOUT;
    while left > 0 {
        let mut batches = consumer.stream().ready_chunks(left.min(BATCH_MAX));
        let batch = tokio::select! {
            batch = batches.next() => batch.context("the stream of messages ended")?,
            _ = terminate.recv() => return Ok(()),
            _ = sleep_until(deadline) => bail!("neither told to stop nor done"),
        };
        left -= batch.len();
        process(&consumer, topic, batch)?;
    }
    Ok(())
}

fn process(
    consumer: &StreamConsumer,
    topic: &str,
    batch: Vec<Result<BorrowedMessage<'_>, KafkaError>>,
) -> Result<()> {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for message in batch {
        let message = message?;
        print(json!({"processed": [message.partition(), message.offset()]}))?;
        next.insert(message.partition(), message.offset() + 1);
    }
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in &next {
        offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    match consumer.commit(&offsets, CommitMode::Sync) {
        Ok(()) => print(json!({"committed": Vec::from_iter(next)})),
        Err(KafkaError::ConsumerCommit(code)) if is_rebalance(code) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_rebalance(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    matches!(
        code,
        IllegalGeneration | RebalanceInProgress | UnknownMemberId
    )
}

fn commit(arguments: &Arguments) -> Result<()> {
    let consumer = consumer(arguments.text("group")?)?;
    let mut offsets = TopicPartitionList::new();
    let mut entry = offsets.add_partition(arguments.text("topic")?, arguments.number("partition")?);
    entry.set_offset(Offset::Offset(arguments.number("offset")?))?;
    entry.set_metadata(arguments.text("metadata")?);
    Ok(consumer.commit(&offsets, CommitMode::Sync)?)
}

fn committed(arguments: &Arguments) -> Result<()> {
    let consumer = consumer(arguments.text("group")?)?;
    let mut found: BTreeMap<i32, Value> = BTreeMap::new();
    for (partition, (offset, metadata)) in committed_offsets(&consumer, arguments)? {
        found.insert(partition, json!({"offset": offset, "metadata": metadata}));
    }
    print(json!(found))
}

fn lag(arguments: &Arguments) -> Result<()> {
    let topic = arguments.text("topic")?;
    let consumer = consumer(arguments.text("group")?)?;
    let mut lags: BTreeMap<i32, Value> = BTreeMap::new();
    for (partition, (committed, _)) in committed_offsets(&consumer, arguments)? {
        let (_, end) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
        let lag = json!({"committed": committed, "end": end, "lag": end - committed});
        lags.insert(partition, lag);
    }
    print(json!(lags))
}

/// Offset and metadata of each partition that has any.
fn committed_offsets(
    consumer: &StreamConsumer,
    arguments: &Arguments,
) -> Result<BTreeMap<i32, (i64, String)>> {
    let topic = arguments.text("topic")?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..arguments.number("partitions")? {
        asked.add_partition(topic, partition);
    }
    let mut found = BTreeMap::new();
    for entry in consumer.committed_offsets(asked, TIMEOUT)?.elements() {
        entry.error()?;
        if let Offset::Offset(offset) = entry.offset() {
            found.insert(entry.partition(), (offset, entry.metadata().to_owned()));
        }
    }
    Ok(found)
}

async fn seek(arguments: &Arguments) -> Result<()> {
    let consumer = consumer("unused")?;
    let mut asked = TopicPartitionList::new();
    let timestamp = Offset::Offset(arguments.number("timestamp")?);
    asked.add_partition_offset(arguments.text("topic")?, 0, timestamp)?;
    let found = consumer.offsets_for_times(asked, TIMEOUT)?;
    let [entry] = &found.elements()[..] else {
        bail!("one partition was asked for")
    };
    entry.error()?;
    if entry.offset() == Offset::End {
        return print(json!({"offset": null}));
    }
    consumer.assign(&found)?;
    let message = consumer.recv().await?;
    print(json!({
        "offset": message.offset(),
        "timestamp": message.timestamp().to_millis(),
        "key": message.key_view::<str>().transpose()?,
    }))
}

fn admin() -> Result<AdminClient<DefaultClientContext>> {
    Ok(config()?.create()?)
}

/// Also where there is no group to speak of this library wants the name of one.
fn consumer(group: &str) -> Result<StreamConsumer> {
    let consumer = config()?
        .set("group.id", group)
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1000")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    Ok(consumer)
}

fn config() -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap()?);
    Ok(config)
}

/// Administration is answered for each topic by itself.
fn succeeded<T, N: std::fmt::Debug>(results: Vec<Result<T, (N, RDKafkaErrorCode)>>) -> Result<()> {
    for result in results {
        result.map_err(|(of, code)| anyhow!("{of:?}: {code}"))?;
    }
    Ok(())
}
