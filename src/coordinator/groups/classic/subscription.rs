//! Which topics a member of a consumer group subscribed to.
//!
//! The bytes are the clients' own format. As in Kafka they are read for retention and for OffsetDelete.
//! Every version of the format starts like version 0: version i16, then an array (i32) of
//! topic names (i16 length), big endian.

/// The protocol type of Kafka's consumers. Other types (Connect) have other metadata.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The topics of a subscription; `None` when it cannot be read.
pub fn topics(metadata: &[u8]) -> Option<Vec<&str>> {
    let mut rest = metadata;
    let version = i16::from_be_bytes(take(&mut rest)?);
    let count = i32::from_be_bytes(take(&mut rest)?);
    if version < 0 {
        return None;
    }
    let mut topics = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (name, left) = rest.split_at_checked(length)?;
        topics.push(std::str::from_utf8(name).ok()?);
        rest = left;
    }
    Some(topics)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_from_every_version_and_damage_is_seen() {
        let bytes = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(topics(bytes), Some(vec!["a", "bc"]));
        for length in 0..13 {
            assert_eq!(topics(&bytes[..length]), None, "{length}");
        }
        assert_eq!(topics(b"\xff\xff\0\0\0\0"), None);
        assert_eq!(topics(b"\0\0\0\0\0\x01\xff\xff"), None);
        assert_eq!(topics(b"\0\0\0\0\0\x01\0\x01\xff"), None);
    }
}
