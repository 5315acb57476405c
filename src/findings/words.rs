//! Sizes, counts and lengths of time, for people to read.

use indicatif::HumanCount;

/// A size in bytes, such as `512 B` or `4.5 KB` (a KB is 1,000 bytes).
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `n` things, such as `1 record` or `1,234 records`.
pub fn count(n: u64, noun: &str) -> String {
    let plural = match n {
        1 => "",
        _ if noun.ends_with("ch") || noun.ends_with("sh") => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", HumanCount(n))
}

/// A length of time, such as `3.2 s`, `5 min 10 s` or `2 d 3 h`.
pub fn duration(seconds: f64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    let first = UNITS.iter().position(|(_, unit)| whole >= *unit);
    let first = first.unwrap_or(UNITS.len() - 1);
    let (name, unit) = UNITS[first];
    let rest = UNITS
        .get(first + 1)
        .map(|(name, next)| (name, whole % unit / next));
    match rest.filter(|(_, count)| *count > 0) {
        Some((next, count)) => format!("{} {name} {count} {next}", whole / unit),
        None => format!("{} {name}", whole / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_two_units_at_most() {
        let told = [
            (0.25, "0.2 s"),
            (59.9, "59.9 s"),
            (60.0, "1 min"),
            (310.0, "5 min 10 s"),
            (7_200.0, "2 h"),
            (183_700.0, "2 d 3 h"),
        ];
        for (seconds, text) in told {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn sizes_and_counts_read_well_at_their_borders() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(4500), "4.5 KB");
        assert_eq!(size(999_949), "999.9 KB");
        assert_eq!(size(999_950), "1.0 MB");
        assert_eq!(size(u64::MAX), "18446.7 PB");
        assert_eq!(count(1, "record"), "1 record");
        assert_eq!(count(0, "record"), "0 records");
        assert_eq!(count(1_234_567, "record"), "1,234,567 records");
        assert_eq!(count(123, "record"), "123 records");
        assert_eq!(count(2, "batch"), "2 batches");
    }
}
