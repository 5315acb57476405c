//! Damage is found, told exactly, and contained: what is sound is read, the rest refused, and nothing on
//! the disk is changed.

use super::*;
use crate::log::check::damage::{self, Damage, Why};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

/// A batch of the fixture has this many offsets.
const OFFSETS: i64 = 3;

/// A log with a checkpoint at its end, closed: segments of 10 batches, all but the last full.
fn stopped(batches: usize) -> Fixture {
    let mut at = fixture(config());
    at.append(batches);
    at.flush();
    let seal = at.log.close_active(START_MS).unwrap();
    at.log.seal_done(&seal.unwrap().run());
    at.checkpoint();
    at.reopen();
    at
}

impl Fixture {
    fn change(&self, base: i64, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path(base, "log");
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.log.dir()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_cache = |path: &PathBuf| {
            path.extension()
                .is_some_and(|extension| extension == "index" || extension == "tmp")
        };
        let paths = paths.filter(|path| !is_cache(path) && !path.ends_with(damage::FILE_NAME));
        paths
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    fn try_read(&mut self, offset: i64) -> Result<Bytes, ReadError> {
        loop {
            match self.log.read(offset, 4000, true, true, START_MS)? {
                Read::Data { records, .. } => return Ok(records),
                Read::Empty => return Ok(Bytes::new()),
                Read::Load(job) => match job.run() {
                    Ok(loaded) => {
                        let found = self.log.load_done(loaded, START_MS);
                        if !found.is_empty() {
                            self.log.damage().write(self.log.dir()).unwrap();
                        }
                    }
                    Err(error) => assert!(damage::is_of_medium(&error) && self.log.doubt(offset)),
                },
            }
        }
    }

    /// Asserts that exactly the offsets in `lost` are refused and all others are read, whole.
    fn check_lost(&mut self, lost: Range<i64>) {
        let Offsets { start, durable, .. } = self.log.offsets();
        for offset in start..durable {
            match self.try_read(offset) {
                Ok(records) => {
                    assert!(!lost.contains(&offset), "{offset} was read");
                    assert!(batch::all_crcs_match(&records));
                    let header = BatchHeader::parse(&records).unwrap();
                    assert!((header.base_offset..header.next_offset()).contains(&offset));
                }
                Err(error) => assert!(lost.contains(&offset), "{offset}: {error}"),
            }
        }
    }

    fn only_damage(&self) -> &Damage {
        let mut all = self
            .log
            .damage()
            .iter()
            .filter(|found| !found.offsets.is_empty());
        let found = all.next().expect("damage");
        assert_eq!(all.next(), None);
        found
    }
}

#[test]
fn a_segment_shorter_than_its_checkpoint_says_is_read_as_far_as_it_goes() {
    let mut at = stopped(25);
    let last = *at.segments().last().unwrap();
    at.change(last, |bytes| bytes.truncate(bytes.len() - 1));
    let before = at.files();
    for _ in 0..2 {
        let recovered = at.reopen();
        assert!(recovered.read_only.is_some());
        assert_eq!(at.log.offsets().end, 75);
        at.check_lost(72..75);
        assert_eq!(at.only_damage().offsets, 72..75);
        // Whether there were records behind the checkpoint is not known.
        let beyond = at.try_read(76);
        assert_eq!(beyond, Err(ReadError::EndLost { asked: 76 }));
        let refused = at.try_append(&batch(1, 10, START_MS)).unwrap_err();
        assert!(refused.to_string().contains("takes no more writes"));
        assert!(matches!(at.log.retention(i64::MAX), Retention::Nothing));
        assert_eq!(at.files(), before);
    }
}

#[test]
fn a_missing_last_segment_costs_its_own_records_only() {
    let mut at = stopped(25);
    let last = *at.segments().last().unwrap();
    fs::remove_file(at.path(last, "log")).unwrap();
    let before = at.files();
    assert!(at.reopen().read_only.is_some());
    at.check_lost(last..75);
    assert_eq!(at.only_damage().why, Why::Missing);
    assert_eq!(at.files(), before);
    for base in at.segments() {
        fs::remove_file(at.path(base, "log")).unwrap();
    }
    at.reopen();
    at.check_lost(0..75);
}

#[test]
fn a_missing_segment_in_the_middle_is_refused_and_writing_goes_on() {
    let mut at = stopped(35);
    let [_, second, third, _] = at.segments()[..] else {
        panic!("{:?}", at.segments());
    };
    fs::remove_file(at.path(second, "log")).unwrap();
    for round in 0..3 {
        let recovered = at.reopen();
        assert_eq!(recovered.read_only, None);
        at.check_lost(second..third);
        at.append(1);
        at.checkpoint();
        assert_eq!(at.log.offsets().durable, 105 + 3 * (round + 1));
    }
}

#[test]
fn a_segment_that_was_cut_short_is_read_as_far_as_it_goes() {
    for cut in [1, 1000, 2500] {
        let mut at = stopped(25);
        let second = at.segments()[1];
        at.change(second, |bytes| bytes.truncate(bytes.len() - cut));
        let third = at.segments()[2];
        at.reopen();
        let from = (second..third)
            .find(|offset| at.try_read(*offset).is_err())
            .unwrap();
        assert!(from > second && (from - second) % OFFSETS == 0);
        at.check_lost(from..third);
    }
}

#[test]
fn every_changed_byte_costs_the_records_of_its_batch_and_no_others() {
    let mut at = stopped(25);
    let second = at.segments()[1];
    let size = at
        .try_read(second)
        .map(|records| BatchHeader::parse(&records).unwrap().size());
    let size = size.unwrap();
    let pristine = fs::read(at.path(second, "log")).unwrap();
    let lost = second + 4 * OFFSETS..second + 5 * OFFSETS;
    let leader_epoch = 12..16;
    for at_byte in (0..80).step_by(3).chain([size / 2, size - 1]) {
        if leader_epoch.contains(&at_byte) {
            continue;
        }
        at.change(second, |bytes| bytes[4 * size + at_byte] ^= 0x41);
        let before = at.files();
        at.reopen();
        assert!(at.log.doubt(second), "byte {at_byte}");
        at.check_lost(lost.clone());
        let found = at.only_damage();
        assert_eq!(found.offsets, lost, "byte {at_byte}");
        assert_eq!(found.bytes, 4 * size..5 * size, "byte {at_byte}");
        assert_eq!(at.files(), before);
        // The next start knows it without looking.
        at.reopen();
        assert_eq!(at.only_damage().offsets, lost);
        at.check_lost(lost.clone());
        fs::remove_file(at.log.dir().join(damage::FILE_NAME)).unwrap();
        fs::write(at.path(second, "log"), &pristine).unwrap();
    }
}

#[test]
fn a_wrong_offset_behind_damage_costs_no_other_batch() {
    for flipped in [-2 * OFFSETS, -1, 1, 7 * OFFSETS] {
        for (damaged, wrong) in [(3, 5), (3, 4), (7, 9), (1, 3)] {
            let mut at = stopped(25);
            let second = at.segments()[1];
            let records = at.try_read(second).unwrap();
            let size = BatchHeader::parse(&records).unwrap().size();
            at.change(second, |bytes| {
                bytes[damaged * size + 70] ^= 4;
                let base = (second + wrong as i64 * OFFSETS + flipped).to_be_bytes();
                bytes[wrong * size..wrong * size + 8].copy_from_slice(&base);
            });
            at.reopen();
            assert!(at.log.doubt(second));
            let is_lost = |offset: i64| {
                let batch = (offset - second) / OFFSETS;
                offset >= second && [damaged as i64, wrong as i64].contains(&batch)
            };
            let Offsets { start, durable, .. } = at.log.offsets();
            for offset in start..durable {
                let is_read = at.try_read(offset).is_ok();
                let what = format!("{offset} with batch {damaged} damaged, {wrong} by {flipped}");
                assert_eq!(is_read, !is_lost(offset), "{what}");
            }
        }
    }
}

#[test]
fn bytes_too_many_between_two_batches_cost_no_record() {
    let mut at = stopped(25);
    let base = at.segments()[0];
    let mut batch_bytes = 0;
    at.change(base, |bytes| {
        batch_bytes = BatchHeader::parse(bytes).unwrap().size();
        bytes.insert(3 * batch_bytes, 0xff);
    });
    fs::remove_file(at.path(base, "index")).unwrap();
    at.reopen();
    at.check_lost(0..0);
    let found = at.log.damage().iter().next().expect("damage");
    assert_eq!(found.offsets, 9..9);
    assert_eq!(found.bytes, 3 * batch_bytes..3 * batch_bytes + 1);
}

#[test]
fn a_read_that_stumbles_finds_out_where_the_damage_is() {
    let mut at = stopped(25);
    let second = at.segments()[1];
    // No batch can be told from these bytes on, and the index leads into them.
    at.change(second, |bytes| bytes[2000..4000].fill(0xff));
    at.reopen();
    assert!(
        at.log.damage().is_empty(),
        "a start does not read old segments"
    );
    let refused = at.try_read(second + 9);
    assert!(matches!(refused, Err(ReadError::Corrupt { .. })));
    let lost = at.only_damage().clone();
    at.check_lost(lost.offsets);
}

#[test]
fn lookups_by_time_pass_over_damage() {
    let mut at = fixture(config());
    for _ in 0..25 {
        at.append(1);
        at.now_ms += 10;
    }
    at.checkpoint();
    let seal = at.log.close_active(START_MS).unwrap();
    at.log.seal_done(&seal.unwrap().run());
    at.checkpoint();
    let second = at.segments()[1];
    at.change(second, |bytes| bytes[2000..4000].fill(0xff));
    at.reopen();
    assert!(at.log.doubt(second));
    assert!(at.try_read(second).is_ok());
    let lost = at.only_damage().offsets.clone();
    let found = loop {
        match at.log.batch_at_time(START_MS + 24 * 10, 0, START_MS) {
            TimeLookup::Load(job) => drop(at.log.load_done(job.run().unwrap(), START_MS)),
            TimeLookup::Batch(bytes) => break BatchHeader::parse(&bytes).unwrap(),
            TimeLookup::NotFound => panic!("nothing that late"),
        }
    };
    assert_eq!(found.base_offset, 72);
    let TimeLookup::Batch(bytes) = at.log.batch_at_time(START_MS + 10 * (lost.start / 3), 0, 0)
    else {
        panic!("nothing behind the damage");
    };
    assert_eq!(BatchHeader::parse(&bytes).unwrap().base_offset, lost.end);
}

#[test]
fn what_is_cut_with_sound_batches_in_it_is_kept_beside_the_log() {
    let mut at = fixture(config());
    at.append(3);
    at.checkpoint();
    let durable = at.log.size_bytes() as usize;
    at.append(20);
    let bases = at.segments();
    let whole = fs::read(at.path(0, "log")).unwrap();
    let second = fs::read(at.path(bases[1], "log")).unwrap();
    at.change(0, |bytes| bytes[durable + 100] ^= 1);
    let recovered = at.reopen();
    assert_eq!(at.log.offsets().end, 9);
    let kept = recovered.cut_kept.unwrap();
    assert_eq!(kept, at.path(0, &format!("log.cut-{durable}")));
    let kept = fs::read(kept).unwrap();
    assert_eq!(kept[101..], whole[durable + 101..][..kept.len() - 101]);
    let moved = at.path(bases[1], "log.cut-0");
    assert_eq!(fs::read(moved).unwrap(), second);
    assert!(at.log.damage().is_empty());
    at.append(1);
    // The same again does not touch what was kept before.
    at.append(3);
    at.change(0, |bytes| bytes[durable + 100] ^= 1);
    let again = at.reopen().cut_kept.unwrap();
    assert_eq!(again, at.path(0, &format!("log.cut-{durable}.2")));
}

#[test]
fn damage_behind_the_checkpoint_that_was_known_before_is_never_cut() {
    let mut at = fixture(config());
    at.append(3);
    at.checkpoint();
    at.append(20);
    at.flush();
    let second = at.segments()[1];
    at.change(second, |bytes| bytes[100] ^= 1);
    assert!(at.log.doubt(second));
    assert!(at.try_read(second).is_err());
    let recovered = at.reopen();
    assert_eq!((recovered.cut_bytes, recovered.read_only), (0, None));
    assert_eq!(at.log.offsets().end, 69);
    at.check_lost(second..second + OFFSETS);
    // What comes now goes on in a segment of its own where the last one is damaged.
    at.append(1);
    at.checkpoint();
    at.reopen();
    at.check_lost(second..second + OFFSETS);
    assert_eq!(at.log.offsets().end, 72);
}

#[test]
fn a_last_segment_that_cannot_be_read_takes_no_appends() {
    let mut at = stopped(25);
    let last = *at.segments().last().unwrap();
    // After the checkpoint, the manifest of a swap, what is known of damage and of compaction.
    fault::inject(Op::Open, 4, libc::EIO, true);
    let recovered = at.reopen();
    fault::clear();
    assert!(recovered.read_only.is_some());
    at.check_lost(last..75);
}

#[test]
fn nothing_is_appended_to_a_last_segment_that_proves_to_be_damaged() {
    for at_byte in [3, 5, 7, 11, 16] {
        let mut at = stopped(25);
        let last = *at.segments().last().unwrap();
        at.change(last, |bytes| bytes[at_byte] ^= 0x11);
        fs::remove_file(at.path(last, "index")).unwrap();
        at.reopen();
        let bytes = batch(1, 50, START_MS);
        assert_eq!(at.try_append(&bytes).unwrap(), 75, "byte {at_byte}");
        at.flush();
        assert_eq!(*at.segments().last().unwrap(), 75);
        at.check_lost(last..last + OFFSETS);
    }
}

#[test]
fn a_last_segment_that_could_not_be_opened_for_a_while_is_whole_after_the_next_start() {
    let mut at = stopped(25);
    let last = *at.segments().last().unwrap();
    fault::inject(Op::Open, 0, libc::EIO, true);
    let mut found = Vec::new();
    while found.is_empty() {
        let read = at.log.read(last, 4000, true, true, START_MS).unwrap();
        let Read::Load(job) = read else {
            panic!("it cannot be read");
        };
        match job.run() {
            Ok(loaded) => found = at.log.load_done(loaded, START_MS),
            Err(_) => assert!(at.log.doubt(last)),
        }
    }
    fault::clear();
    at.checkpoint();
    let recovered = at.reopen();
    assert_eq!((recovered.cut_bytes, recovered.end_offset), (0, 75));
    at.check_lost(0..0);
    at.append(1);
    assert_eq!(at.log.offsets().end, 78);
}

#[test]
fn retention_and_compaction_leave_damage_where_it_is_until_its_time_is_over() {
    let mut at = stopped(35);
    let [first, second, third, _] = at.segments()[..] else {
        panic!("{:?}", at.segments());
    };
    at.change(second, |bytes| bytes[3000] ^= 1);
    at.log.set_config(LogConfig {
        compaction: Some(crate::log::compact::CompactionConfig {
            delete_retention_ms: 0,
            min_dirty_ratio: 0.0,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
        }),
        ..config()
    });
    at.reopen();
    assert!(at.log.doubt(second));
    assert!(at.try_read(second).is_ok());
    let limits = crate::log::compact::CompactLimits {
        map_bytes: 1 << 20,
        io_bytes_per_second: u64::MAX,
    };
    let crate::log::compact::Compaction::Clean(job) = at.log.compaction(START_MS, limits) else {
        panic!("the segment before the damage can be compacted");
    };
    drop(job);
    at.reopen();
    at.log.set_config(LogConfig {
        retention_ms: 5000,
        ..config()
    });
    at.now_ms += 4000;
    at.retain();
    assert_eq!(at.segments()[..3], [first, second, third]);
    at.now_ms += 100_000;
    at.retain();
    assert!(at.segments()[0] > second);
}
