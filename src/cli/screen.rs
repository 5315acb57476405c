//! What is shown again and again: redrawn in place for a person, one after the other for a pipe.

use crate::cli::output::{BOLD, Line, Output};
use std::thread::sleep;
use std::time::Duration;

/// The cursor goes to the top left.
const HOME: &str = "\x1b[H";
/// What stands right of the cursor goes.
const CLEAR_LINE: &str = "\x1b[K";
/// What stands below the cursor goes.
const CLEAR_BELOW: &str = "\x1b[J";

/// How often something is shown again.
#[derive(Clone, Copy, Debug)]
pub struct Every(Duration);

impl Every {
    /// Waits until it is to be shown again.
    pub fn wait(self) {
        sleep(self.0);
    }
}

impl std::str::FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Every, String> {
        const FORMS: &str =
            "it is neither a number of seconds above 0 nor a time such as 500ms or 2s";
        let seconds = match crate::config::duration_ms(text) {
            Some(millis) => millis as f64 / 1e3,
            None => text.parse().map_err(|_| FORMS)?,
        };
        let length = Duration::try_from_secs_f64(seconds).map_err(|_| FORMS)?;
        if length.is_zero() {
            return Err(FORMS.to_owned());
        }
        Ok(Every(length))
    }
}

/// Shows `lines`: in place of those that were shown before, cut to the terminal's size, or below them where
/// nobody looks.
pub fn show(out: &mut Output, lines: &[Line]) -> anyhow::Result<()> {
    if !out.is_terminal() {
        lines.iter().try_for_each(|line| out.line(&line.text))?;
        return out.flush();
    }
    let (width, height) = size();
    out.write(HOME.as_bytes())?;
    // The last row stays free, or the terminal would scroll.
    for line in lines.iter().take(height.saturating_sub(1)) {
        let text = cut(&line.text, width);
        if line.is_heading && out.is_styled() {
            out.line(&format!("{BOLD}{text}{BOLD:#}{CLEAR_LINE}"))?;
        } else {
            out.line(&format!("{text}{CLEAR_LINE}"))?;
        }
    }
    out.write(CLEAR_BELOW.as_bytes())?;
    out.flush()
}

/// Columns and rows of the terminal.
pub fn size() -> (usize, usize) {
    match terminal_size::terminal_size_of(std::io::stdout()) {
        Some((width, height)) => (width.0.into(), height.0.into()),
        None => (80, 24),
    }
}

/// The first `width` letters.
fn cut(text: &str, width: usize) -> &str {
    let end = text
        .char_indices()
        .nth(width)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_between_letters() {
        assert_eq!(cut("straße", 5), "straß");
        assert_eq!(cut("straße", 6), "straße");
        assert_eq!(cut("straße", 60), "straße");
        assert_eq!(cut("straße", 0), "");
    }

    #[test]
    fn intervals_are_seconds_or_have_a_unit() {
        for (text, millis) in [("2", 2000), ("0.5", 500), ("500ms", 500), ("1m", 60_000)] {
            let Every(length) = text.parse().expect(text);
            assert_eq!(length, Duration::from_millis(millis), "{text}");
        }
        for text in ["", "0", "-1", "0s", "x", "1e99", "NaN"] {
            assert!(text.parse::<Every>().is_err(), "{text}");
        }
    }
}
