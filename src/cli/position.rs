//! Partitions, and places in them, as given on the command line.

use crate::cli::exit::Failure;
use crate::client::Topic;
use crate::config::duration_ms;
use crate::io::clock;
use std::str::FromStr;

/// A place in each of a topic's partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record.
    Beginning,
    /// After the last record.
    End,
    /// The record with this offset.
    Offset(i64),
    /// The first record at or after this time, in milliseconds since 1970.
    Time(i64),
}

/// The partitions of `topic` that were asked for, which must exist; all, if none was.
pub fn chosen_partitions(topic: &Topic, asked: &[i32]) -> anyhow::Result<Vec<i32>> {
    let all: Vec<i32> = topic.partitions.iter().map(|p| p.index).collect();
    if asked.is_empty() {
        return Ok(all);
    }
    if let Some(missing) = asked.iter().find(|partition| !all.contains(partition)) {
        let (name, last) = (&topic.name, all.len().saturating_sub(1));
        return Err(no_partition(name, *missing, last).into());
    }
    let mut asked = asked.to_vec();
    asked.sort_unstable();
    asked.dedup();
    Ok(asked)
}

/// Says that a topic has no such partition.
pub fn no_partition(topic: &str, partition: i32, last: impl std::fmt::Display) -> Failure {
    Failure::not_found(format!(
        "topic {topic} has no partition {partition}: its partitions are 0 to {last}"
    ))
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Start, String> {
        match text {
            "beginning" => return Ok(Start::Beginning),
            "end" => return Ok(Start::End),
            _ => {}
        }
        if let Some(offset) = number(text) {
            return Ok(Start::Offset(offset));
        }
        let forms =
            |why| format!("it is none of beginning, end and an offset, and as a time {why}");
        time(text).map(Start::Time).map_err(forms)
    }
}

/// A time as given on the command line, in milliseconds since 1970.
pub fn time(text: &str) -> Result<i64, String> {
    time_at(text, clock::now_ms())
}

/// As [`time`], when it is `now_ms`.
fn time_at(text: &str, now_ms: i64) -> Result<i64, String> {
    const FORMS: &str = "it is none of 1h or -1h (an hour ago; ms, s, m, h, d), \
                         2026-01-31T12:00:00Z, and @ with milliseconds since 1970";
    if let Some(digits) = text.strip_prefix('@') {
        return number(digits).ok_or_else(|| FORMS.to_owned());
    }
    let ago = text.strip_prefix('-').unwrap_or(text);
    let time = match duration_ms(ago) {
        Some(ago_ms) => now_ms.saturating_sub(ago_ms),
        None => text
            .parse::<jiff::Timestamp>()
            .map_err(|_| FORMS.to_owned())?
            .as_millisecond(),
    };
    if time < 0 {
        return Err("it is before 1970".to_owned());
    }
    Ok(time)
}

fn number(digits: &str) -> Option<i64> {
    digits.parse().ok().filter(|&n| n >= 0)
}

#[cfg(test)]
mod tests {
    use super::{Start, time_at};

    #[test]
    fn from_takes_words_offsets_and_times() {
        assert_eq!("beginning".parse(), Ok(Start::Beginning));
        assert_eq!("end".parse(), Ok(Start::End));
        assert_eq!("0".parse(), Ok(Start::Offset(0)));
        assert_eq!("123".parse(), Ok(Start::Offset(123)));
        assert_eq!("@1767225600000".parse(), Ok(Start::Time(1_767_225_600_000)));
        assert_eq!(
            "2026-01-01T00:00:00Z".parse(),
            Ok(Start::Time(1_767_225_600_000))
        );
        assert_eq!(
            "2026-01-01T01:00:00.5+01:00".parse(),
            Ok(Start::Time(1_767_225_600_500))
        );
    }

    #[test]
    fn times_ago_count_from_now() {
        let now = 100 * 86_400_000;
        for (text, ago) in [
            ("1h", 3_600_000),
            ("-1h", 3_600_000),
            ("90s", 90_000),
            ("-15m", 900_000),
            ("2d", 172_800_000),
            ("500ms", 500),
            ("0s", 0),
        ] {
            assert_eq!(time_at(text, now), Ok(now - ago), "{text}");
        }
        assert_eq!(time_at("@5", now), Ok(5));
        assert_eq!(time_at("1970-01-01T00:00:01Z", now), Ok(1000));
        for text in [
            "", "-", "h", "-h", "5", "-5", "--1h", "1.5h", "1 h", "1w", "101d", "@",
        ] {
            assert!(time_at(text, now).is_err(), "{text}");
        }
        assert!(matches!("-1h".parse(), Ok(Start::Time(_))));
    }

    #[test]
    fn from_refuses_the_rest() {
        for text in [
            "",
            "start",
            "-1",
            "@",
            "@-5",
            "1.5",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "1969-01-01T00:00:00Z",
        ] {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }
}
