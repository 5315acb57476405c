//! The two walks as docs/architecture.md lists them: function by function, each in its file.

use super::Files;
use super::source::Source;
use std::collections::BTreeSet;

/// A walk: how its table begins, and the most functions and files that it may have.
pub struct Walk {
    pub heading: &'static str,
    pub functions_max: usize,
    pub files_max: usize,
}

pub const WALKS: [Walk; 2] = [
    Walk {
        heading: "| Produce in | Functions |",
        functions_max: 30,
        files_max: 10,
    },
    Walk {
        heading: "| Fetch | Functions |",
        functions_max: 25,
        files_max: 9,
    },
];

/// Which rows of a walk's table in `page` are wrong.
pub fn wrong(walk: &Walk, page: &str, files: &Files) -> Vec<String> {
    let rows = rows(walk, page);
    let functions: usize = rows.iter().map(|(_, names)| names.len()).sum();
    let distinct: BTreeSet<&str> = rows.iter().map(|(path, _)| *path).collect();
    let mut wrong = Vec::new();
    if functions == 0 || functions > walk.functions_max || distinct.len() > walk.files_max {
        wrong.push(format!(
            "{}: {functions} functions in {} files",
            walk.heading,
            distinct.len()
        ));
    }
    for (path, names) in rows {
        let Some(text) = files.get(&format!("src/{path}")) else {
            wrong.push(format!("{path} is no file"));
            continue;
        };
        let source = Source::new(text);
        for name in names {
            let is_there = source.words(name).into_iter().any(|at| {
                let before = source.code[..at].trim_end();
                before.ends_with("fn")
            });
            if !is_there {
                wrong.push(format!("{path} has no function {name}"));
            }
        }
    }
    wrong
}

/// The files of a walk's table, each with the functions that stand before what is said about them: those
/// in parentheses or after a colon are not of the walk.
fn rows<'a>(walk: &Walk, page: &'a str) -> Vec<(&'a str, Vec<&'a str>)> {
    let lines = page.lines().skip_while(|line| *line != walk.heading);
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let path = cells.next()?.trim_matches('`');
        Some((path, functions(cells.next()?)))
    })
    .collect()
}

fn functions(cell: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut depth = 0;
    for (at, part) in cell.split('`').enumerate() {
        if at % 2 == 1 {
            if depth == 0 {
                names.push(part.rsplit("::").next().unwrap_or(part));
            }
            continue;
        }
        depth += part.matches('(').count();
        depth -= part.matches(')').count().min(depth);
    }
    names
}
