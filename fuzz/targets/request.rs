//! No frame makes a decoder panic, or allocate more than `Reader::array_budget_bytes` says.
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

/// Runs `decode` and holds what it allocated, all in all, against the documented bound. (An
/// allocation far beyond any memory ends the run by itself.)
fn bounded(frame_bytes: usize, decode: impl FnOnce()) {
    let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
    decode();
    let allocated = ALLOCATED_BYTES.load(Ordering::Relaxed) - before;
    let bound = Reader::array_budget_bytes(frame_bytes);
    assert!(
        allocated <= bound,
        "decoding a frame of {frame_bytes} bytes allocated {allocated}, more than {bound}"
    );
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
