//! The allocator of the programs.
//!
//! mimalloc has a heap for each thread, which suits a thread per core: a batch in and out takes a tenth
//! fewer instructions than with glibc's. And what is freed can be given back: glibc keeps 200 MiB after ten
//! thousand connections. Its advice of huge pages is left out: with it ten thousand connections take three
//! times as much, most of it untouched.

use libmimalloc_sys::{mi_collect, mi_option_set, mi_option_t};
use std::ffi::c_long;

/// For `#[global_allocator]`.
pub type Allocator = mimalloc::MiMalloc;
/// The one there is.
pub const ALLOCATOR: Allocator = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc.h, which the crate has no name for: how long what is free is kept,
/// in milliseconds.
const PURGE_DELAY: mi_option_t = 15;
/// Longer than any thread waits with an allocation: [`give_back`] alone gives back.
const PURGE_DELAY_MS: c_long = 24 * 3600 * 1000;

/// Lets no allocation give memory back on its way, which would hold up a shard. To be called before the
/// first thread is started.
pub fn keep_until_asked() {
    // SAFETY: sets a number, whoever is the allocator.
    unsafe { mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
}

/// Gives all memory back to the system that is free now. To be called about once a second, from a thread
/// that nobody waits for.
pub fn give_back() {
    // SAFETY: may be called at any time on any thread, whoever is the allocator.
    unsafe { mi_collect(true) };
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_option_is_that_of_the_purge_delay() {
        // SAFETY: reads a number.
        let delay_ms = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        // The default of mimalloc 3, and of no other option; or a broker has been started by another test.
        assert!([1000, PURGE_DELAY_MS].contains(&delay_ms), "{delay_ms}");
    }
}
