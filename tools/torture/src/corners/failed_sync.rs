//! A sync fails and the broker is started again: what the medium never got is not shown or acknowledged
//! as if it had it. Then the power is cut.

use super::{Batch, Place, Stop, create, cut_and_check, new_model, produce, taken};
use crate::checker;
use crate::disk::{FileSystem, Image};
use crate::ledger::Upkeep;
use crate::model::Topic;
use crate::record::{Producer, Shape};
use crate::requests::{self, NONE};
use crate::violation::violated;
use crate::wire::Wire;

const TOPIC: &str = "orders";
const SHAPE: Shape = Shape {
    keys: None,
    value_bytes_max: 5_000,
};
const RECORDS: u32 = 4;
/// What the segment's medium refuses, a journal could have.
const FLAGS: &[&str] = &["--journal-bytes=0"];

pub fn run(place: &Place, filesystem: FileSystem, stop: Stop) -> anyhow::Result<()> {
    let mut disk = Image::new(&place.scratch, filesystem, true)?;
    let data = disk.data_dir();
    let model = new_model();
    let (broker, address) = place.start(&data, FLAGS)?;
    let topic = create(
        &model,
        address,
        Topic::new(TOPIC, Upkeep::Keep, SHAPE, 1),
        &[],
    )?;
    let mut wire = Wire::connect(address)?;
    let id = requests::producer_id(&mut wire)?;
    let id = id.map_err(|error| anyhow::anyhow!("InitProducerId: error {error}"))?;
    let batch = |sequence: u32| {
        let sequence = (sequence * RECORDS) as i32;
        Batch::new(&model, &topic, RECORDS, Some(Producer { id, sequence }))
    };
    taken(batch(0).send(&model, &mut wire, &topic)?)?;

    disk.fail(|path| path.ends_with("orders-0/00000000000000000000.log"))?;
    let second = batch(1);
    if second.send(&model, &mut wire, &topic)? == NONE {
        let claimed = || violated!(Lost, "a batch was acknowledged that the medium refused");
        return Ok(claimed()?);
    }
    let failed = model.cut();
    stop.end(broker)?;
    disk.heal()?;

    let (broker, address) = place.start(&data, FLAGS)?;
    checker::check(&model, address, Some(failed))?;
    let mut wire = Wire::connect(address)?;
    // A retry, as a client does; if it is known already it must be for good.
    taken(second.send(&model, &mut wire, &topic)?)?;
    taken(batch(2).send(&model, &mut wire, &topic)?)?;
    produce(&model, &mut wire, &topic, 1)?;
    cut_and_check(place, &mut disk, &model, broker, FLAGS)
}
