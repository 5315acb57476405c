//! Faults that a test asks for: the n-th operation of a kind, on the thread that asked, fails. And
//! what a test must see to know what a power cut would leave: every write, and every sync with its result.
//!
//! With the feature `sabotage` a variable asks for a fault of the whole process (`fault/process.rs`).
//!
//! Outside tests (and without these features) every check is a constant `Ok`, so a release build
//! carries none of it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Something that decides what a power cut would leave.
pub enum Event<'a> {
    /// These bytes of the file were written, to the page cache.
    Written(&'a File, Range<u64>),
    /// The file's content and size were made durable.
    Synced(&'a File),
    /// They were not; the kernel may take the pages for clean all the same.
    SyncFailed(&'a File),
    /// From this byte on the file is now what the medium has.
    Reloaded(&'a File, u64),
    /// The names in the directory were made durable.
    DirSynced(&'a Path),
}

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Open,
    Write,
    Reserve,
    Sync,
    Rename,
    Remove,
}

#[cfg(feature = "sabotage")]
mod process;

#[cfg(any(test, feature = "faults"))]
mod plan {
    use super::{Event, Op};
    use std::{cell::RefCell, io};

    type Observer = Box<dyn FnMut(Event<'_>)>;

    struct Plan {
        /// Any, when there is none.
        op: Option<Op>,
        /// Operations of this kind still to let pass.
        left: usize,
        errno: i32,
        /// Whether every later operation of the kind fails too.
        sticky: bool,
    }

    thread_local! {
        static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
        static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
    }

    /// Calls `observer` after every event on this thread, instead of the one before.
    pub fn observe(observer: impl FnMut(Event<'_>) + 'static) {
        OBSERVER.with(|slot| *slot.borrow_mut() = Some(Box::new(observer)));
    }

    pub fn tell(event: Event<'_>) {
        OBSERVER.with(|slot| {
            if let Some(observer) = slot.borrow_mut().as_mut() {
                observer(event);
            }
        });
    }

    /// Makes the `nth` (from 0) operation `op` of this thread fail with `errno`, and, when `sticky`,
    /// all of that kind after it.
    pub fn inject(op: Op, nth: usize, errno: i32, sticky: bool) {
        PLAN.with(|plan| {
            *plan.borrow_mut() = Some(Plan {
                op: Some(op),
                left: nth,
                errno,
                sticky,
            })
        });
    }

    /// Lets `count` operations of this thread pass and makes all after them fail: what is on disk then
    /// is what a process leaves that ends at that moment.
    pub fn stop_after(count: usize) {
        PLAN.with(|plan| {
            *plan.borrow_mut() = Some(Plan {
                op: None,
                left: count,
                errno: 5,
                sticky: true,
            })
        });
    }

    /// Takes the plan back; true when it has struck or was never made.
    pub fn clear() -> bool {
        PLAN.with(|plan| plan.borrow_mut().take())
            .is_none_or(|plan| plan.sticky && plan.left == 0)
    }

    pub fn check(op: Op) -> io::Result<()> {
        PLAN.with(|cell| {
            let mut slot = cell.borrow_mut();
            let Some(plan) = slot
                .as_mut()
                .filter(|plan| plan.op.is_none_or(|own| own == op))
            else {
                return Ok(());
            };
            if plan.left > 0 {
                plan.left -= 1;
                return Ok(());
            }
            let error = io::Error::from_raw_os_error(plan.errno);
            if !plan.sticky {
                *slot = None;
            }
            Err(error)
        })
    }
}

#[cfg(any(test, feature = "faults"))]
pub use plan::{clear, inject, observe, stop_after};

/// Fails when the test that runs on this thread asked for it, or `MILLSTREAM_FAULT` of this process.
#[inline]
pub fn check(op: Op) -> io::Result<()> {
    #[cfg(feature = "sabotage")]
    process::check(op)?;
    #[cfg(any(test, feature = "faults"))]
    return plan::check(op);
    #[cfg(not(any(test, feature = "faults")))]
    {
        let _ = op;
        Ok(())
    }
}

/// How many of these bytes the next write(2) takes: all, unless a fault makes it a short write.
///
/// # Errors
/// As [`check`].
#[inline]
pub fn check_write(bytes: usize) -> io::Result<usize> {
    #[cfg(any(test, feature = "faults"))]
    plan::check(Op::Write)?;
    #[cfg(feature = "sabotage")]
    return process::check_write(bytes);
    #[cfg(not(feature = "sabotage"))]
    Ok(bytes)
}

/// Reports what has just happened to the test that runs on this thread.
#[inline]
pub fn tell(event: Event<'_>) {
    #[cfg(any(test, feature = "faults"))]
    plan::tell(event);
    #[cfg(not(any(test, feature = "faults")))]
    let _ = event;
}
