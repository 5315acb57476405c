//! What was done to the broker, line by line, beside its own log: for who looks into a violation.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that gets a line for each thing that is done, with its time.
pub struct Story {
    file: Option<File>,
    pub path: PathBuf,
}

impl Story {
    /// One beside the broker's log.
    pub fn beside(log: &Path) -> Story {
        let path = log.with_file_name("story.log");
        Story {
            file: File::create(&path).ok(),
            path,
        }
    }

    pub fn tell(&mut self, what: fmt::Arguments<'_>) {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let (second, micros) = (since.as_secs() % 86_400, since.subsec_micros());
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        if let Some(file) = &mut self.file {
            // It helps to understand a violation; without it there still is one.
            let _ = writeln!(file, "{hour:02}:{minute:02}:{second:02}.{micros:06} {what}");
        }
    }
}
