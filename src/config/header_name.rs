//! The name of a record's header, as a value of a config.

use super::value::{Field, HEADER_BYTES_MAX, Kind};
use std::fmt;

/// The name of a record's header. It is kept where it stands, so that configurations can be copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeaderName {
    bytes: [u8; HEADER_BYTES_MAX],
    length: u8,
}

impl HeaderName {
    pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::of("idempotency-key");

    const fn of(text: &str) -> HeaderName {
        let mut bytes = [0; HEADER_BYTES_MAX];
        let mut at = 0;
        while at < text.len() {
            bytes[at] = text.as_bytes()[at];
            at += 1;
        }
        HeaderName {
            bytes,
            length: text.len() as u8,
        }
    }

    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..usize::from(self.length)];
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Field for HeaderName {
    fn parse(text: &str, kind: &Kind) -> Option<Self> {
        kind.normal(text).map(|name| HeaderName::of(&name))
    }
    fn show(&self) -> String {
        self.as_str().to_owned()
    }
}
