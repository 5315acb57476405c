//! A body of many records, taken apart as it comes.

use super::query;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// One record of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    pub partition: Option<i32>,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl Item {
    fn of_value(value: Bytes) -> Item {
        Item {
            value: Some(value),
            ..Item::default()
        }
    }

    /// About what it takes in a batch.
    pub fn bytes(&self) -> usize {
        let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len) + 10;
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.len() + 5 + part(value));
        part(&self.key) + part(&self.value) + headers.sum::<usize>() + 20
    }
}

/// What separates the records of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// A value a line, without its newline.
    Lines,
    /// JSON values one after the other, each stored as it stands.
    Json,
    /// An object a line, with `key`, `value`, `headers`, `partition`, `timestamp`.
    NdJson,
}

/// Takes a body apart.
pub struct Splitter {
    split: Split,
    rest: BytesMut,
    /// Bytes of `rest` in which there is no end of a record: they are not looked at again.
    looked_at: usize,
    /// The most bytes that one record may have.
    limit: usize,
    /// Where the next record begins could not be told: there is none.
    is_over: bool,
}

/// What the next record is.
pub type Next = Result<Item, Malformed>;

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub why: String,
    /// Where the next record begins cannot be told.
    pub is_end: bool,
}

impl Splitter {
    pub fn new(split: Split, limit: usize) -> Splitter {
        Splitter {
            split,
            rest: BytesMut::new(),
            looked_at: 0,
            limit,
            is_over: false,
        }
    }

    /// Adds what came.
    pub fn push(&mut self, data: &[u8]) {
        if !self.is_over {
            self.rest.extend_from_slice(data);
        }
    }

    /// Bytes that are kept until their record has come.
    pub fn bytes_kept(&self) -> usize {
        self.rest.len()
    }

    /// The next record that is whole; with `is_all`, when the body has ended, the last one too.
    pub fn next(&mut self, is_all: bool) -> Option<Next> {
        match self.split {
            Split::Json => self.next_json(is_all),
            Split::Lines => Some(self.next_line(is_all)?.map(Item::of_value)),
            Split::NdJson => loop {
                let line = match self.next_line(is_all)? {
                    Ok(line) => line,
                    Err(malformed) => return Some(Err(malformed)),
                };
                if !line.trim_ascii().is_empty() {
                    return Some(object(&line));
                }
            },
        }
    }

    fn next_line(&mut self, is_all: bool) -> Option<Result<Bytes, Malformed>> {
        let found = memchr::memchr(b'\n', &self.rest[self.looked_at..]);
        let Some(found) = found else {
            self.looked_at = self.rest.len();
            if self.rest.len() > self.limit {
                return Some(Err(self.too_large()));
            }
            if !is_all || self.rest.is_empty() {
                return None;
            }
            self.looked_at = 0;
            return Some(Ok(self.rest.split().freeze()));
        };
        let end = self.looked_at + found;
        if end > self.limit {
            return Some(Err(self.too_large()));
        }
        self.looked_at = 0;
        let line = self.rest.split_to(end + 1).freeze();
        Some(Ok(line.slice(..end)))
    }

    fn next_json(&mut self, is_all: bool) -> Option<Next> {
        let blank = self
            .rest
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace());
        let blank = blank.count();
        let _ = self.rest.split_to(blank);
        // To begin again with each piece of a large value would take the square of its size.
        let is_worth_it = is_all || self.rest.len() >= 2 * self.looked_at;
        if self.rest.is_empty() || !is_worth_it {
            return None;
        }
        let mut values = serde_json::Deserializer::from_slice(&self.rest).into_iter::<&RawValue>();
        let next = values.next()?;
        let end = values.byte_offset();
        match next {
            Ok(_) if end > self.limit => Some(Err(self.too_large())),
            // A number may go on in what has not come yet.
            Ok(_) if end == self.rest.len() && !is_all && !is_closed(&self.rest) => {
                self.looked_at = end;
                None
            }
            Ok(_) => {
                self.looked_at = 0;
                Some(Ok(Item::of_value(self.rest.split_to(end).freeze())))
            }
            Err(error) if error.is_eof() && !is_all => {
                self.looked_at = self.rest.len();
                (self.rest.len() > self.limit).then(|| Err(self.too_large()))
            }
            Err(error) => {
                let why = format!("this is no JSON: {error}");
                Some(Err(self.end(why)))
            }
        }
    }

    fn too_large(&mut self) -> Malformed {
        self.end(format!("it has more than {} bytes", self.limit))
    }

    fn end(&mut self, why: String) -> Malformed {
        self.rest.clear();
        self.looked_at = 0;
        self.is_over = true;
        Malformed { why, is_end: true }
    }
}

/// Whether nothing that follows can belong to the JSON value that this ends with.
fn is_closed(json: &[u8]) -> bool {
    matches!(json.last(), Some(b'}' | b']' | b'"'))
}

/// A record as a line of NDJSON has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: BTreeMap<String, Option<&'a RawValue>>,
    partition: Option<i32>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    /// Where a record that was read came from; it gets another.
    #[serde(rename = "offset")]
    _offset: Option<i64>,
}

fn object(line: &[u8]) -> Next {
    let malformed = |why: String| Malformed { why, is_end: false };
    let object: Object<'_> = serde_json::from_slice(line)
        .map_err(|error| malformed(format!("this is no record: {error}")))?;
    let moment = |raw: &RawValue| -> Option<i64> {
        let text: Result<String, _> = serde_json::from_str(raw.get());
        query::moment(text.as_deref().unwrap_or(raw.get()))
    };
    let timestamp_ms = match object.timestamp {
        Some(raw) => {
            Some(moment(raw).ok_or_else(|| malformed("its timestamp is no time".to_owned()))?)
        }
        None => None,
    };
    let part = |raw: Option<&RawValue>| raw.map(bytes_of).transpose().map(Option::flatten);
    let headers = object.headers.into_iter().map(|(name, raw)| {
        let value = part(raw)?;
        Ok((Bytes::from(name), value))
    });
    Ok(Item {
        key: part(object.key).map_err(&malformed)?,
        value: part(object.value).map_err(&malformed)?,
        headers: headers.collect::<Result<_, _>>().map_err(&malformed)?,
        partition: object.partition,
        timestamp_ms,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

/// What JSON says in place of bytes: text for itself, `{"base64": …}` for what that encodes, null for nothing, any
/// other value for how it is written.
fn bytes_of(raw: &RawValue) -> Result<Option<Bytes>, String> {
    let json = raw.get();
    match json.as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
            return Ok(Some(text.into()));
        }
        Some(b'{') => {
            if let Ok(Base64 { base64 }) = serde_json::from_str(json) {
                let bytes = BASE64.decode(base64);
                let bytes = bytes.map_err(|error| format!("its base64 cannot be read: {error}"))?;
                return Ok(Some(bytes.into()));
            }
        }
        _ => {}
    }
    Ok(Some(Bytes::copy_from_slice(json.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All records of a body that comes in pieces of `step` bytes.
    fn all(split: Split, body: &str, step: usize) -> Vec<Next> {
        let mut splitter = Splitter::new(split, 50);
        let mut found = Vec::new();
        for piece in body.as_bytes().chunks(step) {
            splitter.push(piece);
            while let Some(next) = splitter.next(false) {
                found.push(next);
            }
        }
        while let Some(next) = splitter.next(true) {
            found.push(next);
        }
        found
    }

    fn values(split: Split, body: &str) -> Vec<String> {
        let found = all(split, body, body.len().max(1));
        for step in 1..body.len() {
            assert_eq!(all(split, body, step), found, "in pieces of {step}");
        }
        let value = |next: &Next| match next {
            Ok(item) => String::from_utf8(item.value.clone().unwrap_or_default().to_vec()).unwrap(),
            Err(malformed) => format!("! {}", malformed.is_end),
        };
        found.iter().map(value).collect()
    }

    #[test]
    fn lines_are_records_however_they_come() {
        assert_eq!(values(Split::Lines, "a\n\nbc"), ["a", "", "bc"]);
        assert_eq!(values(Split::Lines, "a\n"), ["a"]);
        assert_eq!(values(Split::Lines, "\n"), [""]);
        assert!(values(Split::Lines, "").is_empty());
        let long = format!("a\n{}\nb", "x".repeat(51));
        assert_eq!(
            values(Split::Lines, &long),
            ["a", "! true"],
            "in one piece too"
        );
        let long = "x".repeat(51);
        assert_eq!(all(Split::Lines, &long, 51).len(), 1);
        assert!(
            all(Split::Lines, &long, 51)[0]
                .as_ref()
                .is_err_and(|bad| bad.is_end)
        );
    }

    #[test]
    fn json_values_are_records_as_they_stand() {
        let body = "{\"a\": [1,\n2]} \"x\\\"y\" 17 null\n[]";
        let expected = ["{\"a\": [1,\n2]}", "\"x\\\"y\"", "17", "null", "[]"];
        assert_eq!(values(Split::Json, body), expected);
        assert_eq!(values(Split::Json, "12 34"), ["12", "34"]);
        assert_eq!(values(Split::Json, "1 x 2"), ["1", "! true"]);
        assert_eq!(values(Split::Json, "{} {\"a\":"), ["{}", "! true"]);
        assert!(values(Split::Json, " \n").is_empty());
        let number = "1".repeat(60);
        assert_eq!(
            values(Split::Json, &number),
            ["! true"],
            "a number without an end"
        );
    }

    #[test]
    fn objects_say_all_of_a_record() {
        let line = r#"{"key":"k","value":{"a":1},"headers":{"h":"x","n":null},"partition":2,"timestamp":5,"offset":9}"#;
        let item = object(line.as_bytes()).unwrap();
        let expected = Item {
            key: Some("k".into()),
            value: Some(r#"{"a":1}"#.into()),
            headers: vec![("h".into(), Some("x".into())), ("n".into(), None)],
            partition: Some(2),
            timestamp_ms: Some(5),
        };
        assert_eq!(item, expected);
        let item =
            object(br#"{"value":{"base64":"AP8="},"timestamp":"1970-01-01T00:00:01Z"}"#).unwrap();
        assert_eq!(item.value, Some(Bytes::from_static(b"\x00\xff")));
        assert_eq!(item.timestamp_ms, Some(1_000));
        assert_eq!(object(br#"{"key":"k","value":null}"#).unwrap().value, None);
        assert_eq!(
            object(br#"{"value":"a\nb"}"#).unwrap().value,
            Some("a\nb".into())
        );
        for wrong in [
            "7",
            "{",
            r#"{"wat":1}"#,
            r#"{"value":{"base64":"?"}}"#,
            r#"{"timestamp":"soon"}"#,
        ] {
            assert!(
                object(wrong.as_bytes()).is_err_and(|bad| !bad.is_end),
                "{wrong}"
            );
        }
        let body = "{\"value\":1}\n\n nope \n{\"value\":2}";
        assert_eq!(values(Split::NdJson, body), ["1", "! false", "2"]);
    }
}
