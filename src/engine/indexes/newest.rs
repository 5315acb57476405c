//! Where the newest record of a key is, asked from any shard.

use super::attach;
use super::keys::{KeyIndex, KeyState};
use crate::engine::{Engine, EngineError, PartitionKey};
use crate::io::clock;
use crate::log::key_hash::KeyHash;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// How often somebody looks who waits for an index.
const LOADING_LOOK: Duration = Duration::from_millis(10);

/// How old an answer may be, at most (ms); `None`: it is to be of now.
pub type MaxAge = Option<i64>;

/// The newest record of a key, appended or durable: its offset, and whether it has no value. `None` where there is
/// none.
///
/// # Errors
/// `NoKeyIndex` while that is not known; it is made for the next time.
pub async fn newest(
    engine: &Rc<Engine>,
    partition: PartitionKey,
    key: KeyHash,
    max_age: MaxAge,
) -> Result<Option<(i64, bool)>, EngineError> {
    let look = move |engine: Rc<Engine>| async move {
        with_keys(&engine, partition, max_age, |keys, start| {
            keys.newest_record(key, start)
        })
    };
    engine.call(engine.owner_of(partition), look).await?
}

/// A record that has a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyRecord {
    pub key: KeyHash,
    pub offset: i64,
    /// It has no value.
    pub is_tombstone: bool,
}

/// Which of these records are the newest of their keys.
///
/// # Errors
/// As [`newest`].
pub async fn are_newest(
    engine: &Rc<Engine>,
    partition: PartitionKey,
    records: Vec<KeyRecord>,
) -> Result<Vec<bool>, EngineError> {
    let look = move |engine: Rc<Engine>| async move {
        with_keys(&engine, partition, None, |keys, _| {
            let each = records.iter();
            each.map(|one| keys.is_newest(one.key, one.offset, one.is_tombstone))
                .collect()
        })
    };
    engine.call(engine.owner_of(partition), look).await?
}

/// Waits until the index of a partition's keys is made, or until `deadline`; it is begun where it was not.
///
/// # Errors
/// `NoKeyIndex` where it is not there by then, or cannot be.
pub async fn ready(
    engine: &Rc<Engine>,
    partition: PartitionKey,
    deadline: Instant,
) -> Result<(), EngineError> {
    let wait = move |engine: Rc<Engine>| async move {
        loop {
            match with_keys(&engine, partition, None, |_, _| ()) {
                Err(EngineError::NoKeyIndex)
                    if is_loading(&engine, partition) && Instant::now() < deadline => {}
                answer => return answer,
            }
            tokio::select! {
                () = tokio::time::sleep(LOADING_LOOK) => {}
                () = engine.stop.wait() => return Err(EngineError::Stopping),
            }
        }
    };
    engine.call(engine.owner_of(partition), wait).await?
}

/// The index is not there yet, and will be.
fn is_loading(engine: &Engine, key: PartitionKey) -> bool {
    let partition = engine.partition(key);
    partition.is_some_and(|partition| {
        let inner = partition.borrow();
        let indexes = inner.indexes.as_ref();
        let keys = indexes.and_then(|indexes| indexes.keys.as_ref());
        keys.is_some_and(|keys| matches!(keys.state(), KeyState::Loading { .. }))
    })
}

fn with_keys<T>(
    engine: &Rc<Engine>,
    key: PartitionKey,
    max_age: MaxAge,
    look: impl FnOnce(&KeyIndex, i64) -> T,
) -> Result<T, EngineError> {
    let partition = engine.partition(key);
    let partition = partition.ok_or(EngineError::UnknownTopicOrPartition)?;
    if !partition.borrow_mut().has_indexes() {
        attach(engine, &partition);
    }
    let inner = partition.borrow();
    let indexes = inner.indexes.as_ref();
    let keys = indexes.and_then(|indexes| indexes.keys.as_ref());
    let keys = keys.ok_or(EngineError::NoKeyIndex)?;
    let is_known = match (keys.state(), max_age) {
        (KeyState::Ready, _) => true,
        (KeyState::Loading { known_ms }, Some(age)) => known_ms >= clock::now_ms() - age,
        _ => false,
    };
    if is_known {
        Ok(look(keys, inner.offsets().start))
    } else {
        Err(EngineError::NoKeyIndex)
    }
}
