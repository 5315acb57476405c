//! What a consumer instance is created with, and how that outlives a restart.

use super::state::Wanted;
use crate::coordinator::groups::consumer_protocol::{
    Subscription, decode_subscription, encode_subscription,
};
use crate::http::rest::embedded::Format;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Where an instance begins in a partition in which its group has committed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reset {
    Earliest,
    Latest,
    /// A read is refused.
    None,
}

/// What an instance is created with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub format: Format,
    pub reset: Reset,
    /// A read commits what the one before it has returned.
    pub auto_commit: bool,
    /// How long a read waits unless it says so.
    pub timeout_ms: u64,
}

/// What the broker keeps of an instance in its member's metadata, as the assignor's own data. So it is stored with the
/// group, and with the group it goes.
#[derive(Serialize, Deserialize)]
struct Kept {
    rest_instance: String,
    settings: Settings,
    /// What its topics match, if it named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
}

/// An instance as its group has kept it.
#[derive(Debug, PartialEq, Eq)]
pub struct Revived {
    pub name: String,
    pub settings: Settings,
    pub wanted: Wanted,
}

/// A member's metadata: what it subscribes to, and what it is.
///
pub fn metadata(name: &str, settings: &Settings, wanted: &Wanted, topics: &[String]) -> Bytes {
    let kept = Kept {
        rest_instance: name.to_owned(),
        settings: settings.clone(),
        pattern: match wanted {
            Wanted::Pattern(pattern) => Some(pattern.clone()),
            _ => None,
        },
    };
    // Of text and numbers, nothing fails.
    let kept = serde_json::to_vec(&kept).unwrap_or_default();
    let subscription = Subscription {
        topics: topics.iter().map(String::as_str).collect(),
        user_data: Some(kept.into()),
        ..Subscription::default()
    };
    // No name of a topic is too long for the protocol.
    encode_subscription(&subscription).unwrap_or_default()
}

/// The instance that a member is; `None` for other consumers.
pub fn revived(metadata: &Bytes) -> Option<Revived> {
    let subscription = decode_subscription(metadata).ok()?;
    let kept: Kept = serde_json::from_slice(subscription.user_data.as_ref()?).ok()?;
    let topics = subscription.topics.into_iter().map(str::to_owned);
    Some(Revived {
        name: kept.rest_instance,
        settings: kept.settings,
        wanted: match kept.pattern {
            Some(pattern) => Wanted::Pattern(pattern),
            None => Wanted::Topics(topics.collect()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_tells_which_instance_it_is() {
        let settings = Settings {
            format: Format::Json,
            reset: Reset::Earliest,
            auto_commit: false,
            timeout_ms: 7,
        };
        let topics = vec!["a".to_owned(), "b".to_owned()];
        for wanted in [
            Wanted::Topics(topics.clone()),
            Wanted::Pattern("a|b".to_owned()),
        ] {
            let metadata = metadata("c1", &settings, &wanted, &topics);
            let expected = Revived {
                name: "c1".to_owned(),
                settings: settings.clone(),
                wanted,
            };
            assert_eq!(revived(&metadata), Some(expected));
        }
        let others = Subscription {
            topics: vec!["a"],
            user_data: Some(Bytes::from_static(b"sticky")),
            ..Subscription::default()
        };
        assert_eq!(revived(&encode_subscription(&others).unwrap()), None);
    }
}
