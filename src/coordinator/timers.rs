//! The deadlines of one tenant's names.

use super::deadlines::Deadlines;
use crate::io::clock;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long [`Timers::next_due`] sleeps when there is no deadline.
const IDLE: Duration = Duration::from_secs(3600);

/// At most one deadline for each name. Times are those of [`clock::steady_ms`].
#[derive(Default)]
pub struct Timers {
    deadlines: RefCell<Deadlines>,
    /// Notified when the soonest deadline moves forward.
    is_sooner: Notify,
}

/// Names whose deadlines have passed.
pub struct Due {
    /// When that was found out (ms).
    pub now_ms: i64,
    /// Soonest first.
    pub names: Vec<Rc<str>>,
}

impl Timers {
    /// Sets when a name is due; `None` removes its deadline. A deadline that moves back, as a member's
    /// does with each heartbeat, may leave the earlier one in place: the name is then due too early,
    /// finds nothing to do and sets its deadline again. So heartbeats cost nothing here.
    pub fn set(&self, name: &str, deadline_ms: Option<i64>) {
        let mut deadlines = self.deadlines.borrow_mut();
        let Some(deadline_ms) = deadline_ms else {
            deadlines.remove(name);
            return;
        };
        let current = deadlines.get(name);
        if current.is_some_and(|current_ms| current_ms <= deadline_ms) {
            return;
        }
        let soonest_ms = deadlines.soonest();
        deadlines.insert(name, deadline_ms);
        if soonest_ms.is_none_or(|soonest_ms| deadline_ms < soonest_ms) {
            self.is_sooner.notify_one();
        }
    }

    /// Waits until the deadlines of names have passed, and removes them.
    pub async fn next_due(&self) -> Due {
        loop {
            let now_ms = clock::steady_ms();
            let names = self.deadlines.borrow_mut().take_due(now_ms);
            if !names.is_empty() {
                return Due { now_ms, names };
            }
            let soonest_ms = self.deadlines.borrow().soonest();
            let wait = soonest_ms.map_or(IDLE, |at_ms| {
                Duration::from_millis(at_ms.saturating_sub(now_ms).max(1) as u64)
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.is_sooner.notified() => {}
            }
        }
    }

    /// How many names have a deadline.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.deadlines.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn due(timers: &Timers, now_ms: i64) -> Vec<String> {
        let due = timers.deadlines.borrow_mut().take_due(now_ms).into_iter();
        due.map(|name| name.to_string()).collect()
    }

    #[test]
    fn names_are_due_at_their_time_soonest_first_and_once() {
        let timers = Timers::default();
        for (name, at_ms) in [("b", 20), ("a", 30), ("c", 10)] {
            timers.set(name, Some(at_ms));
        }
        assert_eq!(due(&timers, 9), [""; 0]);
        assert_eq!(due(&timers, 20), ["c", "b"]);
        assert_eq!(due(&timers, 20), [""; 0]);
        assert_eq!(due(&timers, 99), ["a"]);
        assert_eq!(timers.count(), 0);
    }

    #[test]
    fn a_name_has_one_deadline_which_is_the_earliest_that_was_set() {
        let timers = Timers::default();
        for at_ms in [30, 40, 20, 50] {
            timers.set("a", Some(at_ms));
        }
        assert_eq!(timers.count(), 1);
        assert_eq!(due(&timers, 19), [""; 0]);
        assert_eq!(due(&timers, 20), ["a"]);
        assert_eq!(timers.count(), 0);
    }

    #[test]
    fn a_deadline_goes_away_with_its_name() {
        let timers = Timers::default();
        timers.set("a", Some(10));
        timers.set("b", Some(10));
        timers.set("a", None);
        timers.set("a", None);
        assert_eq!(timers.count(), 1);
        assert_eq!(due(&timers, 10), ["b"]);
    }

    #[test]
    fn only_a_deadline_before_all_others_wakes_the_sleeper() {
        let timers = Timers::default();
        let woken = || timers.is_sooner.notified().now_or_never().is_some();
        timers.set("a", Some(10));
        assert!(woken());
        timers.set("b", Some(20));
        timers.set("a", Some(30));
        assert!(!woken());
        timers.set("b", Some(5));
        assert!(woken());
    }
}
