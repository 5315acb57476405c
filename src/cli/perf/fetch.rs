//! A connection that reads: asks, reads the whole reply, walks the batches' headers, asks again.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, bail};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::log::batch::HEADER_BYTES;

use super::frames::{self, Fetched};
use super::plan::{Consumers, From, Target};
use super::produce::connect;
use super::tally::Tally;

const REPLY_BYTES_MAX: usize = 1 << 30;

/// A connection and what it reads.
pub struct Connection {
    stream: TcpStream,
    topic: String,
    partitions: BTreeMap<i32, Place>,
    how: Consumers,
    tally: Rc<Tally>,
    random: u64,
}

/// Where a partition is read.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: i64,
    /// The high watermark, as last heard.
    end: i64,
    next: i64,
}

/// Opens all connections.
pub async fn connections(
    target: &Target,
    how: &Consumers,
    tally: &Rc<Tally>,
) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for (number, (address, partitions)) in target.divide(how.connections).into_iter().enumerate() {
        let place = |partition: i32| {
            let (start, end) = target.bounds.get(&partition).copied().unwrap_or_default();
            let start = start.max(end - how.last_records.unwrap_or(end));
            let next = if how.from == From::End { end } else { start };
            (partition, Place { start, end, next })
        };
        connections.push(Connection {
            stream: connect(&address).await?,
            topic: target.topic.clone(),
            partitions: partitions.into_iter().map(place).collect(),
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
        let again = self.how.from != From::End;
        if again
            && self
                .partitions
                .values()
                .all(|place| place.start == place.end)
        {
            bail!("there is nothing to read: write something to the topic first");
        }
        let mut buffer = BytesMut::new();
        let mut correlation_id = 0;
        while Instant::now() < self.tally.end() {
            correlation_id += 1;
            let sent = Instant::now();
            self.ask(correlation_id).await?;
            let size = self
                .stream
                .read_i32()
                .await
                .context("the broker closed a connection")?;
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > REPLY_BYTES_MAX {
                bail!("the broker announced a reply of {size} bytes");
            }
            read_exactly(&mut self.stream, &mut buffer, size).await?;
            if again {
                self.tally.fetched(sent);
            }
            self.take(&buffer, correlation_id)?;
        }
        Ok(())
    }

    async fn ask(&mut self, correlation_id: i32) -> anyhow::Result<()> {
        let random = self.how.from == From::Random;
        let wanted: Vec<(i32, i64)> = match random {
            true => vec![self.somewhere()],
            false => self
                .partitions
                .iter()
                .map(|(partition, place)| (*partition, place.next))
                .collect(),
        };
        let mut frame = frames::fetch(&self.topic, &wanted, &self.how);
        frames::set_correlation_id(&mut frame, correlation_id);
        self.stream
            .write_all(&frame)
            .await
            .context("the broker closed a connection")
    }

    fn somewhere(&mut self) -> (i32, i64) {
        let partitions = self.partitions.len() as u64;
        let which = (self.draw() % partitions) as usize;
        let offset = self.draw();
        let (partition, place) = self
            .partitions
            .iter()
            .nth(which)
            .expect("below their number");
        let span = (place.end - place.start).max(1) as u64;
        (*partition, place.start + (offset % span) as i64)
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn take(&mut self, reply: &[u8], correlation_id: i32) -> anyhow::Result<()> {
        let (partitions, tally, how) = (&mut self.partitions, &self.tally, &self.how);
        let found = frames::fetched(reply, |found| {
            if let Some(place) = partitions.get_mut(&found.partition) {
                place.take(&found, how.from, tally);
            }
        })?;
        if found != correlation_id {
            bail!("the broker answered requests out of their order");
        }
        Ok(())
    }
}

impl Place {
    fn take(&mut self, found: &Fetched<'_>, from: From, tally: &Tally) {
        if found.error != 0 {
            tally.failed(found.error);
            return;
        }
        self.start = found.log_start_offset.max(self.start);
        self.end = found.high_watermark;
        let mut records = 0;
        for batch in batches(found.records) {
            records += batch.records;
            self.next = batch.next_offset;
            if from == From::End {
                tally.was_read(found.partition, batch.base_offset);
            }
        }
        if records > 0 {
            tally.read(records, found.records.len() as u64);
        }
        if from != From::End && self.next >= self.end {
            self.next = self.start;
        }
    }
}

struct Batch {
    base_offset: i64,
    next_offset: i64,
    records: u64,
}

/// The headers of whole batches.
fn batches(mut bytes: &[u8]) -> impl Iterator<Item = Batch> {
    std::iter::from_fn(move || {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        let size = 12 + int(8).max(0) as usize;
        if bytes.len() < size {
            return None;
        }
        let batch = Batch {
            base_offset: long(0),
            next_offset: long(0) + i64::from(int(23)) + 1,
            records: int(57).max(0) as u64,
        };
        bytes = &bytes[size..];
        Some(batch)
    })
}

async fn read_exactly(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    size: usize,
) -> anyhow::Result<()> {
    buffer.clear();
    buffer.reserve(size);
    while buffer.len() < size {
        let mut rest = stream.take((size - buffer.len()) as u64);
        if rest
            .read_buf(buffer)
            .await
            .context("the broker closed a connection")?
            == 0
        {
            bail!("the broker closed a connection");
        }
    }
    Ok(())
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
        assert_eq!(found[0].records, load.records);
        assert_eq!(
            (found[0].base_offset, found[0].next_offset),
            (40, 40 + load.records as i64)
        );
    }
}
