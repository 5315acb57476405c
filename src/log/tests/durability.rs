//! What may be told to be durable when flushes, write-backs and errors meet, and what a start makes of it.

use super::checkpoint::Checkpoint;
use super::*;
use crate::io::fault::Event;
use crate::log::check::order::Expected;
use crate::log::check::survey::survey;
use std::cell::RefCell;
use std::rc::Rc;

const EIO: i32 = libc::EIO;

fn error() -> io::Result<()> {
    Err(io::Error::from_raw_os_error(EIO))
}

impl Fixture {
    /// Flushes by way of the journal.
    fn journal(&mut self) {
        assert!(self.log.journal_tail().is_some());
        let flush = self.log.flush_begin(Vec::new).unwrap();
        self.log.flush_journaled(flush);
    }

    /// Appends until a segment is rolled; the job that completes the old one does not run.
    fn roll_without_sealing(&mut self) {
        loop {
            let bytes = batch(3, 900, self.now_ms);
            let header = BatchHeader::parse(&bytes).unwrap();
            if let Err(AppendError::NeedsRoom) = self.log.append(&bytes, &header, None, self.now_ms)
            {
                let job = self.log.room_job(bytes.len(), &header, self.now_ms);
                let room = job.unwrap().run();
                if self.log.room_done(room, self.now_ms).unwrap().is_some() {
                    return;
                }
            }
        }
    }
}

/// The same file, by another open file of it.
fn is_same(one: &File, other: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    one.metadata().unwrap().ino() == other.metadata().unwrap().ino()
}

#[test]
fn a_write_back_includes_the_files_that_a_running_flush_took() {
    let mut at = fixture(config());
    at.append(1);
    at.flush();
    at.append(1);
    at.journal();
    at.roll_without_sealing();
    at.append(1);
    let flush = at.log.flush_begin(Vec::new).unwrap();
    let first = &flush.files[0];
    assert!(is_same(first, &File::open(at.path(0, "log")).unwrap()));
    let write_back = at.log.write_back_begin().unwrap();
    assert!(write_back.files.iter().any(|file| is_same(file, first)));
}

#[test]
fn a_segment_has_one_open_file_and_its_syncs_take_turns() {
    let mut at = fixture(config());
    at.append(1);
    at.flush();
    at.append(1);
    at.journal();
    at.append(1);
    let write_back = at.log.write_back_begin().unwrap();
    let flush = at.log.flush_begin(Vec::new).unwrap();
    assert!(Arc::ptr_eq(&flush.files[0], &write_back.files[0]));
    let turn = at.log.sync_turn();
    let held = turn.try_lock().unwrap();
    assert!(at.log.sync_turn().try_lock().is_err());
    drop(held);
    assert!(at.log.sync_turn().try_lock().is_ok());
}

#[test]
fn a_log_that_was_poisoned_during_a_flush_keeps_its_high_watermark() {
    for journaled in [false, true] {
        let mut at = fixture(config());
        at.append(1);
        at.flush();
        at.append(1);
        at.journal();
        at.append(2);
        let write_back = at.log.write_back_begin().unwrap();
        let flush = at.log.flush_begin(Vec::new).unwrap();
        let before = at.log.offsets().durable;
        at.log.write_back_end(write_back, &error());
        assert!(at.log.is_poisoned());
        if journaled {
            at.log.flush_journaled(flush);
        } else {
            assert!(at.log.flush_end(flush, &Ok(())).is_none());
        }
        assert_eq!(at.log.offsets().durable, before);
    }
}

#[test]
fn a_checkpoint_that_fails_holds_up_no_flush_and_is_tried_again_when_it_is_asked_for() {
    let mut at = fixture(config());
    at.append(1);
    at.log.want_checkpoint();
    let flush = at.log.flush_begin(Vec::new).unwrap();
    let job = at.log.flush_end(flush, &Ok(())).unwrap();
    // Appended while the checkpoint is written: a flush of its own, at once.
    at.append(1);
    assert!(at.log.needs_flush());
    let flush = at.log.flush_begin(Vec::new).unwrap();
    assert!(!flush.makes_checkpoint());
    at.log.flush_end(flush, &Ok(()));
    at.log.checkpoint_done(&job, &error());
    assert!(
        !at.log.needs_flush(),
        "it would be tried again at once, for ever"
    );
    at.append(1);
    let flush = at.log.flush_begin(Vec::new).unwrap();
    assert!(!flush.makes_checkpoint());
    at.log.flush_end(flush, &Ok(()));
    at.log.retry_checkpoint();
    assert!(at.log.flush_begin(Vec::new).unwrap().makes_checkpoint());
}

#[test]
fn no_more_is_appended_than_recovery_would_cut_before_a_flush_has_ended() {
    let mut at = fixture_with(|config| config.not_durable_bytes_max = 2_500);
    let large = batch(1, 4_000, START_MS);
    at.try_append(&large)
        .expect("one batch may always be appended");
    let bytes = batch(3, 900, START_MS);
    let header = BatchHeader::parse(&bytes).unwrap();
    let append = |at: &mut Fixture| at.log.append(&bytes, &header, None, START_MS);
    assert_eq!(append(&mut at), Err(AppendError::AheadOfDisk));
    at.flush();
    assert_eq!(append(&mut at), Ok(1));
    assert_eq!(append(&mut at), Ok(4));
    let flush = at.log.flush_begin(Vec::new).unwrap();
    assert_eq!(
        append(&mut at),
        Err(AppendError::AheadOfDisk),
        "not before it ends"
    );
    at.log.flush_end(flush, &Ok(()));
    assert_eq!(append(&mut at), Ok(7));
    at.flush();
    assert_eq!(at.reopen().end_offset, 10);
}

#[test]
fn a_start_reads_from_the_disk_what_is_behind_the_checkpoint_and_then_syncs_it() {
    let mut at = fixture(config());
    at.append(3);
    at.checkpoint();
    let durable = at.log.size_bytes();
    at.append(4);
    // An fdatasync fails: the kernel takes the pages for clean, and the disk may not have them.
    let flush = at.log.flush_begin(Vec::new).unwrap();
    at.log.flush_end(flush, &error());
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let told = Rc::clone(&seen);
    fault::observe(move |event| {
        told.borrow_mut().extend(match event {
            Event::Reloaded(_, from) => Some(format!("reloaded from {from}")),
            Event::Synced(_) => Some("synced".to_owned()),
            _ => None,
        })
    });
    let recovered = at.reopen();
    fault::observe(|_| {});
    assert_eq!(recovered.end_offset, 21);
    // The first sync only makes pages clean, so that they can be dropped.
    let synced = || "synced".to_owned();
    let expected = [synced(), format!("reloaded from {durable}"), synced()];
    assert_eq!(*seen.borrow(), expected);
}

#[test]
fn a_torn_end_that_cannot_be_kept_on_a_full_disk_leaves_a_log_to_read_from() {
    let mut at = fixture(config());
    at.append(8);
    let path = at.path(0, "log");
    let mut content = std::fs::read(&path).unwrap();
    content[3_000] ^= 1;
    std::fs::write(&path, &content).unwrap();
    // The copy of what would be cut cannot be written.
    fault::inject(Op::Write, 0, libc::ENOSPC, false);
    let recovered = at.reopen();
    assert!(fault::clear());
    assert!(recovered.read_only.is_some() && at.log.is_poisoned());
    assert_eq!(at.log.offsets().durable, 9);
    assert!(!at.read(0, 10_000, true).is_empty());
    assert_eq!(
        std::fs::read(&path).unwrap()[..8_000],
        content[..8_000],
        "nothing is cut"
    );
    let copies = || std::fs::read_dir(at.log.dir()).unwrap().flatten();
    assert_eq!(
        copies()
            .filter(|entry| recovery::is_cut(&entry.path()))
            .count(),
        0
    );
    // There is room again.
    let recovered = at.reopen();
    assert!(recovered.read_only.is_none() && recovered.cut_kept.is_some());
    assert_eq!(recovered.end_offset, 9);
}

#[test]
fn what_follows_damage_is_synced_by_the_start_that_shows_it() {
    let mut at = fixture(config());
    at.append(2);
    at.checkpoint();
    at.append(6);
    let path = at.path(0, "log");
    let mut content = std::fs::read(&path).unwrap();
    content[3_000] ^= 1;
    std::fs::write(&path, &content).unwrap();
    // Known damage is not cut, so the batches behind it are served.
    let mut list = DamageList::default();
    let survey = {
        let expected = Expected::new(0, i64::MAX, 0);
        survey(at.log.dir(), expected, 500, (0, 0), &mut |_, _| {}).unwrap()
    };
    list.add(survey.damage);
    list.write(at.log.dir()).unwrap();
    let synced: Rc<RefCell<usize>> = Rc::default();
    let told = Rc::clone(&synced);
    fault::observe(move |event| match event {
        Event::Reloaded(..) => *told.borrow_mut() = 0,
        Event::Synced(_) => *told.borrow_mut() += 1,
        _ => {}
    });
    let recovered = at.reopen();
    fault::observe(|_| {});
    assert_eq!(recovered.end_offset, 24);
    assert_eq!(*synced.borrow(), 1, "the segment, after it was read");
}

#[test]
fn a_checkpoint_that_no_start_could_read_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = |bytes: u64| Checkpoint {
        snapshot: vec![1; bytes as usize],
        ..Checkpoint::default()
    };
    let most = checkpoint::SNAPSHOT_BYTES_MAX;
    let error = checkpoint(most + 1).write(dir.path()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert!(Checkpoint::read(dir.path()).unwrap().is_none());
    checkpoint(most).write(dir.path()).unwrap();
    assert!(Checkpoint::read(dir.path()).unwrap().is_some());
}

#[test]
fn a_segment_is_not_written_over_while_a_slice_of_it_lives() {
    let mut at = fixture_with(|config| config.retention_bytes = 15_000);
    at.append(25);
    at.flush();
    let slice = at.read(0, 5_000, true);
    let before = slice.to_vec();
    at.append(25);
    at.checkpoint();
    at.retain();
    at.append(25);
    assert!(
        at.log.offsets().start > 0,
        "retention took the first segment"
    );
    assert_eq!(slice.to_vec(), before);
}

#[test]
fn only_what_was_appended_lately_is_read_without_a_look_whether_it_is_in_memory() {
    let mut at = fixture(config());
    at.append(3);
    let active = |at: &Fixture| at.log.active.as_ref().unwrap().recent;
    let size = at.log.size_bytes() as usize;
    assert_eq!(active(&at).begin_at(size, at.now_ms), 0);
    assert_eq!(active(&at).begin_at(size, at.now_ms + 60_000), size);
    at.now_ms += 20_000;
    at.append(1);
    let more = at.log.size_bytes() as usize;
    assert_eq!(active(&at).begin_at(more, at.now_ms), size);
}

#[test]
fn sound_batches_far_behind_damage_in_a_recycled_segment_are_kept_when_they_are_cut() {
    let mut at = fixture_with(|config| config.segment_bytes = 8 << 20);
    // The file as it is when another segment was there before: old batches up to the mark.
    let large = batch(1, 3 << 20, START_MS);
    at.try_append(&large).unwrap();
    at.try_append(&large).unwrap();
    at.append(3);
    let path = at.path(0, "log");
    let mut content = std::fs::read(&path).unwrap();
    content[large.len() + 100] ^= 1;
    content.extend_from_slice(b"recycled segment");
    std::fs::write(&path, &content).unwrap();
    let recovered = at.reopen();
    assert_eq!(recovered.end_offset, 1);
    assert!(
        recovered.cut_kept.is_some(),
        "three sound batches were cut without a copy"
    );
}
