//! Lines of standard input or of files, read by a thread of its own so that a slow reader or a slow
//! broker never holds up the other.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 * 1024;
/// The longest line taken, in bytes: no broker takes a longer request by default.
const LINE_BYTES_MAX: usize = 100 << 20;
/// Blocks that wait to be sent.
const BLOCKS_WAITING: usize = 8;

/// Consecutive lines of one input, without their newlines.
#[derive(Debug)]
pub struct Block {
    /// The file's name, or `standard input`.
    pub source: Arc<str>,
    /// The number of the first line, from 1.
    pub first_line: u64,
    /// The lines: at least one.
    pub lines: Vec<Bytes>,
}

/// Starts reading `files` one after the other (standard input if there are none, or where one is
/// `-`). The channel ends after the last line, or after the first error.
pub fn read(files: Vec<PathBuf>) -> io::Result<Receiver<anyhow::Result<Block>>> {
    let (sender, receiver) = sync_channel(BLOCKS_WAITING);
    let files = if files.is_empty() {
        vec![PathBuf::from("-")]
    } else {
        files
    };
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            for file in files {
                if let Err(error) = read_file(&file, &sender) {
                    // The other side may have failed already.
                    let _ = sender.send(Err(error));
                    return;
                }
            }
        })?;
    Ok(receiver)
}

type Blocks = SyncSender<anyhow::Result<Block>>;

fn read_file(path: &Path, blocks: &Blocks) -> anyhow::Result<()> {
    let (input, source): (Box<dyn Read>, _) = if path.as_os_str() == "-" {
        (Box::new(io::stdin().lock()), "standard input".to_owned())
    } else {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        (Box::new(file), path.display().to_string())
    };
    read_lines(input, &source, READ_BYTES, |block| {
        blocks.send(Ok(block)).is_ok()
    })
}

/// Hands on the lines of `input` as they come, until `sink` returns false. A last line without a
/// newline counts.
fn read_lines(
    mut input: impl Read,
    source: &str,
    read_bytes: usize,
    mut sink: impl FnMut(Block) -> bool,
) -> anyhow::Result<()> {
    let source: Arc<str> = source.into();
    let mut line = 1;
    let mut buffer = BytesMut::new();
    loop {
        let scanned = buffer.len();
        let read = read_some(&mut input, &mut buffer, read_bytes)
            .with_context(|| format!("cannot read {source}"))?;
        let complete = match read {
            0 => buffer.len(),
            _ => buffer[scanned..]
                .iter()
                .rposition(|&b| b == b'\n')
                .map_or(0, |at| scanned + at + 1),
        };
        if complete > 0 {
            let lines = split_lines(&buffer.split_to(complete).freeze());
            let first_line = line;
            line += lines.len() as u64;
            if !sink(Block {
                source: source.clone(),
                first_line,
                lines,
            }) {
                return Ok(());
            }
        }
        if buffer.len() > LINE_BYTES_MAX {
            bail!(
                "line {line} of {source} is longer than {LINE_BYTES_MAX} bytes: nothing was sent of it"
            );
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Appends what one read gives (0 bytes: the end).
fn read_some(input: &mut impl Read, buffer: &mut BytesMut, bytes: usize) -> io::Result<usize> {
    let start = buffer.len();
    buffer.resize(start + bytes, 0);
    let result = loop {
        match input.read(&mut buffer[start..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result,
        }
    };
    buffer.truncate(start + result.as_ref().copied().unwrap_or(0));
    result
}

fn split_lines(data: &Bytes) -> Vec<Bytes> {
    let text = data.strip_suffix(b"\n").unwrap_or(data);
    text.split(|&byte| byte == b'\n')
        .map(|line| data.slice_ref(line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Block, read_lines};

    fn lines_of(text: &str, read_bytes: usize) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        let sink = |block: Block| {
            for (at, line) in block.lines.iter().enumerate() {
                all.push((
                    block.first_line + at as u64,
                    String::from_utf8_lossy(line).into_owned(),
                ));
            }
            true
        };
        read_lines(text.as_bytes(), "test", read_bytes, sink).expect("reads");
        all
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        for read_bytes in 1..12 {
            let lines = lines_of("one\n\nthree\r\nfour", read_bytes);
            let expected = [(1, "one"), (2, ""), (3, "three\r"), (4, "four")];
            assert_eq!(
                lines,
                expected.map(|(n, line)| (n, line.to_owned())),
                "{read_bytes}"
            );
        }
    }

    #[test]
    fn an_empty_input_has_no_lines_and_a_newline_has_one() {
        assert!(lines_of("", 4).is_empty());
        assert_eq!(lines_of("\n", 4), [(1, String::new())]);
        assert_eq!(
            lines_of("\n\n", 1),
            [(1, String::new()), (2, String::new())]
        );
    }

    #[test]
    fn reading_stops_when_nobody_listens() {
        let mut seen = 0;
        let text = "a\n".repeat(100);
        read_lines(text.as_bytes(), "test", 2, |_| {
            seen += 1;
            seen < 3
        })
        .expect("stops");
        assert_eq!(seen, 3);
    }
}
