//! Which records are wanted.

use crate::log::records::Record;
use memchr::memmem::Finder;

/// What a record must have; nothing wants all.
pub struct Filter {
    key: Option<Vec<u8>>,
    text: Option<Finder<'static>>,
    since: Option<i64>,
}

impl Filter {
    /// Wants records with this key, with this text in key or value, of this time (milliseconds since 1970) or
    /// later.
    pub fn new(key: Option<&str>, text: Option<&str>, since: Option<i64>) -> Filter {
        Filter {
            key: key.map(|key| key.as_bytes().to_vec()),
            text: text.map(|text| Finder::new(text.as_bytes()).into_owned()),
            since,
        }
    }

    /// Whether `record` is wanted.
    pub fn wants(&self, record: &Record<'_>) -> bool {
        let key = self.key.as_deref();
        let has_text = |finder: &Finder<'_>| {
            let places = [record.key, record.value].into_iter().flatten();
            places.into_iter().any(|bytes| finder.find(bytes).is_some())
        };
        key.is_none_or(|key| record.key == Some(key))
            && self.since.is_none_or(|since| record.timestamp >= since)
            && self.text.as_ref().is_none_or(has_text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::records::Headers;

    #[test]
    fn all_that_is_asked_for_must_hold() {
        let record = Record {
            offset: 0,
            timestamp: 1000,
            key: Some(b"ann"),
            value: Some(b"tea and scones"),
            headers: Headers::new(),
        };
        let wants = |key, text, since| Filter::new(key, text, since).wants(&record);
        assert!(wants(None, None, None));
        assert!(wants(Some("ann"), Some("scone"), Some(1000)));
        assert!(wants(None, Some("nn"), None), "the key counts too");
        assert!(!wants(Some("an"), None, None));
        assert!(!wants(None, Some("coffee"), None));
        assert!(!wants(None, None, Some(1001)));
        let empty = Record {
            key: None,
            value: None,
            ..record
        };
        assert!(!Filter::new(Some(""), None, None).wants(&empty));
        assert!(!Filter::new(None, Some("x"), None).wants(&empty));
    }
}
