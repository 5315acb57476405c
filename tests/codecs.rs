//! The wire codecs against an implementation that is not ours: the `kafka-protocol` crate, whose
//! codecs are generated from Kafka's own message definitions.

mod admin_requests;
mod admin_responses;
mod auth;
mod consumer_protocol;
mod group_requests;
mod group_responses;
mod requests;
mod responses;
pub mod robustness;
mod txn;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader as TheirHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use millstream::kafka::api::{APIS, Api, ApiKey};
use millstream::kafka::dispatch::RequestHeader;
use millstream::wire::{Reader, Writer};
use uuid::Uuid;

const CORRELATION_ID: i32 = 0x0102_0304;
const TOPIC_ID: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
const DIRECTORY_ID: Uuid = Uuid::from_u128(0xffee_ddcc_bbaa_9988_7766_5544_3322_1100);

/// Every API that has codecs.
fn apis() -> impl Iterator<Item = &'static Api> {
    APIS.iter()
}

fn api(key: ApiKey) -> &'static Api {
    apis().find(|api| api.key == key).unwrap()
}

/// Every version that is served.
fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let api = api(key);
    api.min_served_version..=api.max_version
}

/// Whether this version of the API is flexible.
fn is_flexible(key: ApiKey, version: i16) -> bool {
    api(key).is_flexible(version)
}

/// A whole request frame as their client would send it, without the size prefix.
fn frame<R: Encodable + HeaderVersion>(key: ApiKey, version: i16, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    TheirHeader::default()
        .with_request_api_key(key.code())
        .with_request_api_version(version)
        .with_correlation_id(CORRELATION_ID)
        .with_client_id(Some(text("tester")))
        .with_unknown_tagged_field(7, Bytes::from_static(b"later"))
        .encode(&mut frame, R::header_version(version))
        .unwrap();
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}

/// Our reader at the body of `frame`, after its header was checked.
fn open(frame: &Bytes, key: ApiKey, version: i16) -> Reader<'_> {
    let (header, reader) = RequestHeader::decode(frame).unwrap();
    let expected = RequestHeader {
        api_key: key.code(),
        api_version: version,
        correlation_id: CORRELATION_ID,
        client_id: Some("tester".into()),
    };
    assert_eq!(header, expected);
    reader
}

/// What their client reads from a reply of ours. Fails unless the whole frame is consumed.
fn reply<R: Decodable + HeaderVersion>(
    key: ApiKey,
    version: i16,
    encode: impl FnOnce(&mut Writer),
) -> R {
    let mut writer = api(key).reply(version, CORRELATION_ID);
    encode(&mut writer);
    let mut frame = Bytes::from(writer.finish().unwrap().to_vec());
    let size = frame.split_to(4);
    assert_eq!(size[..], (frame.len() as u32).to_be_bytes());
    let header = ResponseHeader::decode(&mut frame, R::header_version(version)).unwrap();
    assert_eq!(header.correlation_id, CORRELATION_ID);
    let response = R::decode(&mut frame, version).unwrap();
    assert!(frame.is_empty(), "{key:?} v{version}: {frame:?} left over");
    response
}

fn topic_name(name: &'static str) -> TopicName {
    TopicName(text(name))
}

/// A tagged field from a future we know nothing of.
fn future() -> Bytes {
    Bytes::from_static(b"from the future")
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}
