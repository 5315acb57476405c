//! When a fault strikes: after a while, when a file appears that shows what the broker does, or at
//! one of its file operations.

use crate::rng::Rng;
use std::path::Path;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_micros(300);

/// Files whose names end so show what is under way: a compaction and its steps, a checkpoint, a
/// deletion, a segment that is to be written over.
const WORK: [&str; 7] = [
    "swap",
    "swap.tmp",
    ".cleaned",
    "compaction.tmp",
    "checkpoint.tmp",
    "-delete",
    "spare",
];

/// Kinds of file operations that a broker with the feature `sabotage` counts, the likeliest as often as
/// they are to be drawn.
const OPS: [&str; 10] = [
    "sync", "sync", "sync", "sync", "write", "write", "rename", "rename", "remove", "reserve",
];
/// The most operations of its kind that a broker does before it ends, as a power of two.
const OPS_MAX_LOG2: usize = 9;

/// The file operation before which a broker ends by SIGKILL. One without the feature `sabotage` does
/// not know of it.
#[derive(Clone, Copy, Debug)]
pub struct KillAt {
    op: &'static str,
    /// How many of its kind are done.
    after: usize,
}

impl KillAt {
    /// Any operation; the first ones, at start, are as likely as all that come later.
    pub fn draw(rng: &mut Rng) -> KillAt {
        let op = *rng.pick(&OPS);
        let below = 1 << rng.below(OPS_MAX_LOG2 + 1);
        KillAt {
            op,
            after: rng.below(below),
        }
    }

    /// The sync behind so many.
    pub fn sync(after: usize) -> KillAt {
        KillAt { op: "sync", after }
    }

    /// One of the first so many syncs.
    pub fn draw_sync(rng: &mut Rng, below: usize) -> KillAt {
        KillAt::sync(rng.below(below))
    }

    /// What the broker takes as `MILLSTREAM_FAULT`.
    pub fn variable(self) -> String {
        format!("op={},nth={},how=kill", self.op, self.after)
    }
}

/// When to strike.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// At the latest.
    after: Duration,
    /// Once there is a file whose name ends so, and so much later.
    work: Option<(&'static str, Duration)>,
}

impl Moment {
    /// Some time within `limit`.
    pub fn draw(rng: &mut Rng, limit: Duration) -> Moment {
        let after = rng.time(limit);
        let name = *rng.pick(&WORK);
        let delay = rng.time(Duration::from_millis(3));
        let work = rng.one_in(3).then_some((name, delay));
        Moment { after, work }
    }

    /// Waits for it, or until `ended` says that there is nothing more to wait for.
    pub fn wait(self, data_dir: &Path, mut ended: impl FnMut() -> bool) {
        let until = Instant::now() + self.after;
        // Only what appears from half time on: before that, it would nearly always be at once.
        let from = Instant::now() + self.after / 2;
        while Instant::now() < until && !ended() {
            if let Some((name, delay)) = self.work
                && Instant::now() > from
                && appears(data_dir, name)
            {
                std::thread::sleep(delay);
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

fn appears(data_dir: &Path, name: &str) -> bool {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries(data_dir).any(|entry| {
        let ends = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().ends_with(name);
        ends(&entry) || entries(&entry.path()).any(|inner| ends(&inner))
    })
}
