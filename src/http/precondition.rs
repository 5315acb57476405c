//! Appends and reads that depend on what is there: `If-Match` and `If-None-Match` (RFC 9110).

use super::problem::Problem;
use crate::engine::indexes::marks::Expected;
use crate::log::key_hash::KeyHash;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

/// What a request says has to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// `"p:N"`: N is the partition's next offset.
    Offset(i64),
    /// `"k:N"`: N is the offset of the newest record of the key; -1: it has none.
    Key(i64),
}

impl Precondition {
    /// What a request to append says; `None` where it says nothing.
    ///
    /// # Errors
    /// 400 for anything that is not understood, or is about the key of a record that has none: to append in spite of
    /// it would be what it is to prevent.
    pub fn of(headers: &HeaderMap, has_key: bool) -> Result<Option<Precondition>, Problem> {
        let wrong = || {
            let detail = "If-Match is \"p:N\" (the next offset) or \"k:N\" (the offset of the key's newest record), \
                and If-None-Match is *";
            Problem::bad_request(detail)
        };
        match (one(headers, IF_MATCH)?, one(headers, IF_NONE_MATCH)?) {
            (None, None) => Ok(None),
            (Some(text), None) => match tag(text) {
                Some(Precondition::Key(_)) if !has_key => {
                    let detail = "If-Match \"k:N\" is about the key, and there is none: say ?key=";
                    Err(Problem::bad_request(detail))
                }
                found => found.map(Some).ok_or_else(wrong),
            },
            (None, Some("*")) if has_key => Ok(Some(Precondition::Key(-1))),
            (None, Some("*")) => Ok(Some(Precondition::Offset(0))),
            _ => Err(wrong()),
        }
    }

    /// What the engine is to expect of a record with this key, which one about a key has.
    pub fn expected(self, key: Option<&[u8]>) -> Expected {
        match self {
            Precondition::Offset(offset) => Expected::Offset(offset),
            Precondition::Key(offset) => {
                Expected::Key(KeyHash::of(key.unwrap_or_default()), offset)
            }
        }
    }
}

/// Whether the client has what this tag names already.
pub fn is_had(headers: &HeaderMap, tag: &str) -> bool {
    let named = headers.get_all(IF_NONE_MATCH).iter();
    let mut named = named
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    named.any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// The tag of a partition whose next offset is this.
pub fn of_partition(next: i64) -> String {
    format!("\"p:{next}\"")
}

/// The tag of a key whose newest record is at this offset.
pub fn of_key(offset: i64) -> String {
    format!("\"k:{offset}\"")
}

fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let first = values.next().map(HeaderValue::to_str).transpose();
    match (first, values.next()) {
        (Ok(first), None) => Ok(first.map(str::trim)),
        _ => Err(Problem::bad_request(format!(
            "{name} is to be there once, and text"
        ))),
    }
}

fn tag(text: &str) -> Option<Precondition> {
    let (kind, number) = text.strip_prefix('"')?.strip_suffix('"')?.split_once(':')?;
    let number = number.parse().ok()?;
    match kind {
        "p" if number >= 0 => Some(Precondition::Offset(number)),
        "k" if number >= -1 => Some(Precondition::Key(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_is_not_understood_is_no_condition_that_holds() {
        let of = |pairs: &[(HeaderName, &'static str)], has_key| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name, HeaderValue::from_static(value));
            }
            Precondition::of(&headers, has_key).ok()
        };
        let (is, is_none) = (IF_MATCH, IF_NONE_MATCH);
        assert_eq!(of(&[], true), Some(None));
        let offset = of(&[(is.clone(), "\"p:7\"")], false);
        assert_eq!(offset, Some(Some(Precondition::Offset(7))));
        let key = of(&[(is.clone(), "\"k:-1\"")], true);
        assert_eq!(key, Some(Some(Precondition::Key(-1))));
        let none = of(&[(is_none.clone(), "*")], true);
        assert_eq!(none, Some(Some(Precondition::Key(-1))));
        let empty = of(&[(is_none.clone(), "*")], false);
        assert_eq!(empty, Some(Some(Precondition::Offset(0))));
        for wrong in [
            "p:7",
            "\"p:-1\"",
            "\"k:-2\"",
            "\"7\"",
            "*",
            "\"p:7\", \"p:8\"",
            "\"q:1\"",
            "",
        ] {
            assert_eq!(of(&[(is.clone(), wrong)], true), None, "{wrong}");
        }
        assert_eq!(of(&[(is_none.clone(), "\"p:7\"")], true), None);
        assert_eq!(of(&[(is.clone(), "\"p:7\""), (is_none, "*")], true), None);
        assert_eq!(of(&[(is.clone(), "\"p:7\""), (is, "\"p:7\"")], true), None);
    }
}
