//! Names in the order in which they are due.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// At most one deadline (ms) for each name.
#[derive(Default)]
pub struct Deadlines {
    /// Both hold the same pairs.
    by_time: BTreeSet<(i64, Rc<str>)>,
    by_name: HashMap<Rc<str>, i64>,
    name_bytes: usize,
}

impl Deadlines {
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Bytes of all names.
    pub fn name_bytes(&self) -> usize {
        self.name_bytes
    }

    /// When a name is due.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.by_name.get(name).copied()
    }

    pub fn soonest(&self) -> Option<i64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Sets when a name is due, whatever was set before.
    pub fn insert(&mut self, name: &str, at_ms: i64) {
        self.remove(name);
        let name: Rc<str> = name.into();
        self.name_bytes += name.len();
        self.by_time.insert((at_ms, Rc::clone(&name)));
        self.by_name.insert(name, at_ms);
    }

    /// Whether the name had a deadline.
    pub fn remove(&mut self, name: &str) -> bool {
        let Some((name, at_ms)) = self.by_name.remove_entry(name) else {
            return false;
        };
        self.name_bytes -= name.len();
        self.by_time.remove(&(at_ms, name));
        true
    }

    /// Removes the names that are due and returns them, soonest first.
    pub fn take_due(&mut self, now_ms: i64) -> Vec<Rc<str>> {
        let mut due = Vec::new();
        while self.soonest().is_some_and(|at_ms| at_ms <= now_ms) {
            if let Some((_, name)) = self.by_time.pop_first() {
                self.by_name.remove(&name);
                self.name_bytes -= name.len();
                due.push(name);
            }
        }
        due
    }

    pub fn clear(&mut self) {
        *self = Deadlines::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_in_bytes_and_leave_nothing_behind() {
        let mut deadlines = Deadlines::default();
        deadlines.insert("abc", 5);
        deadlines.insert("abc", 3);
        deadlines.insert("de", 4);
        assert_eq!((deadlines.len(), deadlines.name_bytes()), (2, 5));
        assert_eq!(deadlines.get("abc"), Some(3));
        assert_eq!(deadlines.take_due(3), ["abc".into()]);
        assert!(deadlines.remove("de"));
        assert!(!deadlines.remove("de"));
        assert!(deadlines.is_empty() && deadlines.by_time.is_empty());
        assert_eq!((deadlines.name_bytes(), deadlines.soonest()), (0, None));
    }
}
