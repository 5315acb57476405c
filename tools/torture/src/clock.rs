//! The broker's wall clock: how far it is made to be off, and what it has shown.

use crate::record::{self, Batch};
use crate::violation::{Violation, violated};
use std::path::PathBuf;
use std::sync::Mutex;

/// The harness and the broker read the machine's clock at different moments.
const SLACK_MS: i64 = 20;

/// What the broker's wall clock has shown; and, with a file, the hand that makes it jump.
#[derive(Debug)]
pub struct Clock {
    /// Where a broker with the feature `sabotage` reads how far its clock is off.
    file: Option<PathBuf>,
    shown: Mutex<Vec<Shown>>,
    /// The latest that it showed since the last check, up to its last jump.
    latest_ms: Mutex<i64>,
}

/// A while in which the clock was off by so much; both ends on the machine's own clock.
#[derive(Clone, Copy, Debug)]
struct Shown {
    offset_ms: i64,
    from_ms: i64,
    /// `None` for the one that lasts.
    until_ms: Option<i64>,
}

impl Shown {
    fn until_ms(&self) -> i64 {
        self.until_ms.unwrap_or_else(record::now_ms)
    }

    fn had(&self, real_ms: i64) -> bool {
        (self.from_ms - SLACK_MS..=self.until_ms() + SLACK_MS).contains(&real_ms)
    }
}

impl Default for Clock {
    fn default() -> Clock {
        let right = Shown {
            offset_ms: 0,
            from_ms: record::now_ms(),
            until_ms: None,
        };
        Clock {
            file: None,
            shown: Mutex::new(vec![right]),
            latest_ms: Mutex::new(i64::MIN),
        }
    }
}

impl Clock {
    /// One that can be made to jump.
    pub fn jumping(file: PathBuf) -> std::io::Result<Clock> {
        let clock = Clock {
            file: Some(file),
            ..Clock::default()
        };
        clock.jump(0)?;
        Ok(clock)
    }

    /// One that has shown the same, and does not jump.
    pub fn fork(&self) -> Clock {
        Clock {
            file: None,
            shown: Mutex::new(crate::model::lock(&self.shown).clone()),
            latest_ms: Mutex::new(*crate::model::lock(&self.latest_ms)),
        }
    }

    /// The file that a broker is to read, if the clock jumps at all.
    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    pub fn jumps(&self) -> bool {
        self.file.is_some()
    }

    /// From now on the broker's clock is off by so much.
    pub fn jump(&self, offset_ms: i64) -> std::io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let next = file.with_extension("next");
        std::fs::write(&next, offset_ms.to_string())?;
        let mut shown = crate::model::lock(&self.shown);
        // While the file is replaced, either may be read.
        shown.push(Shown {
            offset_ms,
            from_ms: record::now_ms(),
            until_ms: None,
        });
        std::fs::rename(&next, file)?;
        let before = shown.len() - 2;
        let ends = &mut shown[before];
        ends.until_ms = Some(record::now_ms());
        let showed_ms = ends.until_ms() + ends.offset_ms;
        let mut latest_ms = crate::model::lock(&self.latest_ms);
        *latest_ms = showed_ms.max(*latest_ms);
        Ok(())
    }

    /// The latest that it has shown since [`forget_latest`](Self::forget_latest).
    pub fn latest_ms(&self) -> i64 {
        let shown = crate::model::lock(&self.shown);
        let newest = shown.last().map_or(0, |shown| shown.offset_ms);
        let now_ms = record::now_ms() + newest + SLACK_MS;
        now_ms.max(*crate::model::lock(&self.latest_ms))
    }

    /// What was there at a check is there whatever the clock showed before.
    pub fn forget_latest(&self) {
        *crate::model::lock(&self.latest_ms) = i64::MIN;
    }

    /// Batches that have the broker's time have one that its clock showed; but not those that compaction
    /// has emptied.
    pub fn check(&self, batches: &[Batch]) -> Result<(), Violation> {
        for batch in batches
            .iter()
            .filter(|batch| batch.append_time && !batch.records.is_empty())
        {
            let time_ms = batch.time_ms;
            let shown = crate::model::lock(&self.shown);
            let mut newest_first = shown.iter().rev();
            if !newest_first.any(|shown| shown.had(time_ms - shown.offset_ms)) {
                let base = batch.base;
                violated!(
                    Changed,
                    "the batch at offset {base} has the append time {time_ms}, which the broker's \
                     clock never showed"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Id;

    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;

    fn appended(time_ms: i64) -> Batch {
        Batch {
            base: 0,
            last: 0,
            producer_id: -1,
            base_sequence: -1,
            bytes: 100,
            append_time: true,
            time_ms,
            records: vec![(
                0,
                Id {
                    worker: 1,
                    number: 1,
                },
            )],
        }
    }

    #[test]
    fn an_append_time_that_the_clock_never_showed_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::jumping(dir.path().join("offset")).unwrap();
        let shown_ms = [0, DAY_MS, -DAY_MS].map(|off_ms| {
            clock.jump(off_ms).unwrap();
            record::now_ms() + off_ms
        });
        for time_ms in shown_ms {
            assert_eq!(clock.check(&[appended(time_ms)]), Ok(()));
            assert!(clock.check(&[appended(time_ms + HOUR_MS)]).is_err());
        }
        assert!(clock.check(&[appended(shown_ms[1] + DAY_MS)]).is_err());
    }

    #[test]
    fn a_jump_forward_counts_until_the_next_check() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::jumping(dir.path().join("offset")).unwrap();
        clock.jump(DAY_MS).unwrap();
        clock.jump(0).unwrap();
        assert!(clock.latest_ms() >= record::now_ms() + DAY_MS - 1_000);
        clock.forget_latest();
        assert!(clock.latest_ms() <= record::now_ms() + 1_000);
    }
}
