//! How a shard follows the catalog: it opens, closes and reconfigures its partitions.

use super::deletions::{doomed_dir, remove_dirs};
use super::{Entry, Topic};
use crate::engine::log_config::log_config;
use crate::engine::upkeep::opening;
use crate::engine::{Engine, EngineError};
use crate::io::file;
use crate::io::reactor::Slice;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// Applies a change of the catalog: opens, closes and reconfigures this shard's partitions. Returns
/// when the files of a deleted topic, and the state of listeners about it, are out of the way of a new
/// one.
///
/// # Errors
/// When a new partition's directory is there already and cannot be opened, or something of a deleted
/// topic is still in the way.
pub async fn apply(engine: &Rc<Engine>, entry: Arc<Entry>) -> Result<(), EngineError> {
    let before = match &*entry {
        Entry::TopicDeleted { id } => engine.topic_by_id(*id),
        _ => None,
    };
    engine.catalog.borrow_mut().apply(&entry);
    match &*entry {
        Entry::TopicCreated { id, .. } | Entry::PartitionsSet { id, .. } => {
            let topic = engine.topic_by_id(*id);
            match topic {
                Some(topic) => add_partitions(engine, &topic).await,
                None => Ok(()),
            }
        }
        Entry::ConfigsSet { id, .. } => {
            if let Some(topic) = engine.topic_by_id(*id) {
                reconfigure(engine, &topic).await;
            }
            Ok(())
        }
        Entry::BrokerConfigsSet { .. } => {
            let topics: Vec<_> = engine.with_catalog(|catalog| catalog.topics().cloned().collect());
            for topic in topics {
                // It may have changed since, while other requests passed.
                if let Some(topic) = engine.topic_by_id(topic.id) {
                    reconfigure(engine, &topic).await;
                }
            }
            Ok(())
        }
        Entry::TopicDeleted { .. } => match before {
            Some(topic) => {
                let heard = engine.listeners.topic_deleted(&topic).await;
                drop_partitions(engine, &topic).await.and(heard)
            }
            None => Ok(()),
        },
        Entry::TopicPurged { .. } | Entry::ProducerIdsReserved { .. } => Ok(()),
    }
}

/// A new partition has no directory until its first append, so opening one here costs a look
/// into the data directory and no more. With very many of them, requests pass in between.
async fn add_partitions(engine: &Rc<Engine>, topic: &Arc<Topic>) -> Result<(), EngineError> {
    reconfigure(engine, topic).await;
    let mut slice = Slice::new();
    for index in 0..topic.partitions {
        opening::open_new(engine, topic, index).map_err(|error| {
            tracing::error!(%error, "a new partition cannot be opened");
            EngineError::StorageFailed
        })?;
        slice.rest().await;
    }
    Ok(())
}

async fn reconfigure(engine: &Engine, topic: &Arc<Topic>) {
    let mut slice = Slice::new();
    for key in topic.keys() {
        if let Some(partition) = engine.partition(key) {
            let mut inner = partition.borrow_mut();
            let config = log_config(&engine.config, &topic.config);
            inner.log.set_config(config);
            inner.topic = Arc::clone(topic);
        }
        slice.rest().await;
    }
}

/// Closes the partitions of a deleted topic and moves their files out of the way; removing them
/// takes its time, on a thread of its own.
async fn drop_partitions(engine: &Rc<Engine>, topic: &Topic) -> Result<(), EngineError> {
    let mut moves = Vec::new();
    let mut removals = 0;
    let mut is_compacting = false;
    let mut slice = Slice::new();
    for key in topic.keys() {
        if let Some(partition) = engine.partition(key) {
            let mut inner = partition.borrow_mut();
            inner.close();
            removals += inner.removals;
            is_compacting |= inner.log.is_compacting();
            engine.partitions.remove(key);
            moves.push((inner.log.dir().to_owned(), doomed_dir(&engine.config, key)));
        }
        slice.rest().await;
    }
    if removals > 0 {
        // They name files by their path, where a new topic of the same name will have its own.
        // Each is in the janitor's queue already, so what is handed over now comes after them.
        engine.janitor.run(|| ()).await;
    }
    if is_compacting {
        // So does a compaction. It was cancelled; after this its running step has ended.
        engine.cleaner.finish_step().await;
    }
    let doomed: Vec<PathBuf> = moves.iter().map(|(_, to)| to.clone()).collect();
    let data_dir = engine.config.data_dir.clone();
    // Jobs of these logs that wait in the worker's queue come first, so none of them writes
    // into a directory that is gone.
    let moved = engine.workers.run(move || {
        for (from, to) in &moves {
            if from.exists() {
                file::rename(from, to)?;
            }
        }
        file::sync_dir(&data_dir)
    });
    moved.await.map_err(|error| {
        tracing::error!(topic = topic.name, %error,
            "the files of a deleted topic cannot be moved away; the next start tries again");
        EngineError::StorageFailed
    })?;
    engine.janitor.start_job(move || remove_dirs(&doomed));
    Ok(())
}
