//! No frame makes a decoder panic, allocate more than `Reader::array_budget_bytes` says, or take more steps
//! than its bytes justify. A step is a comparison of integers, of which every loop has some.
//!
//! Every input is tried twice: as a whole frame, and with its first two bytes choosing an API and a
//! version whose body is the rest.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millstream::kafka::api::APIS;
use millstream::kafka::dispatch::{RequestHeader, decode_body};
use millstream::wire::Reader;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

fuzz_target!(|data: &[u8]| {
    let frame = shared(data);
    bounded(frame.len(), || {
        if let Ok((header, mut reader)) = RequestHeader::decode(&frame)
            && let Some(api) = header.api()
            && api.serves(header.api_version)
        {
            let _ = decode_body(api.key, header.api_version, &mut reader);
        }
    });
    let [chosen_api, chosen_version, body @ ..] = data else {
        return;
    };
    let api = &APIS[usize::from(*chosen_api) % APIS.len()];
    let versions = api.max_version - api.min_served_version + 1;
    let version = api.min_served_version + i16::from(*chosen_version) % versions;
    let body = shared(body);
    bounded(body.len(), || {
        let _ = decode_body(
            api.key,
            version,
            &mut Reader::new(&body, api.is_flexible(version)),
        );
    });
});

/// A copy of `data` that is counted by reference already: the first slice of a fresh `Bytes` would
/// allocate that count, and be taken for the decoder's.
fn shared(data: &[u8]) -> Bytes {
    let frame = Bytes::copy_from_slice(data);
    drop(frame.clone());
    frame
}

/// Steps that any frame may take, and steps for each of its bytes.
const STEPS_FREE: usize = 1_000;
const STEPS_PER_BYTE: usize = 100;

/// Runs `decode` and holds what it allocated, all in all, against the documented bound, and its steps
/// against theirs. (An allocation far beyond any memory ends the run by itself.)
fn bounded(frame_bytes: usize, decode: impl FnOnce()) {
    let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
    let steps_before = STEPS.load(Ordering::Relaxed);
    decode();
    let steps = STEPS.load(Ordering::Relaxed) - steps_before;
    let steps_bound = STEPS_FREE + STEPS_PER_BYTE * frame_bytes;
    assert!(
        steps <= steps_bound,
        "decoding a frame of {frame_bytes} bytes took {steps} steps, more than {steps_bound}"
    );
    let allocated = ALLOCATED_BYTES.load(Ordering::Relaxed) - before;
    let bound = Reader::array_budget_bytes(frame_bytes);
    assert!(
        allocated <= bound,
        "decoding a frame of {frame_bytes} bytes allocated {allocated}, more than {bound}"
    );
}

/// Comparisons so far.
static STEPS: AtomicUsize = AtomicUsize::new(0);

/// The compiler calls these with both sides of a comparison, for the fuzzer to learn from. The linker puts
/// ours in between (build.rs).
macro_rules! counted {
    ($($wrapper:ident, $fuzzers:ident, $type:ty;)*) => {$(
        // SAFETY: the linker gives no other function this name.
        #[unsafe(no_mangle)]
        extern "C" fn $wrapper(left: $type, right: $type) {
            // SAFETY: that is its signature; it may be called with any values.
            unsafe extern "C" {
                safe fn $fuzzers(left: $type, right: $type);
            }
            STEPS.fetch_add(1, Ordering::Relaxed);
            $fuzzers(left, right);
        }
    )*};
}

counted! {
    __wrap___sanitizer_cov_trace_cmp1, __real___sanitizer_cov_trace_cmp1, u8;
    __wrap___sanitizer_cov_trace_cmp2, __real___sanitizer_cov_trace_cmp2, u16;
    __wrap___sanitizer_cov_trace_cmp4, __real___sanitizer_cov_trace_cmp4, u32;
    __wrap___sanitizer_cov_trace_cmp8, __real___sanitizer_cov_trace_cmp8, u64;
    __wrap___sanitizer_cov_trace_const_cmp1, __real___sanitizer_cov_trace_const_cmp1, u8;
    __wrap___sanitizer_cov_trace_const_cmp2, __real___sanitizer_cov_trace_const_cmp2, u16;
    __wrap___sanitizer_cov_trace_const_cmp4, __real___sanitizer_cov_trace_const_cmp4, u32;
    __wrap___sanitizer_cov_trace_const_cmp8, __real___sanitizer_cov_trace_const_cmp8, u64;
}

/// Adds up every allocation, freed or not.
struct Counting;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(size, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}
