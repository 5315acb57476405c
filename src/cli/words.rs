//! Words of the command line that several commands take, and how sizes and counts are told.

use crate::client::producer::Acks;

pub use crate::findings::words::{count, duration, size};

/// A separator as given on the command line, where `\t` stands for a tab.
pub fn separator(text: &str) -> Result<String, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        text => Ok(text.replace("\\t", "\t")),
    }
}

/// Acknowledgements as given on the command line.
pub fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("it is one of 0, 1 and all".to_owned()),
    }
}

/// A name and its value, such as `retention.ms=1000`: split at the first `=`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.into(), value.into())),
        _ => Err("it is not of the form KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::pair;

    #[test]
    fn pairs_are_split_at_the_first_equals_sign() {
        assert_eq!(pair("a.b=c=d"), Ok(("a.b".into(), "c=d".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
    }
}
