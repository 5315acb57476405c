//! A record as version 3 is told it, and what it tells of it.

use super::links::Links;
use crate::http::problem::Problem;
use crate::http::query::rfc_3339;
use crate::http::rest::embedded::{Format, base64, no_registry};
use crate::http::rest::error::{self, Version, constraint};
use crate::http::rest::schemas::kind::Kind;
use crate::http::rest::schemas::{Found, Schemas, Subject, Wanted};
use crate::http::sending::{Outcome, Stored};
use crate::http::split::Item;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;

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

/// A key or a value. One without a type, or with one of those that have schemas, says which schema it has.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    subject: Option<String>,
    subject_name_strategy: Option<Strategy>,
    schema_id: Option<i32>,
    schema_version: Option<i32>,
    schema: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// How the subject of a schema is called.
#[derive(Clone, Copy, Deserialize)]
enum Strategy {
    #[serde(rename = "TOPIC_NAME")]
    Topic,
    #[serde(rename = "RECORD_NAME")]
    Record,
    #[serde(rename = "TOPIC_RECORD_NAME")]
    TopicRecord,
}

/// What is told of a key or a value: its type, its schema if it has one, and how many bytes it has.
#[derive(Clone, Debug)]
struct Size {
    kind: &'static str,
    schema: Option<Schemed>,
    bytes: usize,
}

/// Which schema a key or a value has.
#[derive(Clone, Debug)]
struct Schemed {
    id: i32,
    /// The subject and its version.
    place: Option<(String, i32)>,
}

/// What is told of a record when it is stored.
#[derive(Clone, Debug)]
pub struct Sizes {
    key: Option<Size>,
    value: Option<Size>,
}

/// A record to store, and what will be told of it.
pub type New = (Item, Sizes);

/// What records are read for.
pub struct Reading<'a> {
    pub topic: &'a str,
    /// Where a registry is configured.
    pub schemas: Option<&'a Arc<Schemas>>,
}

impl Record<'_> {
    /// # Errors
    /// 422 for data that is not of its type or does not fit its schema, and for schemas where there is no registry;
    /// 400 for a timestamp that is none, and for what says two things of a schema; 503 where the registry does not
    /// answer.
    pub async fn read(self, reading: &Reading<'_>) -> Result<New, Problem> {
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
        let headers = headers.collect::<Result<_, Problem>>()?;
        let (key, key_size) = reading.part(self.key, "key").await?;
        let (value, value_size) = reading.part(self.value, "value").await?;
        let item = Item {
            key,
            value,
            headers,
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

type Part = (Option<Bytes>, Option<Size>);

impl Reading<'_> {
    async fn part(&self, data: Option<Data<'_>>, part: &str) -> Result<Part, Problem> {
        let Some(data) = data else {
            return Ok((None, None));
        };
        let kind = data.kind.as_deref().map(str::to_ascii_uppercase);
        let (kind, format) = match kind.as_deref() {
            Some("BINARY") => ("BINARY", Format::Binary),
            Some("JSON") => ("JSON", Format::Json),
            Some("STRING") => ("STRING", Format::Text),
            None => return self.schemed(data, None, part).await,
            Some("AVRO") => return self.schemed(data, Some(Kind::Avro), part).await,
            Some("JSONSCHEMA") => return self.schemed(data, Some(Kind::JsonSchema), part).await,
            Some("PROTOBUF") => return self.schemed(data, Some(Kind::Protobuf), part).await,
            Some(other) => {
                let detail = format!(
                    "a type is BINARY, JSON, STRING, AVRO, JSONSCHEMA or PROTOBUF, not {other:?}"
                );
                return Err(constraint(detail));
            }
        };
        let bytes = data.data.map(|raw| format.bytes_of(raw)).transpose()?;
        let size = bytes.as_ref().map(|bytes| Size {
            kind,
            schema: None,
            bytes: bytes.len(),
        });
        Ok((bytes, size))
    }

    /// A key or a value that has a schema.
    async fn schemed(
        &self,
        data: Data<'_>,
        kind: Option<Kind>,
        part: &str,
    ) -> Result<Part, Problem> {
        let schemas = self.schemas.ok_or_else(no_registry)?;
        let json = data.data;
        let wanted = self.wanted(data, kind, part)?;
        let Some(json) = json else {
            return Ok((None, None));
        };
        let found = schemas.find(wanted).await?;
        let bytes = schemas.encode(&found, json.get()).await?;
        let size = size(&found, bytes.len());
        Ok((Some(bytes), Some(size)))
    }

    /// The schema that a part names.
    fn wanted(&self, data: Data<'_>, kind: Option<Kind>, part: &str) -> Result<Wanted, Problem> {
        let bad = |detail: &str| Err(Problem::bad_request(detail));
        let subject = match (data.subject, data.subject_name_strategy) {
            (Some(_), Some(_)) => {
                return bad("subject and subject_name_strategy exclude each other");
            }
            (Some(subject), None) => Subject::Named(subject),
            (None, None | Some(Strategy::Topic)) => {
                Subject::Named(format!("{}-{part}", self.topic))
            }
            (None, Some(Strategy::Record)) => Subject::RecordName,
            (None, Some(Strategy::TopicRecord)) => Subject::TopicRecordName(self.topic.to_owned()),
        };
        match (kind, data.schema, data.schema_id, data.schema_version) {
            (Some(kind), Some(text), None, None) => Ok(Wanted::Text(kind, text.into(), subject)),
            (Some(_), ..) => bad(
                "a type that has schemas comes with schema, and with nothing else that names one",
            ),
            (None, Some(_), ..) => bad("a schema comes with its type"),
            (None, None, Some(_), Some(_)) => {
                bad("schema_id and schema_version exclude each other")
            }
            (None, None, Some(id), None) => Ok(Wanted::IdIn(id, subject)),
            (None, None, None, version) => {
                let Subject::Named(subject) = subject else {
                    return bad("a subject that follows from the record needs schema_id or schema");
                };
                Ok(match version {
                    Some(version) => Wanted::Version(subject, version),
                    None => Wanted::Latest(subject),
                })
            }
        }
    }
}

fn size(found: &Found, bytes: usize) -> Size {
    Size {
        kind: found.schema.kind().type_name(),
        schema: Some(Schemed {
            id: found.id,
            place: found.place.clone(),
        }),
        bytes,
    }
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
    let parts = [("key", &sizes.key), ("value", &sizes.value)];
    for (name, part) in parts {
        told.extend(part.as_ref().map(|part| (name.to_owned(), part.to_json())));
    }
    told.into()
}

impl Size {
    fn to_json(&self) -> Value {
        let mut told = Map::new();
        told.insert("type".to_owned(), self.kind.into());
        if let Some(Schemed { id, place }) = &self.schema {
            if let Some((subject, _)) = place {
                told.insert("subject".to_owned(), subject.as_str().into());
            }
            told.insert("schema_id".to_owned(), (*id).into());
            if let Some((_, version)) = place {
                told.insert("schema_version".to_owned(), (*version).into());
            }
        }
        told.insert("size".to_owned(), self.bytes.into());
        told.into()
    }
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
    use futures_util::FutureExt as _;

    fn read(json: &str) -> Result<Item, u32> {
        let record: Record<'_> = serde_json::from_str(json).unwrap();
        let reading = Reading {
            topic: "t",
            schemas: None,
        };
        // Without a registry nothing is waited for.
        let read = record.read(&reading).now_or_never().unwrap();
        let read = read.map_err(|problem| refused(&problem).0);
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
