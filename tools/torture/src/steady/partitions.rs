//! Loads over many partitions.

use super::scene::Scene;
use crate::record::{self, Id, Shape};
use crate::requests::{self, Configs, FETCH, LIST_OFFSETS, NONE, PRODUCE};
use crate::wire::{frame, text, topic_name};
use anyhow::ensure;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, DescribeConfigsRequest, DescribeLogDirsRequest, ListOffsetsRequest, MetadataRequest,
};
use kafka_protocol::protocol::Request;
use kafka_protocol::records::Compression;
use std::time::{Duration, Instant};

/// The partitions are in topics of this many.
const TOPIC_PARTITIONS: i32 = 10_000;
const TOPIC_ALREADY_EXISTS: i16 = 36;
/// Resource type "topic" of the config APIs.
const TOPIC: i8 = 2;

const FETCHED_PARTITIONS: i32 = 10_000;
const TIMES_NAMED: usize = 30;
const FETCH_WAIT_MS: i32 = 30_000;
const FETCH_BYTES_MIN: i32 = 50 << 20;
const PRODUCE_PAUSE: Duration = Duration::from_millis(2);
/// A client that asks for everything asks again after this time.
const ASK_PAUSE: Duration = Duration::from_millis(5);

/// The topics, each with its number of partitions.
fn topics(scene: &Scene) -> impl Iterator<Item = (String, i32)> {
    let all = scene.partitions;
    let starts = (0..all).step_by(TOPIC_PARTITIONS as usize);
    starts.map(move |start| {
        let count = (all - start).min(TOPIC_PARTITIONS);
        (format!("many-{}", start / TOPIC_PARTITIONS), count)
    })
}

pub fn create(scene: &Scene) -> anyhow::Result<()> {
    let mut wire = scene.wire()?;
    for (name, count) in topics(scene) {
        let error = requests::create_topic(&mut wire, &name, count, &Configs::new())?;
        let made = error == NONE || error == TOPIC_ALREADY_EXISTS;
        ensure!(made, "topic `{name}` is refused with {error}");
    }
    Ok(())
}

/// Creates and deletes them, until it is stopped between two topics.
pub fn create_and_delete(scene: &Scene) -> anyhow::Result<String> {
    let mut wire = scene.wire()?;
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    while scene.goes_on() {
        let started = Instant::now();
        let mut made = Vec::new();
        for (name, count) in topics(scene).take_while(|_| scene.goes_on()) {
            let error = requests::create_topic(&mut wire, &name, count, &Configs::new())?;
            ensure!(error == NONE, "topic `{name}` is refused with {error}");
            made.push(name);
        }
        longest = longest.max(started.elapsed());
        for name in made {
            let error = requests::delete_topic(&mut wire, &name)?;
            ensure!(error == NONE, "the end of `{name}` is refused with {error}");
        }
        rounds += 1;
    }
    let longest = longest.as_secs_f32();
    Ok(format!("{rounds} times; made in {longest:.1} s or less"))
}

/// Two fetches that are never satisfied, and produces to what they name.
pub fn parked_fetches(scene: &Scene) -> anyhow::Result<String> {
    let (name, count) = topics(scene).next().expect("a topic");
    let named = 0..count.min(FETCHED_PARTITIONS);
    let once: Vec<_> = named.map(|index| (name.as_str(), index, 0)).collect();
    let fetch = |positions: &[_]| {
        let request = requests::fetch(positions, FETCH_WAIT_MS).with_min_bytes(FETCH_BYTES_MIN);
        frame(&request, FETCH, 1)
    };
    let (single, repeated) = (fetch(&once), fetch(&once.repeat(TIMES_NAMED)));
    std::thread::scope(|scope| {
        for asked in [&single, &repeated] {
            scope.spawn(|| scene.repeat(asked, Duration::ZERO));
        }
        produce(scene, &name, count)
    })
}

fn produce(scene: &Scene, topic: &str, partitions: i32) -> anyhow::Result<String> {
    let mut wire = scene.wire()?;
    let mut sent: u32 = 0;
    while scene.goes_on() {
        let index = sent as i32 % partitions;
        let id = Id {
            worker: 1,
            number: sent,
        };
        let shape = Shape {
            keys: None,
            value_bytes_max: 20,
        };
        let batch = record::encode((topic, index), shape, &[id], None, Compression::None);
        let request = requests::produce(topic, index, 1, batch);
        let (error, _) = requests::produced(&wire.call(&request, PRODUCE)?);
        ensure!(error == NONE, "Produce is answered with error {error}");
        sent += 1;
        std::thread::sleep(PRODUCE_PAUSE);
    }
    Ok(format!("{sent} produces beside them"))
}

pub fn list_offsets(scene: &Scene) -> anyhow::Result<String> {
    let partition = |index| {
        ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(-1)
    };
    let topic = |(name, count): (String, i32)| {
        ListOffsetsTopic::default()
            .with_name(topic_name(&name))
            .with_partitions((0..count).map(partition).collect())
    };
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(topics(scene).map(topic).collect());
    ask(scene, &request, LIST_OFFSETS)
}

pub fn metadata(scene: &Scene) -> anyhow::Result<String> {
    ask(scene, &MetadataRequest::default().with_topics(None), 12)
}

pub fn describe_configs(scene: &Scene) -> anyhow::Result<String> {
    let resource = |(name, _): (String, i32)| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(&name))
            .with_configuration_keys(None)
    };
    let resources = topics(scene).map(resource).collect();
    let request = DescribeConfigsRequest::default().with_resources(resources);
    ask(scene, &request, 4)
}

pub fn describe_log_dirs(scene: &Scene) -> anyhow::Result<String> {
    ask(
        scene,
        &DescribeLogDirsRequest::default().with_topics(None),
        4,
    )
}

fn ask<R: Request>(scene: &Scene, request: &R, version: i16) -> anyhow::Result<String> {
    let asked = scene.repeat(&frame(request, version, 1), ASK_PAUSE);
    ensure!(
        asked.closed == 0,
        "the broker closed the connection: {asked}"
    );
    Ok(asked.to_string())
}

/// Sets a config of all topics again and again, each time to another value.
pub fn alter_configs(scene: &Scene) -> anyhow::Result<String> {
    let mut wire = scene.wire()?;
    let mut changes = 0;
    while scene.goes_on() {
        for (name, _) in topics(scene) {
            let value = (86_400_000 + changes % 2).to_string();
            let error = requests::set_config(&mut wire, &name, "retention.ms", &value)?;
            ensure!(
                error == NONE,
                "a config of `{name}` is refused with {error}"
            );
        }
        changes += 1;
        std::thread::sleep(ASK_PAUSE);
    }
    Ok(format!("{changes} changes"))
}
