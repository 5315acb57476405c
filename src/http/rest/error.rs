//! Refusals as REST proxies have them: `{"error_code":40401,"message":"Topic not found."}`.

use crate::http::answer::{self, Answer};
use crate::http::problem::Problem;
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};
use serde_json::{Value, json};

/// What metadata and refusals of version 2 come as, unless another type is accepted.
pub const V2_JSON: &str = "application/vnd.kafka.v2+json";
const KAFKA_JSON: &str = "application/vnd.kafka+json";

/// A version of the REST Proxy: the same refusal may have another code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V2,
    V3,
}

/// A refusal that clients know by its code.
struct Known {
    /// The kind of the problem.
    kind: &'static str,
    status: u16,
    code: u32,
    /// What kafka-rest says; `None` for the problem's own words.
    message: Option<&'static str>,
}

const fn known(kind: &'static str, status: u16, code: u32, message: Option<&'static str>) -> Known {
    Known {
        kind,
        status,
        code,
        message,
    }
}

const NO_PARTITION: &str = "This server does not host this topic-partition.";

const FORMAT_MISMATCH: &str =
    "The requested embedded data format does not match the deserializer for this consumer instance";
const NO_KEY_SCHEMA: &str = "Request includes keys but does not include key schema";
const NO_VALUE_SCHEMA: &str = "Request includes values but does not include value schema";
const INSTANCE_EXISTS: &str =
    "Consumer with specified consumer ID already exists in the specified consumer group.";

/// All others have their status as code, or say that Kafka has failed.
const KNOWN: &[Known] = &[
    known("unknown-topic", 404, 40401, Some("Topic not found.")),
    known(
        "unknown-partition",
        404,
        40402,
        Some("Partition not found."),
    ),
    known("unknown-topic-or-partition", 404, 40403, Some(NO_PARTITION)),
    known("unknown-topic-id", 404, 40403, Some(NO_PARTITION)),
    known("inconsistent-topic-id", 404, 40403, Some(NO_PARTITION)),
    known("topic-exists", 400, 40002, None),
    known("invalid-topic-name", 400, 40002, None),
    known("internal-topic", 400, 40002, None),
    known("invalid-partitions", 400, 40002, None),
    known("invalid-config", 400, 40002, None),
    known("limit", 400, 40002, None),
    known("offset-out-of-range", 400, 40002, None),
    known("serialization", 422, 42207, None),
    known(
        "unknown-instance",
        404,
        40403,
        Some("Consumer instance not found."),
    ),
    known("format-mismatch", 406, 40601, Some(FORMAT_MISMATCH)),
    known("instance-exists", 409, 40902, Some(INSTANCE_EXISTS)),
    known("illegal-state", 409, 40903, None),
    known("bad-consumer-config", 422, 42204, None),
    known("too-many-instances", 429, 42901, None),
    known("empty-payload", 422, 42206, None),
    known("bad-batch", 422, 42208, None),
    known("no-key-schema", 422, 42201, Some(NO_KEY_SCHEMA)),
    known("no-value-schema", 422, 42202, Some(NO_VALUE_SCHEMA)),
    known("conversion", 422, 42203, None),
    known("invalid-schema", 422, 42205, None),
    known("undecodable", 408, 40801, None),
    known("registry-unavailable", 503, 503, None),
    known("too-many-schemas", 503, 503, None),
    known(
        "no-registry",
        422,
        42206,
        Some("Payload error. Schema Registry must be configured when using schemas."),
    ),
];

/// What version 3 says otherwise.
const KNOWN_V3: &[Known] = &[known("unknown-topic", 404, 40403, Some(NO_PARTITION))];

/// A refusal of this kind, in its own words where kafka-rest has none.
pub fn refusal(kind: &'static str, detail: &str) -> Problem {
    let known = KNOWN.iter().find(|known| known.kind == kind);
    let status = known.and_then(|known| StatusCode::from_u16(known.status).ok());
    Problem::new(status.unwrap_or(StatusCode::BAD_REQUEST), kind, detail)
}

/// The body is JSON, and not what it should be: 422.
pub fn constraint(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "constraint", detail)
}

/// Status, code and message of a problem.
pub fn told(problem: &Problem, version: Version) -> (StatusCode, u32, String) {
    let is_it = |known: &&Known| known.kind == problem.kind;
    let other = KNOWN_V3.iter().filter(|_| version == Version::V3);
    let own = || problem.to_string();
    if let Some(known) = other.chain(KNOWN).find(is_it) {
        let message = known.message.map_or_else(own, str::to_owned);
        let status = StatusCode::from_u16(known.status);
        return (status.unwrap_or(problem.status), known.code, message);
    }
    let failed = StatusCode::INTERNAL_SERVER_ERROR;
    if problem.is_retriable {
        return (failed, 50003, own());
    }
    if problem.status.is_server_error() {
        return (failed, 50002, own());
    }
    (problem.status, problem.status.as_u16().into(), own())
}

/// The reply to a request.
pub fn answer(problem: &Problem, version: Version, kind: &'static str) -> Answer {
    let (status, code, message) = told(problem, version);
    let mut answer = answer::of(status, kind, body(code, &message).to_string());
    problem.set_header(answer.headers_mut());
    answer
}

pub fn body(code: u32, message: &str) -> Value {
    json!({ "error_code": code, "message": message })
}

/// The type of what version 2 answers beside records.
pub fn kind_accepted(headers: &HeaderMap) -> &'static str {
    let lines = headers.get_all(ACCEPT).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let kinds = lines.flat_map(|line| line.split(','));
    for kind in kinds {
        match bare(kind).as_str() {
            V2_JSON => return V2_JSON,
            KAFKA_JSON => return KAFKA_JSON,
            answer::JSON => return answer::JSON,
            _ => {}
        }
    }
    V2_JSON
}

/// A media type without its parameters, in small letters.
pub fn bare(kind: &str) -> String {
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;
    use hyper::header::HeaderValue;

    #[test]
    fn a_problem_has_the_code_that_clients_know() {
        let code = |problem: &Problem, version| {
            let (status, code, _) = told(problem, version);
            (status.as_u16(), code)
        };
        let topic = Problem::unknown_topic("t");
        assert_eq!(code(&topic, Version::V2), (404, 40401));
        assert_eq!(code(&topic, Version::V3), (404, 40403));
        assert_eq!(told(&topic, Version::V2).2, "Topic not found.");
        let stopping = Problem::from(EngineError::Stopping);
        assert_eq!(code(&stopping, Version::V2), (500, 50003));
        let failed = Problem::from(EngineError::StorageFailed);
        assert_eq!(code(&failed, Version::V2), (500, 50002));
        let bad = Problem::bad_request("no");
        assert_eq!(code(&bad, Version::V3), (400, 400));
        assert_eq!(code(&constraint("no"), Version::V2), (422, 422));
        assert_eq!(refusal("no-registry", "").status, 422);
    }

    #[test]
    fn metadata_comes_as_what_is_accepted() {
        let kind = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            kind_accepted(&headers)
        };
        assert_eq!(kind_accepted(&HeaderMap::new()), V2_JSON);
        assert_eq!(kind("*/*"), V2_JSON);
        assert_eq!(kind("application/json; q=0.5"), answer::JSON);
        assert_eq!(kind("text/html, application/vnd.kafka+json"), KAFKA_JSON);
        assert_eq!(kind("application/vnd.kafka.binary.v2+json"), V2_JSON);
    }
}
