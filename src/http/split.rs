//! A body of many records, taken apart as it comes.

use super::query;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

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
    /// What came last, behind `rest`. Records that are whole in it are slices of it.
    fresh: Bytes,
    /// The begin of a record that has not come whole.
    rest: BytesMut,
    /// JSON: bytes of `rest` in which there is no end of a record.
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
            fresh: Bytes::new(),
            rest: BytesMut::new(),
            looked_at: 0,
            limit,
            is_over: false,
        }
    }

    /// Adds what came.
    pub fn push(&mut self, data: Bytes) {
        if !self.is_over {
            self.keep_fresh();
            self.fresh = data;
        }
    }

    /// Bytes that are kept until their record has come.
    pub fn bytes_kept(&self) -> usize {
        self.rest.len() + self.fresh.len()
    }

    /// Puts what came last behind the begin of a record that came before.
    fn keep_fresh(&mut self) {
        self.rest.extend_from_slice(&self.fresh);
        self.fresh = Bytes::new();
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
        // In `rest` there is no newline.
        let Some(found) = memchr::memchr(b'\n', &self.fresh) else {
            self.keep_fresh();
            if self.rest.len() > self.limit {
                return Some(Err(self.too_large()));
            }
            let is_last = is_all && !self.rest.is_empty();
            return is_last.then(|| Ok(self.rest.split().freeze()));
        };
        if self.rest.len() + found > self.limit {
            return Some(Err(self.too_large()));
        }
        let line = self.fresh.split_to(found);
        self.fresh.advance(1);
        if self.rest.is_empty() {
            return Some(Ok(line));
        }
        self.rest.extend_from_slice(&line);
        Some(Ok(self.rest.split().freeze()))
    }

    fn next_json(&mut self, is_all: bool) -> Option<Next> {
        self.keep_fresh();
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
        self.fresh = Bytes::new();
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
    headers: Headers<'a>,
    partition: Option<i32>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    /// Where a record that was read came from; it gets another.
    #[serde(rename = "offset")]
    _offset: Option<i64>,
}

/// The headers of a record, in their order: a name may be there more than once.
#[derive(Default)]
struct Headers<'a>(Vec<(String, Option<&'a RawValue>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Headers<'a>, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'a> Visitor<'a> for HeadersVisitor {
    type Value = Headers<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of headers")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Headers<'a>, A::Error> {
        let mut headers = Vec::new();
        while let Some(header) = map.next_entry()? {
            headers.push(header);
        }
        Ok(Headers(headers))
    }
}

fn object(line: &Bytes) -> Next {
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
    let part = |raw: Option<&RawValue>| {
        let part = raw.map(|raw| bytes_of(line, raw));
        part.transpose().map(Option::flatten)
    };
    let headers = object.headers.0.into_iter().map(|(name, raw)| {
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
/// other value for how it is written. Where that stands in the line as it is, it is not copied.
fn bytes_of(line: &Bytes, raw: &RawValue) -> Result<Option<Bytes>, String> {
    let json = raw.get();
    match json.as_bytes().first() {
        Some(b'n') => return Ok(None),
        Some(b'"') => {
            let text = json
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'));
            if let Some(text) = text.filter(|text| memchr::memchr(b'\\', text.as_bytes()).is_none())
            {
                return Ok(Some(line.slice_ref(text.as_bytes())));
            }
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
    Ok(Some(line.slice_ref(json.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Next {
        object(&Bytes::copy_from_slice(line.as_bytes()))
    }

    /// All records of a body that comes in pieces of `step` bytes.
    fn all(split: Split, body: &str, step: usize) -> Vec<Next> {
        let mut splitter = Splitter::new(split, 50);
        let mut found = Vec::new();
        for piece in body.as_bytes().chunks(step) {
            splitter.push(Bytes::copy_from_slice(piece));
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
    fn a_record_has_its_headers_in_their_order_and_all_of_them() {
        let body = r#"{"value":"a\"b","headers":{"n":"1","m":null,"n":"2"}}"#;
        let mut splitter = Splitter::new(Split::NdJson, 1_000);
        splitter.push(Bytes::from(body));
        let item = splitter.next(true).unwrap().unwrap();
        let header = |name: &'static str, value| (Bytes::from(name), value);
        let value = |text: &'static str| Some(Bytes::from(text));
        let expected = [
            header("n", value("1")),
            header("m", None),
            header("n", value("2")),
        ];
        assert_eq!(item.headers, expected);
        assert_eq!(item.value, value("a\"b"));
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
        let item = parsed(line).unwrap();
        let expected = Item {
            key: Some("k".into()),
            value: Some(r#"{"a":1}"#.into()),
            headers: vec![("h".into(), Some("x".into())), ("n".into(), None)],
            partition: Some(2),
            timestamp_ms: Some(5),
        };
        assert_eq!(item, expected);
        let item =
            parsed(r#"{"value":{"base64":"AP8="},"timestamp":"1970-01-01T00:00:01Z"}"#).unwrap();
        assert_eq!(item.value, Some(Bytes::from_static(b"\x00\xff")));
        assert_eq!(item.timestamp_ms, Some(1_000));
        assert_eq!(parsed(r#"{"key":"k","value":null}"#).unwrap().value, None);
        assert_eq!(
            parsed(r#"{"value":"a\nb"}"#).unwrap().value,
            Some("a\nb".into())
        );
        for wrong in [
            "7",
            "{",
            r#"{"wat":1}"#,
            r#"{"value":{"base64":"?"}}"#,
            r#"{"timestamp":"soon"}"#,
        ] {
            assert!(parsed(wrong).is_err_and(|bad| !bad.is_end), "{wrong}");
        }
        let body = "{\"value\":1}\n\n nope \n{\"value\":2}";
        assert_eq!(values(Split::NdJson, body), ["1", "! false", "2"]);
    }
}
