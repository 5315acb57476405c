//! The deadlines of one tenant's names.

use crate::io::clock;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long [`Timers::run`] sleeps when there is no deadline.
const IDLE: Duration = Duration::from_secs(3600);

/// At most one deadline for each name. Times are those of [`clock::steady_ms`].
#[derive(Default)]
pub struct Timers {
    deadlines: RefCell<Deadlines>,
    /// Notified when the soonest deadline moves forward.
    is_sooner: Notify,
}

/// Both hold the same pairs.
#[derive(Default)]
struct Deadlines {
    by_time: BTreeSet<(i64, Rc<str>)>,
    by_name: HashMap<Rc<str>, i64>,
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
        let current = deadlines.by_name.get(name);
        if current.is_some_and(|current_ms| *current_ms <= deadline_ms) {
            return;
        }
        let soonest_ms = deadlines.soonest();
        deadlines.remove(name);
        deadlines.insert(name.into(), deadline_ms);
        if soonest_ms.is_none_or(|soonest_ms| deadline_ms < soonest_ms) {
            self.is_sooner.notify_one();
        }
    }

    /// Calls `due` with each name whose deadline has passed, for ever. The deadline is removed before.
    pub async fn run(&self, due: impl Fn(&str)) {
        loop {
            let now_ms = clock::steady_ms();
            for name in self.take_due(now_ms) {
                due(&name);
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

    /// Removes the deadlines that have passed and returns their names, soonest first.
    fn take_due(&self, now_ms: i64) -> Vec<Rc<str>> {
        let mut deadlines = self.deadlines.borrow_mut();
        let mut due = Vec::new();
        while deadlines.soonest().is_some_and(|at_ms| at_ms <= now_ms) {
            if let Some((_, name)) = deadlines.by_time.pop_first() {
                deadlines.by_name.remove(&name);
                due.push(name);
            }
        }
        due
    }

    /// How many names have a deadline.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        let deadlines = self.deadlines.borrow();
        assert_eq!(deadlines.by_time.len(), deadlines.by_name.len());
        deadlines.by_time.len()
    }
}

impl Deadlines {
    fn soonest(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    fn insert(&mut self, name: Rc<str>, at_ms: i64) {
        self.by_time.insert((at_ms, Rc::clone(&name)));
        self.by_name.insert(name, at_ms);
    }

    fn remove(&mut self, name: &str) {
        if let Some((name, at_ms)) = self.by_name.remove_entry(name) {
            self.by_time.remove(&(at_ms, name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn due(timers: &Timers, now_ms: i64) -> Vec<String> {
        let due = timers.take_due(now_ms).into_iter();
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
