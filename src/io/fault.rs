//! Faults that a test asks for: the n-th operation of a kind, on the thread that asked, fails.
//!
//! Outside tests (and without the feature `faults`) every check is a constant `Ok`, so a release
//! build carries none of it.

use std::io;

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

#[cfg(any(test, feature = "faults"))]
mod plan {
    use super::Op;
    use std::{cell::RefCell, io};

    struct Plan {
        op: Op,
        /// Operations of this kind still to let pass.
        left: usize,
        errno: i32,
        /// Whether every later operation of the kind fails too.
        sticky: bool,
    }

    thread_local! {
        static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
    }

    /// Makes the `nth` (from 0) operation `op` of this thread fail with `errno`, and, when `sticky`,
    /// all of that kind after it.
    pub fn inject(op: Op, nth: usize, errno: i32, sticky: bool) {
        PLAN.with(|plan| {
            *plan.borrow_mut() = Some(Plan {
                op,
                left: nth,
                errno,
                sticky,
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
            let Some(plan) = slot.as_mut().filter(|plan| plan.op == op) else {
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
pub use plan::{clear, inject};

/// Fails when the test that runs on this thread asked for it.
#[inline]
pub fn check(op: Op) -> io::Result<()> {
    #[cfg(any(test, feature = "faults"))]
    return plan::check(op);
    #[cfg(not(any(test, feature = "faults")))]
    {
        let _ = op;
        Ok(())
    }
}
