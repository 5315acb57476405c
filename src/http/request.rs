//! A request as its handler sees it.

use super::Services;
use super::query::Query;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// When a connection last did something: one that did nothing for long is closed.
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

/// What a handler is given.
pub struct Asked {
    pub services: Rc<Services>,
    pub activity: Activity,
    /// The parts of the path that the route names, percent-decoded, in their order.
    pub params: Vec<String>,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Incoming,
}
