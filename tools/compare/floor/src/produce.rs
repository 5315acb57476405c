//! Produce: room in the partition's file, then bytes as they come: CRC-32C, copy, and at the last one
//! the reply.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BufMut;
use crc_fast::{CrcAlgorithm, Digest};

use crate::log::{Partition, Room, Topics};
use crate::segment::Copy;
use crate::wire::{self, BATCH_CRC_FROM, ProduceHead};

const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
/// Bytes are checked and copied in pieces that the fastest cache holds.
const PIECE_BYTES: usize = 16 << 10;

/// A batch that is being received.
#[derive(Debug)]
pub struct Body {
    correlation_id: i32,
    acks: i16,
    topic: String,
    index: i32,
    crc: u32,
    records: i64,
    bytes: usize,
    taken: usize,
    digest: Digest,
    base_offset: i64,
    /// Where it goes, or why it does not.
    target: Result<Target, i16>,
}

#[derive(Debug)]
struct Target {
    partition: Rc<RefCell<Partition>>,
    room: Room,
}

/// A batch that has come in whole.
pub struct Done {
    /// Empty if the client wants none.
    pub reply: Vec<u8>,
    /// What must be durable before the reply leaves.
    pub appended: Option<Appended>,
}

/// A batch that was appended.
pub struct Appended {
    pub segment: Arc<crate::segment::Segment>,
    pub partition: Rc<RefCell<Partition>>,
    pub end: i64,
}

impl Body {
    pub fn begin(head: &ProduceHead<'_>, topics: &Topics) -> Body {
        let target = target(head, topics);
        Body {
            correlation_id: head.correlation_id,
            acks: head.acks,
            topic: head.topic.to_owned(),
            index: head.partition,
            crc: head.crc,
            records: head.records,
            bytes: head.batch_bytes,
            taken: 0,
            digest: Digest::new(CrcAlgorithm::Crc32Iscsi),
            base_offset: target
                .as_ref()
                .map_or(-1, |target| target.partition.borrow().end),
            target,
        }
    }

    pub fn left(&self) -> usize {
        self.bytes - self.taken
    }

    /// Takes bytes of the batch; the first of them contain its header.
    pub fn take(&mut self, bytes: &mut [u8], copy: Copy) -> io::Result<()> {
        if self.taken == 0 {
            bytes[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        }
        let copy = copy.of(self.bytes);
        match copy {
            Copy::Pwrite => {
                self.check(bytes);
                self.write(bytes, copy)?;
                self.taken += bytes.len();
            }
            _ => {
                for piece in bytes.chunks(PIECE_BYTES) {
                    self.check(piece);
                    self.write(piece, copy)?;
                    self.taken += piece.len();
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, bytes: &[u8]) {
        let from = BATCH_CRC_FROM.saturating_sub(self.taken);
        self.digest.update(&bytes[from..]);
    }

    fn write(&self, bytes: &[u8], copy: Copy) -> io::Result<()> {
        match &self.target {
            Ok(target) => {
                let position = target.room.position + self.taken as u64;
                target.room.segment.write(bytes, position, copy)
            }
            Err(_) => Ok(()),
        }
    }

    /// All has come.
    pub fn finish(self) -> io::Result<Done> {
        let appended = match self.target.as_ref() {
            Ok(_) if self.digest.finalize() as u32 != self.crc => Err(CORRUPT_MESSAGE),
            Ok(target) => Ok(self.append(target)?),
            Err(code) => Err(*code),
        };
        let (error, base_offset) = match &appended {
            Ok(appended) => (0, appended.end - self.records),
            Err(code) => (*code, -1),
        };
        let mut reply = Vec::new();
        if self.acks != 0 {
            reply.reserve(128);
            wire::put_produced(
                &mut reply,
                self.correlation_id,
                &self.topic,
                self.index,
                error,
                base_offset,
            );
        }
        Ok(Done {
            reply,
            appended: appended.ok(),
        })
    }

    fn append(&self, target: &Target) -> io::Result<Appended> {
        let mut partition = target.partition.borrow_mut();
        let Room {
            segment, position, ..
        } = &target.room;
        if partition.end != self.base_offset {
            // Another connection's batch came first.
            let mut base_offset = Vec::with_capacity(8);
            base_offset.put_i64(partition.end);
            segment.write(&base_offset, *position, Copy::Pwrite)?;
        }
        partition.append(&target.room, self.bytes, self.records);
        Ok(Appended {
            segment: Arc::clone(segment),
            partition: Rc::clone(&target.partition),
            end: partition.end,
        })
    }
}

fn target(head: &ProduceHead<'_>, topics: &Topics) -> Result<Target, i16> {
    let partition = topics.partition(head.topic, head.partition);
    let partition = partition.ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
    let room = partition.borrow_mut().room(head.batch_bytes);
    let room = room.ok_or(MESSAGE_TOO_LARGE)?;
    Ok(Target {
        partition: Rc::clone(partition),
        room,
    })
}
