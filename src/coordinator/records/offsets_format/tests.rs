//! Against bytes laid out by hand from Kafka's definitions of these records.

use super::*;
use proptest::prelude::*;

const TOPIC_ID: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

const OFFSET_KEY: &[u8] = b"\0\x01\0\x01g\0\x06orders\0\0\0\x03";
const GROUP_KEY: &[u8] = b"\0\x02\0\x01g";

/// The offset in every version.
const OFFSET_VALUES: [&[u8]; 5] = [
    b"\0\0\0\0\0\0\0\0\0\x2a\0\x04note\0\0\0\0\0\0\0\x07",
    b"\0\x01\0\0\0\0\0\0\0\x2a\0\x04note\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x09",
    b"\0\x02\0\0\0\0\0\0\0\x2a\0\x04note\0\0\0\0\0\0\0\x07",
    b"\0\x03\0\0\0\0\0\0\0\x2a\0\0\0\x05\0\x04note\0\0\0\0\0\0\0\x07",
    b"\0\x04\0\0\0\0\0\0\0\x2a\0\0\0\x05\x05note\0\0\0\0\0\0\0\x07\
      \x01\x00\x10\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
];

/// The group in every version.
const GROUP_VALUES: [&[u8]; 5] = [
    b"\0\0\0\x08consumer\0\0\0\x06\0\x05range\0\x02m1\0\0\0\x01\
      \0\x02m1\0\x01c\0\x01h\0\0\0\x0b\0\0\0\x03sub\0\0\0\x02as",
    b"\0\x01\0\x08consumer\0\0\0\x06\0\x05range\0\x02m1\0\0\0\x01\
      \0\x02m1\0\x01c\0\x01h\0\0\0\x0a\0\0\0\x0b\0\0\0\x03sub\0\0\0\x02as",
    b"\0\x02\0\x08consumer\0\0\0\x06\0\x05range\0\x02m1\0\0\0\0\0\0\0\x07\0\0\0\x01\
      \0\x02m1\0\x01c\0\x01h\0\0\0\x0a\0\0\0\x0b\0\0\0\x03sub\0\0\0\x02as",
    b"\0\x03\0\x08consumer\0\0\0\x06\0\x05range\0\x02m1\0\0\0\0\0\0\0\x07\0\0\0\x01\
      \0\x02m1\0\x02i1\0\x01c\0\x01h\0\0\0\x0a\0\0\0\x0b\0\0\0\x03sub\0\0\0\x02as",
    b"\0\x04\x09consumer\0\0\0\x06\x06range\x03m1\0\0\0\0\0\0\0\x07\x02\
      \x03m1\x03i1\x02c\x02h\0\0\0\x0a\0\0\0\x0b\x04sub\x03as\0\0",
];

fn offset_key() -> OffsetKey<'static> {
    OffsetKey {
        group: "g",
        topic: "orders",
        partition: 3,
    }
}

fn offset_value(version: i16) -> OffsetValue<'static> {
    OffsetValue {
        offset: 42,
        leader_epoch: if version >= 3 { 5 } else { -1 },
        metadata: "note",
        commit_timestamp: 7,
        expire_timestamp: if version == 1 { 9 } else { -1 },
        topic_id: if version >= 4 { TOPIC_ID } else { Uuid::nil() },
    }
}

fn group_value(version: i16) -> GroupValue<'static> {
    GroupValue {
        protocol_type: "consumer",
        generation: 6,
        protocol: Some("range"),
        leader: Some("m1"),
        current_state_timestamp: if version >= 2 { 7 } else { -1 },
        members: vec![MemberValue {
            member_id: "m1",
            group_instance_id: (version >= 3).then_some("i1"),
            client_id: "c",
            client_host: "h",
            rebalance_timeout_ms: if version >= 1 { 10 } else { 0 },
            session_timeout_ms: 11,
            subscription: b"sub",
            assignment: b"as",
        }],
    }
}

#[test]
fn keys() {
    assert_eq!(Key::decode(OFFSET_KEY), Ok(Key::Offset(offset_key())));
    assert_eq!(Key::Offset(offset_key()).encode().unwrap(), OFFSET_KEY);
    let version_0 = [b"\0\0", &OFFSET_KEY[2..]].concat();
    assert_eq!(Key::decode(&version_0), Ok(Key::Offset(offset_key())));

    let group = GroupKey { group: "g" };
    assert_eq!(Key::decode(GROUP_KEY), Ok(Key::Group(group)));
    assert_eq!(Key::Group(group).encode().unwrap(), GROUP_KEY);
}

#[test]
fn keys_of_other_kinds_of_records_are_told_apart() {
    assert_eq!(Key::decode(b"\0\x03\0\x01g"), Ok(Key::Other(3)));
    assert_eq!(
        Key::decode(b"\xff\xff\0\x01g"),
        Err(FormatError::UnknownVersion(-1))
    );
}

#[test]
fn offsets_in_every_version() {
    for (version, bytes) in (0..).zip(OFFSET_VALUES) {
        let value = offset_value(version);
        assert_eq!(decode_value::<OffsetValue>(bytes), Ok(value), "v{version}");
        // Fields that a version does not have are left out.
        let full = OffsetValue {
            leader_epoch: 5,
            expire_timestamp: 9,
            topic_id: TOPIC_ID,
            ..value
        };
        assert_eq!(encode_value(&full, version).unwrap(), bytes, "v{version}");
    }
}

#[test]
fn groups_in_every_version() {
    for (version, bytes) in (0..).zip(GROUP_VALUES) {
        let value = group_value(version);
        assert_eq!(decode_value::<GroupValue>(bytes), Ok(value), "v{version}");
        assert_eq!(
            encode_value(&group_value(4), version).unwrap(),
            bytes,
            "v{version}"
        );
    }
}

#[test]
fn an_empty_group_has_neither_protocol_nor_leader() {
    let empty = GroupValue {
        protocol: None,
        leader: None,
        members: vec![],
        ..group_value(4)
    };
    for version in 2..=VALUE_VERSION_MAX {
        let bytes = encode_value(&empty, version).unwrap();
        assert_eq!(decode_value::<GroupValue>(&bytes).as_ref(), Ok(&empty));
    }
    assert_eq!(
        encode_value(&empty, 3).unwrap(),
        b"\0\x03\0\x08consumer\0\0\0\x06\xff\xff\xff\xff\0\0\0\0\0\0\0\x07\0\0\0\0"
    );
}

#[test]
fn a_group_of_the_smallest_members_reads_back_however_many_they_are() {
    const MEMBERS: usize = if cfg!(miri) { 100 } else { 100_000 };
    let group = GroupValue {
        members: vec![MemberValue::default(); MEMBERS],
        ..GroupValue::default()
    };
    for version in 0..=VALUE_VERSION_MAX {
        let bytes = encode_value(&group, version).unwrap();
        let members = decode_value::<GroupValue>(&bytes).map(|group| group.members.len());
        assert_eq!(members, Ok(MEMBERS), "v{version}");
    }
}

#[test]
fn an_offset_of_version_4_may_have_no_topic_id_and_unknown_tags() {
    let nameless = OffsetValue {
        topic_id: Uuid::nil(),
        ..offset_value(4)
    };
    let bytes = encode_value(&nameless, 4).unwrap();
    assert_eq!(decode_value::<OffsetValue>(&bytes), Ok(nameless));
    let known = &bytes[..bytes.len() - 1];
    let tagged = [known, b"\x01\x05\x02xy"].concat();
    assert_eq!(decode_value::<OffsetValue>(&tagged), Ok(nameless));
}

#[test]
fn versions_that_there_are_not() {
    for version in [-1, 5, i16::MAX] {
        let error = FormatError::UnknownVersion(version);
        let bytes = version.to_be_bytes();
        assert_eq!(decode_value::<OffsetValue>(&bytes), Err(error));
        assert_eq!(decode_value::<GroupValue>(&bytes), Err(error));
        assert_eq!(encode_value(&offset_value(4), version), Err(error));
        assert_eq!(encode_value(&group_value(4), version), Err(error));
    }
}

#[test]
fn records_cut_short_anywhere_are_errors() {
    let cut = |whole: &'static [u8]| (0..whole.len()).map(move |length| &whole[..length]);
    for key in cut(OFFSET_KEY).chain(cut(GROUP_KEY)) {
        assert_eq!(
            Key::decode(key),
            Err(FormatError::Wire(WireError::Truncated))
        );
    }
    for value in OFFSET_VALUES.into_iter().flat_map(cut) {
        assert_eq!(
            decode_value::<OffsetValue>(value),
            Err(FormatError::Wire(WireError::Truncated))
        );
    }
    for value in GROUP_VALUES.into_iter().flat_map(cut) {
        assert_eq!(
            decode_value::<GroupValue>(value),
            Err(FormatError::Wire(WireError::Truncated))
        );
    }
}

#[test]
fn a_claim_of_two_billion_members_fails_before_anything_is_reserved() {
    let classic = b"\0\0\0\0\0\0\0\x06\xff\xff\xff\xff\x7f\xff\xff\xff";
    let flexible = b"\0\x04\x01\0\0\0\x06\0\0\0\0\0\0\0\0\0\x07\xff\xff\xff\xff\x0f";
    assert_eq!(
        decode_value::<GroupValue>(classic),
        Err(FormatError::Wire(WireError::Truncated))
    );
    assert_eq!(
        decode_value::<GroupValue>(flexible),
        Err(FormatError::Wire(WireError::Truncated))
    );
}

#[test]
fn a_string_that_the_format_cannot_say_is_refused() {
    let long = "x".repeat(1 << 15);
    let error = Err(FormatError::Wire(WireError::StringTooLong(1 << 15)));
    assert_eq!(Key::Group(GroupKey { group: &long }).encode(), error);
    for version in 0..=VALUE_VERSION_MAX {
        let value = OffsetValue {
            metadata: &long,
            ..offset_value(version)
        };
        assert_eq!(encode_value(&value, version), error);
    }
}

proptest! {
    #[test]
    fn random_records_never_panic(
        version in 0..6u8,
        content in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let record = [&[0, version], &content[..]].concat();
        let _ = Key::decode(&record);
        let _ = decode_value::<OffsetValue>(&record);
        let _ = decode_value::<GroupValue>(&record);
    }
}
