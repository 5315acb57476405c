//! Names that no new topic may have yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The names of deleted topics of which something is left that a new topic of that name would take for its own. The
/// copies of a catalog share one.
#[derive(Debug, Default)]
pub struct HeldNames(Mutex<BTreeMap<String, usize>>);

impl HeldNames {
    /// Holds a name, once more if it is held.
    pub fn hold(&self, name: &str) {
        *self.names().entry(name.to_owned()).or_default() += 1;
    }

    /// Ends one hold of a name.
    pub fn release(&self, name: &str) {
        let mut names = self.names();
        if let Some(count) = names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                names.remove(name);
            }
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().contains_key(name)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_free_when_the_last_hold_of_it_has_ended() {
        let names = HeldNames::default();
        names.hold("t");
        names.hold("t");
        names.release("t");
        assert!(names.has("t"));
        names.release("t");
        names.release("t");
        assert!(!names.has("t"));
    }
}
