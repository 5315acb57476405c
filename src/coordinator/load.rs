//! Reading a home at start.

use crate::engine::SharedPartition;
use crate::log::batch::{self, BatchHeader};
use crate::log::check::damage::is_of_medium;
use crate::log::records::Records;
use crate::log::{Log, Read};
use std::io;
use std::sync::Arc;

/// Bytes read at once, and the most that one batch may unpack to.
const READ_BYTES: usize = 4 << 20;
const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// Passes all records of a partition to `apply`, oldest first. Damage that is found on the way is
/// logged and noted for the next start. Blocks.
///
/// # Errors
/// When a segment cannot be read, or is damaged.
pub fn read_all(
    partition: &SharedPartition,
    apply: impl FnMut(&[u8], Option<&[u8]>),
) -> io::Result<()> {
    let mut inner = partition.borrow_mut();
    let before = inner.log.damage().clone();
    let topic = Arc::clone(&inner.topic);
    let read = read_log(&mut inner.log, &topic.name, apply);
    let known: Vec<_> = before.iter().collect();
    let damage = inner.log.damage().iter();
    let found: Vec<_> = damage
        .filter(|damage| !known.contains(damage))
        .cloned()
        .collect();
    inner.tell_damage(&found);
    if !found.is_empty()
        && let Err(error) = inner.log.damage().write(inner.log.dir())
    {
        tracing::error!(dir = %inner.log.dir().display(), %error,
            "what is damaged cannot be noted; it is found again when it is read");
    }
    read
}

fn read_log(
    log: &mut Log,
    topic: &str,
    mut apply: impl FnMut(&[u8], Option<&[u8]>),
) -> io::Result<()> {
    let mut offset = log.offsets().start;
    let mut assume_resident = false;
    loop {
        let read = log.read(offset, READ_BYTES, true, assume_resident, 0);
        match read.map_err(io::Error::other)? {
            Read::Empty => return Ok(()),
            Read::Load(job) => match job.run() {
                Ok(loaded) => {
                    log.load_done(loaded, 0);
                    assume_resident = true;
                }
                Err(error) if is_of_medium(&error) && log.doubt(offset) => assume_resident = false,
                Err(error) => return Err(error),
            },
            Read::Data { records, .. } if !batch::all_crcs_match(&records) => {
                assume_resident = false;
                if !log.doubt(offset) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Read::Data { records, .. } => {
                assume_resident = false;
                let next = apply_batches(&records, topic, &mut apply);
                offset = next.unwrap_or(offset + 1).max(offset + 1);
            }
        }
    }
}

/// Passes the records of whole batches to `apply`; returns the offset behind them.
fn apply_batches(
    mut batches: &[u8],
    topic: &str,
    apply: &mut impl FnMut(&[u8], Option<&[u8]>),
) -> Option<i64> {
    let mut next_offset = None;
    while let Ok(header) = BatchHeader::parse(batches) {
        let Some((batch, rest)) = batches.split_at_checked(header.size()) else {
            break;
        };
        batches = rest;
        next_offset = Some(header.next_offset());
        if header.is_control() {
            continue;
        }
        match Records::unpack(header, batch, UNPACKED_BYTES_MAX) {
            Ok(records) => {
                for record in records.iter().map_while(Result::ok) {
                    if let Some(key) = record.key {
                        apply(key, record.value);
                    }
                }
            }
            Err(error) => tracing::error!(
                topic, offset = header.base_offset, %error,
                "a batch of an internal topic is unreadable"
            ),
        }
    }
    next_offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::records::{Record, batch_of};

    #[test]
    fn all_records_of_whole_batches_are_read_in_order() {
        let record = |key: &str, value: Option<&str>| -> Record {
            (Some(key.into()), value.map(|value| value.into()))
        };
        let mut batches = batch_of(&[record("a", Some("1")), record("b", None)], 5);
        batches.extend(batch_of(&[record("a", Some("2"))], 5));
        let cut = batch_of(&[record("c", None)], 5);
        batches.extend(&cut[..cut.len() - 1]);
        let mut read = Vec::new();
        let mut apply = |key: &[u8], value: Option<&[u8]>| {
            read.push((Some(key.to_vec()), value.map(<[u8]>::to_vec)));
        };
        // Each batch has the base offset 0 here.
        assert_eq!(apply_batches(&batches, "t", &mut apply), Some(1));
        let expected = [
            record("a", Some("1")),
            record("b", None),
            record("a", Some("2")),
        ];
        assert_eq!(read, expected);
    }
}
