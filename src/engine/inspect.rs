//! What an operator looks into: how much of the disk partitions take, and who produces to them.

use super::producers::ProducerState;
use super::{Engine, EngineError, PartitionKey};
use crate::io::file::{self, Volume};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// The data directory and the file system that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    /// Absolute.
    pub path: PathBuf,
    pub volume: Volume,
}

impl Engine {
    /// The key of a partition as clients name it, if there is one.
    pub fn key_of(&self, topic: &str, index: i32) -> Option<PartitionKey> {
        self.topic(topic)?.key_of(index)
    }

    /// Bytes of records in every partition of every shard.
    ///
    /// # Errors
    /// `Stopping` when a shard does not answer any more.
    pub async fn partition_sizes(
        self: &Rc<Self>,
    ) -> Result<HashMap<PartitionKey, u64>, EngineError> {
        let mut sizes = HashMap::new();
        for shard in 0..self.mailboxes.shard_count() {
            let of_shard = self.call(shard, |engine| async move { engine.partition_sizes_here() });
            sizes.extend(of_shard.await?);
        }
        Ok(sizes)
    }

    fn partition_sizes_here(&self) -> Vec<(PartitionKey, u64)> {
        let partitions = self.partitions.borrow();
        let size = |(key, partition): (&PartitionKey, &super::SharedPartition)| {
            (*key, partition.borrow().log.size_bytes())
        };
        partitions.iter().map(size).collect()
    }

    /// The producers that a partition remembers, by id.
    ///
    /// # Errors
    /// When there is no such partition any more.
    pub async fn producers_of(
        self: &Rc<Self>,
        key: PartitionKey,
    ) -> Result<Vec<ProducerState>, EngineError> {
        let look = move |engine: Rc<Engine>| async move {
            let partition = engine.partition(key);
            partition.map(|partition| partition.borrow().producers())
        };
        let found = self.call(self.owner_of(key), look).await?;
        found.ok_or(EngineError::UnknownTopicOrPartition)
    }

    /// Where the data lies and how much room there is.
    pub async fn data_dir(&self) -> io::Result<DataDir> {
        let path = self.absolute_data_dir()?;
        self.run_blocking(move || {
            let volume = file::volume(&path)?;
            Ok(DataDir { path, volume })
        })
        .await
    }

    /// The data directory's absolute path, as written: links are not followed.
    pub fn absolute_data_dir(&self) -> io::Result<PathBuf> {
        std::path::absolute(&self.config.data_dir)
    }
}
