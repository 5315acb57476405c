//! A broker is killed between the write of its catalog and the sync; the next one takes the topic for
//! created, and records are acknowledged in it. Then the power is cut.

use super::{Place, create, cut_and_check, new_model, produce};
use crate::checker;
use crate::disk::{FileSystem, Image};
use crate::ledger::Upkeep;
use crate::model::{Topic, lock};
use crate::moment::KillAt;
use crate::record::Shape;
use crate::violation::violated;
use anyhow::ensure;
use std::path::Path;
use std::process::Command;

const TOPIC: &str = "orders";
const SHAPE: Shape = Shape {
    keys: None,
    value_bytes_max: 100,
};
const BATCHES: usize = 3;

pub fn run(place: &Place, filesystem: FileSystem) -> anyhow::Result<()> {
    let mut disk = Image::new(&place.scratch, filesystem, false)?;
    let data = disk.data_dir();
    let model = new_model();
    for _ in 0..2 {
        let (broker, _) = place.start(&data, &[])?;
        broker.terminate();
        broker.wait_stopped()?;
    }
    // The first sync behind those of a start is that of the catalog.
    let kill = KillAt::sync(syncs_of_start(place, &data)?);
    let mut broker = place.spawn(&data, &[], Some(kill))?;
    let address = broker.wait_until_ready()?;
    model.strike(true);
    create(
        &model,
        address,
        Topic::new(TOPIC, Upkeep::Keep, SHAPE, 1),
        &[],
    )?;
    ensure!(
        broker.strikes_soon(),
        "the broker does not end at a file operation: build it with the feature `sabotage`"
    );
    model.strike(false);
    let (broker, address) = place.start(&data, &[])?;
    checker::check(&model, address, None)?;
    let topic = lock(&model.topics).get(TOPIC).cloned();
    let Some(topic) = topic else {
        let gone = || violated!(Catalog, "the entry was written, and a kill took it");
        return Ok(gone()?);
    };
    let mut wire = crate::wire::Wire::connect(address)?;
    for _ in 0..BATCHES {
        produce(&model, &mut wire, &topic, 1)?;
    }
    cut_and_check(place, &mut disk, &model, broker, &[])
}

/// How many syncs a start makes on a data directory that a clean stop has left.
fn syncs_of_start(place: &Place, data: &Path) -> anyhow::Result<usize> {
    let trace = place.scratch.join("trace");
    let mut command = Command::new(&place.binary);
    command.env("MILLSTREAM_FAULT", format!("trace={}", trace.display()));
    let flags = ["--http=off", "--auto-create-topics=false", "--cores=1"].map(str::to_owned);
    let mut broker = crate::broker::Broker::spawn_with(command, data, &flags, &place.log())?;
    broker.wait_until_ready()?;
    let lines = std::fs::read_to_string(&trace).unwrap_or_default();
    broker.terminate();
    broker.wait_stopped()?;
    Ok(crate::ioerror::case::count(&lines, "sync"))
}
