//! What was acknowledged is there after a kill -9: once, in order, at the offset that was told.

use crate::support::batch::Batch;
use crate::support::wire::*;
use crate::support::{Broker, Random, eventually};
use kafka_protocol::messages::ProduceRequest;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, util::Timeout};
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PARTITIONS: usize = 4;

/// Which records were acknowledged: for each partition the offset of each number, as told.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<Vec<Vec<Option<i64>>>>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<(usize, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, place: Self::DeliveryOpaque) {
        let (partition, number) = *place;
        if let Ok(message) = result {
            self.0.lock().unwrap()[partition][number] = Some(message.offset());
        }
    }
}

impl Acknowledged {
    fn count(&self) -> usize {
        let all = self.0.lock().unwrap();
        all.iter().flatten().flatten().count()
    }
}

#[test]
fn kill_9_in_the_middle_of_idempotent_production_loses_doubles_and_reorders_nothing() {
    const RECORDS: usize = 6000;
    const KILLS: usize = 4;
    let mut random = Random::new();
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path());
    let address = broker.kafka;
    Wire::connect(address).create_topic("t", PARTITIONS as i32);
    let acknowledged = Acknowledged::default();
    *acknowledged.0.lock().unwrap() = vec![vec![None; RECORDS]; PARTITIONS];
    let producer: ThreadedProducer<Acknowledged> = ClientConfig::new()
        .set("bootstrap.servers", address.to_string())
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .set("batch.num.messages", "50")
        .set("message.timeout.ms", "300000")
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("retry.backoff.ms", "10")
        .create_with_context(acknowledged.clone())
        .unwrap();
    let mut kills: Vec<usize> = (0..KILLS)
        .map(|_| random.below(PARTITIONS * RECORDS))
        .collect();
    kills.sort();
    let broker = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..RECORDS {
                for partition in 0..PARTITIONS {
                    send(&producer, partition, number);
                }
                if number % 20 == 0 {
                    // So that production lasts through all the kills.
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
        for kill_at in kills {
            eventually("production goes on", || acknowledged.count() >= kill_at);
            broker.kill_9();
            broker = Broker::at(address, dir.path(), &[]);
        }
        broker
    });
    producer
        .flush(Timeout::After(Duration::from_secs(120)))
        .unwrap();
    assert_eq!(
        acknowledged.count(),
        PARTITIONS * RECORDS,
        "everything was acknowledged in the end"
    );
    broker.kill_9();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    for (partition, offsets) in acknowledged.0.lock().unwrap().iter().enumerate() {
        let values = wire.values("t", partition as i32);
        let expected: Vec<Vec<u8>> = (0..RECORDS)
            .map(|number| number.to_string().into_bytes())
            .collect();
        assert!(
            values == expected,
            "partition {partition} holds {} records",
            values.len()
        );
        for (number, offset) in offsets.iter().enumerate() {
            // A retry that the broker knows may be acknowledged without its offset.
            let offset = offset.filter(|offset| *offset >= 0);
            assert!(offset.is_none_or(|offset| offset == number as i64));
        }
    }
}

fn send(producer: &ThreadedProducer<Acknowledged>, partition: usize, number: usize) {
    let value = number.to_string();
    let mut record = BaseRecord::<(), _, _>::with_opaque_to("t", Box::new((partition, number)))
        .partition(partition as i32)
        .payload(&value);
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err((error, _)) => panic!("{error}"),
        }
    }
}

#[test]
fn everything_answered_before_kill_9_is_there_byte_by_byte() {
    let mut random = Random::new();
    let dir = tempfile::tempdir().unwrap();
    let mut stored: Vec<Vec<u8>> = Vec::new();
    for run in 0..6 {
        // Small checkpoints and steps, so that the kill falls near all kinds of work.
        let flags = [
            "--checkpoint-bytes",
            "64KiB",
            "--segment-grow-bytes-max",
            "64KiB",
            "--log-segment-bytes",
            "1MiB",
        ];
        let broker = Broker::with(dir.path(), &flags);
        let mut wire = Wire::connect(broker.kafka);
        if run == 0 {
            wire.create_topic("t", 1);
        }
        assert_eq!(wire.offset("t", 0, -1), stored.len() as i64, "run {run}");
        assert!(wire.values("t", 0) == stored, "run {run}");
        let answered = 40 + random.below(40);
        let unanswered = random.below(20);
        let values: Vec<Vec<u8>> = (0..answered + unanswered)
            .map(|_| {
                let length = 1 + random.below(30_000);
                random.bytes(length)
            })
            .collect();
        for value in &values {
            wire.send(&produce("t", 0, -1, Batch::of([value]).encode()), PRODUCE);
        }
        for place in 0..answered {
            let response = partition_of(wire.receive::<ProduceRequest>(PRODUCE));
            assert_eq!(response.error_code, 0);
            assert_eq!(response.base_offset, (stored.len() + place) as i64);
        }
        broker.kill_9();
        // Those that were not answered may be there, too, in their order.
        let broker = Broker::with(dir.path(), &flags);
        let mut wire = Wire::connect(broker.kafka);
        let found = wire.values("t", 0);
        let new = found.len() - stored.len();
        assert!((answered..=values.len()).contains(&new), "{new} new");
        assert!(found[..stored.len()] == stored);
        assert!(found[stored.len()..] == values[..new]);
        stored = found;
        match run % 2 {
            0 => broker.kill_9(),
            _ => broker.stop(),
        }
    }
}

#[test]
fn a_batch_retried_after_kill_9_gets_the_offset_it_had() {
    for (cores_before, cores_after) in [("1", "2"), ("2", "1")] {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::with(dir.path(), &["--cores", cores_before]);
        let mut wire = Wire::connect(broker.kafka);
        wire.create_topic("t", 3);
        let ids = [wire.new_producer_id(), wire.new_producer_id()];
        let batch = |id: i64, sequence: i32| {
            let values = [format!("{id} {sequence}"), format!("{id} {sequence} b")];
            Batch::of(values).by(id, 0, sequence * 2)
        };
        let mut offsets = Vec::new();
        for sequence in 0..5 {
            for index in 0..3 {
                for id in ids {
                    let offset = wire.append("t", index, &batch(id, sequence));
                    offsets.push((index, id, sequence, offset));
                }
            }
        }
        // Twice: what recovery found must outlive the next recovery.
        broker.kill_9();
        Broker::with(dir.path(), &["--cores", cores_after]).kill_9();
        let broker = Broker::with(dir.path(), &["--cores", cores_after]);
        let mut wire = Wire::connect(broker.kafka);
        for (index, id, sequence, offset) in offsets {
            let again = wire.append("t", index, &batch(id, sequence));
            assert_eq!(
                again, offset,
                "a retry of batch {sequence} of producer {id}"
            );
        }
        for index in 0..3 {
            assert_eq!(wire.offset("t", index, -1), 20, "nothing was appended");
            assert_eq!(wire.append("t", index, &batch(ids[0], 5)), 20, "the next");
        }
    }
}

#[test]
fn producer_ids_never_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = HashSet::new();
    for (run, cores) in ["2", "1", "2", "2"].into_iter().enumerate() {
        let broker = Broker::with(dir.path(), &["--cores", cores]);
        // Many connections, so that every shard gives some out.
        for _ in 0..16 {
            let mut wire = Wire::connect(broker.kafka);
            for _ in 0..100 {
                let id = wire.new_producer_id();
                assert!(seen.insert(id), "{id} was given out before");
            }
        }
        match run % 2 {
            0 => broker.kill_9(),
            _ => broker.stop(),
        }
    }
}

#[test]
fn topics_created_altered_and_deleted_are_so_after_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for round in 0..5 {
        let broker = Broker::start(dir.path());
        let mut wire = Wire::connect(broker.kafka);
        let (kept, grown, gone) = (
            format!("kept-{round}"),
            format!("grown-{round}"),
            format!("gone-{round}"),
        );
        for name in [&kept, &grown, &gone] {
            wire.create_topic(name, 2);
        }
        wire.append(&gone, 0, &Batch::of(["forget me"]));
        wire.append(&kept, 1, &Batch::of(["remember me"]));
        assert_eq!(wire.set_partitions(&grown, 6, false), 0);
        ids.push(wire.describe_topic(&kept).topic_id);
        assert_eq!(wire.delete_topic(&gone), 0);
        broker.kill_9();
    }
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    let mut expected: Vec<String> = Vec::new();
    expected.extend((0..5).map(|round| format!("grown-{round}")));
    expected.extend((0..5).map(|round| format!("kept-{round}")));
    assert_eq!(wire.topics(), expected);
    for (round, id) in ids.into_iter().enumerate() {
        let kept = wire.describe_topic(&format!("kept-{round}"));
        assert_eq!((kept.topic_id, kept.partitions.len()), (id, 2));
        assert_eq!(wire.values(&format!("kept-{round}"), 1), [b"remember me"]);
        let grown = wire.describe_topic(&format!("grown-{round}"));
        assert_eq!(grown.partitions.len(), 6);
    }
    eventually("the files of deleted topics are gone", || {
        names_in(dir.path())
            .iter()
            .all(|name| !name.contains("gone") && !name.ends_with("-delete"))
    });
}

#[test]
fn a_half_deleted_topic_is_finished_off_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("half", 2);
    wire.create_topic("whole", 1);
    for index in 0..2 {
        wire.append("half", index, &Batch::of(["old"]));
    }
    wire.append("whole", 0, &Batch::of(["kept"]));
    broker.stop();
    // As a power cut leaves it between the deletion's entry in the catalog and the files' removal:
    // the files are there, the last entry (that they are gone) is not.
    let copies = tempfile::tempdir().unwrap();
    let dirs = ["half-0", "half-1"];
    for name in dirs {
        copy_dir(&dir.path().join(name), &copies.path().join(name));
    }
    let broker = Broker::start(dir.path());
    assert_eq!(Wire::connect(broker.kafka).delete_topic("half"), 0);
    eventually("the files are gone", || {
        let names = names_in(dir.path());
        names.iter().all(|name| !name.contains("-delete"))
    });
    broker.kill_9();
    let catalog = dir.path().join("catalog.log");
    let content = std::fs::read(&catalog).unwrap();
    let last_entry = content.windows(4).rposition(|bytes| bytes == b"MSCE");
    std::fs::write(&catalog, &content[..last_entry.unwrap()]).unwrap();
    for name in dirs {
        copy_dir(&copies.path().join(name), &dir.path().join(name));
    }
    // Whose directory that is cannot be read from it: it goes all the same, or it would become that of
    // the next topic of the name.
    std::fs::write(dir.path().join("half-1").join("checkpoint"), "torn").unwrap();

    for _ in 0..2 {
        let broker = Broker::start(dir.path());
        let mut wire = Wire::connect(broker.kafka);
        assert_eq!(wire.topics(), ["whole"]);
        eventually("the files are gone", || {
            let names = names_in(dir.path());
            names
                .iter()
                .all(|name| !name.contains("half") && !name.contains("-delete"))
        });
    }
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(wire.values("whole", 0), [b"kept"]);
    wire.create_topic("half", 1);
    assert_eq!(wire.append("half", 0, &Batch::of(["new"])), 0);
    assert_eq!(wire.values("half", 0), [b"new"]);
}

#[test]
fn a_checkpoint_that_cannot_be_written_keeps_nobody_waiting() {
    const ROUNDS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &["--cores", "1", "--checkpoint-bytes", "4KiB"]);
    let mut first = Wire::connect(broker.kafka);
    let mut second = Wire::connect(broker.kafka);
    first.create_topic("t", 1);
    let value = vec![b'v'; 5_000];
    first.append("t", 0, &Batch::of([&value]));
    // A replacement cannot be written where a directory has its name.
    std::fs::create_dir(dir.path().join("t-0").join("checkpoint.tmp")).unwrap();
    // Two producers: what one appends while the other's flush runs waits for the next flush.
    for _ in 0..ROUNDS {
        for wire in [&mut first, &mut second] {
            wire.send(&produce("t", 0, -1, Batch::of([&value]).encode()), PRODUCE);
        }
        for wire in [&mut first, &mut second] {
            let answer = partition_of(wire.receive::<ProduceRequest>(PRODUCE));
            assert_eq!(answer.error_code, 0);
        }
    }
    assert!(broker.log().contains("a checkpoint could not be written"));
    std::fs::remove_dir(dir.path().join("t-0").join("checkpoint.tmp")).unwrap();
    broker.stop();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(wire.offset("t", 0, -1), 1 + 2 * ROUNDS as i64);
}

#[test]
fn a_deleted_and_recreated_topic_knows_nothing_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    let id = wire.new_producer_id();
    let mut topic_ids = HashSet::new();
    for round in 0..20 {
        wire.create_topic("again", 3);
        assert!(topic_ids.insert(wire.describe_topic("again").topic_id));
        for index in 0..3 {
            let value = format!("{round} {index}");
            let batch = Batch::of([&value]).by(id, 0, 0);
            assert_eq!(wire.append("again", index, &batch), 0, "round {round}");
            assert_eq!(wire.values("again", index), [value.as_bytes()]);
        }
        assert_eq!(wire.delete_topic("again"), 0);
    }
    assert!(wire.topics().is_empty());
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().into_owned()
    };
    entries.map(name).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for name in names_in(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}
