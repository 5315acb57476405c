//! Asks the leaders for records, from one offset of each partition to another.

use crate::cli::exit::{Exit, Failure};
use crate::client::fetch::{self, Limits};
use crate::client::offsets::{self, Bounds, by_leader};
use crate::client::records::Batch;
use crate::client::{self, Client, Topic, kafka_error};
use crate::kafka::data::fetch::{PartitionResponse, Request};
use crate::kafka::error::ErrorCode;
use crate::log::records::Record;
use anyhow::{Context, anyhow, bail};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The broker waits for records before an empty answer.
const LIMITS: Limits = Limits {
    max_wait_ms: 500,
    min_bytes: 1,
    max_bytes: 16 << 20,
    partition_max_bytes: 4 << 20,
};
/// How long to go on without an answer that helps.
const PATIENCE: Duration = Duration::from_secs(30);
const BACKOFF: Duration = Duration::from_millis(250);

/// How far one partition has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub partition: i32,
    /// The offset of the next record.
    pub position: i64,
    /// Where the partition ended, and where to stop.
    pub end: i64,
    /// Whether to go on there with what is written.
    pub follow: bool,
}

impl Cursor {
    fn is_done(&self) -> bool {
        !self.follow && self.position >= self.end
    }
}

/// Where records go.
pub trait Sink {
    /// Takes the next record of a partition.
    fn take(&mut self, topic: &str, partition: i32, record: &Record<'_>) -> anyhow::Result<()>;

    /// Whether it takes no more.
    fn is_full(&self) -> bool;

    /// All that came in one round has been taken.
    fn flush(&mut self) -> anyhow::Result<()>;
}

/// Reads a topic.
pub struct Reader {
    client: Client,
    topic: Topic,
}

impl Reader {
    /// A reader of `topic`, as `client` knows it.
    pub fn new(client: Client, topic: Topic) -> Reader {
        Reader { client, topic }
    }

    /// Reads until every cursor is at its end, or `sink` is full.
    pub fn read(&mut self, cursors: &mut [Cursor], sink: &mut impl Sink) -> anyhow::Result<()> {
        let mut last_success = Instant::now();
        while !sink.is_full() && !cursors.iter().all(Cursor::is_done) {
            let trouble = self.round(cursors, sink)?;
            sink.flush()?;
            // The first partition of a request is the last of the next: a busy one must not keep the
            // others waiting.
            cursors.rotate_left(1);
            match trouble {
                None => last_success = Instant::now(),
                Some(why) if last_success.elapsed() > PATIENCE => {
                    let why = format!("given up after {} s: {why}", PATIENCE.as_secs());
                    return Err(Failure::new(Exit::TimedOut, why).into());
                }
                Some(_) => self.wait_and_refresh()?,
            }
        }
        Ok(())
    }

    /// Asks every leader once, all of them before the first answers. Returns what went wrong if it
    /// may pass.
    fn round(
        &mut self,
        cursors: &mut [Cursor],
        sink: &mut impl Sink,
    ) -> anyhow::Result<Option<String>> {
        let mut trouble = None;
        let mut asked = Vec::new();
        let open = cursors.iter().filter(|cursor| !cursor.is_done());
        for (leader, partitions) in by_leader(&self.topic, open.map(|cursor| cursor.partition)) {
            let Some(leader) = leader else {
                let (topic, partition) = (&self.topic.name, partitions[0]);
                trouble = Some(format!("{topic} partition {partition} has no leader"));
                continue;
            };
            let sent = self.ask(leader, &partitions, cursors);
            let sent = passing(sent, &mut trouble)?;
            asked.extend(sent.map(|version| (leader, version)));
        }
        for (leader, version) in asked {
            let answer = self.answer(leader, version);
            for data in passing(answer, &mut trouble)?.unwrap_or_default() {
                trouble = self.take(data, cursors, sink)?.or(trouble);
            }
        }
        Ok(trouble)
    }

    fn ask(&mut self, leader: i32, partitions: &[i32], cursors: &[Cursor]) -> client::Result<i16> {
        let connection = self.client.broker(leader)?;
        let version = fetch::version(connection, &self.topic)?;
        let cursors = cursors
            .iter()
            .filter(|cursor| partitions.contains(&cursor.partition));
        let positions = cursors.map(|cursor| (cursor.partition, cursor.position));
        let request = fetch::request(&self.topic, positions, LIMITS);
        connection.send(&request, version)?;
        Ok(version)
    }

    fn answer(&mut self, leader: i32, version: i16) -> client::Result<Vec<PartitionResponse>> {
        let connection = self.client.broker(leader)?;
        let reply = connection.receive::<Request>(version)?;
        client::check(reply.error_code, "Fetch")?;
        let topics = reply.topics.into_iter();
        Ok(topics.flat_map(|topic| topic.partitions).collect())
    }

    /// Hands on what a partition gave. Returns what went wrong if it may pass.
    fn take(
        &mut self,
        data: PartitionResponse,
        cursors: &mut [Cursor],
        sink: &mut impl Sink,
    ) -> anyhow::Result<Option<String>> {
        let partition = data.index;
        let Some(cursor) = cursors.iter_mut().find(|c| c.partition == partition) else {
            return Ok(None);
        };
        let topic = &self.topic.name;
        match data.error_code {
            ErrorCode::None => {
                hand_on(cursor, topic, data, sink)?;
                Ok(None)
            }
            ErrorCode::OffsetOutOfRange => Err(self.lost_position(cursor)),
            code => {
                let why = format!("{topic} partition {partition}: {}", kafka_error(code));
                if code.is_retriable() {
                    return Ok(Some(why));
                }
                Err(Failure::refused(code, why).into())
            }
        }
    }

    /// What to say when the broker no longer has the offset that comes next.
    fn lost_position(&mut self, cursor: &Cursor) -> anyhow::Error {
        let (partition, position) = (cursor.partition, cursor.position);
        match offsets::bounds(&mut self.client, &self.topic, &[partition]) {
            Err(error) => {
                anyhow::Error::from(error).context(kafka_error(ErrorCode::OffsetOutOfRange))
            }
            Ok(bounds) => out_of_range(&self.topic, partition, position, bounds[&partition])
                .context("records were deleted before they could be read"),
        }
    }

    /// Looks for new leaders after a moment. A broker that cannot be reached now is left to the next
    /// round.
    fn wait_and_refresh(&mut self) -> anyhow::Result<()> {
        sleep(BACKOFF);
        match self.client.topic(&self.topic.name) {
            Ok(topic) => self.topic = topic,
            Err(error) if error.is_connection() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Sets failures of a connection aside as `trouble`; others remain failures.
fn passing<T>(
    result: client::Result<T>,
    trouble: &mut Option<String>,
) -> client::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_connection() => {
            *trouble = Some(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Says that a partition does not hold `offset`, and what it holds.
pub fn out_of_range(topic: &Topic, partition: i32, offset: i64, bounds: Bounds) -> anyhow::Error {
    let (name, Bounds { start, end }) = (&topic.name, bounds);
    let holds = if start == end {
        format!("is empty, and its next record will have offset {end}")
    } else {
        format!("holds offsets {start} to {}", end - 1)
    };
    anyhow!("offset {offset} is out of range: {name} partition {partition} {holds}")
}

/// Hands on what `data` holds from the cursor on, and moves the cursor.
fn hand_on(
    cursor: &mut Cursor,
    topic: &str,
    data: PartitionResponse,
    sink: &mut impl Sink,
) -> anyhow::Result<()> {
    let partition = data.index;
    let mut bytes = data.records.0;
    let any_bytes = !bytes.is_empty();
    let started_at = cursor.position;
    let named = || format!("{topic} partition {partition}");
    while let Some(batch) = Batch::take(&mut bytes).with_context(named)? {
        if cursor.is_done() || sink.is_full() {
            return Ok(());
        }
        if batch.next_offset() <= cursor.position {
            continue;
        }
        if !batch.is_control() {
            let records = batch.records().with_context(named)?;
            for record in records.iter() {
                let record = record.map_err(|error| batch.unreadable(error));
                let record = record.with_context(named)?;
                let is_beyond = !cursor.follow && record.offset >= cursor.end;
                if is_beyond || sink.is_full() {
                    break;
                }
                if record.offset >= cursor.position {
                    sink.take(topic, partition, &record)?;
                    cursor.position = record.offset + 1;
                }
            }
        }
        if !sink.is_full() {
            cursor.position = cursor.position.max(batch.next_offset());
        }
    }
    if any_bytes && cursor.position == started_at {
        bail!(
            "{}: the batch at offset {started_at} is larger than a fetch returns",
            named()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn a_cursor_that_follows_is_never_done() {
        let mut cursor = Cursor {
            partition: 0,
            position: 5,
            end: 5,
            follow: false,
        };
        assert!(cursor.is_done());
        cursor.follow = true;
        assert!(!cursor.is_done());
    }
}
