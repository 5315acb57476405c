//! Drives a log as a shard does, with every job run in place.

use crate::disk::{Files, TOPIC_ID};
use millstream::log::batch::{self, BatchHeader, build};
use millstream::log::{AppendError, Log, LogConfig, Read, ReadError};
use std::path::Path;

const NOW_MS: i64 = 1_700_000_100_000;

/// Small segments, so that appends roll.
const CONFIG: LogConfig = LogConfig {
    segment_bytes: 16 << 10,
    segment_ms: i64::MAX,
    index_interval_bytes: 256,
    retention_ms: -1,
    retention_bytes: -1,
    compaction: None,
    reserve_step_bytes_max: 64 << 10,
    checkpoint_bytes: 4 << 10,
    not_durable_bytes_max: 64 << 10,
};

pub fn recover_read_append_reopen(files: &Files) {
    let dir = tempdir();
    files.write(dir.path());
    let Some(mut log) = open(dir.path()) else {
        assert!(!files.is_honest, "an honest directory was refused");
        return;
    };
    let offsets = log.offsets();
    assert!(
        offsets.durable == offsets.end,
        "all that was recovered is durable"
    );
    if files.is_honest {
        assert!(
            offsets.end >= files.sound_end,
            "sound batches were cut: {offsets:?}"
        );
    }
    let before = read_all(&mut log, files.is_honest);

    let appended_at = offsets.end;
    for round in 0..4u8 {
        append(&mut log, round, files.is_honest);
        flush(&mut log);
    }
    let after = read_all(&mut log, files.is_honest);
    // Where the old part is sound, the new part is all there too. Of a directory that lies, reading may
    // have found out more meanwhile.
    if files.is_honest {
        assert!(
            after.starts_with(&before),
            "an append changed what was there"
        );
        assert!(log.offsets().end > appended_at);
    }
    let end = log.offsets().end;
    drop(log);

    let mut again = open(dir.path()).expect("what was opened and closed opens again");
    if files.is_honest {
        assert_eq!(again.offsets().end, end);
    }
    let reopened = read_all(&mut again, files.is_honest);
    if files.is_honest {
        assert!(reopened == after, "reopening changed the log");
    }
}

/// In memory where the system has such a place: a fuzzer makes thousands of directories a second.
fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn open(dir: &Path) -> Option<Log> {
    let (log, recovered) = Log::open(dir.to_owned(), TOPIC_ID, CONFIG, &mut |_| {}).ok()?;
    (!recovered.foreign).then_some(log)
}

/// Every batch from start to end: they follow one another, and all are there when the directory was
/// honest. (One that lies may make a log that is damaged in the middle; saying so is right.)
fn read_all(log: &mut Log, is_honest: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = log.offsets().start;
    let mut is_first = true;
    while offset < log.offsets().durable {
        let data = match read(log, offset) {
            Ok(Some(data)) => data,
            Ok(None) | Err(ReadError::Corrupt { .. } | ReadError::Unreadable { .. }) => {
                assert!(!is_honest, "offset {offset} cannot be read");
                return bytes;
            }
            Err(error) => panic!("{error}"),
        };
        let mut rest = &data[..];
        while !rest.is_empty() {
            let Ok(header) = BatchHeader::parse(rest) else {
                // Nobody has looked at these bytes yet: an index that is sound leads around them.
                assert!(!is_honest, "a read returns whole batches");
                return bytes;
            };
            let (this, behind) = rest.split_at(header.size());
            if is_honest {
                assert!(batch::crc_matches(this), "offset {offset} is damaged");
                // Only the first may begin before what was asked for. Gaps are what compaction leaves.
                assert!(is_first || header.base_offset >= offset);
            }
            if header.next_offset() <= offset {
                assert!(!is_honest, "offset {offset} is followed by an earlier one");
                return bytes;
            }
            offset = header.next_offset();
            is_first = false;
            bytes.extend_from_slice(this);
            rest = behind;
        }
    }
    bytes
}

fn read(log: &mut Log, offset: i64) -> Result<Option<bytes::Bytes>, ReadError> {
    for _ in 0..8 {
        let job = match log.read(offset, 1000, true, true, NOW_MS)? {
            Read::Data { records, .. } => return Ok(Some(records)),
            Read::Empty => return Ok(None),
            Read::Load(job) => job,
        };
        let base = job.opens();
        match job.run() {
            // As the engine does: what was found is remembered.
            Ok(loaded) => {
                if !log.load_done(loaded, NOW_MS).is_empty() {
                    log.damage().write(log.dir()).expect("room for a few bytes");
                }
            }
            // As the engine does: the whole segment is checked before it is read again.
            Err(error) => assert!(base.is_some_and(|base| log.doubt(base)), "{error}"),
        }
    }
    panic!("offset {offset} is never loaded");
}

/// A log whose end is lost takes nothing more.
fn append(log: &mut Log, round: u8, is_honest: bool) {
    let values = vec![vec![round; 700]; usize::from(round) * 3 + 1];
    let batch = build::BatchBuilder::default().build(&values);
    let header = batch::check_produced(&batch, usize::MAX).expect("a sound batch");
    let base = log.offsets().end;
    for _ in 0..4 {
        match log.append(&batch, &header, None, NOW_MS) {
            Ok(offset) => return assert_eq!(offset, base),
            Err(AppendError::NeedsRoom) => make_room(log, batch.len(), &header),
            Err(error) => return assert!(!is_honest, "{error}"),
        }
    }
    panic!("room is never made");
}

fn make_room(log: &mut Log, bytes: usize, header: &BatchHeader) {
    let job = log
        .room_job(bytes, header, NOW_MS)
        .expect("no other job runs");
    let room = job.run();
    if let Some(seal) = log.room_done(room, NOW_MS).expect("there is space") {
        log.seal_done(&seal.run());
    }
}

fn flush(log: &mut Log) {
    let Some(flush) = log.flush_begin(Vec::new) else {
        return;
    };
    for file in &flush.files {
        file.sync_data().expect("the file system works");
    }
    if let Some(checkpoint) = log.flush_end(flush, &Ok(())) {
        let result = checkpoint.run();
        log.checkpoint_done(&checkpoint, &result);
    }
}
