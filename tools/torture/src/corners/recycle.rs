//! A segment that retention has let go is written over for the next one, while a fetch of it is being
//! sent. What is sent is what was stored at these offsets.

use super::{Place, create, new_model, produce};
use crate::checker;
use crate::disk::{FileSystem, Image};
use crate::ledger::Upkeep;
use crate::model::{Model, Topic, lock};
use crate::record::{self, Shape};
use crate::requests::{self, FETCH, NONE};
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use std::sync::Arc;
use std::time::Duration;

const TOPIC: &str = "filling";
const SEGMENT_BYTES: &str = "4194304";
const RETENTION_BYTES: u64 = 5_000_000;
const SHAPE: Shape = Shape {
    keys: None,
    value_bytes_max: 60_000,
};
const BATCH_RECORDS: u32 = 20;
/// Batches of some 600 kB: more than a segment, and then as many as write the first one over.
const BEFORE: usize = 9;
const MEANWHILE: usize = 60;
/// Until the reply is on its way.
const UNDER_WAY: Duration = Duration::from_millis(300);

/// On overlayfs leases say that nobody has a file which is mapped.
pub fn run(place: &Place, filesystem: FileSystem) -> anyhow::Result<()> {
    let disk = Image::new(&place.scratch, filesystem, false)?;
    let model = new_model();
    let flags = ["--retention-check-interval-ms=20"];
    let (broker, address) = place.start(&disk.data_dir(), &flags)?;
    let upkeep = Upkeep::Retain {
        bytes: RETENTION_BYTES,
    };
    let retention = RETENTION_BYTES.to_string();
    let configs = [
        ("segment.bytes", SEGMENT_BYTES),
        ("retention.bytes", retention.as_str()),
    ];
    let topic = create(
        &model,
        address,
        Topic::new(TOPIC, upkeep, SHAPE, 1),
        &configs,
    )?;
    let mut wire = Wire::connect(address)?;
    for _ in 0..BEFORE {
        produce(&model, &mut wire, &topic, BATCH_RECORDS)?;
    }
    let mut slow = Wire::connect_slowly(address, Duration::ZERO)?;
    slow.send(&whole_segment(), FETCH)?;
    std::thread::sleep(UNDER_WAY);
    for _ in 0..MEANWHILE {
        produce(&model, &mut wire, &topic, BATCH_RECORDS)?;
    }
    let reply = slow.receive::<FetchRequest>(FETCH)?;
    check(&model, &topic, reply)?;
    checker::check(&model, address, None)?;
    broker.kill();
    Ok(())
}

fn whole_segment() -> FetchRequest {
    let mut request = requests::fetch(&[(TOPIC, 0, 0)], 0);
    request.topics[0].partitions[0].partition_max_bytes = request.max_bytes;
    request
}

/// All that was sent is what is known of these offsets, from the first on.
fn check(model: &Arc<Model>, topic: &Topic, reply: FetchResponse) -> Result<(), Violation> {
    let data = &reply.responses[0].partitions[0];
    if data.error_code != NONE {
        violated!(
            Broker,
            "the fetch is answered with error {}",
            data.error_code
        );
    }
    let records = data.records.clone().unwrap_or_default();
    let batches = record::decode((TOPIC, 0), records);
    let batches = batches.or_else(|what| violated!(Changed, "{what}"))?;
    let mut next = 0;
    for batch in &batches {
        if batch.base != next {
            violated!(
                Changed,
                "a batch at offset {} came where {next} was next",
                batch.base
            );
        }
        next = batch.last + 1;
    }
    if let Some(ledger) = topic.ledger(0) {
        lock(&ledger).seen(&batches, model.cuts())?;
    }
    Ok(())
}
