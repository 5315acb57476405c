//! A record as version 3 is told it, and what it tells of it.

use super::links::Links;
use crate::http::problem::Problem;
use crate::http::query::rfc_3339;
use crate::http::rest::embedded::{Format, base64};
use crate::http::rest::error::{self, Version, constraint, refusal};
use crate::http::sending::{Outcome, Stored};
use crate::http::split::Item;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// A record of a request.
#[derive(Deserialize)]
pub struct Record<'a> {
    /// Which of a batch it is.
    pub id: Option<String>,
    partition_id: Option<i32>,
    #[serde(default, deserialize_with = "crate::http::rest::json::list")]
    headers: Vec<Header>,
    #[serde(borrow)]
    key: Option<Data<'a>>,
    #[serde(borrow)]
    value: Option<Data<'a>>,
    /// As RFC 3339 writes it.
    timestamp: Option<String>,
}

/// A header, its value in base64.
#[derive(Deserialize)]
struct Header {
    name: String,
    value: Option<String>,
}

/// A key or a value.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What is told of a key or a value: its type, and how many bytes it has.
#[derive(Clone, Debug)]
struct Size {
    kind: &'static str,
    bytes: usize,
}

/// What is told of a record when it is stored.
#[derive(Clone, Debug)]
pub struct Sizes {
    key: Option<Size>,
    value: Option<Size>,
}

/// A record to store, and what will be told of it.
pub type New = (Item, Sizes);

impl Record<'_> {
    /// # Errors
    /// 422 for data that is not of its type, or is of one that needs a schema registry; 400 for a timestamp that is
    /// none.
    pub fn read(self) -> Result<New, Problem> {
        let headers = self.headers.into_iter().map(|header| {
            let value = header.value.as_deref().map(base64).transpose()?;
            Ok((header.name.into(), value))
        });
        let timestamp_ms = match &self.timestamp {
            Some(text) => Some(rfc_3339(text).filter(|ms| *ms >= 0).ok_or_else(|| {
                let detail = format!("{text:?} is no time as in 2026-01-31T10:00:00Z");
                Problem::bad_request(detail)
            })?),
            None => None,
        };
        let (key, key_size) = part(self.key)?;
        let (value, value_size) = part(self.value)?;
        let item = Item {
            key,
            value,
            headers: headers.collect::<Result<_, Problem>>()?,
            partition: self.partition_id,
            timestamp_ms,
        };
        let sizes = Sizes {
            key: key_size,
            value: value_size,
        };
        Ok((item, sizes))
    }
}

fn part(data: Option<Data<'_>>) -> Result<(Option<Bytes>, Option<Size>), Problem> {
    let Some(data) = data else {
        return Ok((None, None));
    };
    let Some(kind) = &data.kind else {
        return Err(refusal(
            "no-registry",
            "data without a type has a schema, and there is no registry",
        ));
    };
    let (kind, format) = match kind.to_ascii_uppercase().as_str() {
        "BINARY" => ("BINARY", Format::Binary),
        "JSON" => ("JSON", Format::Json),
        "STRING" => ("STRING", Format::Text),
        "AVRO" | "JSONSCHEMA" | "PROTOBUF" => {
            return Err(refusal("no-registry", "there is no schema registry"));
        }
        other => {
            let detail = format!("a type is BINARY, JSON or STRING, not {other:?}");
            return Err(constraint(detail));
        }
    };
    let bytes = data.data.map(|raw| format.bytes_of(raw)).transpose()?;
    let size = bytes.as_ref().map(|bytes| Size {
        kind,
        bytes: bytes.len(),
    });
    Ok((bytes, size))
}

/// What became of a record that was sent on.
pub fn told(
    links: &Links,
    topic: &str,
    outcome: &Outcome,
    sizes: &Sizes,
) -> Result<Value, Problem> {
    match outcome {
        Ok(stored) => Ok(stored_json(links, topic, stored, sizes)),
        Err(problem) => Err(*problem.clone()),
    }
}

fn stored_json(links: &Links, topic: &str, stored: &Stored, sizes: &Sizes) -> Value {
    let mut told = Map::new();
    told.insert("error_code".to_owned(), 200.into());
    told.insert("cluster_id".to_owned(), links.cluster_id().into());
    told.insert("topic_name".to_owned(), topic.into());
    told.insert("partition_id".to_owned(), stored.partition.into());
    told.insert("offset".to_owned(), stored.offset.into());
    let timestamp = Timestamp::from_millisecond(stored.timestamp_ms);
    let timestamp = timestamp.map(|timestamp| timestamp.to_string());
    told.insert("timestamp".to_owned(), timestamp.ok().into());
    let size = |size: &Size| json!({ "type": size.kind, "size": size.bytes });
    let parts = [("key", &sizes.key), ("value", &sizes.value)];
    for (name, part) in parts {
        told.extend(part.as_ref().map(|part| (name.to_owned(), size(part))));
    }
    told.into()
}

/// Code and message of a record that is not stored. Codes of bodies go into the message, as kafka-rest has it.
pub fn refused(problem: &Problem) -> (u32, String) {
    let (status, code, message) = error::told(problem, Version::V3);
    let status = u32::from(status.as_u16());
    if status == 422 && code != status {
        return (status, format!("Error: {code} : {message}"));
    }
    (code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Item, u32> {
        let record: Record<'_> = serde_json::from_str(json).unwrap();
        let read = record.read().map_err(|problem| refused(&problem).0);
        read.map(|(item, _)| item)
    }

    #[test]
    fn a_record_says_what_is_stored() {
        let json = r#"{"partition_id":1,"headers":[{"name":"h","value":"eA=="}],
            "key":{"type":"BINARY","data":"YW5u"},"value":{"type":"JSON","data":{"a": 1}},
            "timestamp":"1970-01-01T00:00:01Z"}"#;
        let expected = Item {
            key: Some("ann".into()),
            value: Some("{\"a\":1}".into()),
            headers: vec![("h".into(), Some("x".into()))],
            partition: Some(1),
            timestamp_ms: Some(1_000),
        };
        assert_eq!(read(json), Ok(expected));
        assert_eq!(read("{}"), Ok(Item::default()));
        let null = r#"{"value":{"type":"STRING","data":null}}"#;
        assert_eq!(read(null), Ok(Item::default()));
        for (wrong, code) in [
            (r#"{"value":{"type":"STRING","data":7}}"#, 422),
            (r#"{"value":{"type":"BINARY","data":"*"}}"#, 422),
            (r#"{"value":{"type":"AVRO","data":{}}}"#, 422),
            (r#"{"value":{"data":{}}}"#, 422),
            (r#"{"value":{"type":"WAT","data":{}}}"#, 422),
            (r#"{"timestamp":"soon"}"#, 400),
        ] {
            assert_eq!(read(wrong), Err(code), "{wrong}");
        }
    }
}
