//! Kafka's error codes, for people to read.

use kafka_protocol::error::ResponseError;

/// What error `code` of a reply means, what to do about it if that is known, and its name and
/// number, which the documentation of any Kafka client explains further.
pub fn kafka_error(code: i16) -> String {
    let name = kafka_error_name(code);
    match meaning(code) {
        Some(meaning) => format!("{meaning} ({name}, code {code})"),
        None => format!("the broker answered {name} (code {code})"),
    }
}

/// As [`kafka_error`], with the broker's own explanation if it sent one.
pub fn kafka_error_with(code: i16, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!(
            "{} ({}, code {code})",
            message.trim_end_matches('.'),
            kafka_error_name(code)
        ),
        None => kafka_error(code),
    }
}

/// Kafka's name of error `code`, such as `UNKNOWN_TOPIC_OR_PARTITION`.
fn kafka_error_name(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        None => "NONE".to_owned(),
        Some(ResponseError::Unknown(_)) => "an error that this client does not know".to_owned(),
        Some(error) => screaming_snake(&format!("{error:?}")),
    }
}

fn screaming_snake(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 8);
    for (at, c) in camel.chars().enumerate() {
        if at > 0 && c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

fn meaning(code: i16) -> Option<&'static str> {
    Some(match code {
        -1 => "the broker met an unexpected error; its log says more",
        1 => "the offset is outside what the partition holds",
        2 => "the broker found the data corrupt",
        3 => "the topic or partition does not exist",
        5 => "the partition has no leader at the moment",
        6 => "the partition is led by another broker",
        7 => "the broker could not do it in time",
        10 => "the batch is larger than the broker takes (max.message.bytes)",
        14 => "the group's coordinator is still reading what was committed",
        15 => "the group has no coordinator at the moment",
        16 => "the group is coordinated by another broker",
        17 => "the name is not one that a topic may have",
        18 => "the batch is larger than a segment of the log (segment.bytes)",
        19 => "fewer replicas are in sync than the topic requires",
        20 => "written, but to fewer replicas than the topic requires",
        24 => "that is not a name that a group may have",
        25 => "the group has members, and this client is none of them",
        27 => "the group is rebalancing",
        29 => "this client may not do that to the topic",
        30 => "this client may not do that to the group",
        31 => "this client may not do that to the cluster",
        32 => "the timestamp is further from now than the topic allows",
        35 => "the broker does not serve that version of the request",
        36 => "a topic of that name exists already",
        37 => "that number of partitions is not possible",
        38 => "there are not as many brokers as replicas asked for",
        40 => "the broker does not take that configuration",
        41 => "the broker asked is not the controller",
        42 => "the broker finds the request invalid",
        44 => "a policy of the broker forbids it",
        45 => "the broker has seen other records of this producer than were sent in order",
        47 => "a newer producer has taken this one's place",
        56 => "the broker's disk failed for this partition; its log says more",
        58 => "the broker refused the credentials",
        68 => "the group has members; stop them first",
        69 => "there is no such group",
        73 => "the broker does not let topics be deleted",
        76 => "the broker does not take that compression codec",
        86 => "the group's members are subscribed to the topic; stop them first",
        87 => "the broker finds the record invalid",
        89 => "the quota for this client is used up",
        100 => "no topic has that id any more",
        _ => return None,
    })
}

/// Whether another attempt may succeed.
pub fn is_retriable(code: i16) -> bool {
    ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable())
}

#[cfg(test)]
mod tests {
    use super::{kafka_error, kafka_error_with};

    #[test]
    fn codes_become_words_with_kafkas_name() {
        assert_eq!(
            kafka_error(3),
            "the topic or partition does not exist (UNKNOWN_TOPIC_OR_PARTITION, code 3)"
        );
        assert_eq!(
            kafka_error(71),
            "the broker answered INVALID_FETCH_SESSION_EPOCH (code 71)"
        );
        assert!(kafka_error(3000).contains("code 3000"));
        assert_eq!(
            kafka_error_with(40, Some("Unknown topic config name: x.")),
            "Unknown topic config name: x (INVALID_CONFIG, code 40)"
        );
        assert_eq!(kafka_error_with(36, Some(" ")), kafka_error(36));
    }
}
