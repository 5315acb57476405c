//! Where a schema registry is.

use super::value::{Field, Kind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;
use std::fmt;

/// The address of a schema registry: `http://` or `https://`, a host, and if need be a port and a path. What it may
/// have as `user:password@` is kept apart and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryUrl {
    /// Without user and password, and without a slash at its end.
    base: String,
    /// What the header `Authorization` says.
    authorization: Option<String>,
}

impl RegistryUrl {
    /// The URL of a path there, which begins with a slash.
    pub fn with_path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The header `Authorization` of each request. It is a secret.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    fn of(text: &str) -> Option<RegistryUrl> {
        let text = text.trim().trim_end_matches('/');
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        if !["http", "https"].contains(&scheme.as_str()) {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let is_plain = |c: char| c.is_ascii_graphic() && !"?#\\\"<>@".contains(c);
        let has_port = match host.rsplit_once(':') {
            Some((_, port)) if !host.ends_with(']') => port.parse::<u16>().is_ok(),
            _ => true,
        };
        let is_host = !host.is_empty() && !host.starts_with(':') && has_port;
        if !is_host || !host.chars().all(is_plain) || !path.chars().all(is_plain) {
            return None;
        }
        let authorization = user.map(|user| {
            let user = percent_decode_str(user).collect::<Vec<u8>>();
            format!("Basic {}", BASE64.encode(user))
        });
        Some(RegistryUrl {
            base: format!("{scheme}://{host}{path}"),
            authorization,
        })
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Field for RegistryUrl {
    fn parse(text: &str, _: &Kind) -> Option<Self> {
        RegistryUrl::of(text)
    }
    /// Without user and password.
    fn show(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_sent_and_never_shown() {
        let url = RegistryUrl::of("https://ann:p%40ss@registry.test:8081/api/").unwrap();
        assert_eq!(url.to_string(), "https://registry.test:8081/api");
        assert_eq!(format!("{url:?}"), "https://registry.test:8081/api");
        assert_eq!(url.show(), "https://registry.test:8081/api");
        let expected = format!("Basic {}", BASE64.encode("ann:p@ss"));
        assert_eq!(url.authorization(), Some(expected.as_str()));
        assert_eq!(
            url.with_path("/schemas/ids/7"),
            "https://registry.test:8081/api/schemas/ids/7"
        );
    }

    #[test]
    fn what_is_no_address_of_a_registry_is_refused() {
        for right in [
            "http://a",
            "HTTP://a:1/",
            "https://[::1]:8081",
            "http://[::1]",
        ] {
            assert!(RegistryUrl::of(right).is_some(), "{right}");
        }
        for wrong in [
            "",
            "a:8081",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a:x",
            "http://a:99999",
            "http://a b",
            "http://a/?b=c",
            "http://u@",
        ] {
            assert!(RegistryUrl::of(wrong).is_none(), "{wrong}");
        }
    }
}
