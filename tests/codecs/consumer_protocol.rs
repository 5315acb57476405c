//! What consumers write into JoinGroup and SyncGroup, written by the `kafka-protocol` crate, is
//! read by ours and compared whole.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment as ca,
    consumer_protocol_subscription as cs,
};
use kafka_protocol::protocol::Encodable;
use millstream::coordinator::groups::consumer_protocol::{
    Assignment, Subscription, TopicPartitions, decode_assignment, decode_subscription,
    encode_assignment, encode_subscription,
};
use millstream::wire::WireError;
use proptest::prelude::*;

use super::{text, topic_name};

/// `message` behind its version, as consumers send it.
fn versioned(message: &impl Encodable, version: i16) -> Bytes {
    let mut content = BytesMut::new();
    content.put_i16(version);
    message.encode(&mut content, version).unwrap();
    content.freeze()
}

fn subscription(version: i16) -> Bytes {
    let mut subscription = ConsumerProtocolSubscription::default()
        .with_topics(vec![text("orders"), text("bills")])
        .with_user_data(Some(Bytes::from_static(b"sticky")));
    if version >= 1 {
        subscription.owned_partitions = vec![
            cs::TopicPartition::default()
                .with_topic(topic_name("orders"))
                .with_partitions(vec![3, 4]),
        ];
    }
    if version >= 2 {
        subscription.generation_id = 7;
    }
    if version >= 3 {
        subscription.rack_id = Some(text("rack"));
    }
    versioned(&subscription, version)
}

fn assignment(version: i16) -> Bytes {
    let assigned = ca::TopicPartition::default()
        .with_topic(topic_name("orders"))
        .with_partitions(vec![3, 4]);
    let assignment = ConsumerProtocolAssignment::default()
        .with_assigned_partitions(vec![assigned])
        .with_user_data(Some(Bytes::from_static(b"sticky")));
    versioned(&assignment, version)
}

fn orders() -> TopicPartitions<'static> {
    TopicPartitions {
        topic: "orders",
        partitions: vec![3, 4],
    }
}

#[test]
fn subscriptions() {
    for version in 0..=3 {
        let content = subscription(version);
        let expected = Subscription {
            topics: vec!["orders", "bills"],
            user_data: Some(Bytes::from_static(b"sticky")),
            owned_partitions: if version >= 1 { vec![orders()] } else { vec![] },
            generation_id: if version >= 2 { 7 } else { -1 },
            rack_id: (version >= 3).then_some("rack"),
        };
        assert_eq!(decode_subscription(&content), Ok(expected), "v{version}");
    }
}

#[test]
fn assignments() {
    for version in 0..=3 {
        let content = assignment(version);
        let expected = Assignment {
            assigned_partitions: vec![orders()],
            user_data: Some(Bytes::from_static(b"sticky")),
        };
        assert_eq!(decode_assignment(&content), Ok(expected), "v{version}");
    }
}

#[test]
fn what_is_written_is_what_consumers_write() {
    let wanted = decode_subscription(&subscription(0)).map(|wanted| encode_subscription(&wanted));
    assert_eq!(wanted, Ok(Ok(subscription(0))));
    let given = decode_assignment(&assignment(0)).map(|given| encode_assignment(&given));
    assert_eq!(given, Ok(Ok(assignment(0))));
}

#[test]
fn a_version_from_the_future_is_read_as_far_as_we_know_it() {
    let known = subscription(3);
    let newer = Bytes::from([&9i16.to_be_bytes(), &known[2..], b"more"].concat());
    assert_eq!(decode_subscription(&newer), decode_subscription(&known));
    let negative = Bytes::from([&(-1i16).to_be_bytes(), &known[2..]].concat());
    assert_eq!(
        decode_subscription(&negative),
        Err(WireError::NegativeVersion(-1))
    );
}

#[test]
fn content_cut_short_anywhere_is_an_error() {
    for version in 0..=3 {
        let whole = subscription(version);
        for length in 0..whole.len() {
            let cut = decode_subscription(&whole.slice(..length)).map(drop);
            assert_eq!(cut, Err(WireError::Truncated));
        }
        let whole = assignment(version);
        for length in 0..whole.len() {
            let cut = decode_assignment(&whole.slice(..length)).map(drop);
            assert_eq!(cut, Err(WireError::Truncated));
        }
    }
}

proptest! {
    #[test]
    fn random_content_never_panics(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let content = Bytes::from(content);
        let _ = decode_subscription(&content);
        let _ = decode_assignment(&content);
    }
}
