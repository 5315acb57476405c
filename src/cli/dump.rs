//! `millstream dump`: what is inside the broker's files.

mod caches;
mod journal;
mod segment;

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::cli::output::{AlreadyTold, Output};
use crate::engine::{catalog_log, replay};
use crate::log::checkpoint;

/// `millstream dump …`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What a file is, is told by its name: a segment (*.log, Kafka's own too), a segment's index (*.index), \
a partition's checkpoint, a journal (*.journal), or the catalog (catalog.log). The exit status is 1 when something in it is \
not sound. A file that a broker writes at the same time may look unsound at its end.")]
pub struct Args {
    /// The files to print
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    /// Print the records of segments' batches too
    #[arg(long)]
    records: bool,
    /// Begin with the batch that holds this offset
    #[arg(
        long,
        value_name = "OFFSET",
        default_value_t = 0,
        hide_default_value = true
    )]
    from: i64,
    /// Stop after this many batches or entries of a file; with --records, records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
}

/// Prints files.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut dump = Dump {
        out: Output::new(),
        json: args.json,
        records: args.records,
        from: args.from,
        left: 0,
        sound: true,
        path: PathBuf::new(),
    };
    let result = args.files.iter().try_for_each(|path| {
        dump.left = args.max.unwrap_or(u64::MAX);
        dump.path = path.clone();
        dump.file(path)
    });
    let flushed = dump.out.flush();
    result.and(flushed)?;
    if dump.sound {
        Ok(())
    } else {
        Err(AlreadyTold.into())
    }
}

/// Where the printing is.
struct Dump {
    out: Output,
    json: bool,
    records: bool,
    from: i64,
    /// How much more of this file to print.
    left: u64,
    /// Nothing unsound was found so far.
    sound: bool,
    path: PathBuf,
}

impl Dump {
    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let name = path.file_name().unwrap_or_default();
        let extension = path.extension().unwrap_or_default();
        if name == catalog_log::FILE_NAME {
            caches::catalog(self, path)
        } else if name == checkpoint::FILE_NAME {
            caches::checkpoint(self, path)
        } else if extension == "log" {
            segment::dump(self, path)
        } else if extension == "index" {
            caches::index(self, path)
        } else if extension == replay::EXTENSION {
            journal::journal(self, path)
        } else {
            bail!(
                "{}: no file of this name can be printed; segments (.log), indexes (.index), \
                 journals (.journal), checkpoint and catalog.log can",
                path.display()
            )
        }
    }

    /// The line that says which file follows.
    fn title(&mut self, what: &str) -> anyhow::Result<()> {
        let title = format!("{}: {what}", self.path.display());
        self.text(&title)
    }

    /// A line for people.
    fn text(&mut self, line: &str) -> anyhow::Result<()> {
        if self.json {
            Ok(())
        } else {
            self.out.line(line.trim_end())
        }
    }

    /// An object for programs: `fields` behind its type and file.
    fn object(&mut self, kind: &str, fields: Value) -> anyhow::Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut object = Map::new();
        object.insert("type".into(), json!(kind));
        object.insert("file".into(), json!(self.path.to_string_lossy()));
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        self.out.line(&Value::Object(object).to_string())
    }

    /// Both: a line for people, an object for programs.
    fn both(&mut self, line: &str, kind: &str, fields: Value) -> anyhow::Result<()> {
        self.text(line)?;
        self.object(kind, fields)
    }

    /// Bytes that are not sound.
    fn garbage(&mut self, at: usize, bytes: usize, line: &str, why: &str) -> anyhow::Result<()> {
        self.sound = false;
        let fields = json!({ "position": at, "bytes": bytes, "reason": why });
        self.both(
            &format!("{at:>8}  {bytes} bytes {line}: {why}"),
            "garbage",
            fields,
        )
    }

    /// Takes note that a piece was printed; false when it was the last one asked for.
    fn count(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }
}

/// A time (ms) for people.
fn time(timestamp_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(timestamp_ms) {
        Ok(time) if timestamp_ms != -1 => format!("{time:.3}"),
        _ => "-".to_owned(),
    }
}

/// Bytes for people: text as it is, other bytes and control characters escaped.
fn readable(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    let mut text = String::from('"');
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(char::escape_debug));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::{readable, time};

    #[test]
    fn bytes_that_are_no_text_are_escaped_and_text_is_not() {
        assert_eq!(readable(None), "null");
        assert_eq!(readable(Some(b"")), "\"\"");
        assert_eq!(readable(Some("grüß\n\"x\"".as_bytes())), r#""grüß\n\"x\"""#);
        assert_eq!(readable(Some(b"a\xff\x00b")), r#""a\xff\0b""#);
    }

    #[test]
    fn times_have_milliseconds_and_none_is_a_dash() {
        assert_eq!(time(1_700_000_000_000), "2023-11-14T22:13:20.000Z");
        assert_eq!(time(-1), "-");
        assert_eq!(time(i64::MAX), "-");
    }
}
