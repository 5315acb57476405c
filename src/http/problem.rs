//! Errors as RFC 9457 has them, and the status of each error of the rooms below.

use super::answer::{self, Answer};
use crate::coordinator::groups::error::GroupError;
use crate::engine::EngineError;
use crate::engine::append::Refusal;
use crate::engine::catalog::changes::AdminError;
use crate::log::batch::BatchError;
use crate::log::records::RecordsError;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// Before a request that was refused for now is worth another try, in seconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// A request that failed. Its body says what happened, whether the same request may succeed later, and
/// whether this one can have changed anything.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// A word for programs, the end of the problem's `type`.
    pub kind: &'static str,
    detail: String,
    /// The number that Kafka's protocol has for it.
    kafka_error: Option<i16>,
    pub is_retriable: bool,
    /// Nothing was stored, so that the same request once more doubles nothing.
    has_no_effects: bool,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What the request would have to say now, and the member of the problem that tells it.
    current: Option<(&'static str, i64)>,
}

impl Problem {
    /// One that had no effect, and that comes again with the same request.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            kind,
            detail: detail.into(),
            kafka_error: None,
            is_retriable: false,
            has_no_effects: true,
            header: None,
            current: None,
        }
    }

    /// The request says something that cannot be: 400.
    pub fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// There is no such topic: 404.
    pub fn unknown_topic(name: &str) -> Problem {
        let detail = format!("there is no topic {name:?}");
        Problem::new(StatusCode::NOT_FOUND, "unknown-topic", detail).kafka(3)
    }

    /// The path exists, but not for this method: 405.
    pub fn method_not_allowed(allowed: &str) -> Problem {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let detail = format!("this path takes {allowed} only");
        let mut problem = Problem::new(status, "method-not-allowed", detail);
        problem.header = HeaderValue::from_str(allowed)
            .ok()
            .map(|value| Box::new((ALLOW, value)));
        problem
    }

    /// One of many records cannot be read: 400.
    pub fn malformed(place: usize, why: &str) -> Problem {
        let detail = format!("record {place} of the body: {why}");
        Problem::new(StatusCode::BAD_REQUEST, "malformed-record", detail)
    }

    /// What the request needs is not there for now: 503.
    pub fn unavailable(kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail).later()
    }

    /// A body ended before its end: 400. Those of its records that came before may be stored.
    pub fn broken_off(records: usize) -> Problem {
        Problem::bad_request("the body broke off").after(records)
    }

    /// A client that follows takes nothing of what is there for it.
    pub fn slow_reader(after: Duration) -> Problem {
        let detail = format!("nothing was read for {} s", after.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-reader", detail).later()
    }

    /// The same for a body of which so many records came before, and may be stored.
    pub fn after(self, records: usize) -> Problem {
        Problem {
            has_no_effects: records == 0,
            ..self
        }
    }

    /// The same, where another has happened in the same request.
    pub fn beside(self, other: &Problem) -> Problem {
        Problem {
            has_no_effects: self.has_no_effects && other.has_no_effects,
            ..self
        }
    }

    fn kafka(mut self, code: i16) -> Problem {
        self.kafka_error = Some(code);
        self
    }

    fn later(mut self) -> Problem {
        self.is_retriable = true;
        self.header = Some(Box::new((
            RETRY_AFTER,
            HeaderValue::from_static(RETRY_AFTER_SECONDS),
        )));
        self
    }

    /// What RFC 9457 calls the problem's object.
    pub fn to_json(&self) -> Value {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut body = json!({
            "type": format!("urn:millstream:problem:{}", self.kind),
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "retriable": self.is_retriable,
            "no_side_effects": self.has_no_effects,
        });
        if let Some(code) = self.kafka_error {
            body["kafka_error"] = code.into();
        }
        if let Some((name, value)) = self.current {
            body[name] = value.into();
        }
        body
    }

    /// Says in the head of a reply what belongs there: `Allow`, `Retry-After`.
    pub fn set_header(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.header.as_deref() {
            headers.insert(name, value.clone());
        }
    }

    /// The reply to the request.
    pub fn answer(&self) -> Answer {
        let body = format!("{}\n", self.to_json());
        let mut answer = answer::of(self.status, "application/problem+json", body);
        self.set_header(answer.headers_mut());
        debug_assert!(answer.headers().contains_key(CONTENT_TYPE));
        answer
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Problem {
        let detail = error.to_string();
        let new = |status, kind, code| Problem::new(status, kind, detail.clone()).kafka(code);
        match error {
            EngineError::UnknownTopicOrPartition => {
                new(StatusCode::NOT_FOUND, "unknown-topic-or-partition", 3)
            }
            EngineError::UnknownTopicId => new(StatusCode::GONE, "unknown-topic-id", 100),
            EngineError::InconsistentTopicId => new(StatusCode::GONE, "inconsistent-topic-id", 103),
            EngineError::StorageFull => {
                new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", 56).later()
            }
            EngineError::StorageFailed => Problem {
                // What failed may have been the sync of what was stored.
                has_no_effects: false,
                ..new(StatusCode::SERVICE_UNAVAILABLE, "storage-failed", 56)
            },
            EngineError::BatchTooLarge => new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", 18),
            EngineError::OutOfOrderSequence(wrong) => Problem {
                current: wrong
                    .expected()
                    .map(|next| ("expected_sequence", i64::from(next))),
                ..new(StatusCode::CONFLICT, "out-of-order-sequence", 45)
            },
            EngineError::StaleProducerEpoch(_) => {
                new(StatusCode::CONFLICT, "stale-producer-epoch", 47)
            }
            EngineError::OffsetOutOfRange { .. } => {
                new(StatusCode::RANGE_NOT_SATISFIABLE, "offset-out-of-range", 1)
            }
            EngineError::Corrupt { .. } => new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", 2),
            EngineError::FencedLeaderEpoch(_) => new(StatusCode::CONFLICT, "fenced-epoch", 74),
            EngineError::UnknownLeaderEpoch(_) => new(StatusCode::CONFLICT, "unknown-epoch", 75),
            EngineError::Changed(changed) => Problem {
                current: Some(("current", changed.current())),
                ..new(StatusCode::PRECONDITION_FAILED, "changed", 87)
            },
            EngineError::NoKeyIndex => {
                new(StatusCode::SERVICE_UNAVAILABLE, "no-key-index", 56).later()
            }
            EngineError::Reconfigured => {
                new(StatusCode::SERVICE_UNAVAILABLE, "reconfigured", 6).later()
            }
            EngineError::Stopping => Problem {
                // A record may be stored whose reply a stop has overtaken.
                has_no_effects: false,
                ..new(StatusCode::SERVICE_UNAVAILABLE, "stopping", 6).later()
            },
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = refusal.to_string();
        let new = |status, kind, code| Problem::new(status, kind, detail.clone()).kafka(code);
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match refusal {
            Refusal::Engine(error) => error.into(),
            Refusal::InternalTopic => new(StatusCode::FORBIDDEN, "internal-topic", 17),
            Refusal::Batch(BatchError::TooLarge(_))
            | Refusal::Records(RecordsError::TooLarge(_)) => {
                new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", 10)
            }
            Refusal::ClaimsAppendTime | Refusal::TimestampTooFar => {
                new(unprocessable, "invalid-timestamp", 32)
            }
            Refusal::WithoutKey(_) => new(unprocessable, "without-key", 87),
            Refusal::NoBatch
            | Refusal::Batch(_)
            | Refusal::Zstd
            | Refusal::Transactional
            | Refusal::Records(_)
            | Refusal::Condition(_)
            | Refusal::RecordOffset(_) => new(unprocessable, "invalid-record", 87),
        }
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Problem {
        let detail = error.to_string();
        let new = |status, kind, code| Problem::new(status, kind, detail.clone()).kafka(code);
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match error {
            AdminError::Engine(error) => error.into(),
            AdminError::TopicExists(_) => new(StatusCode::CONFLICT, "topic-exists", 36),
            AdminError::UnknownTopic => new(StatusCode::NOT_FOUND, "unknown-topic", 3),
            AdminError::BadName(_) | AdminError::NameCollision(..) => {
                new(StatusCode::BAD_REQUEST, "invalid-topic-name", 17)
            }
            AdminError::InternalTopic(_) => new(StatusCode::FORBIDDEN, "internal-topic", 17),
            AdminError::NoPartitions | AdminError::NotMorePartitions { .. } => {
                new(unprocessable, "invalid-partitions", 37)
            }
            AdminError::BadConfig(_) | AdminError::MustCompact(_) => {
                new(unprocessable, "invalid-config", 40)
            }
            AdminError::LimitReached { .. } => new(StatusCode::TOO_MANY_REQUESTS, "limit", 44),
            AdminError::StillDeleting(_) | AdminError::NotWritten(_) => {
                new(StatusCode::SERVICE_UNAVAILABLE, "catalog", 56).later()
            }
        }
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Problem {
        let detail = error.to_string();
        let new = |status, kind, code| Problem::new(status, kind, detail.clone()).kafka(code);
        let conflict = StatusCode::CONFLICT;
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            GroupError::InvalidGroupId => new(StatusCode::BAD_REQUEST, "invalid-group", 24),
            GroupError::UnknownMemberId | GroupError::MemberIdRequired(_) => {
                new(conflict, "unknown-member", 25)
            }
            GroupError::IllegalGeneration => new(conflict, "illegal-generation", 22),
            GroupError::RebalanceInProgress => new(conflict, "rebalance", 27).later(),
            GroupError::FencedInstanceId => new(conflict, "fenced-instance", 82),
            GroupError::InconsistentGroupProtocol => new(conflict, "inconsistent-group", 23),
            GroupError::TooManyProtocols
            | GroupError::InvalidSessionTimeout
            | GroupError::RecordTooLarge
            | GroupError::TooManyOffsets => new(unprocessable, "group-limit", 42),
            GroupError::OffsetMetadataTooLarge => new(unprocessable, "metadata-too-large", 12),
            GroupError::GroupMaxSizeReached => new(StatusCode::TOO_MANY_REQUESTS, "limit", 81),
            GroupError::NotCoordinator => new(unavailable, "not-coordinator", 16).later(),
            GroupError::CoordinatorNotAvailable => {
                new(unavailable, "coordinator-not-available", 15).later()
            }
            GroupError::NonEmptyGroup => new(conflict, "non-empty-group", 68),
            GroupError::GroupIdNotFound => new(StatusCode::NOT_FOUND, "unknown-group", 69),
            GroupError::GroupSubscribedToTopic => new(conflict, "group-subscribed", 86),
            GroupError::UnknownTopic => new(StatusCode::NOT_FOUND, "unknown-topic", 3),
        }
    }
}
