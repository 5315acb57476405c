//! A subscription to all topics whose names match a regular expression, as Java's `Pattern.matches` does: the whole name.

use crate::engine::Engine;
use crate::http::problem::Problem;
use crate::http::rest::error::constraint;
use crate::io::reactor::Slice;
use regex_automata::nfa::thompson::{self, pikevm::PikeVM};
use regex_automata::util::syntax;

/// A pattern is tried on every topic.
const PATTERN_BYTES_MAX: usize = 256;
/// What it becomes is gone through for each letter of a name.
const STATES_BYTES_MAX: usize = 64 << 10;

/// The names of the topics that match now, but for the broker's own, in their order.
///
/// # Errors
/// 422 for what is no regular expression, or too large.
pub async fn topics(engine: &Engine, pattern: &str) -> Result<Vec<String>, Problem> {
    let machine = machine(pattern)?;
    let mut cache = machine.create_cache();
    let names: Vec<String> = engine.with_catalog(|catalog| {
        let own = catalog.topics().filter(|topic| !topic.is_internal());
        own.map(|topic| topic.name.clone()).collect()
    });
    let mut found = Vec::new();
    let mut slice = Slice::new();
    for name in names {
        if machine.is_match(&mut cache, name.as_bytes()) {
            found.push(name);
        }
        slice.rest().await;
    }
    Ok(found)
}

/// # Errors
/// As [`topics`].
pub fn check(pattern: &str) -> Result<(), Problem> {
    machine(pattern).map(|_| ())
}

fn machine(pattern: &str) -> Result<PikeVM, Problem> {
    if pattern.len() > PATTERN_BYTES_MAX {
        let detail = format!("topic_pattern has at most {PATTERN_BYTES_MAX} bytes");
        return Err(constraint(detail));
    }
    // Names of topics are ASCII.
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    let limits = thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(STATES_BYTES_MAX));
    let machine = PikeVM::builder()
        .syntax(syntax)
        .thompson(limits)
        .build(&format!("^(?:{pattern})$"));
    machine.map_err(|error| {
        let detail = format!("topic_pattern is no regular expression that is served: {error}");
        constraint(detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let matches = |pattern: &str, name: &str| {
            let machine = machine(pattern).unwrap();
            machine.is_match(&mut machine.create_cache(), name)
        };
        assert!(matches("orders.*", "orders-1") && !matches("orders", "orders-1"));
        assert!(matches("a|b", "b") && !matches("a|b", "ab"));
        assert!(matches(r"t\d+", "t17") && !matches(r"t\d+", "t"));
        assert!(matches("(?i)T", "t"));
        for wrong in ["(", "*", "(?:a{1000}){1000}", &"a".repeat(257)] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }
}
