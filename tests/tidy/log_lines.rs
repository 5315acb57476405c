//! The table of log lines in docs/operating.md against the source: every warning and error of the broker is in
//! it, and every line in it is one that the broker can write.

use super::source::Source;
use super::{assert_none, read, sources};

const PAGE: &str = "docs/operating.md";
/// The table's place on the page.
const HEADING: &str = "\n## What it says while it runs\n";
/// Not in a release: tests ask for these.
const FOR_TESTS: &str = "src/io/fault/";
/// Where the table leaves out the rest of a line.
const MORE: char = '…';

#[test]
fn every_warning_and_error_is_explained_and_nothing_else() {
    let files = sources();
    let broker = files
        .iter()
        .filter(|(path, _)| !path.starts_with(FOR_TESTS));
    let lines: Vec<Line> = broker
        .flat_map(|(path, text)| log_lines(path, text))
        .collect();
    assert!(!lines.is_empty(), "no log lines found");
    let table = table(&read(PAGE));
    assert_none(nameless(&lines));
    assert_none(unexplained(&lines, &table));
    assert_none(unknown(&lines, &table));
}

/// A place in the source that writes to the log.
#[derive(Debug, PartialEq)]
struct Line {
    place: String,
    /// `info` lines may be in the table; warnings and errors must.
    is_info: bool,
    /// As in the source; what it fills in stands in braces.
    message: String,
}

impl Line {
    /// Up to what it fills in.
    fn beginning(&self) -> &str {
        self.message.split('{').next().unwrap_or_default()
    }
}

fn log_lines(path: &str, text: &str) -> Vec<Line> {
    let source = Source::new(text);
    let mut lines = Vec::new();
    for level in ["info", "warn", "error"] {
        for at in source.words(level) {
            let rest = &source.code[at + level.len()..];
            if !source.code[..at].ends_with("tracing::") || !rest.starts_with("!(") {
                continue;
            }
            let end = at + level.len() + closing(&rest[1..]);
            let mut strings = source.strings.iter();
            // Fields come before the message.
            let message = strings.rfind(|(place, _)| (at..end).contains(place));
            lines.push(Line {
                place: format!("{path}:{}", source.line(at)),
                is_info: level == "info",
                message: message.map_or(String::new(), |(_, text)| joined(text)),
            });
        }
    }
    lines
}

/// Where the parenthesis closes that `code` begins with.
fn closing(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return at,
            ')' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// A string literal without the line ends that a backslash hides.
fn joined(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

/// The lines in the first column, without their quotes.
fn table(page: &str) -> Vec<String> {
    let Some((_, section)) = page.split_once(HEADING) else {
        return Vec::new();
    };
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells.flat_map(quoted).collect()
}

fn quoted(cell: &str) -> Vec<String> {
    let mut parts = cell.split('`').skip(1).step_by(2);
    parts.by_ref().map(str::to_owned).collect()
}

/// Lines that nobody can search for: they begin with something that is filled in.
fn nameless(lines: &[Line]) -> Vec<String> {
    let nameless = lines
        .iter()
        .filter(|line| line.beginning().trim().is_empty());
    nameless
        .map(|line| {
            format!(
                "{}: {:?} does not begin with words",
                line.place, line.message
            )
        })
        .collect()
}

fn unexplained(lines: &[Line], table: &[String]) -> Vec<String> {
    let missing = lines
        .iter()
        .filter(|line| !line.is_info && !table.iter().any(|entry| is_of(entry, line)));
    missing
        .map(|line| format!("{}: {PAGE} does not have {:?}", line.place, line.message))
        .collect()
}

fn unknown(lines: &[Line], table: &[String]) -> Vec<String> {
    let unknown = table
        .iter()
        .filter(|entry| !lines.iter().any(|line| is_of(entry, line)));
    unknown
        .map(|entry| format!("{PAGE}: no line reads {entry:?}"))
        .collect()
}

/// Whether a line of the table is this line: the same words up to where one of them leaves something open.
fn is_of(entry: &str, line: &Line) -> bool {
    match entry.split_once(MORE) {
        Some((words, _)) => !words.is_empty() && line.message.starts_with(words.trim_end()),
        None => line.message == entry,
    }
}

// ---- that the rule can fail ----

const SOURCE: &str = r#"
fn f() {
    tracing::warn!(dir = %d.display(), "a file is \
        gone");
    tracing::error!(name = "x", kept_back, "no room: {why}");
    tracing::info!("stopping");
    warn!("not ours"); // tracing::warn!("in a comment")
}
"#;

fn page(rows: &str) -> String {
    format!(
        "# Operating\n\n| `elsewhere` | x |\n{HEADING}\n| Line | Means |\n|---|---|\n{rows}\n\n## Limits\n\n| `later` | x |\n"
    )
}

#[test]
fn log_lines_are_found_with_their_messages() {
    let lines = log_lines("src/a.rs", SOURCE);
    let found: Vec<_> = lines
        .iter()
        .map(|line| (&*line.place, line.is_info, &*line.message))
        .collect();
    assert_eq!(
        found,
        [
            ("src/a.rs:6", true, "stopping"),
            ("src/a.rs:3", false, "a file is gone"),
            ("src/a.rs:5", false, "no room: {why}"),
        ]
    );
}

#[test]
fn a_line_without_a_row_and_a_row_without_a_line_are_found() {
    let lines = log_lines("src/a.rs", SOURCE);
    let sound = table(&page(
        "| `a file is gone` | x |\n| `no room: …`, `stopping` | x |",
    ));
    assert_eq!(sound, ["a file is gone", "no room: …", "stopping"]);
    assert!(unexplained(&lines, &sound).is_empty() && unknown(&lines, &sound).is_empty());
    let stale = table(&page("| `a file is gone …` | x |\n| `no space: …` | x |"));
    assert_eq!(unexplained(&lines, &stale).len(), 1, "no room");
    assert_eq!(unknown(&lines, &stale).len(), 1, "no space");
    let short = table(&page(
        "| `a file` | without the dots that say that more follows |",
    ));
    assert_eq!(unknown(&lines, &short).len(), 1);
    let empty = table(&page(
        "| `… is gone` | a line is found by its first words |",
    ));
    assert_eq!(unknown(&lines, &empty).len(), 1);
    assert!(table("# A page without the table").is_empty());
}

#[test]
fn a_line_that_begins_with_something_filled_in_is_found() {
    let lines = log_lines(
        "src/a.rs",
        "fn f() { tracing::warn!(\"{what} failed\"); tracing::warn!(%x); }",
    );
    assert_eq!(nameless(&lines).len(), 2);
}
