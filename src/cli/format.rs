//! `-f FORMAT`: how a record is written as text, and how a line of text is read as a record.

use crate::client::records::Header;
use crate::log::records::Record;
use bytes::Bytes;
use std::io::Write;
use std::str::FromStr;

/// What `--help` says of it.
pub const HELP: &str = "\
FORMAT has %t topic, %p partition, %o offset, %k key, %v value, %h headers as key=value,key=value, %T \
timestamp in milliseconds since 1970, and %%, \\n, \\t, \\r, \\\\; all else stands for itself.";

/// A format as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Field(Field),
}

/// What stands behind a `%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Headers,
    Timestamp,
}

impl Field {
    fn of(letter: char) -> Option<Field> {
        Some(match letter {
            't' => Field::Topic,
            'p' => Field::Partition,
            'o' => Field::Offset,
            'k' => Field::Key,
            'v' => Field::Value,
            'h' => Field::Headers,
            'T' => Field::Timestamp,
            _ => return None,
        })
    }

    fn letter(self) -> char {
        match self {
            Field::Topic => 't',
            Field::Partition => 'p',
            Field::Offset => 'o',
            Field::Key => 'k',
            Field::Value => 'v',
            Field::Headers => 'h',
            Field::Timestamp => 'T',
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '%' => match letters.next() {
                    Some('%') => literal.push(b'%'),
                    after => {
                        let field = after
                            .and_then(Field::of)
                            .ok_or_else(|| unknown('%', after))?;
                        if !literal.is_empty() {
                            pieces.push(Piece::Text(std::mem::take(&mut literal)));
                        }
                        pieces.push(Piece::Field(field));
                    }
                },
                '\\' => {
                    let after = letters.next();
                    let byte = after.and_then(escaped);
                    literal.push(byte.ok_or_else(|| unknown('\\', after))?);
                }
                other => literal.extend(other.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        if pieces.is_empty() {
            return Err("it is empty".to_owned());
        }
        Ok(Format { pieces })
    }
}

fn escaped(letter: char) -> Option<u8> {
    Some(match letter {
        'n' => b'\n',
        't' => b'\t',
        'r' => b'\r',
        '\\' => b'\\',
        _ => return None,
    })
}

fn unknown(before: char, after: Option<char>) -> String {
    let after = after.map_or(String::new(), String::from);
    format!("`{before}{after}` is none of %t %p %o %k %v %h %T %% and \\n \\t \\r \\\\")
}

impl Format {
    /// Appends `record` to `out`: what the format says and nothing else.
    pub fn render(&self, out: &mut Vec<u8>, topic: &str, partition: i32, record: &Record<'_>) {
        // Writing to a vector does not fail.
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Field(Field::Topic) => out.extend_from_slice(topic.as_bytes()),
                Piece::Field(Field::Partition) => drop(write!(out, "{partition}")),
                Piece::Field(Field::Offset) => drop(write!(out, "{}", record.offset)),
                Piece::Field(Field::Timestamp) => drop(write!(out, "{}", record.timestamp)),
                Piece::Field(Field::Key) => out.extend_from_slice(record.key.unwrap_or_default()),
                Piece::Field(Field::Value) => {
                    out.extend_from_slice(record.value.unwrap_or_default());
                }
                Piece::Field(Field::Headers) => put_headers(out, &record.headers),
            }
        }
    }
}

/// Appends `k=v,k=v`.
pub fn put_headers(out: &mut Vec<u8>, headers: &[(&[u8], Option<&[u8]>)]) {
    for (at, (key, value)) in headers.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value.unwrap_or_default());
    }
}

/// A format by which lines can be read: each field ends where the text behind it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFormat {
    pieces: Vec<Piece>,
}

/// What a line said; what it did not say is left to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's value; empty if the format has none.
    pub value: Bytes,
    /// The record's own headers.
    pub headers: Vec<Header>,
    /// The partition that it is for.
    pub partition: Option<i32>,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl FromStr for LineFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LineFormat, String> {
        let Format { mut pieces } = text.parse()?;
        // The end of a line is not part of it: so what `consume -f` takes can be given here too.
        if let Some(Piece::Text(last)) = pieces.last_mut()
            && last.last() == Some(&b'\n')
        {
            last.pop();
            if last.is_empty() {
                pieces.pop();
            }
        }
        let mut seen = Vec::new();
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) if text.contains(&b'\n') => {
                    return Err("a line has no \\n in it".to_owned());
                }
                Piece::Text(_) => {}
                Piece::Field(field @ (Field::Topic | Field::Offset)) => {
                    let letter = field.letter();
                    return Err(format!(
                        "%{letter} cannot be chosen for a record to be written"
                    ));
                }
                Piece::Field(field) if seen.contains(field) => {
                    return Err(format!("%{} is there twice", field.letter()));
                }
                Piece::Field(field) => {
                    if let Some(Piece::Field(next)) = pieces.get(at + 1) {
                        let (one, other) = (field.letter(), next.letter());
                        return Err(format!(
                            "nothing tells where %{one} ends and %{other} begins"
                        ));
                    }
                    seen.push(*field);
                }
            }
        }
        if seen.is_empty() {
            return Err("it has no field".to_owned());
        }
        Ok(LineFormat { pieces })
    }
}

impl LineFormat {
    /// Whether lines have a key.
    pub fn has_key(&self) -> bool {
        self.has(Field::Key)
    }

    /// Whether lines say which partition they are for.
    pub fn has_partition(&self) -> bool {
        self.has(Field::Partition)
    }

    fn has(&self, field: Field) -> bool {
        self.pieces.contains(&Piece::Field(field))
    }

    /// Reads `line`; else what is wrong with it.
    pub fn read(&self, line: &Bytes) -> Result<Line, String> {
        let mut read = Line::default();
        let mut at = 0;
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) if line[at..].starts_with(text) => at += text.len(),
                Piece::Text(text) => return Err(without(text)),
                Piece::Field(field) => {
                    let end = match &self.pieces[index + 1..] {
                        // The last text is the line's end, whatever the field has in it.
                        [Piece::Text(text)] => {
                            let rest = line[at..].strip_suffix(&text[..]);
                            at + rest.ok_or_else(|| without(text))?.len()
                        }
                        [Piece::Text(text), ..] => {
                            let found = memchr::memmem::find(&line[at..], text);
                            at + found.ok_or_else(|| without(text))?
                        }
                        _ => line.len(),
                    };
                    read.put(*field, line.slice(at..end))?;
                    at = end;
                }
            }
        }
        if at < line.len() {
            let rest = String::from_utf8_lossy(&line[at..]);
            return Err(format!("has {rest:?} behind its end"));
        }
        Ok(read)
    }
}

impl Line {
    fn put(&mut self, field: Field, bytes: Bytes) -> Result<(), String> {
        match field {
            Field::Key => self.key = Some(bytes),
            Field::Value => self.value = bytes,
            Field::Headers => self.headers = headers(&bytes)?,
            Field::Partition => self.partition = Some(number(&bytes, "partition")?),
            Field::Timestamp => self.timestamp_ms = Some(number(&bytes, "timestamp")?),
            // A format that has them is refused.
            Field::Topic | Field::Offset => {}
        }
        Ok(())
    }
}

fn without(text: &[u8]) -> String {
    format!(
        "has no {:?} where the format has it",
        String::from_utf8_lossy(text)
    )
}

/// `k=v,k=v`.
fn headers(bytes: &Bytes) -> Result<Vec<Header>, String> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let header = |pair: &[u8]| {
        let wrong = || {
            format!(
                "has the header {:?} without a =",
                String::from_utf8_lossy(pair)
            )
        };
        let equals = memchr::memchr(b'=', pair).ok_or_else(wrong)?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        Ok((bytes.slice_ref(key), Some(bytes.slice_ref(value))))
    };
    bytes.split(|&byte| byte == b',').map(header).collect()
}

fn number<N: FromStr + PartialOrd + Default>(bytes: &[u8], what: &str) -> Result<N, String> {
    let number = str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok());
    let number = number.filter(|number| *number >= N::default());
    let wrong = || {
        format!(
            "has the {what} {:?}, which is no number",
            String::from_utf8_lossy(bytes)
        )
    };
    number.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    fn rendered(format: &str) -> String {
        let record = Record {
            offset: 7,
            timestamp: 1_700_000_000_000,
            key: Some(b"k"),
            value: None,
            headers: smallvec![(&b"a"[..], Some(&b"1"[..])), (&b"b"[..], None)],
        };
        let format: Format = format.parse().expect(format);
        let mut out = Vec::new();
        format.render(&mut out, "t", 2, &record);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_field_and_escape_is_written() {
        assert_eq!(
            rendered("%t/%p@%o\\t%k=%v[%h] %T 100%%\\r\\n\\\\é"),
            "t/2@7\tk=[a=1,b=] 1700000000000 100%\r\n\\é"
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for format in ["", "%x", "%", "\\q", "tail\\"] {
            assert!(format.parse::<Format>().is_err(), "{format}");
        }
        for format in ["%t %v", "%o", "%k%v", "%v %v", "text", "%k\\n%v"] {
            assert!(format.parse::<LineFormat>().is_err(), "{format}");
        }
    }

    #[test]
    fn a_line_is_read_as_it_would_be_written() {
        let read = |format: &str, line: &'static str| {
            let format: LineFormat = format.parse().expect(format);
            format.read(&Bytes::from(line))
        };
        let line = read("%p %T %h|%k\\t%v\\n", "3 1700 a=1,b=x=y|key\tv\talue").expect("reads");
        assert_eq!(line.partition, Some(3));
        assert_eq!(line.timestamp_ms, Some(1700));
        assert_eq!(line.key, Some("key".into()));
        assert_eq!(line.value, "v\talue");
        let headers = [("a", "1"), ("b", "x=y")];
        let headers = headers.map(|(key, value)| (key.into(), Some(value.into())));
        assert_eq!(line.headers, headers);

        assert_eq!(read("<%v>", "<a>").expect("reads").value, "a");
        assert_eq!(read("<%v>", "<a>b>").expect("reads").value, "a>b");
        assert_eq!(read("%k:%v", ":").expect("reads").key, Some("".into()));
        assert_eq!(read("%h:%v", ":v").expect("reads").headers, []);
        for (format, line) in [
            ("%k:%v", "no separator"),
            ("<%v>", "a>"),
            ("<%v>", "<a>b"),
            ("%p %v", "x y"),
            ("%p %v", "-1 y"),
            ("%h:%v", "a:v"),
        ] {
            assert!(read(format, line).is_err(), "{format} of {line}");
        }
    }
}
