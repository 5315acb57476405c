//! Keys and values as they stand in JSON: the embedded formats.

use super::error::{self, bare, refusal};
use super::schemas::kind::Kind;
use crate::http::problem::Problem;
use crate::http::records::Record;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

/// How keys and values stand in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// In base64.
    Binary,
    /// As JSON.
    Json,
    /// As a text (Strimzi's).
    Text,
    /// As Avro's JSON encoding has it.
    Avro,
    /// As JSON that has a schema.
    JsonSchema,
    /// As Protobuf's JSON mapping has it.
    Protobuf,
}

/// 422: the format needs a schema registry, and none is configured.
pub fn no_registry() -> Problem {
    refusal("no-registry", "there is no schema registry")
}

impl Format {
    /// The format of this name; `None` for one that is unknown.
    pub fn named(name: &str) -> Option<Format> {
        Some(match name.to_ascii_lowercase().as_str() {
            "binary" => Format::Binary,
            "json" => Format::Json,
            "text" => Format::Text,
            "avro" => Format::Avro,
            "jsonschema" => Format::JsonSchema,
            "protobuf" => Format::Protobuf,
            _ => return None,
        })
    }

    /// The kind of schemas that it needs; `None` where it needs none.
    pub fn schema_kind(self) -> Option<Kind> {
        match self {
            Format::Binary | Format::Json | Format::Text => None,
            Format::Avro => Some(Kind::Avro),
            Format::JsonSchema => Some(Kind::JsonSchema),
            Format::Protobuf => Some(Kind::Protobuf),
        }
    }

    /// The format of the records in a request's body: binary unless said.
    ///
    /// # Errors
    /// 415 for what is none.
    pub fn of_body(headers: &HeaderMap) -> Result<Format, Problem> {
        let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
        let kind = bare(&String::from_utf8_lossy(kind.unwrap_or_default()));
        let format = if kind.is_empty() || kind == "application/octet-stream" {
            Some(Format::Binary)
        } else {
            Format::of_kind(&kind)
        };
        format.ok_or_else(|| {
            let detail = format!(
                "records come as application/vnd.kafka.json.v2+json or .binary.v2+json, not as {kind:?}"
            );
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Problem::new(status, "unsupported-media-type", detail)
        })
    }

    /// The format that a read accepts; `None` where it takes any.
    ///
    /// # Errors
    /// 406 where none is accepted.
    pub fn accepted(headers: &HeaderMap) -> Result<Option<Format>, Problem> {
        let lines = headers.get_all(ACCEPT).iter();
        let lines = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
        let accept = lines.collect::<Vec<_>>().join(",");
        if accept.trim().is_empty() {
            return Ok(None);
        }
        for kind in accept.split(',').map(bare) {
            match kind.as_str() {
                "*/*" | "application/*" | "application/json" => return Ok(None),
                "application/vnd.kafka+json" | error::V2_JSON => return Ok(None),
                kind => {
                    if let Some(format) = Format::of_kind(kind) {
                        return Ok(Some(format));
                    }
                }
            }
        }
        let detail = "records are told as application/vnd.kafka.json.v2+json or .binary.v2+json";
        let status = StatusCode::NOT_ACCEPTABLE;
        Err(Problem::new(status, "not-acceptable", detail))
    }

    fn of_kind(kind: &str) -> Option<Format> {
        let name = match kind {
            "application/json" => "",
            _ => {
                let vendor = kind.strip_prefix("application/vnd.kafka")?;
                let name = vendor.strip_suffix("+json")?;
                name.strip_suffix(".v2").unwrap_or(name)
            }
        };
        match name.strip_prefix('.') {
            Some(name) => Format::named(name),
            None => name.is_empty().then_some(Format::Binary),
        }
    }

    /// The type of an answer with records.
    pub fn kind(self) -> &'static str {
        match self {
            Format::Binary => "application/vnd.kafka.binary.v2+json",
            Format::Json => "application/vnd.kafka.json.v2+json",
            Format::Text => "application/vnd.kafka.text.v2+json",
            Format::Avro => "application/vnd.kafka.avro.v2+json",
            Format::JsonSchema => "application/vnd.kafka.jsonschema.v2+json",
            Format::Protobuf => "application/vnd.kafka.protobuf.v2+json",
        }
    }

    /// The bytes that a part of a record in a request stands for, in a format without schemas.
    ///
    /// # Errors
    /// 422 where it stands for none, and where the format needs a schema.
    pub fn bytes_of(self, raw: &RawValue) -> Result<Bytes, Problem> {
        match self {
            Format::Json => Ok(compact(raw.get().as_bytes())),
            Format::Binary => base64(&text(raw, "base64")?),
            Format::Text => Ok(text(raw, "text")?.into()),
            Format::Avro | Format::JsonSchema | Format::Protobuf => Err(no_registry()),
        }
    }

    /// Writes a part of a record. One with a schema is decoded to JSON already.
    fn write<S: Serializer>(self, part: Option<&Bytes>, out: S) -> Result<S::Ok, S::Error> {
        let Some(bytes) = part else {
            return out.serialize_none();
        };
        match self {
            Format::Binary => out.serialize_str(&BASE64.encode(bytes)),
            Format::Json | Format::Avro | Format::JsonSchema | Format::Protobuf => {
                match serde_json::from_slice::<&RawValue>(bytes) {
                    Ok(raw) => raw.serialize(out),
                    // What is no JSON is told as a text, and fails no read.
                    Err(_) => out.serialize_str(&String::from_utf8_lossy(bytes)),
                }
            }
            Format::Text => out.serialize_str(&String::from_utf8_lossy(bytes)),
        }
    }
}

/// # Errors
/// 422 for what is no base64.
pub fn base64(text: &str) -> Result<Bytes, Problem> {
    let bytes = BASE64.decode(text);
    let bytes = bytes.map_err(|error| {
        let detail = format!("this is no base64, which the binary format takes: {error}");
        refusal("serialization", &detail)
    })?;
    Ok(bytes.into())
}

fn text(raw: &RawValue, what: &str) -> Result<String, Problem> {
    let text: Result<String, _> = serde_json::from_str(raw.get());
    text.map_err(|_| {
        let shown: String = raw.get().chars().take(40).collect();
        refusal("serialization", &format!("{shown} is no {what} in quotes"))
    })
}

/// JSON without the blanks between its parts; all else as it is written, numbers too.
pub fn compact(json: &[u8]) -> Bytes {
    let (mut is_text, mut is_escaped) = (false, false);
    let kept = json.iter().copied().filter(|byte| {
        let is_kept = is_text || !byte.is_ascii_whitespace();
        is_text ^= *byte == b'"' && !is_escaped;
        is_escaped = is_text && *byte == b'\\' && !is_escaped;
        is_kept
    });
    kept.collect()
}

/// What a read tells of a record beside what all proxies tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Include {
    pub headers: bool,
    pub timestamp: bool,
}

impl Include {
    /// What the parameter `include` says.
    pub fn parse(text: &str) -> Option<Include> {
        let mut include = Include::default();
        for word in text.split(',') {
            match word.trim() {
                "headers" => include.headers = true,
                "timestamp" => include.timestamp = true,
                _ => return None,
            }
        }
        Some(include)
    }
}

/// A record as a read tells it.
pub struct Shown<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub record: &'a Record,
    pub format: Format,
    pub include: Include,
}

/// A key or a value in its format.
struct Part<'a>(Format, Option<&'a Bytes>);

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.0.write(self.1, out)
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let record = self.record;
        let mut map = out.serialize_map(None)?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("key", &Part(self.format, record.key.as_ref()))?;
        map.serialize_entry("value", &Part(self.format, record.value.as_ref()))?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &record.offset)?;
        if self.include.timestamp {
            map.serialize_entry("timestamp", &record.timestamp_ms)?;
        }
        if self.include.headers {
            map.serialize_entry("headers", &record.headers_json())?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn json_is_stored_without_blanks_and_as_it_was_written() {
        let json = br#" { "a b" : [ 1.0, 1e400 ,"\" \\" , true ] } "#;
        let expected = br#"{"a b":[1.0,1e400,"\" \\",true]}"#;
        assert_eq!(&compact(json)[..], expected);
    }

    #[test]
    fn a_type_names_its_format() {
        let format = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            Format::of_body(&headers).map_err(|problem| problem.status.as_u16())
        };
        let json = "application/vnd.kafka.json.v2+json; charset=utf-8";
        assert_eq!(format(json), Ok(Format::Json));
        assert_eq!(
            format("application/vnd.kafka.Binary.v2+json"),
            Ok(Format::Binary)
        );
        assert_eq!(format("application/vnd.kafka.text+json"), Ok(Format::Text));
        assert_eq!(format("application/json"), Ok(Format::Binary));
        assert_eq!(format("application/vnd.kafka.v2+json"), Ok(Format::Binary));
        let avro = "application/vnd.kafka.avro.v2+json";
        assert_eq!(format(avro), Ok(Format::Avro));
        assert_eq!(Format::Avro.kind(), avro);
        for wrong in ["text/plain", "application/vnd.kafka.x.v2+json"] {
            assert_eq!(format(wrong), Err(415), "{wrong}");
        }
    }

    #[test]
    fn parts_are_what_was_sent() {
        let shown = |format, bytes: Option<&'static [u8]>| {
            let bytes = bytes.map(Bytes::from_static);
            serde_json::to_string(&Part(format, bytes.as_ref())).unwrap()
        };
        assert_eq!(shown(Format::Json, Some(b"{\"a\":1.0}")), "{\"a\":1.0}");
        assert_eq!(shown(Format::Json, Some(b"tea")), "\"tea\"");
        assert_eq!(shown(Format::Binary, Some(b"tea")), "\"dGVh\"");
        assert_eq!(shown(Format::Text, Some(b"tea")), "\"tea\"");
        assert_eq!(shown(Format::Json, None), "null");
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let bytes = |format: Format, json| format.bytes_of(&raw(json)).ok();
        assert_eq!(bytes(Format::Binary, "\"dGVh\""), Some("tea".into()));
        assert_eq!(bytes(Format::Binary, "\"?\""), None);
        assert_eq!(bytes(Format::Binary, "7"), None);
        assert_eq!(bytes(Format::Json, "[1, 2]"), Some("[1,2]".into()));
    }
}
