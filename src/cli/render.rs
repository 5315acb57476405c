//! Records as text: plain, or a JSON object a line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cli::format;
use crate::log::records::Record;

type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// How records are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// `[headers TAB][key SEPARATOR]value`, raw bytes.
    Plain {
        /// Print keys, with this behind them.
        key_separator: Option<String>,
        /// Print headers, with a tab behind them.
        headers: bool,
    },
    /// One JSON object a line.
    Json,
    /// What `-f` says, and nothing else.
    Custom(format::Format),
}

/// Appends `record` to `out`, and a newline unless the user says how it is to look.
pub fn render(
    out: &mut Vec<u8>,
    format: &Format,
    topic: &str,
    partition: i32,
    record: &Record<'_>,
) {
    match format {
        Format::Custom(format) => return format.render(out, topic, partition, record),
        Format::Json => {
            out.extend_from_slice(json_of(topic, partition, record).to_string().as_bytes());
        }
        Format::Plain {
            key_separator,
            headers,
        } => {
            if *headers {
                format::put_headers(out, &record.headers);
                out.push(b'\t');
            }
            if let Some(separator) = key_separator {
                out.extend_from_slice(record.key.unwrap_or_default());
                out.extend_from_slice(separator.as_bytes());
            }
            out.extend_from_slice(record.value.unwrap_or_default());
        }
    }
    out.push(b'\n');
}

fn json_of(topic: &str, partition: i32, record: &Record<'_>) -> Value {
    let mut object = json!({ "topic": topic, "partition": partition });
    put_record(&mut object, record);
    object
}

/// A record's own fields.
pub fn put_record(object: &mut Value, record: &Record<'_>) {
    object["offset"] = json!(record.offset);
    object["timestamp"] = json!(record.timestamp);
    put_bytes(object, "key", record.key);
    put_bytes(object, "value", record.value);
    object["headers"] = record.headers.iter().map(json_header).collect();
}

fn json_header((key, value): &Header<'_>) -> Value {
    let mut object = json!({});
    put_bytes(&mut object, "key", Some(key));
    put_bytes(&mut object, "value", *value);
    object
}

/// Text as `name`; bytes that are not UTF-8 in base64 as `name_base64`; null as null.
fn put_bytes(object: &mut Value, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object[name] = Value::Null,
        Some(Ok(text)) => object[name] = json!(text),
        Some(Err(bytes)) => object[format!("{name}_base64")] = json!(STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, render};
    use crate::log::records::{Headers, Record};
    use smallvec::smallvec;

    fn rendered(format: &Format, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        render(&mut out, format, "t", 2, record);
        String::from_utf8(out).expect("text")
    }

    fn sample() -> Record<'static> {
        Record {
            offset: 7,
            timestamp: 1_700_000_000_000,
            key: Some(b"k"),
            value: Some(b"say \"hi\"\n"),
            headers: smallvec![(&b"a"[..], Some(&b"1"[..])), (&b"a"[..], None)],
        }
    }

    #[test]
    fn json_has_everything_in_one_line() {
        assert_eq!(
            rendered(&Format::Json, &sample()),
            "{\"topic\":\"t\",\"partition\":2,\"offset\":7,\"timestamp\":1700000000000,\
             \"key\":\"k\",\"value\":\"say \\\"hi\\\"\\n\",\
             \"headers\":[{\"key\":\"a\",\"value\":\"1\"},{\"key\":\"a\",\"value\":null}]}\n"
        );
    }

    #[test]
    fn json_keeps_null_empty_and_binary_apart() {
        let mut record = Record {
            headers: Headers::new(),
            key: None,
            ..sample()
        };
        record.value = Some(b"");
        assert!(rendered(&Format::Json, &record).contains("\"key\":null,\"value\":\"\","));
        record.value = None;
        assert!(rendered(&Format::Json, &record).contains("\"value\":null,"));
        record.value = Some(&[0xff, 0x00]);
        assert!(
            rendered(&Format::Json, &record).contains("\"key\":null,\"value_base64\":\"/wA=\",")
        );
    }

    #[test]
    fn plain_output_is_the_value_unless_more_is_asked_for() {
        let record = Record {
            value: Some(b"v"),
            ..sample()
        };
        let plain = |key_separator: Option<&str>, headers| Format::Plain {
            key_separator: key_separator.map(str::to_owned),
            headers,
        };
        assert_eq!(rendered(&plain(None, false), &record), "v\n");
        assert_eq!(rendered(&plain(Some("::"), false), &record), "k::v\n");
        assert_eq!(rendered(&plain(Some(":"), true), &record), "a=1,a=\tk:v\n");
    }
}
