//! What consumer instances have committed, and where they go on.

use super::consumers::{Partition, Partitions, done, named};
use super::topics::shown;
use crate::engine::offsets::OffsetSpec;
use crate::http::answer::Answer;
use crate::http::problem::Problem;
use crate::http::query::rfc_3339;
use crate::http::request::Asked;
use crate::http::rest::error::constraint;
use crate::http::rest::instances::instance::Instance;
use crate::http::rest::instances::offsets::{Commit, Seek};
use crate::http::rest::json::{self, Read};
use crate::io::reactor::Slice;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::rc::Rc;

/// An offset in a partition, and a note about it.
#[derive(Deserialize)]
struct Offset {
    topic: String,
    partition: i32,
    offset: i64,
    metadata: Option<String>,
}

/// A time in a partition, as RFC 3339 writes it.
#[derive(Deserialize)]
struct Time {
    topic: String,
    partition: i32,
    timestamp: String,
}

#[derive(Default, Deserialize)]
struct Offsets {
    #[serde(default, deserialize_with = "json::list")]
    offsets: Vec<Offset>,
    #[serde(default, deserialize_with = "json::list")]
    timestamps: Vec<Time>,
}

/// `POST …/offsets`: commits these offsets: of what is to be read next. Without any, all that was returned.
pub async fn commit(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let Offsets { offsets, .. } = json::parsed_or_default(&read.body)?;
    let commit = move |instance: Rc<Instance>| async move {
        if offsets.is_empty() {
            return instance.commit_all().await;
        }
        let mut commits = Vec::with_capacity(offsets.len());
        let mut slice = Slice::new();
        for offset in offsets {
            commits.push(Commit {
                key: instance.key_of(&offset.topic, offset.partition)?,
                offset: offset.offset,
                note: offset.metadata.unwrap_or_default(),
            });
            slice.rest().await;
        }
        instance.commit(commits).await
    };
    ask(&read, commit).await?;
    Ok(done(&read.headers))
}

/// `GET …/offsets`, with a body: what the group has committed in these partitions; without one, in the instance's.
pub async fn offsets(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let Partitions { partitions } = json::parsed_or_default(&read.body)?;
    let committed = move |instance: Rc<Instance>| async move {
        let asked: Vec<(String, i32)> = if partitions.is_empty() {
            instance.partitions()
        } else {
            let named = partitions.into_iter();
            named.map(|one| (one.topic, one.partition)).collect()
        };
        let mut keys = BTreeSet::new();
        let mut slice = Slice::new();
        for (topic, partition) in &asked {
            keys.insert(instance.key_of(topic, *partition)?);
            slice.rest().await;
        }
        let committed = instance.committed(keys).await?;
        let told = asked.into_iter().filter_map(|(topic, partition)| {
            let key = instance.key_of(&topic, partition).ok()?;
            let (offset, note) = committed.get(&key)?;
            Some((topic, partition, *offset, note.to_string()))
        });
        Ok(told.collect::<Vec<_>>())
    };
    let told = ask(&read, committed).await?.into_iter();
    let told = told.map(|(topic, partition, offset, note)| {
        json!({ "topic": topic, "partition": partition, "offset": offset, "metadata": note })
    });
    let told = json!({ "offsets": told.collect::<Vec<_>>() });
    Ok(shown(&read.headers, &told))
}

/// `POST …/positions`: the instance goes on at these offsets, or times.
pub async fn seek(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let wanted: Offsets = json::parsed(&read.body)?;
    let mut times = Vec::with_capacity(wanted.timestamps.len());
    for time in wanted.timestamps {
        let ms = rfc_3339(&time.timestamp).ok_or_else(|| {
            let text = &time.timestamp;
            constraint(format!("{text:?} is no time as in 2026-01-31T10:00:00Z"))
        })?;
        times.push((time.topic, time.partition, ms));
    }
    let offsets = wanted.offsets;
    let seek = move |instance: Rc<Instance>| async move {
        let mut moves = Vec::with_capacity(offsets.len() + times.len());
        let mut slice = Slice::new();
        for offset in offsets {
            let key = instance.key_of(&offset.topic, offset.partition)?;
            moves.push((key, Seek::To(offset.offset)));
            slice.rest().await;
        }
        for (topic, partition, ms) in times {
            let key = instance.key_of(&topic, partition)?;
            moves.push((key, Seek::At(OffsetSpec::AtTime(ms))));
            slice.rest().await;
        }
        instance.seek(moves).await
    };
    ask(&read, seek).await?;
    Ok(done(&read.headers))
}

/// `POST …/positions/beginning`.
pub async fn seek_to_beginning(asked: Asked) -> Result<Answer, Problem> {
    seek_all(asked, OffsetSpec::Earliest).await
}

/// `POST …/positions/end`.
pub async fn seek_to_end(asked: Asked) -> Result<Answer, Problem> {
    seek_all(asked, OffsetSpec::Latest).await
}

async fn seek_all(asked: Asked, spec: OffsetSpec) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let Partitions { partitions } = json::parsed(&read.body)?;
    let seek = move |instance: Rc<Instance>| async move {
        let mut moves = Vec::with_capacity(partitions.len());
        let mut slice = Slice::new();
        for Partition { topic, partition } in partitions {
            let key = instance.key_of(&topic, partition)?;
            moves.push((key, Seek::At(spec)));
            slice.rest().await;
        }
        instance.seek(moves).await
    };
    ask(&read, seek).await?;
    Ok(done(&read.headers))
}

/// Asks the instance that a request with a body names.
async fn ask<R, F>(
    read: &Read,
    ask: impl FnOnce(Rc<Instance>) -> F + Send + 'static,
) -> Result<R, Problem>
where
    R: Send + 'static,
    F: Future<Output = Result<R, Problem>> + 'static,
{
    let (group, name) = named(&read.params);
    read.services.instances.ask(group, name, ask).await
}
