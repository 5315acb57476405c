//! The query string of a request, and the forms of its values.

use super::problem::Problem;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::str::FromStr;
use std::time::Duration;

const PARAMETERS_MAX: usize = 32;

/// Names and values, percent-decoded. A handler takes what its route knows.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// 400 where a name comes twice, for one of the two would be ignored; for bytes that are no UTF-8; for more
    /// than any route knows.
    pub fn parse(text: &str) -> Result<Query, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // As forms are written: `+` is a space.
            let [name, value] = [name, value].map(|part| decoded(&part.replace('+', " ")));
            let (name, value) = (name?, value?);
            if pairs.iter().any(|(known, _)| *known == name) {
                let detail = format!("the parameter {name:?} is there twice");
                return Err(Problem::bad_request(detail));
            }
            if pairs.len() == PARAMETERS_MAX {
                let detail = format!("there are more than {PARAMETERS_MAX} parameters");
                return Err(Problem::bad_request(detail));
            }
            pairs.push((name, value));
        }
        Ok(Query(pairs))
    }

    /// Takes a parameter's text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a parameter that `read` makes something of.
    ///
    /// # Errors
    /// 400 when it does not; `form` says what it would take.
    pub fn take<T>(
        &mut self,
        name: &str,
        form: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let value = read(&text);
        value.map(Some).ok_or_else(|| {
            Problem::bad_request(format!("the parameter {name} is {form}, not {text:?}"))
        })
    }

    /// Takes a number.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        self.take(name, "a number in its range", |text| text.parse().ok())
    }

    /// # Errors
    /// 400 for a parameter that is none of these: it was a mistake, and to ignore it would be another answer than
    /// the one that was asked for.
    pub fn has_only(&self, known: &[&str]) -> Result<(), Problem> {
        let mut names = self.0.iter().map(|(name, _)| name);
        let Some(unknown) = names.find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let takes = if known.is_empty() {
            "it takes none".to_owned()
        } else {
            format!("it takes {}", known.join(", "))
        };
        Err(Problem::bad_request(format!(
            "there is no parameter {unknown:?} here: {takes}"
        )))
    }
}

/// A part of a path or of a query, without its percent encoding.
///
/// # Errors
/// 400 for what is no UTF-8.
pub fn decoded(part: &str) -> Result<String, Problem> {
    let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
    let decoded = decoded.map_err(|_| Problem::bad_request("the address is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// A part of a path as it stands in an address.
pub fn encoded(part: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(part, PLAIN).to_string()
}

/// A length of time such as `5s`, `500ms` or `2m`.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(count.checked_mul(ms)?))
}

/// A moment in milliseconds since 1970, and not before: the number itself, or RFC 3339.
pub fn moment(text: &str) -> Option<i64> {
    let moment = text.parse().ok().or_else(|| rfc_3339(text));
    moment.filter(|ms| *ms >= 0)
}

/// A moment as RFC 3339 writes it, in milliseconds since 1970.
pub fn rfc_3339(text: &str) -> Option<i64> {
    let moment: Timestamp = text.parse().ok()?;
    Some(moment.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_forms() {
        assert_eq!(duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        for wrong in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "5d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!(moment("1700000000000"), Some(1_700_000_000_000));
        assert_eq!(moment("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(
            moment("2023-11-14T23:13:20.5+01:00"),
            Some(1_700_000_000_500)
        );
        for wrong in [
            "yesterday",
            "-1",
            "-9223372036854775808",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_unknown_or_there_twice_is_refused() {
        let mut query = Query::parse("key=a%20b&max=7&wat").unwrap();
        assert_eq!(query.text("key").as_deref(), Some("a b"));
        assert_eq!(query.number("max").unwrap(), Some(7u32));
        assert_eq!(query.number::<u32>("none").unwrap(), None);
        assert!(query.has_only(&["wat", "max"]).is_ok());
        assert!(query.has_only(&["max"]).is_err());
        assert_eq!(query.text("wat").as_deref(), Some(""));
        query.has_only(&[]).unwrap();
        assert!(Query::parse("a=1&a=2").is_err());
        assert!(Query::parse("key=%FE").is_err(), "not another key");
        let mut query = Query::parse("key=%2B+%C3%A9&&x").unwrap();
        assert_eq!(query.text("key").as_deref(), Some("+ \u{e9}"));
        let many = |count| (0..count).map(|n| format!("p{n}=&")).collect::<String>();
        assert!(Query::parse(&many(32)).is_ok() && Query::parse(&many(33)).is_err());
        assert!(Query::parse("max=x").unwrap().number::<u32>("max").is_err());
    }
}
