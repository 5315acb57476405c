//! Seeds for the fuzz targets: sound inputs, so that a fuzzer need not find them first.
//!
//! `FUZZ_CORPUS=fuzz/corpus cargo test fuzz_seeds` writes them, a directory for each target.
//! (`recovery` has none: its inputs are recipes.)

use crate::broker_model;
use crate::codecs::robustness;
use crate::http::table;
use crate::http_requests;
use crate::index_model;
use millstream::engine::catalog::Entry;
use millstream::engine::catalog_log;
use millstream::engine::producers::Producers;
use millstream::log::batch::{self, BatchHeader, HEADER_BYTES, LENGTH_END, ProducerMark, build};
use millstream::log::records::Records;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use uuid::Uuid;

/// Compresses a batch's records.
type Pack = fn(&[u8]) -> Vec<u8>;

#[test]
fn requests() {
    let frames = robustness::valid_frames();
    for frame in &frames {
        assert_eq!(robustness::decode(frame), Ok(()));
    }
    write("request", &frames);
}

#[test]
fn batches_of_every_codec() {
    let plain = build::BatchBuilder::default().build(&["one", "two", "three"]);
    let codecs: [(u8, Pack); 6] = [
        (0, <[u8]>::to_vec),
        (1, gzip),
        (2, snappy),
        (2, snappy_of_java),
        (3, lz4),
        (4, zstd),
    ];
    let seeds = codecs.map(|(attributes, pack)| packed(&plain, attributes, pack));
    for seed in &seeds {
        let header = batch::check_produced(seed, usize::MAX).unwrap();
        let records = Records::unpack(header, seed, 1000).unwrap();
        let values: Vec<_> = records
            .iter()
            .map(|record| record.unwrap().value.unwrap().to_vec())
            .collect();
        assert_eq!(values, [&b"one"[..], b"two", b"three"]);
    }
    write("batch", &seeds);
}

#[test]
fn catalogs() {
    let id = Uuid::from_u128(7);
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    let entries = [
        Entry::TopicCreated {
            id,
            name: "orders".to_owned(),
            partitions: 3,
            configs: configs.clone(),
        },
        Entry::PartitionsSet { id, partitions: 5 },
        Entry::ConfigsSet { id, configs },
        Entry::ProducerIdsReserved { next: 1000 },
        Entry::TopicDeleted { id },
        Entry::TopicPurged { id },
    ];
    let contents: Vec<_> = entries
        .iter()
        .map(|entry| serde_json::to_vec(entry).unwrap())
        .collect();
    let file = catalog_file(&contents);
    assert_eq!(catalog_log::decode(&file).unwrap(), entries);
    // The target takes lines too.
    write("catalog", &[file, contents.join(&b'\n')]);
}

fn catalog_file(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"MSCATLOG\0\0\0\x01".to_vec();
    for content in contents {
        file.extend_from_slice(b"MSCE");
        file.extend_from_slice(&(content.len() as u32).to_be_bytes());
        file.extend_from_slice(&crc32fast::hash(content).to_be_bytes());
        file.extend_from_slice(content);
    }
    file
}

#[test]
fn producer_snapshots() {
    let mut producers = Producers::default();
    for sequence in 0..7 {
        let mark = ProducerMark {
            producer_id: 1 + i64::from(sequence) / 5,
            epoch: 0,
            base_sequence: sequence % 5 * 10,
        };
        producers.record(&mark, 10, i64::from(sequence) * 10, -1, 1);
    }
    let snapshot = producers.encode();
    assert_eq!(Producers::decode(&snapshot), Some(producers));
    // The target takes batches before the snapshot: none, and one that follows.
    let alone = [&[0], &snapshot[..]].concat();
    let followed = [&[1, 1, 0, 9, 0, 0, 50], &snapshot[..]].concat();
    write("producers", &[alone, followed]);
}

/// The target takes the same bytes as the test, which has tried these.
#[test]
fn brokers() {
    write("broker", &[1, 2, 3, 4].map(broker_model::input));
    write("indexes", &[1, 2, 3, 4].map(index_model::input_of));
}

/// Each route's request, as it is: the first byte says so.
#[test]
fn requests_over_http() {
    let seeds: Vec<Vec<u8>> = table::SUCCESS
        .iter()
        .map(|(route, path, body, _)| {
            let method = route.split(' ').next().unwrap();
            let length = body.len();
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}");
            format!("\0{head}\r\n\r\n{body}").into_bytes()
        })
        .collect();
    let mut driver = http_requests::driver::Driver::default();
    seeds.iter().for_each(|seed| driver.run(seed));
    write("http", &seeds);
}

/// The batch with its records packed.
fn packed(plain: &[u8], attributes: u8, pack: Pack) -> Vec<u8> {
    assert!(BatchHeader::parse(plain).is_ok());
    let (header, records) = plain.split_at(HEADER_BYTES);
    let mut packed = [header, &pack(records)].concat();
    packed[22] = attributes;
    let length = (packed.len() - LENGTH_END) as i32;
    packed[8..12].copy_from_slice(&length.to_be_bytes());
    build::seal(&mut packed);
    packed
}

fn gzip(records: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(records).unwrap();
    encoder.finish().unwrap()
}

fn snappy(records: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(records).unwrap()
}

/// Java's clients frame blocks of snappy: a magic, two versions, then each block with its length.
fn snappy_of_java(records: &[u8]) -> Vec<u8> {
    let block = snappy(records);
    let length = (block.len() as u32).to_be_bytes();
    [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..], &length, &block].concat()
}

fn lz4(records: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(records).unwrap();
    encoder.finish().unwrap()
}

fn zstd(records: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(records, 3).unwrap()
}

/// Writes the seeds of a target, if that is asked for.
fn write(target: &str, seeds: &[impl AsRef<[u8]>]) {
    let Some(corpus) = std::env::var_os("FUZZ_CORPUS") else {
        return;
    };
    let dir = Path::new(&corpus).join(target);
    std::fs::create_dir_all(&dir).unwrap();
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number:03}")), seed).unwrap();
    }
}
