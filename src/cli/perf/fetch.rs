//! A connection that reads: asks, reads the whole reply, walks the batches' headers, asks again.

use super::frames::{self, Frames, next_random};
use super::plan::{Consumers, ReadFrom, Target};
use super::produce::connect;
use super::tally::Tally;
use crate::client::Topic;
use crate::client::offsets::Bounds;
use crate::kafka::data::fetch::PartitionResponse;
use crate::log::batch::BatchHeader;
use anyhow::{Context, bail};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

/// A connection and what it reads.
pub struct Connection {
    writer: OwnedWriteHalf,
    reader: Frames<OwnedReadHalf>,
    topic: Topic,
    partitions: BTreeMap<i32, Cursor>,
    how: Consumers,
    tally: Rc<RefCell<Tally>>,
    random: u64,
}

/// Where a partition is read.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// As last heard.
    bounds: Bounds,
    next: i64,
}

/// Opens all connections.
pub async fn connections(
    target: &Target,
    how: &Consumers,
    tally: &Rc<RefCell<Tally>>,
) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for (number, (address, partitions)) in target.divide(how.connections).into_iter().enumerate() {
        let cursor = |partition: i32| {
            let mut bounds = target.bounds.get(&partition).copied().unwrap_or_default();
            let last_records = how.last_records.unwrap_or(bounds.end);
            bounds.start = bounds.start.max(bounds.end - last_records);
            let next = if how.from == ReadFrom::End {
                bounds.end
            } else {
                bounds.start
            };
            (partition, Cursor { bounds, next })
        };
        let (reader, writer) = connect(&address).await?.into_split();
        connections.push(Connection {
            writer,
            reader: Frames::new(reader),
            topic: target.topic.clone(),
            partitions: partitions.into_iter().map(cursor).collect(),
            how: how.clone(),
            tally: Rc::clone(tally),
            random: 0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1),
        });
    }
    Ok(connections)
}

impl Connection {
    /// Reads until the time is over.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let again = self.how.from != ReadFrom::End;
        let mut cursors = self.partitions.values();
        if again && cursors.all(|cursor| cursor.bounds.start == cursor.bounds.end) {
            bail!("there is nothing to read: write something to the topic first");
        }
        let mut correlation_id = 0;
        while Instant::now() < self.tally.borrow().end() {
            correlation_id += 1;
            let sent = Instant::now();
            self.ask(correlation_id).await?;
            let (answered, reply) = self.reader.next().await?;
            if answered != correlation_id {
                bail!("the broker answered requests out of their order");
            }
            if again {
                self.tally.borrow_mut().fetched(sent);
            }
            self.take(&reply)?;
        }
        Ok(())
    }

    async fn ask(&mut self, correlation_id: i32) -> anyhow::Result<()> {
        let wanted = if self.how.from == ReadFrom::Random {
            vec![self.somewhere()]
        } else {
            let cursors = self.partitions.iter();
            cursors
                .map(|(partition, cursor)| (*partition, cursor.next))
                .collect()
        };
        let frame = frames::fetch_frame(&self.topic, &wanted, &self.how, correlation_id)?;
        let written = self.writer.write_all(&frame).await;
        written.context("the broker closed a connection")
    }

    fn somewhere(&mut self) -> (i32, i64) {
        let partitions = self.partitions.len() as u64;
        let which = (next_random(&mut self.random) % partitions) as usize;
        let offset = next_random(&mut self.random);
        let mut cursors = self.partitions.iter();
        let (partition, cursor) = cursors.nth(which).expect("below their number");
        let Bounds { start, end } = cursor.bounds;
        let span = (end - start).max(1) as u64;
        (*partition, start + (offset % span) as i64)
    }

    fn take(&mut self, reply: &Bytes) -> anyhow::Result<()> {
        for found in frames::fetched(reply)? {
            if let Some(cursor) = self.partitions.get_mut(&found.index) {
                cursor.take(found, self.how.from, &mut self.tally.borrow_mut());
            }
        }
        Ok(())
    }
}

impl Cursor {
    fn take(&mut self, found: PartitionResponse, from: ReadFrom, tally: &mut Tally) {
        if found.error_code.is_error() {
            tally.failed(found.error_code);
            return;
        }
        self.bounds.start = found.log_start_offset.max(self.bounds.start);
        self.bounds.end = found.high_watermark;
        let bytes = found.records.0;
        let mut records = 0;
        for batch in batches(&bytes) {
            records += batch.record_count as u64;
            self.next = batch.next_offset();
            if from == ReadFrom::End {
                tally.was_read(found.index, batch.base_offset);
            }
        }
        if records > 0 {
            tally.read(records, bytes.len() as u64);
        }
        if from != ReadFrom::End && self.next >= self.bounds.end {
            self.next = self.bounds.start;
        }
    }
}

/// The headers of whole batches.
fn batches(mut bytes: &[u8]) -> impl Iterator<Item = BatchHeader> {
    std::iter::from_fn(move || {
        let header = BatchHeader::parse(bytes).ok()?;
        bytes = bytes.get(header.size()..)?;
        Some(header)
    })
}

#[cfg(test)]
mod tests {
    use super::batches;
    use crate::cli::perf::frames::Load;
    use crate::log::batch::Codec;

    #[test]
    fn whole_batches_are_counted_and_half_ones_left() {
        let load = Load::new(10, 500, Codec::None).expect("a batch");
        let mut bytes = load.batch.to_vec();
        bytes[..8].copy_from_slice(&40i64.to_be_bytes());
        bytes.extend_from_slice(&load.batch[..load.batch.len() - 1]);
        let found: Vec<_> = batches(&bytes).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].record_count as u64, load.records);
        assert_eq!(
            (found[0].base_offset, found[0].next_offset()),
            (40, 40 + load.records as i64)
        );
    }
}
