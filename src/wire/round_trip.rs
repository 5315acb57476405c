//! The test that every declaration brings: what a version writes, it reads back.

use super::types::Records;
use super::{Reader, Slices, Wire, Writer};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::FutureExt;
use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Mutex;
use uuid::Uuid;

/// A tag that no message has.
const UNKNOWN_TAG: u8 = 100;

/// Values for tests.
pub trait Sample: Clone {
    /// A value other than `self`, the default, that `version` can say; another one for each seed.
    fn sample(&self, seed: &mut u8, version: i16) -> Self;

    /// `self`, the default, as `version` can say it.
    fn sayable(&self, _version: i16) -> Self {
        self.clone()
    }
}

/// Writes and reads `T` in each of the versions: with every field set, and with every default.
pub fn check<T>(versions: RangeInclusive<i16>, first_flexible: &[i16])
where
    T: Wire<'static> + Sample + Default + PartialEq + Debug,
{
    for version in versions {
        let flexible = first_flexible.iter().any(|first| version >= *first);
        let full = T::default().sample(&mut 0, version);
        let written = write(&full, version, flexible);
        assert_eq!(read_back::<T>(written.clone(), version, flexible), full);
        in_slices(&full, written, version, flexible);

        let plain = T::default().sayable(version);
        let mut written = write(&plain, version, flexible);
        assert_eq!(read_back::<T>(written.clone(), version, flexible), plain);
        if flexible {
            assert_eq!(
                written.pop(),
                Some(0),
                "v{version}: a default was written as a tagged field"
            );
            written.extend([1, UNKNOWN_TAG, 2, 0xff, 0xff]);
            assert_eq!(read_back::<T>(written, version, flexible), plain);
        }
    }
}

/// In slices the same is written and read.
fn in_slices<T>(full: &T, written: Vec<u8>, version: i16, flexible: bool)
where
    T: Wire<'static> + Clone + PartialEq + Debug,
{
    let mut w = Writer::new(flexible);
    let mut slices = Slices::new();
    let encoded = full.clone().encode_in_slices(&mut w, version, &mut slices);
    at_once(encoded);
    assert_eq!(w.into_vec().as_ref(), Ok(&written));
    let mut r = Reader::new(keep(written), flexible);
    let read = at_once(T::decode_in_slices(&mut r, version, &mut slices));
    assert_eq!(read.as_ref(), Ok(full));
    assert_eq!(r.remaining(), 0);
}

/// What never waits for long: there is nobody to let pass.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Some(done) = future.as_mut().now_or_never() {
            return done;
        }
    }
}

fn write<T: Wire<'static>>(value: &T, version: i16, flexible: bool) -> Vec<u8> {
    let mut w = Writer::new(flexible);
    value.encode(&mut w, version);
    w.into_vec().expect("short strings")
}

fn read_back<T: Wire<'static>>(written: Vec<u8>, version: i16, flexible: bool) -> T {
    let mut r = Reader::new(keep(written), flexible);
    let value = T::decode(&mut r, version).unwrap_or_else(|error| panic!("v{version}: {error}"));
    assert_eq!(r.remaining(), 0, "v{version}: bytes are left over");
    value
}

/// Keeps `bytes` for as long as the process runs. They can still be reached at its end, so that Miri
/// does not take them for leaked.
fn keep(bytes: impl Into<Bytes>) -> &'static Bytes {
    static KEPT: Mutex<Vec<&Bytes>> = Mutex::new(Vec::new());
    let kept: &'static Bytes = Box::leak(Box::new(bytes.into()));
    KEPT.lock().expect("no test panics here").push(kept);
    kept
}

fn next(seed: &mut u8) -> u8 {
    *seed = *seed % 100 + 1;
    // Above every default, and positive in every type.
    *seed + 20
}

impl Sample for bool {
    fn sample(&self, _seed: &mut u8, _version: i16) -> Self {
        !self
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Sample for $type {
            fn sample(&self, seed: &mut u8, _version: i16) -> Self {
                <$type>::from_be_bytes([next(seed); size_of::<$type>()])
            }
        }
    )*};
}

integers!(i8, i16, u16, i32, i64);

impl Sample for Uuid {
    fn sample(&self, seed: &mut u8, _version: i16) -> Self {
        Uuid::from_bytes([next(seed); 16])
    }
}

impl Sample for &str {
    fn sample(&self, seed: &mut u8, _version: i16) -> Self {
        let text = keep(format!("text {}", next(seed)));
        std::str::from_utf8(text).expect("it was a string")
    }
}

impl Sample for Cow<'_, str> {
    fn sample(&self, seed: &mut u8, _version: i16) -> Self {
        Cow::Owned(format!("text {}", next(seed)))
    }
}

impl Sample for ByteString {
    fn sample(&self, seed: &mut u8, _version: i16) -> Self {
        // Every second one is shared.
        let seed = next(seed);
        format!("text {seed}")
            .repeat(1 + 200 * usize::from(seed % 2))
            .into()
    }
}

impl Sample for &[u8] {
    fn sample(&self, seed: &mut u8, _version: i16) -> Self {
        keep(vec![next(seed); 5])
    }
}

impl Sample for Bytes {
    fn sample(&self, seed: &mut u8, _version: i16) -> Self {
        Bytes::from(vec![next(seed); 5])
    }
}

impl Sample for Records {
    fn sample(&self, seed: &mut u8, version: i16) -> Self {
        Records(self.0.sample(seed, version))
    }
}

impl<T: Sample + Default> Sample for Option<T> {
    fn sample(&self, seed: &mut u8, version: i16) -> Self {
        Some(T::default().sample(seed, version))
    }
}

impl<T: Sample + Default> Sample for Vec<T> {
    fn sample(&self, seed: &mut u8, version: i16) -> Self {
        let one = T::default();
        vec![one.sample(seed, version), one.sample(seed, version)]
    }
}
