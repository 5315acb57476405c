//! The thread that makes appends durable: one fdatasync after the other, each for all that was
//! appended while the last one ran.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Context;

use crate::segment::Segment;
use crate::sys::Waker;

/// Tells the thread what to do, and learns from it what is durable.
pub struct Flusher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// What this round has appended to.
    gathered: Vec<Arc<Segment>>,
    appended: u64,
    submitted: u64,
}

struct Shared {
    todo: Mutex<Todo>,
    more: Condvar,
    durable: AtomicU64,
    waker: Waker,
}

#[derive(Default)]
struct Todo {
    segments: Vec<Arc<Segment>>,
    upto: u64,
    end: bool,
}

impl Flusher {
    /// Starts the thread.
    pub fn start() -> anyhow::Result<Flusher> {
        let shared = Arc::new(Shared {
            todo: Mutex::default(),
            more: Condvar::new(),
            durable: AtomicU64::new(0),
            waker: Waker::new()?,
        });
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("flush".to_owned())
            .spawn(move || its.run())
            .context("cannot start the flush thread")?;
        Ok(Flusher {
            shared,
            thread: Some(thread),
            gathered: Vec::new(),
            appended: 0,
            submitted: 0,
        })
    }

    /// Something was appended to `segment`. Returns its number, which [`Flusher::durable`] reaches.
    pub fn appended(&mut self, segment: &Arc<Segment>) -> u64 {
        if !self
            .gathered
            .last()
            .is_some_and(|last| Arc::ptr_eq(last, segment))
        {
            self.gathered.push(Arc::clone(segment));
        }
        self.appended += 1;
        self.appended
    }

    /// The number of the last append.
    pub fn last(&self) -> u64 {
        self.appended
    }

    /// Hands over what was appended.
    pub fn submit(&mut self) {
        if self.submitted == self.appended {
            return;
        }
        self.submitted = self.appended;
        let mut todo = self.shared.lock();
        todo.segments.append(&mut self.gathered);
        todo.upto = self.appended;
        drop(todo);
        self.shared.more.notify_one();
    }

    /// Appends up to this number are durable.
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Wakes the poll when [`Flusher::durable`] has moved.
    pub fn waker(&self) -> &Waker {
        &self.shared.waker
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.more.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        while let Some((segments, upto)) = self.next() {
            let mut done = HashSet::new();
            for segment in segments {
                if !done.insert(Arc::as_ptr(&segment)) {
                    continue;
                }
                if let Err(error) = segment.file.sync_data() {
                    eprintln!(
                        "millstream-floor: fdatasync failed, nothing is acknowledged any more: {error}"
                    );
                    return;
                }
            }
            self.durable.store(upto, Ordering::Release);
            self.waker.wake();
        }
    }

    /// Waits for work; None at the end.
    fn next(&self) -> Option<(Vec<Arc<Segment>>, u64)> {
        let mut todo = self.lock();
        loop {
            if todo.end {
                return None;
            }
            if !todo.segments.is_empty() {
                return Some((std::mem::take(&mut todo.segments), todo.upto));
            }
            todo = self.more.wait(todo).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Todo> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
