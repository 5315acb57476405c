//! The records of a fetch reply are the segment's own mapping: nothing is copied in user space.

use crate::support::batch::{Batch, split};
use crate::support::wire::*;
use bytes::Bytes;
use millstream::access::Caller;
use millstream::config::Config;
use millstream::coordinator::{self, Coordinators};
use millstream::engine::catalog::Catalog;
use millstream::engine::catalog::changes::{self, Admin, NewTopic};
use millstream::engine::catalog_log::CatalogLog;
use millstream::engine::mailbox::mailboxes;
use millstream::engine::upkeep::compaction::Cleaner;
use millstream::engine::{Engine, EngineParts};
use millstream::io::worker::Worker;
use millstream::kafka::answer::{Answer, Handled};
use millstream::kafka::dispatch::dispatch;
use millstream::net::budget::Charge;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// One shard without its sockets.
fn engine(dir: &Path) -> Rc<Engine> {
    let config = Config {
        data_dir: dir.to_owned(),
        cores: 1,
        ..Config::default()
    };
    let mut catalog = Catalog::new(config.topic_defaults.clone());
    let catalog_log = CatalogLog::open(dir, &mut catalog).unwrap();
    let (mailboxes, _) = mailboxes(1, config.mailbox_depth).remove(0);
    Engine::new(EngineParts {
        shard: 0,
        config: Arc::new(config),
        cluster_id: "test".into(),
        mailboxes,
        worker: Worker::start("worker").unwrap(),
        reader: Worker::start_yielding("reader").unwrap(),
        pace: Arc::default(),
        janitor: Worker::start("janitor").unwrap(),
        cleaner: Cleaner::start().unwrap(),
        catalog,
        admin: Some(Admin::new(catalog_log)),
    })
}

/// The parts of the reply to a request, as the connection hands them to the kernel.
async fn reply(engine: &Rc<Engine>, coordinators: &Coordinators, frame: Vec<u8>) -> Vec<Bytes> {
    let frame = Bytes::from(frame).slice(4..);
    let mut charge = Charge::new(&engine.memory, &engine.memory);
    let dispatched = dispatch(
        engine,
        coordinators,
        &Caller::new(([127, 0, 0, 1], 1).into()),
        &frame,
        &mut charge,
    )
    .await
    .unwrap();
    let answer = match dispatched.handled {
        Handled::Now(answer) => answer,
        Handled::Later(answer) | Handled::Parked(answer) => answer.await,
    };
    match answer {
        Answer::Reply(reply) => reply.parts,
        other => panic!("{other:?}"),
    }
}

/// The commit loop's work, once.
async fn flush(engine: &Engine) {
    for partition in engine.dirty.take().await {
        let flush = partition.borrow_mut().flush_begin().unwrap();
        for file in &flush.files {
            file.sync_data().unwrap();
        }
        partition.borrow_mut().flush_end(flush, &Ok(()));
    }
}

/// The file that is mapped where these bytes lie, according to the kernel.
fn mapped_file(bytes: &[u8]) -> Option<String> {
    let (start, end) = (
        bytes.as_ptr() as usize,
        bytes.as_ptr() as usize + bytes.len(),
    );
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut lines = maps.lines();
    let line = lines.find(|line| {
        let (from, rest) = line.split_once('-').unwrap();
        let (to, _) = rest.split_once(' ').unwrap();
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        address(from) <= start && end <= address(to)
    })?;
    let at = line.find('/')?;
    Some(line[at..].to_owned())
}

#[test]
fn the_records_of_a_fetch_reply_lie_in_the_mapped_segment() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let engine = engine(dir.path());
        let coordinators = coordinator::parts(1, 1).remove(0);
        let coordinators = Coordinators::new(&engine, coordinators);
        let new = NewTopic {
            name: "t".to_owned(),
            partitions: 1,
            configs: BTreeMap::new(),
        };
        changes::create_topic(&engine, new, false).await.unwrap();
        let batch = Batch::of([vec![b'x'; 100_000]]).encode();
        for _ in 0..5 {
            reply(
                &engine,
                &coordinators,
                frame(&produce("t", 0, 1, batch.clone()), PRODUCE, 1),
            )
            .await;
        }
        flush(&engine).await;
        let fetched = frame(&fetch("t", &[(0, 0)]), FETCH, 2);
        let parts = reply(&engine, &coordinators, fetched).await;
        let (records, rest): (Vec<Bytes>, Vec<Bytes>) = parts
            .into_iter()
            .partition(|part| part.len() >= batch.len());
        let segment = dir.path().join("t-0/00000000000000000000.log");
        let mut fetched = 0;
        for part in &records {
            assert_eq!(mapped_file(part).as_deref(), segment.to_str());
            fetched += split(part).len();
        }
        assert_eq!(fetched, 5);
        let rest: usize = rest.iter().map(Bytes::len).sum();
        assert!(rest < 200, "{rest} bytes around the records");
    });
}
