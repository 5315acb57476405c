//! A start on a full disk, with a smaller retention, as an operator is told to do: the broker serves,
//! and removes old segments.

use super::{Batch, Place, Stop, create, new_model, taken};
use crate::checker;
use crate::disk::{FileSystem, Small};
use crate::ledger::Upkeep;
use crate::model::{Model, Topic};
use crate::record::{Producer, Shape};
use crate::requests;
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOPIC: &str = "large";
const SHAPE: Shape = Shape {
    keys: None,
    value_bytes_max: 60_000,
};
const SEGMENT_BYTES: &str = "1048576";
/// What there is of segments after so many batches is more than the retention that comes with the
/// start on the full disk.
const BATCHES: i32 = 12;
const BATCH_RECORDS: i32 = 20;
const RETAINED_BYTES: u64 = 1000;
const RETENTION: [&str; 2] = [
    "--log-retention-bytes=1000",
    "--retention-check-interval-ms=20",
];
const REMOVED_WITHIN: Duration = Duration::from_secs(20);

pub fn run(place: &Place, stop: Stop) -> anyhow::Result<()> {
    let disk = Small::new(&place.scratch, FileSystem::Ext4)?;
    let data = disk.data_dir();
    let model = new_model();
    let upkeep = Upkeep::Retain {
        bytes: RETAINED_BYTES,
    };
    let mut topic: Option<Arc<Topic>> = None;
    // In two lives, so that the catalog has more entries than it needs: a start would write it anew.
    for life in 0..2 {
        let (broker, address) = place.start(&data, &[])?;
        let topic = match &topic {
            Some(topic) => Arc::clone(topic),
            None => {
                let new = Topic::new(TOPIC, upkeep, SHAPE, 1);
                let configs = [("segment.bytes", SEGMENT_BYTES)];
                Arc::clone(topic.insert(create(&model, address, new, &configs)?))
            }
        };
        fill(&model, address, &topic)?;
        match life {
            0 => Stop::Clean.end(broker)?,
            _ => {
                // It ends on a full disk, too.
                disk.fill(0)?;
                stop.end(broker)?;
            }
        }
    }
    let topic = topic.context("the first life has created it")?;
    disk.keep_full(|| {
        let (broker, address) = place.start(&data, &RETENTION)?;
        checker::check(&model.fork(), address, None)?;
        removed(address, &topic)?;
        Ok(stop.end(broker)?)
    })?;
    disk.free()?;
    let (broker, address) = place.start(&data, &RETENTION)?;
    checker::check(&model, address, None)?;
    broker.kill();
    Ok(())
}

/// Batches of a producer that is new in each life: its id is one more entry in the catalog.
fn fill(model: &Model, broker: SocketAddr, topic: &Topic) -> anyhow::Result<()> {
    let mut wire = Wire::connect(broker)?;
    let id = requests::producer_id(&mut wire)?;
    let id = id.map_err(|error| anyhow::anyhow!("InitProducerId: error {error}"))?;
    model.new_producer_id(id)?;
    for batch in 0..BATCHES {
        let sequence = batch * BATCH_RECORDS;
        let producer = Some(Producer { id, sequence });
        let batch = Batch::new(model, topic, BATCH_RECORDS as u32, producer);
        taken(batch.send(model, &mut wire, topic)?)?;
    }
    Ok(())
}

/// Waits until the log starts later.
fn removed(broker: SocketAddr, topic: &Topic) -> Result<(), Violation> {
    let connected = Wire::connect(broker);
    let mut wire = connected.or_else(|error| violated!(Broker, "no connection: {error}"))?;
    let until = Instant::now() + REMOVED_WITHIN;
    while checker::offset(&mut wire, topic, 0, false)? == 0 {
        if Instant::now() > until {
            violated!(Start, "retention removes nothing on a full disk");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
