//! When a connection last did something.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A connection that did nothing for long is closed; what moves its bytes touches this.
#[derive(Clone)]
pub struct Activity(Rc<Cell<Instant>>);

impl Activity {
    /// It does something now.
    pub fn now() -> Activity {
        Activity(Rc::new(Cell::new(Instant::now())))
    }

    pub fn touch(&self) {
        self.0.set(Instant::now());
    }

    /// How long it has done nothing.
    pub fn idle(&self) -> Duration {
        self.0.get().elapsed()
    }
}
