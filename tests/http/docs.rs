//! The curl lines of docs/http.md, run as they stand there, one after the other.

use crate::support::broker_with;
use millstream::http::router::ROUTES;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Notes of each call what was asked and with which statuses it ended. A follower is left after a moment.
const PRELUDE: &str = r#"
set -u
curl() {
    local call limit="60 --retry 30 --retry-delay 1" word
    call=$(mktemp "$CALLS/XXXXXXXX")
    for word in "$@"; do
        case $word in
            -N) limit=2 ;;
        esac
    done
    printf '%s\n' "$@" >"$call.words"
    command curl -sS --max-time $limit -D "$call.head" -o "$call.body" "$@" 2>"$call.errors"
    echo $? >"$call.status"
    cat "$call.body" 2>/dev/null
    return 0
}
"#;

/// Curl's own status for one that was left.
const TIMED_OUT: &str = "28";

/// What a line may end with besides success, by words of it: it is told beside the line.
const EXPECTED: &[(&str, u16)] = &[
    ("If-Match: \"p:7\"", 412),
    ("If-Match: \"k:3\"", 412),
    ("If-None-Match: \"k:3\"", 304),
    ("before=0:1000", 416),
    ("consumers/nobody", 404),
    ("records:batch", 207),
];

struct Call {
    words: Vec<String>,
    status: u16,
    curl: String,
    body: String,
}

impl Call {
    fn text(&self) -> String {
        self.words.join(" ")
    }

    fn method(&self) -> &str {
        let named = self.words.iter().position(|word| word == "-X");
        let has_body = self
            .words
            .iter()
            .any(|word| word == "-d" || word == "--data-binary");
        match named {
            Some(place) => &self.words[place + 1],
            None if has_body => "POST",
            None => "GET",
        }
    }

    fn path(&self) -> &str {
        let url = self.words.iter().find_map(|word| {
            let (_, rest) = word.split_once("127.")?;
            Some(rest.find('/').map_or("/", |slash| &rest[slash..]))
        });
        let path = url.unwrap_or_else(|| panic!("no address: {}", self.text()));
        path.split('?').next().unwrap()
    }
}

fn is_of(path: &str, route: &str) -> bool {
    let path = path.strip_prefix("/kafka").unwrap_or(path);
    let (path, route) = (path.split('/'), route.split('/'));
    path.clone().count() == route.clone().count()
        && path
            .zip(route)
            .all(|(part, wanted)| wanted.starts_with('{') || part == wanted)
}

#[test]
fn every_curl_line_of_the_page_works_and_every_route_has_one() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http.md")).unwrap();
    let (_dir, broker, mut wire) = broker_with(&["--group-initial-rebalance-delay-ms=0"]);
    wire.create_topic("orders", 1);
    let place = tempfile::tempdir().unwrap();
    let calls = place.path().join("calls");
    fs::create_dir(&calls).unwrap();
    fs::write(place.path().join("access.log"), "one\ntwo\n").unwrap();
    fs::write(place.path().join("events.json"), "{\"a\":1}{\"a\":2}").unwrap();
    fs::write(place.path().join("records.ndjson"), "{\"value\":\"v\"}\n").unwrap();
    let mut script = PRELUDE.to_owned();
    let mut commit = "";
    for block in page.split("```sh\n").skip(1) {
        let (block, _) = block.split_once("```").expect("the end of a block");
        if block.contains("commit=0:7:1f...") {
            // It is what the line before it answered.
            commit = "0:7:1f...";
        }
        script += block;
    }
    assert!(!commit.is_empty());
    let script = script.replace("localhost:8082", &broker.http.to_string());
    let script = script.replace(&format!("&commit={commit}"), "");
    // Nobody sends what is waited for.
    let script = script
        .replace("wait=30s", "wait=1s")
        .replace("wait=20s", "wait=1s");
    let ran = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.path())
        .env("CALLS", &calls)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && errors.is_empty(), "{errors}");

    let mut found = Vec::new();
    for entry in fs::read_dir(&calls).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|kind| kind == "words") {
            let read =
                |kind: &str| fs::read_to_string(file.with_extension(kind)).unwrap_or_default();
            let head = read("head");
            // The last one: behind those that only say to go on.
            let mut statuses = head.lines().filter_map(|line| line.strip_prefix("HTTP/"));
            let status = statuses
                .next_back()
                .and_then(|line| line.split(' ').nth(1)?.parse().ok());
            let words = read("words");
            found.push(Call {
                status: status.unwrap_or_else(|| panic!("no answer: {words}{}", read("errors"))),
                words: words.lines().map(str::to_owned).collect(),
                curl: read("status").trim().to_owned(),
                body: fs::read(file.with_extension("body"))
                    .map(|body| String::from_utf8_lossy(&body).into_owned())
                    .unwrap_or_default(),
            });
        }
    }
    assert_eq!(
        found.len(),
        script.matches("curl ").count() - PRELUDE.matches("curl ").count()
    );
    let (mut asked, mut wrong) = (BTreeSet::new(), Vec::new());
    for call in &found {
        let text = call.text();
        let mut expected = EXPECTED.iter().filter(|(words, _)| text.contains(words));
        let is_expected = expected.any(|(_, status)| call.status == *status);
        let is_well = (200..300).contains(&call.status) && call.status != 207;
        if !(is_well || is_expected) {
            wrong.push(format!("{text}: {} {}", call.status, call.body));
        }
        let follows = text.contains("-N ") && call.curl == TIMED_OUT;
        assert!(
            call.curl == "0" || follows,
            "{text}: curl ended with {}",
            call.curl
        );
        for route in ROUTES {
            if route.method == call.method() && is_of(call.path(), route.path) {
                asked.insert(format!("{} {}", route.method, route.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for route in ROUTES {
        let label = format!("{} {}", route.method, route.path);
        assert!(
            asked.contains(&label),
            "docs/http.md has no curl line for {label}"
        );
    }
}
