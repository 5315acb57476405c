//! The house rules that a compiler does not know, held against the source tree. Each rule is a
//! function over text, and is shown to fail on made-up text below.

mod circles;
mod log_lines;
mod source;
mod walks;

use circles::circles;
use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The rooms from top to bottom. A room may use those below it and itself.
const ROOMS: &[&str] = &[
    "cli",
    "server",
    "client",
    "shard",
    "kafka",
    "http",
    "findings",
    "coordinator",
    "access",
    "engine",
    "log",
    "wire",
    "net",
    "io",
    "config",
];
/// Rooms that may use fewer than all below them: the client knows what goes over the wire (the messages that
/// `kafka` declares), and nothing else of the broker's.
const USES_ONLY: &[(&str, &[&str])] = &[("client", &["kafka", "log", "wire", "io", "config"])];
/// The only room that uses `anyhow`; the others have an error type each.
const ANYHOW_ROOM: &str = "cli";
/// Rooms on one floor: neither uses the other.
const APART: [&str; 2] = ["kafka", "http"];
/// The files above all rooms.
const TOP: &[&str] = &["src/main.rs", "src/lib.rs"];
/// The only room with `unsafe` and the reactor.
const IO: &str = "io";
/// The crates behind the reactor, which only `io` names: another can take their place.
const REACTOR: &[&str] = &["tokio_uring", "io_uring"];
/// The only room that prints.
const PRINTING_ROOM: &str = "cli";
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln"];
/// The only file that asks the wall clock; what is about timers must not jump with it.
const CLOCK: &str = "src/io/clock.rs";
/// What is left in by mistake.
const UNFINISHED: &[&str] = &["dbg", "todo", "unimplemented"];
const LINES_MAX: usize = 700;
/// Files that are longer: a group's state machine is read as one, against one table.
const ONE_IDEA: &[&str] = &["src/coordinator/groups/classic/group.rs"];

/// Rooms in which no file imports one that imports it.
const NO_CIRCLES: &[&str] = &[
    "kafka",
    "http",
    "findings",
    "coordinator",
    "access",
    "engine",
    "log",
    "wire",
    "net",
    "io",
    "config",
];
type Files = BTreeMap<String, String>;

#[test]
fn imports_point_down() {
    assert_none(sources().iter().flat_map(|(path, text)| upward(path, text)));
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let found = circles(&sources(), NO_CIRCLES);
    assert_none(
        found
            .iter()
            .map(|(a, b)| format!("{a} and {b} import each other")),
    );
}

#[test]
fn the_map_in_lib_rs_lists_the_rooms_from_top_to_bottom() {
    let files = sources();
    let lib = &files["src/lib.rs"];
    assert_eq!(rooms_on_the_map(lib), ROOMS);
    let declared: BTreeSet<String> = Source::new(lib).file_modules().into_iter().collect();
    let rooms: BTreeSet<String> = ROOMS.iter().map(|room| room.to_string()).collect();
    assert_eq!(declared, rooms);
}

#[test]
fn unsafe_stays_in_its_room() {
    assert_none(
        sources()
            .iter()
            .flat_map(|(path, text)| unsafe_outside(path, text)),
    );
}

#[test]
fn the_crate_behind_the_reactor_stays_in_its_room() {
    assert_none(
        sources()
            .iter()
            .flat_map(|(path, text)| reactor_outside(path, text)),
    );
}

#[test]
fn anyhow_stays_in_its_room() {
    assert_none(
        sources()
            .iter()
            .flat_map(|(path, text)| anyhow_outside(path, text)),
    );
}

#[test]
fn the_wall_clock_is_asked_in_one_place() {
    assert_none(
        sources()
            .iter()
            .flat_map(|(path, text)| wall_clocks(path, text)),
    );
}

#[test]
fn nothing_unfinished_is_left_in_and_only_the_command_line_prints() {
    assert_none(
        sources()
            .iter()
            .flat_map(|(path, text)| left_in(path, text)),
    );
}

#[test]
fn every_file_is_a_module_or_included() {
    assert_none(dead(&sources()));
}

#[test]
fn no_file_holds_too_much() {
    assert_none(
        sources()
            .iter()
            .filter_map(|(path, text)| too_long(path, text)),
    );
}

#[test]
fn the_walks_are_as_the_architecture_lists_them() {
    let (page, files) = (read("docs/architecture.md"), sources());
    let wrong = walks::WALKS.iter();
    assert_none(wrong.flat_map(|walk| walks::wrong(walk, &page, &files)));
}

#[test]
fn every_metric_is_explained() {
    let sources = [
        "src/http/metrics.rs",
        "src/engine/stats.rs",
        "src/net/counters.rs",
    ];
    let names = sources.iter().flat_map(|path| metric_names(&read(path)));
    let names: BTreeSet<String> = names.collect();
    assert!(!names.is_empty(), "no metrics found");
    assert_none(missing(&names, &read("docs/operating.md")));
}

// ---- the rules ----

/// Paths in `text` that lead to a room above the file's own.
fn upward(path: &str, text: &str) -> Vec<String> {
    if TOP.contains(&path) {
        return Vec::new();
    }
    let source = Source::new(text);
    let own = room_of(path);
    let Some(own_floor) = floor(own) else {
        return vec![format!("{path}: {own} is no room of the house")];
    };
    let mut paths = source.crate_paths();
    paths.extend(source.paths_above(depth_of(path)));
    let problem = |(at, name): (usize, String)| {
        let line = source.line(at);
        match floor(&name) {
            Some(_)
                if name != own && [own, name.as_str()].iter().all(|room| APART.contains(room)) =>
            {
                Some(format!("{path}:{line}: {own} reaches across to {name}"))
            }
            Some(floor) if floor < own_floor => {
                Some(format!("{path}:{line}: {own} reaches up to {name}"))
            }
            Some(_) if !may_use(own, &name) => {
                Some(format!("{path}:{line}: {own} is not to know {name}"))
            }
            Some(_) => None,
            None if source.code[at..].starts_with("super") => None,
            None => Some(format!("{path}:{line}: {name} is no room of the house")),
        }
    };
    paths.into_iter().filter_map(problem).collect()
}

fn may_use(room: &str, other: &str) -> bool {
    let restricted = USES_ONLY.iter().find(|(name, _)| *name == room);
    restricted.is_none_or(|(_, others)| room == other || others.contains(&other))
}

fn anyhow_outside(path: &str, text: &str) -> Vec<String> {
    if room_of(path) == ANYHOW_ROOM {
        return Vec::new();
    }
    let source = Source::new(text);
    let places = source.words("anyhow").into_iter();
    places
        .map(|at| format!("{path}:{}: anyhow outside {ANYHOW_ROOM}", source.line(at)))
        .collect()
}

fn unsafe_outside(path: &str, text: &str) -> Vec<String> {
    outside_io("unsafe", path, text)
}

fn reactor_outside(path: &str, text: &str) -> Vec<String> {
    let outside = |word: &&str| outside_io(word, path, text);
    REACTOR.iter().flat_map(outside).collect()
}

fn outside_io(word: &str, path: &str, text: &str) -> Vec<String> {
    if room_of(path) == IO {
        return Vec::new();
    }
    let source = Source::new(text);
    let places = source.words(word).into_iter();
    places
        .map(|at| format!("{path}:{}: {word} outside {IO}", source.line(at)))
        .collect()
}

fn wall_clocks(path: &str, text: &str) -> Vec<String> {
    if path == CLOCK {
        return Vec::new();
    }
    let source = Source::new(text);
    let mut problems = Vec::new();
    // Of the standard library, of the C library, and of the crates for dates.
    for name in [
        "SystemTime",
        "clock_gettime",
        "gettimeofday",
        "Zoned",
        "Utc",
    ] {
        for at in source.words(name) {
            problems.push(format!(
                "{path}:{}: {name} outside {CLOCK}",
                source.line(at)
            ));
        }
    }
    for at in source.words("Timestamp") {
        if source.code[at..].starts_with("Timestamp::now") {
            problems.push(format!(
                "{path}:{}: the time outside {CLOCK}",
                source.line(at)
            ));
        }
    }
    problems
}

fn left_in(path: &str, text: &str) -> Vec<String> {
    let source = Source::new(text);
    let may_print = room_of(path) == PRINTING_ROOM || path.ends_with("tests.rs");
    let printing = PRINTING.iter().filter(|_| !may_print);
    let mut problems = Vec::new();
    for name in UNFINISHED.iter().chain(printing) {
        for at in source.words(name) {
            if source.code[at + name.len()..].starts_with('!') {
                problems.push(format!("{path}:{}: {name}!", source.line(at)));
            }
        }
    }
    problems
}

/// Files that no `mod` and no `include_…!` leads to.
fn dead(files: &Files) -> Vec<String> {
    let mut alive = BTreeSet::new();
    let mut waiting: Vec<String> = TOP.iter().map(|path| path.to_string()).collect();
    while let Some(path) = waiting.pop() {
        let Some(text) = files.get(&path) else {
            continue;
        };
        let source = Source::new(text);
        let dir = module_dir(&path);
        for name in source.file_modules() {
            waiting.push(format!("{dir}/{name}.rs"));
            waiting.push(format!("{dir}/{name}/mod.rs"));
        }
        let beside = path.rsplit_once('/').map_or("", |(beside, _)| beside);
        let named = source.strings.iter();
        alive.extend(named.map(|(_, name)| format!("{beside}/{name}")));
        alive.insert(path);
    }
    let dead = files.keys().filter(|path| !alive.contains(*path));
    dead.map(|path| format!("{path}: nothing leads here"))
        .collect()
}

/// Tests may be long; what is one idea may be told why.
fn too_long(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let exempt = path.ends_with("tests.rs") || ONE_IDEA.contains(&path);
    (path.ends_with(".rs") && !exempt && lines > LINES_MAX)
        .then(|| format!("{path}: {lines} lines"))
}

/// The names of metric families among the strings of a file.
fn metric_names(text: &str) -> BTreeSet<String> {
    let is_name = |string: &String| {
        let is_ours = string.starts_with("millstream_") || string.starts_with("process_");
        is_ours
            && string
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    Source::new(text)
        .strings
        .into_iter()
        .map(|(_, string)| string)
        .filter(is_name)
        .collect()
}

/// The names that a page does not have as whole words.
fn missing(names: &BTreeSet<String>, page: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = page.split(|c| !is_part(c)).collect();
    let missing = names.iter().filter(|name| !words.contains(name.as_str()));
    missing
        .map(|name| format!("{name} is not explained"))
        .collect()
}

fn rooms_on_the_map(lib: &str) -> Vec<&str> {
    lib.lines()
        .filter_map(|line| line.strip_prefix("//! - `")?.split_once('`'))
        .map(|(room, _)| room)
        .collect()
}

// ---- places ----

/// `src/log/batch.rs` and `src/log.rs` are in `log`.
fn room_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let first = inside.split('/').next().unwrap_or(inside);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// How often a module says `super` to reach the root: once in `src/log/mod.rs`.
fn depth_of(path: &str) -> usize {
    path.matches('/').count() - usize::from(path.ends_with("/mod.rs"))
}

fn floor(room: &str) -> Option<usize> {
    ROOMS.iter().position(|name| *name == room)
}

/// Where the modules lie that a file declares.
fn module_dir(path: &str) -> &str {
    let is_root = TOP.contains(&path) || path.ends_with("/mod.rs");
    match is_root {
        true => path.rsplit_once('/').map_or("", |(dir, _)| dir),
        false => path.strip_suffix(".rs").unwrap_or(path),
    }
}

/// Every file under `src/`, by its path from the project's root.
fn sources() -> Files {
    let mut files = Files::new();
    let mut dirs = vec!["src".to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(root().join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{dir}/{}", entry.file_name().display());
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(path),
                false => drop(files.insert(path.clone(), read(&path))),
            }
        }
    }
    files
}

fn read(path: &str) -> String {
    let bytes = std::fs::read(root().join(path));
    let bytes = bytes.unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn assert_none(problems: impl IntoIterator<Item = String>) {
    let problems: Vec<String> = problems.into_iter().collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

// ---- that the rules can fail ----

#[test]
fn a_path_up_is_found_however_it_is_written() {
    for bad in [
        "use crate::engine::Engine;",
        "use crate::{io::file, engine::{Engine, log}};",
        "fn f() { crate::kafka::api::find(); }",
        "pub(in crate::server) fn f() {}",
        "use super::super::kafka;",
        "use crate::nowhere;",
    ] {
        let found = upward("src/log/segment.rs", &format!("// one\n{bad}\n"));
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
        assert!(found[0].starts_with("src/log/segment.rs:2: "), "{found:?}");
    }
    assert_eq!(
        upward("src/log/mod.rs", "use super::engine::Engine;").len(),
        1
    );
    assert_eq!(upward("src/attic/mod.rs", "").len(), 1);
    let known = "use crate::engine::Engine;\nuse crate::log::batch;";
    assert_eq!(upward("src/client/mod.rs", known).len(), 1);
}

#[test]
fn a_path_across_is_found_from_both_sides() {
    for (path, bad) in [
        ("src/kafka/data/produce.rs", "use crate::http::page;"),
        ("src/http/page.rs", "use crate::kafka::error::ErrorCode;"),
    ] {
        assert_eq!(upward(path, bad).len(), 1, "{path}: {bad}");
    }
    assert!(upward("src/http/page.rs", "use crate::http::metrics;").is_empty());
}

#[test]
fn a_path_down_or_within_the_room_is_fine() {
    for good in [
        "use crate::io::{self, file};",
        "use crate::{config, io, log::batch};",
        "use super::index;",
        "// use crate::engine;",
        "const S: &str = \"crate::engine\";",
        "use other_crate::engine;",
    ] {
        let found = upward("src/log/segment.rs", good);
        assert!(found.is_empty(), "{good}: {found:?}");
    }
    assert!(upward("src/main.rs", "use millstream::cli;").is_empty());
}

#[test]
fn files_that_import_each_other_are_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = Files::from([
        file("src/a/mod.rs", "mod b; mod c; use b::B; use c::C;"),
        file("src/a/b.rs", "use super::{A, c::{self, C}};"),
        file("src/a/c.rs", "fn f() { crate::a::b::f(); }"),
        // Parents and children.
        file("src/a/d/mod.rs", "use crate::a::d::e::E; use super::c;"),
        file("src/a/d/e.rs", "use super::D; use super::super::A;"),
        // Only one way, or only in tests.
        file("src/a/f.rs", "use super::g::G; // use self::g"),
        file(
            "src/a/g.rs",
            "mod tests { use super::super::f; use crate::a::f::F; }",
        ),
        // Another room.
        file("src/z/b.rs", "use super::c::C;"),
        file("src/z/c.rs", "use super::b::B;"),
    ]);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let expected = BTreeSet::from([pair("src/a/b.rs", "src/a/c.rs")]);
    assert_eq!(circles(&files, &["a"]), expected);
    assert_eq!(circles(&files, &["a", "z"]).len(), 2);
}

#[test]
fn paths_are_taken_apart() {
    let text = "use crate::{a::{self, b as c}, d}; fn f(self) { super::super::x::<T>(); } \
                use other::crate_name; mod inline { use super::gone; }";
    let paths = Source::new(text).paths();
    let joined: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
    let expected = [
        "crate::a::self",
        "crate::a::b",
        "crate::d",
        "super::super::x",
    ];
    assert_eq!(joined, expected);
}

#[test]
fn unsafe_is_found_in_code_only() {
    let code = "fn f() { unsafe { g() } }";
    assert_eq!(unsafe_outside("src/log/mod.rs", code).len(), 1);
    assert!(unsafe_outside("src/io/map.rs", code).is_empty());
    for harmless in [
        "// unsafe",
        "/* a /* nested */ unsafe */ fn f() {}",
        "const S: &str = \"say \\\" unsafe\";",
        "const R: &str = r#\"a \" unsafe\"#;",
        "fn unsafely() {}",
    ] {
        assert!(
            unsafe_outside("src/log/mod.rs", harmless).is_empty(),
            "{harmless}"
        );
    }
    // Quotes in characters, and lifetimes, do not open anything.
    let tricky = "fn f<'a>(s: &'a str) { m('\"', '\\'', 'x', b'\"'); unsafe {} }";
    assert_eq!(unsafe_outside("src/log/mod.rs", tricky).len(), 1);
}

#[test]
fn a_reactor_of_ones_own_is_found() {
    let code = "use tokio_uring::fs::File;\nfn f() { io_uring::squeue(); }";
    assert_eq!(reactor_outside("src/net/listener.rs", code).len(), 2);
    assert!(reactor_outside("src/io/reactor.rs", code).is_empty());
    let harmless = "// tokio_uring\nfn is_io_uring_there() -> &'static str { \"io_uring\" }";
    assert!(reactor_outside("src/net/mod.rs", harmless).is_empty());
}

#[test]
fn anyhow_outside_its_room_is_found() {
    let code = "use anyhow::Context; // anyhow";
    assert_eq!(anyhow_outside("src/log/mod.rs", code).len(), 1);
    assert!(anyhow_outside("src/cli/perf.rs", code).is_empty());
}

#[test]
fn a_clock_of_ones_own_is_found() {
    let code = "use std::time::SystemTime;\nfn f() { jiff::Timestamp::now(); }";
    assert_eq!(wall_clocks("src/net/mod.rs", code).len(), 2);
    assert!(wall_clocks(CLOCK, code).is_empty());
    let harmless = "use std::time::Instant; fn f(t: Timestamp) {} // SystemTime";
    assert!(wall_clocks("src/net/mod.rs", harmless).is_empty());
}

#[test]
fn what_is_left_in_is_found() {
    let code = "fn f() { dbg!(1); todo!(); println!(\"x\"); }\n// unimplemented!()";
    assert_eq!(left_in("src/net/mod.rs", code).len(), 3);
    assert_eq!(left_in("src/cli/table.rs", code).len(), 2);
    assert!(left_in("src/net/mod.rs", "fn println() {}").is_empty());
}

#[test]
fn a_file_that_nothing_leads_to_is_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = Files::from([
        file("src/main.rs", "fn main() {}"),
        file("src/lib.rs", "pub mod a;\n// mod ghost;"),
        file("src/a/mod.rs", "mod b; mod inline { }"),
        file(
            "src/a/b.rs",
            "mod c; const P: &str = include_str!(\"page.html\");",
        ),
        file("src/a/b/c.rs", ""),
        file("src/a/page.html", ""),
        file("src/a/inline.rs", ""),
        file("src/ghost.rs", ""),
        file("src/a/old.html", ""),
    ]);
    let dead = dead(&files).join(" ");
    for path in ["src/a/inline.rs", "src/a/old.html", "src/ghost.rs"] {
        assert!(dead.contains(path), "{path}: {dead}");
    }
    assert_eq!(dead.matches("nothing leads").count(), 3, "{dead}");
}

#[test]
fn a_long_file_and_an_unexplained_metric_are_found() {
    assert!(too_long("src/a.rs", &"\n".repeat(LINES_MAX)).is_none());
    assert!(too_long("src/a.rs", &"\n".repeat(LINES_MAX + 1)).is_some());
    let names = metric_names(
        "f(\"millstream_topics\", \"millstream_topics_x\", \"gauge\", \"process_x y\")",
    );
    assert_eq!(names.len(), 2);
    let page = "| `millstream_topics_x` | ... |";
    assert_eq!(
        missing(&names, page),
        ["millstream_topics is not explained"]
    );
}

#[test]
fn a_walk_that_is_too_long_or_not_there_is_found() {
    let walk = walks::Walk {
        heading: "| Walk | Functions |",
        functions_max: 2,
        files_max: 1,
    };
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = Files::from([file(
        "src/a.rs",
        "fn f() {}\npub async fn g() {}\nlet h = 1;",
    )]);
    let wrong = |rows: &str| {
        let page = format!("text\n\n| Walk | Functions |\n|---|---|\n{rows}\n");
        walks::wrong(&walk, &page, &files).len()
    };
    assert_eq!(wrong("| `a.rs` | `f` (not `h`), `A::g` |"), 0);
    assert_eq!(wrong("| `a.rs` | `f`, `h` |"), 1);
    assert_eq!(wrong("| `a.rs` | `f`, `g`, `f` |"), 1);
    assert_eq!(wrong("| `a.rs` | `f` |\n| `b.rs` | `g` |"), 2);
    assert_eq!(wrong(""), 1);
}

#[test]
fn the_map_is_read_in_its_order() {
    let lib = "//! - `cli`: x.\n//! Other `text`.\n//! - `io`: y.\npub mod io;\n";
    assert_eq!(rooms_on_the_map(lib), ["cli", "io"]);
}
