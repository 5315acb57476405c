//! How long a flush through the journal waits for more to take along.
//!
//! Clients that wait for replies send again when they have them. A flush that began with the first of these
//! would leave the others to the next, and so half of the writes, each of which costs as much as a large one,
//! would be of one batch. So a flush waits until as many appends have come as the last one answered, but no
//! longer than half of a flush, and for a while not at all when they did not come.

use std::time::{Duration, Instant};

/// After appends did not come so many flushes wait for none, at most.
const FLUSHES_ALONE_MAX: u32 = 64;

/// What the last flush tells about the next. Appends are counted from the shard's start.
#[derive(Default)]
pub struct Gather {
    /// How many had been asked for when the last flush began, and how many it answered.
    flushed: u64,
    answered: u64,
    /// The next is expected to have as many as this, and begins at this moment at the latest.
    expected: u64,
    until: Option<Instant>,
    /// Flushes that wait for nothing, of so many.
    alone: u32,
    alone_for: u32,
}

impl Gather {
    /// Whether a flush should wait for more when so many appends were asked for.
    pub fn is_due(&self, asked: u64, now: Instant) -> bool {
        self.alone == 0 && asked < self.expected && self.until.is_some_and(|until| now < until)
    }

    /// A flush begins with all that was asked for.
    pub fn begun(&mut self, asked: u64) {
        if self.alone > 0 {
            self.alone -= 1;
        } else if asked < self.expected {
            self.alone_for = (self.alone_for * 2).clamp(1, FLUSHES_ALONE_MAX);
            self.alone = self.alone_for;
        } else {
            self.alone_for = 0;
        }
        self.answered = asked - self.flushed;
        self.flushed = asked;
    }

    /// The flush that was begun has ended now, after `took`, when so many were asked for.
    pub fn ended(&mut self, asked: u64, now: Instant, took: Duration) {
        self.expected = asked + self.answered;
        self.until = Some(now + took / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_micros(200);

    /// A flush of all that was asked for, beside which `beside` more are asked for. Returns when it ended.
    fn flush(gather: &mut Gather, asked: &mut u64, beside: u64) -> Instant {
        gather.begun(*asked);
        *asked += beside;
        let now = Instant::now();
        gather.ended(*asked, now, FLUSH);
        now
    }

    #[test]
    fn a_flush_waits_for_those_that_the_last_one_answered_and_no_longer_than_half_of_one() {
        let (mut gather, mut asked) = (Gather::default(), 1);
        assert!(!gather.is_due(asked, Instant::now()));
        // Of five that one client has under way the first went alone.
        let ended = flush(&mut gather, &mut asked, 4);
        assert!(gather.is_due(asked, ended));
        asked += 1;
        assert!(!gather.is_due(asked, ended));

        let ended = flush(&mut gather, &mut asked, 0);
        for _ in 0..5 {
            assert!(gather.is_due(asked, ended));
            assert!(!gather.is_due(asked, ended + FLUSH / 2));
            asked += 1;
        }
        assert!(!gather.is_due(asked, ended));
    }

    #[test]
    fn one_append_at_a_time_never_waits() {
        let (mut gather, mut asked) = (Gather::default(), 0);
        for _ in 0..10 {
            asked += 1;
            assert!(!gather.is_due(asked, Instant::now()));
            flush(&mut gather, &mut asked, 0);
        }
    }

    #[test]
    fn after_appends_did_not_come_ever_more_flushes_wait_for_none() {
        let (mut gather, mut asked) = (Gather::default(), 8);
        let mut alone = Vec::new();
        let mut run = 0;
        // Whoever asked asks once: what the last flush answered never comes again.
        for _ in 0..300 {
            let ended = flush(&mut gather, &mut asked, 8);
            if gather.is_due(asked, ended) {
                alone.push(run);
                run = 0;
            } else {
                run += 1;
            }
        }
        assert_eq!(alone, [0, 1, 2, 4, 8, 16, 32, 64, 64, 64]);
        // And when they come again it is noticed, and all is as before.
        loop {
            let ended = flush(&mut gather, &mut asked, 0);
            asked += 8;
            assert!(!gather.is_due(asked, ended));
            if gather.alone_for == 0 {
                break;
            }
        }
    }
}
