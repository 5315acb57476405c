//! The blocking client: record batches, and peers that are no brokers.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::RecordBatchDecoder;
use millstream::client::records::{
    Batch, Error as RecordsError, Header, NewRecord, encode, record_bytes_max,
};
use millstream::client::{Client, Error};
use millstream::log::batch::build::BatchBuilder;
use millstream::log::batch::{Codec, HEADER_BYTES};
use std::io::{Read, Write};
use std::net::TcpListener;

/// The place of a batch's format.
const MAGIC_AT: usize = 16;

const CODECS: [Codec; 5] = [
    Codec::None,
    Codec::Gzip,
    Codec::Snappy,
    Codec::Lz4,
    Codec::Zstd,
];

fn sample() -> (Vec<NewRecord>, Vec<Header>) {
    let record = |timestamp_ms, key: Option<&'static str>, value: &'static str| NewRecord {
        timestamp_ms,
        key: key.map(Bytes::from),
        value: value.into(),
        headers: Vec::new(),
    };
    let records = vec![
        record(1_700_000_000_000, None, ""),
        record(1_700_000_000_500, Some("k"), "hello"),
        record(
            1_699_999_999_000,
            Some(""),
            "a longer value, a longer value, a longer value",
        ),
    ];
    (
        records,
        vec![("h".into(), Some("1".into())), ("h".into(), None)],
    )
}

fn producer() -> BatchBuilder {
    BatchBuilder {
        producer_id: 7,
        producer_epoch: 1,
        base_sequence: 41,
        ..BatchBuilder::default()
    }
}

#[test]
fn what_was_encoded_is_read_back_with_every_codec() {
    let (mut records, headers) = sample();
    // More than one block of any codec.
    records.push(NewRecord {
        value: b"0123456789abcdef".repeat(20_000).into(),
        ..records[1].clone()
    });
    records[2].headers = vec![("own".into(), Some("2".into()))];
    let producer = producer();
    for codec in CODECS {
        let mut data = encode(&records, &headers, &producer, codec).expect("encodes");
        let batch = Batch::take(&mut data).expect("whole").expect("one batch");
        assert!(data.is_empty() && !batch.is_control());
        assert_eq!(batch.next_offset(), 4);
        let unpacked = batch.records().expect("decodes");
        assert_eq!(unpacked.iter().count(), 4);
        for (at, (read, wrote)) in unpacked.iter().zip(&records).enumerate() {
            let read = read.expect("well-formed");
            assert_eq!(read.offset, at as i64);
            assert_eq!(read.timestamp, wrote.timestamp_ms);
            assert_eq!(read.key, wrote.key.as_deref());
            assert_eq!(read.value, Some(&wrote.value[..]));
            let repeated = [(&b"h"[..], Some(&b"1"[..])), (b"h", None)];
            assert_eq!(read.headers[..2], repeated, "repeated headers survive");
            let own = [(&b"own"[..], Some(&b"2"[..]))];
            let own = &own[..usize::from(at == 2)];
            assert_eq!(read.headers[2..], *own, "a record's own come behind");
        }
    }
}

/// Another implementation agrees on the bytes.
#[test]
fn kafka_protocol_reads_what_we_write() {
    let (records, _) = sample();
    let headers = [("h".into(), Some("1".into()))];
    let producer = producer();
    for codec in CODECS {
        let mut data = encode(&records, &headers, &producer, codec).expect("encodes");
        let set = RecordBatchDecoder::decode(&mut data).expect("the other one decodes");
        assert_eq!(set.records.len(), 3);
        let last = &set.records[2];
        assert_eq!(
            (last.producer_id, last.producer_epoch, last.sequence),
            (7, 1, 43)
        );
        assert_eq!(last.value.as_ref(), Some(&records[2].value));
        assert_eq!(last.headers.len(), 1);
    }
}

#[test]
fn the_bound_on_a_record_holds() {
    let (records, headers) = sample();
    let bound: usize = records
        .iter()
        .map(|record| record_bytes_max(record, &headers))
        .sum();
    let batch = encode(&records, &headers, &BatchBuilder::default(), Codec::None).expect("encodes");
    assert!(batch.len() <= bound + HEADER_BYTES);
}

#[test]
fn a_reply_cut_inside_a_batch_gives_the_whole_batches_before_it() {
    let (records, headers) = sample();
    let batch = encode(&records, &headers, &BatchBuilder::default(), Codec::None).expect("encodes");
    for cut in 0..batch.len() {
        let mut data = BytesMut::from(&batch[..]);
        data.extend_from_slice(&batch[..cut]);
        let mut data = data.freeze();
        assert!(Batch::take(&mut data).expect("whole").is_some());
        assert!(
            Batch::take(&mut data).expect("cut").is_none(),
            "cut at {cut}"
        );
    }
}

#[test]
fn damage_is_found() {
    let (records, headers) = sample();
    let batch = encode(&records, &headers, &BatchBuilder::default(), Codec::None).expect("encodes");
    let mut flipped = batch.to_vec();
    flipped[70] ^= 1;
    assert!(matches!(
        Batch::take(&mut flipped.into()),
        Err(RecordsError::Checksum(0))
    ));
    let mut old = batch.to_vec();
    old[MAGIC_AT] = 1;
    assert!(matches!(
        Batch::take(&mut old.into()),
        Err(RecordsError::OldFormat(1))
    ));
    let mut short = batch.to_vec();
    short[8..12].copy_from_slice(&3i32.to_be_bytes());
    assert!(matches!(
        Batch::take(&mut short.into()),
        Err(RecordsError::Header(_))
    ));
}

#[test]
fn a_refused_connection_says_where_and_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("bound");
    let error = Client::connect(&free.to_string()).expect_err("refused");
    let text = error.to_string();
    assert!(
        text.contains(&format!("no broker answers at {free}: connection refused")),
        "{text}"
    );
    assert!(text.contains("millstream serve"), "{text}");
    assert!(error.is_connection());
}

/// Connects to a peer that answers anything with `answer`.
fn connect_to_peer(answer: &'static [u8]) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).expect("a request");
        stream.write_all(answer).expect("answers");
    });
    let error = Client::connect(&address).expect_err("no broker");
    peer.join().expect("the peer is done");
    error
}

#[test]
fn a_peer_that_is_no_broker_is_told_apart() {
    let http = connect_to_peer(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    assert!(
        http.to_string().contains("does not speak Kafka's protocol"),
        "{http}"
    );
    let tiny = connect_to_peer(&[0, 0, 0, 2, 0, 0]);
    assert!(matches!(tiny, Error::NotKafka { .. }), "{tiny}");
    let closed = connect_to_peer(b"");
    assert!(matches!(closed, Error::Lost { .. }), "{closed}");
    let stranger = connect_to_peer(&[0, 0, 0, 4, 0, 0, 0, 99]);
    assert!(
        stranger.to_string().contains("answers request 99"),
        "{stranger}"
    );
}
