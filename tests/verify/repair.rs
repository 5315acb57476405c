//! `verify --repair` gives up what is damaged and nothing else, keeps what it changes, and has nothing left
//! to do the second time.

use super::*;
use millstream::log::Read;
use std::collections::BTreeSet;
use std::ops::Range;

const END: i64 = BATCHES * SEGMENTS * RECORDS;

/// The offsets of all records that a log that was opened again has; the other offsets must be passed over.
fn readable(data: &DataDir) -> BTreeSet<i64> {
    let path = data.path("orders-0");
    let config = data.log.config().clone();
    let (mut log, recovered) = Log::open(path, TOPIC_ID, config, &mut |_| {}).unwrap();
    assert_eq!(recovered.cut_bytes, 0);
    assert!(log.damage().is_empty() && !log.is_poisoned());
    let mut offsets = BTreeSet::new();
    let mut next = log.offsets().start;
    while next < log.offsets().durable {
        match log.read(next, 1, true, true, NOW_MS).unwrap() {
            Read::Data { records, .. } => {
                assert!(batch::all_crcs_match(&records));
                let header = BatchHeader::parse(&records).unwrap();
                assert_eq!(header.base_offset, next);
                if header.record_count > 0 {
                    offsets.extend(header.base_offset..header.next_offset());
                }
                next = header.next_offset();
            }
            Read::Load(job) => drop(log.load_done(job.run().unwrap(), NOW_MS)),
            Read::Empty => panic!("nothing at {next}"),
        }
    }
    offsets
}

fn repair(data: &DataDir) -> Vec<String> {
    let output = data.run(&["verify", "--repair", "."]);
    let shown = stdout(&output);
    assert!(output.status.success(), "{shown}{output:?}");
    let lines = shown.lines().filter(|line| line.starts_with("repaired: "));
    lines.map(str::to_owned).collect()
}

fn copies(data: &DataDir) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(data.dir.path()).unwrap();
    for entry in entries.map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("repaired.") {
            let files = fs::read_dir(entry.join("orders-0")).unwrap();
            found.extend(files.map(|file| file.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// Repairs, and asserts that exactly these offsets are gone and the changed file was kept.
fn check(data: &DataDir, lost: Range<i64>, kept: Option<(&str, &[u8])>) {
    let lines = repair(data);
    assert!(!lines.is_empty());
    let expected: BTreeSet<i64> = (0..END).filter(|offset| !lost.contains(offset)).collect();
    assert_eq!(readable(data), expected, "{lines:?}");
    if let Some((name, bytes)) = kept {
        let copies = copies(data);
        let copy = copies.iter().find(|path| path.ends_with(name));
        assert_eq!(fs::read(copy.expect("a copy")).unwrap(), bytes);
    }
    let errors = data.verify().1;
    let errors: Vec<_> = errors
        .iter()
        .filter(|finding| finding.fault.severity() == Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(repair(data), Vec::<String>::new(), "the second time");
}

#[test]
fn a_sound_directory_is_left_as_it_is() {
    let data = DataDir::stopped();
    assert_eq!(repair(&data), Vec::<String>::new());
    assert_eq!(copies(&data), Vec::<PathBuf>::new());
    assert_eq!(readable(&data).len() as i64, END);
}

#[test]
fn a_damaged_batch_is_given_up_wherever_it_is() {
    for segment in 0..SEGMENTS {
        for number in 0..BATCHES {
            for at in [3, 9, 16, 20, 70] {
                let data = DataDir::stopped();
                let path = data.segment(segment, "log");
                let start = number as u64 * data.batch_bytes + at;
                data.change(&path, |bytes| bytes[start as usize] ^= 0x55);
                let damaged = fs::read(&path).unwrap();
                let first = (segment * BATCHES + number) * RECORDS;
                let name = path.file_name().unwrap().to_str().unwrap();
                check(&data, first..first + RECORDS, Some((name, &damaged)));
            }
        }
    }
}

#[test]
fn missing_segments_are_accepted_as_gaps() {
    let per_segment = BATCHES * RECORDS;
    for segment in 1..SEGMENTS {
        let data = DataDir::stopped();
        fs::remove_file(data.segment(segment, "log")).unwrap();
        check(
            &data,
            segment * per_segment..(segment + 1) * per_segment,
            None,
        );
    }
    let data = DataDir::stopped();
    for segment in 0..SEGMENTS {
        fs::remove_file(data.segment(segment, "log")).unwrap();
    }
    check(&data, 0..END, None);
}

#[test]
fn segments_that_are_too_short_are_read_as_far_as_they_go() {
    for (segment, cut, batches) in [(1, 1, 1), (2, 1, 1), (1, 150, 0), (2, 0, 0)] {
        let data = DataDir::stopped();
        let cut = match batches {
            0 => 2 * data.batch_bytes,
            _ => cut,
        };
        let path = data.segment(segment, "log");
        data.change(&path, |bytes| bytes.truncate(bytes.len() - cut as usize));
        let lost = match batches {
            0 => 2 * RECORDS,
            _ => RECORDS,
        };
        let end = (segment + 1) * BATCHES * RECORDS;
        check(&data, end - lost..end, None);
    }
}

#[test]
fn a_torn_tail_is_cut_and_sound_batches_behind_it_stay() {
    let mut data = DataDir::running();
    data.flush();
    data.log.want_checkpoint();
    data.flush();
    for _ in 0..3 {
        data.append();
    }
    let size = data.batch_bytes as usize;
    let path = data.segment(3, "log");
    data.change(&path, |bytes| {
        bytes[size + 70] ^= 1;
        bytes.truncate(3 * size);
        bytes.extend([7; 100]);
    });
    let lines = repair(&data);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("100 bytes behind the last batch are cut"))
    );
    let expected: BTreeSet<i64> = (0..END + 2).chain(END + 4..END + 6).collect();
    assert_eq!(readable(&data), expected);
    assert_eq!(repair(&data), Vec::<String>::new());
}

#[test]
fn wrong_indexes_are_made_anew_and_a_damaged_checkpoint_is_taken_away() {
    let data = DataDir::stopped();
    let index = data.segment(1, "index");
    let before = fs::read(&index).unwrap();
    data.change(&index, |bytes| bytes[25] ^= 1);
    data.change(&data.path(CHECKPOINT), |bytes| bytes[40] ^= 1);
    let lines = repair(&data);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(before.starts_with(&fs::read(&index).unwrap()));
    assert_eq!(readable(&data).len() as i64, END);
}

#[test]
fn what_cannot_be_mended_is_refused_or_left_and_told() {
    let data = DataDir::stopped();
    let of_partition = data.run(&["verify", "--repair", "orders-0"]);
    assert_eq!(of_partition.status.code(), Some(1));
    let lock = fs::File::open(data.path("lock")).unwrap();
    file::lock(&lock).unwrap();
    let running = data.run(&["verify", "--repair", "."]);
    assert_eq!(running.status.code(), Some(1));
    drop(lock);
    fs::write(data.path("format"), "{\"version\":2,\"cluster_id\":\"x\"}").unwrap();
    let newer = data.run(&["verify", "--repair", "."]);
    assert_eq!(newer.status.code(), Some(1));
    assert!(
        String::from_utf8(newer.stderr)
            .unwrap()
            .contains("format 2")
    );
    fs::write(
        data.path("format"),
        r#"{"version":1,"cluster_id":"176f0c289ba24400ab0d30"}"#,
    )
    .unwrap();
    data.change(&data.path("catalog.log"), |bytes| bytes[30] ^= 1);
    let damaged = data.run(&["verify", "--repair", "."]);
    assert_eq!(damaged.status.code(), Some(1));
}
