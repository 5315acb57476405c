//! Long messages, read and written in slices of time.

use super::{Reader, Wire, WireError, Writer};
use crate::io::reactor::Slice;
use std::pin::Pin;

/// A message of up to this many bytes is read and written in one go.
pub const SHORT_BYTES: usize = 64 << 10;
/// Bytes of a message between two looks at the clock.
const STEP_BYTES: usize = 4 << 10;
/// Bytes that a writer seals at a time.
const SEALED_BYTES: usize = 256 << 10;

/// Reads a long message. In memory of its own: a future that reads short ones does not carry what this takes.
pub fn decode_long<'a, T: Wire<'a>>(
    r: &mut Reader<'a>,
    version: i16,
) -> Pin<Box<impl Future<Output = Result<T, WireError>>>> {
    Box::pin(async move { T::decode_in_slices(r, version, &mut Slices::new()).await })
}

/// Writes a long message, as [`decode_long`] reads one.
pub fn encode_long<'a, T: Wire<'a>>(
    message: T,
    w: &mut Writer,
    version: i16,
) -> Pin<Box<impl Future<Output = ()>>> {
    Box::pin(async move {
        message
            .encode_in_slices(w, version, &mut Slices::new())
            .await
    })
}

/// Lets others pass while a long message is read or written: after each element of an array it is told how
/// far the message has come.
pub struct Slices {
    slice: Slice,
    /// How far it had come at the last look at the clock.
    seen: usize,
}

impl Slices {
    /// Some that begin now.
    #[expect(
        clippy::new_without_default,
        reason = "a default that reads the clock would surprise"
    )]
    pub fn new() -> Slices {
        Slices {
            slice: Slice::new(),
            seen: 0,
        }
    }

    pub(super) async fn read(&mut self, r: &Reader<'_>) {
        self.at(r.remaining()).await;
    }

    pub(super) async fn written(&mut self, w: &mut Writer) {
        if w.unsealed_bytes() >= SEALED_BYTES {
            w.seal();
        }
        self.at(w.unsealed_bytes()).await;
    }

    async fn at(&mut self, bytes: usize) {
        if self.seen.abs_diff(bytes) >= STEP_BYTES {
            self.seen = bytes;
            self.slice.rest().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::reactor;
    use crate::wire::Wire;
    use bytes::Bytes;
    use std::cell::Cell;
    use std::rc::Rc;

    /// More than is written at a time, with parts between that are shared.
    #[test]
    #[cfg_attr(miri, ignore = "it needs a reactor")]
    fn a_long_message_is_what_it_is_in_one_go_and_others_pass() {
        reactor::start(async {
            let bytes = |one: usize| match one % 1000 {
                999 => Bytes::from(vec![one as u8; 5000]),
                _ => Bytes::from(one.to_string()),
            };
            let long: Vec<Vec<Bytes>> = (0..200_000).map(|one| vec![bytes(one)]).collect();
            let frame = |mut w: Writer| {
                w.bool(true);
                w.finish().unwrap().to_vec()
            };
            let mut w = Writer::frame(true);
            long.encode(&mut w, 0);
            let expected = frame(w);

            let passed = Rc::new(Cell::new(0));
            let counter = Rc::clone(&passed);
            reactor::spawn(async move {
                loop {
                    counter.set(counter.get() + 1);
                    reactor::yield_now().await;
                }
            });
            let mut w = Writer::frame(true);
            let mut slices = Slices::new();
            long.clone().encode_in_slices(&mut w, 0, &mut slices).await;
            assert!(w.unsealed_bytes() < 2 * SEALED_BYTES);
            assert!(frame(w) == *expected);
            let after_writing = passed.get();
            assert!(after_writing > 0);

            let mut r = Reader::over(&expected, true);
            r.i32().unwrap();
            let read = Vec::<Vec<Bytes>>::decode_in_slices(&mut r, 0, &mut slices).await;
            assert!(read.unwrap() == long);
            assert!(passed.get() > after_writing);
        });
    }
}
