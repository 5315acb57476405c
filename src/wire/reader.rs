//! Reading frames and records.

use bytes::Bytes;
use std::borrow::Cow;
use uuid::Uuid;

use super::{STRING_BYTES_MAX, WireError};

/// Memory that the arrays of one request may take, in bytes for each byte of its frame. Strings
/// and byte fields take none: they borrow from the frame. Most real requests stay below 3.
const ARRAY_BYTES_PER_FRAME_BYTE: usize = 4;

/// Memory that the arrays of any request may take: small requests may be denser than large ones,
/// say a list of topics with names of one letter.
const ARRAY_BYTES_FLOOR: usize = 256 * 1024;

/// Memory that the arrays of no request may exceed: frames become large by records, not by naming
/// things, and an answer takes many times what it answers.
const ARRAY_BYTES_CEILING: usize = 32 * 1024 * 1024;

/// Memory that the arrays of a record of an internal topic may take, in bytes for each byte of the record.
/// No structure takes more, so no sound record is refused.
const ARRAY_BYTES_PER_RECORD_BYTE: usize = 16;

/// Methods that read numbers of a fixed width, each named as its type.
macro_rules! fixed_width {
    ($($number:ident),*) => {$(
        #[inline]
        pub fn $number(&mut self) -> Result<$number, WireError> {
            Ok($number::from_be_bytes(self.fixed()?))
        }
    )*};
}

/// A cursor over one frame, or one record of an internal topic.
///
/// Strings borrow from the frame and byte fields are slices that share it, so reading copies
/// nothing. Every method checks against the end of the frame: no input makes one panic.
///
/// Arrays are what costs memory, and a hostile frame can claim many elements, or hold many that
/// take a byte on the wire and fifty in memory. All arrays of a frame draw on one budget,
/// [`Reader::array_budget_bytes`], which is therefore the most that decoding a frame allocates.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    /// What is not read yet, of the frame or of one tagged field.
    rest: &'a [u8],
    /// The whole frame, if slices of it can be shared.
    shared: Option<&'a Bytes>,
    /// What arrays may still take.
    budget_bytes: usize,
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `frame` (without its size prefix).
    pub fn new(frame: &'a Bytes, flexible: bool) -> Self {
        Self {
            shared: Some(frame),
            budget_bytes: Self::array_budget_bytes(frame.len()),
            ..Self::over(frame, flexible)
        }
    }

    /// A reader at the start of a broker's reply (without its size prefix), for a client that trusts the
    /// broker with memory in proportion to the reply.
    pub fn of_reply(frame: &'a Bytes, flexible: bool) -> Self {
        let mut reader = Self::over(frame, flexible);
        reader.shared = Some(frame);
        reader.budget_bytes = reader.budget_bytes.saturating_add(ARRAY_BYTES_FLOOR);
        reader
    }

    /// A reader at the start of a record of an internal topic. Byte fields are read with
    /// [`Reader::borrowed_bytes`], for [`Reader::bytes`] would copy them.
    ///
    /// Arrays may take more than a frame's: a record that was once written must be readable, and no
    /// stranger wrote it.
    pub fn over(record: &'a [u8], flexible: bool) -> Self {
        Self {
            rest: record,
            shared: None,
            budget_bytes: record.len().saturating_mul(ARRAY_BYTES_PER_RECORD_BYTE),
            flexible,
        }
    }

    /// The most memory that decoding a frame of this size allocates.
    pub const fn array_budget_bytes(frame_bytes: usize) -> usize {
        let wanted = frame_bytes
            .saturating_mul(ARRAY_BYTES_PER_FRAME_BYTE)
            .saturating_add(ARRAY_BYTES_FLOOR);
        if wanted < ARRAY_BYTES_CEILING {
            wanted
        } else {
            ARRAY_BYTES_CEILING
        }
    }

    /// Whether compact forms and tagged fields are expected.
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// Switches form: the request header is read before its version's form is known.
    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn bool(&mut self) -> Result<bool, WireError> {
        Ok(self.i8()? != 0)
    }

    fixed_width!(i8, i16, u16, i32, i64);

    pub fn uuid(&mut self) -> Result<Uuid, WireError> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    /// An unsigned varint: seven bits a byte, least significant first.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, WireError> {
        if let Some((byte @ 0..0x80, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(u32::from(*byte));
        }
        let value = self.base128(5)?;
        u32::try_from(value).map_err(|_| WireError::VarintTooLong)
    }

    /// A signed 32-bit varint in zigzag form.
    pub fn varint(&mut self) -> Result<i32, WireError> {
        let value = self.unsigned_varint()?;
        Ok((value >> 1) as i32 ^ -((value & 1) as i32))
    }

    /// A signed 64-bit varint in zigzag form.
    pub fn varlong(&mut self) -> Result<i64, WireError> {
        let value = self.base128(10)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A string that cannot be null.
    pub fn string(&mut self) -> Result<&'a str, WireError> {
        self.nullable_string()?.ok_or(WireError::UnexpectedNull)
    }

    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, WireError> {
        let length = if self.flexible {
            self.compact_length()?
        } else {
            classic_length(i32::from(self.i16()?))?
        };
        length.map(|length| self.utf8(length)).transpose()
    }

    /// A nullable string in classic form whatever the version: the header's `client_id`. What is not
    /// UTF-8 in it is replaced.
    pub fn classic_nullable_lossy_string(&mut self) -> Result<Option<Cow<'a, str>>, WireError> {
        let Some(length) = classic_length(i32::from(self.i16()?))? else {
            return Ok(None);
        };
        Ok(Some(String::from_utf8_lossy(self.take(length)?)))
    }

    /// Bytes that cannot be null, as a slice that shares the frame.
    pub fn bytes(&mut self) -> Result<Bytes, WireError> {
        self.nullable_bytes()?.ok_or(WireError::UnexpectedNull)
    }

    /// Bytes or null, as a slice that shares the frame. Record batches are read with this.
    pub fn nullable_bytes(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        Ok(Some(match self.shared {
            Some(frame) => frame.slice_ref(bytes),
            None => Bytes::copy_from_slice(bytes),
        }))
    }

    /// Bytes that cannot be null, as a slice that borrows from the frame.
    pub fn borrowed_bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.length()?.ok_or(WireError::UnexpectedNull)?;
        self.take(length)
    }

    /// An array that cannot be null; `element` reads one element and must consume at least a byte.
    pub fn array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        self.nullable_array(element)?
            .ok_or(WireError::UnexpectedNull)
    }

    pub fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Option<Vec<T>>, WireError> {
        let Some(count) = self.length()? else {
            return Ok(None);
        };
        let mut elements = self.reserve(count)?;
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// Ends a structure whose tagged fields do not concern us. Nothing in a classic message.
    #[inline]
    pub fn skip_tagged_fields(&mut self) -> Result<(), WireError> {
        self.tagged_fields(|_, _| Ok(()))
    }

    /// Ends a structure: calls `field` with each tag and a reader confined to that field's bytes.
    /// What `field` leaves unread is skipped, so unknown tags need no code. Tags ascend (KIP-482);
    /// one that does not, a duplicate for instance, is skipped.
    pub fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if !self.flexible {
            return Ok(());
        }
        // None, as almost always.
        if let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(());
        }
        let mut next_tag = 0;
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let rest = self.take(size)?;
            if u64::from(tag) >= next_tag {
                next_tag = u64::from(tag) + 1;
                let mut value = Self {
                    rest,
                    ..self.clone()
                };
                field(tag, &mut value)?;
                self.budget_bytes = value.budget_bytes;
            }
        }
        Ok(())
    }

    /// Room for `count` elements, if the frame can hold as many and the budget allows it.
    pub(super) fn reserve<T>(&mut self, count: usize) -> Result<Vec<T>, WireError> {
        // No element of any message is empty, so a count beyond the bytes left is wrong.
        if count > self.remaining() {
            return Err(WireError::Truncated);
        }
        let bytes = count.saturating_mul(size_of::<T>());
        self.budget_bytes = self
            .budget_bytes
            .checked_sub(bytes)
            .ok_or(WireError::TooManyElements(count))?;
        Ok(Vec::with_capacity(count))
    }

    fn utf8(&mut self, length: usize) -> Result<&'a str, WireError> {
        if length > STRING_BYTES_MAX {
            return Err(WireError::StringTooLong(length));
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| WireError::InvalidUtf8)
    }

    /// The length of an array or of bytes; `None` is null.
    pub(super) fn length(&mut self) -> Result<Option<usize>, WireError> {
        if self.flexible {
            self.compact_length()
        } else {
            classic_length(self.i32()?)
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, WireError> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|n| n as usize))
    }

    fn base128(&mut self, bytes_max: u32) -> Result<u64, WireError> {
        let mut value = 0u64;
        for index in 0..bytes_max {
            let [byte] = self.fixed()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * index);
            if shifted >> (7 * index) != bits {
                return Err(WireError::VarintTooLong);
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::VarintTooLong)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// -1 is null; anything lower is nonsense.
fn classic_length(length: i32) -> Result<Option<usize>, WireError> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length)
            .map(Some)
            .map_err(|_| WireError::NegativeLength(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn strings_borrow_and_bytes_share_the_frame() {
        let frame = frame(b"\x00\x02hi\x00\x00\x00\x03abc");
        let mut reader = Reader::new(&frame, false);
        let text = reader.string().unwrap();
        let bytes = reader.bytes().unwrap();
        assert_eq!((text, text.as_ptr()), ("hi", frame.slice(2..).as_ptr()));
        assert_eq!(
            (&bytes[..], bytes.as_ptr()),
            (&b"abc"[..], frame.slice(8..).as_ptr())
        );
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn null_is_minus_one_classic_and_zero_compact() {
        let classic = frame(b"\xff\xff");
        let compact = frame(b"\x00");
        assert_eq!(Reader::new(&classic, false).nullable_string(), Ok(None));
        assert_eq!(Reader::new(&compact, true).nullable_string(), Ok(None));
        assert_eq!(
            Reader::new(&compact, true).string(),
            Err(WireError::UnexpectedNull)
        );
        let nonsense = frame(b"\xff\xfe");
        assert_eq!(
            Reader::new(&nonsense, false).nullable_string(),
            Err(WireError::NegativeLength(-2))
        );
    }

    #[test]
    fn varints_hold_to_their_width() {
        let widest = frame(b"\xff\xff\xff\xff\x0f");
        assert_eq!(Reader::new(&widest, true).unsigned_varint(), Ok(u32::MAX));
        assert_eq!(Reader::new(&widest, true).varint(), Ok(i32::MIN));
        for too_long in [
            frame(b"\xff\xff\xff\xff\x1f"),
            frame(b"\x80\x80\x80\x80\x80\x00"),
        ] {
            assert_eq!(
                Reader::new(&too_long, true).unsigned_varint(),
                Err(WireError::VarintTooLong)
            );
        }
        let widest = frame(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        assert_eq!(Reader::new(&widest, true).varlong(), Ok(i64::MIN));
        let too_long = frame(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02");
        assert_eq!(
            Reader::new(&too_long, true).varlong(),
            Err(WireError::VarintTooLong)
        );
    }

    #[test]
    fn a_claimed_length_beyond_the_frame_fails_before_anything_is_reserved() {
        let classic = frame(b"\x7f\xff\xff\xff\x00");
        let compact = frame(b"\xff\xff\xff\xff\x0f\x00");
        for (frame, flexible) in [(classic, false), (compact, true)] {
            let mut calls = 0;
            let result = Reader::new(&frame, flexible).array(|r| {
                calls += 1;
                r.i8()
            });
            assert_eq!((result, calls), (Err(WireError::Truncated), 0));
        }
    }

    #[test]
    fn arrays_of_arrays_cannot_take_more_than_the_frames_budget() {
        // Each inner array is empty: a byte on the wire, 24 in memory.
        let count = 100_000;
        let mut frame = vec![1; 3 + count];
        frame[..3].copy_from_slice(&[0xa1, 0x8d, 0x06]);
        let frame = Bytes::from(frame);
        let budget = Reader::array_budget_bytes(frame.len());
        assert!(count * size_of::<Vec<i64>>() > budget);
        let result = Reader::new(&frame, true).array(|r| r.array(Reader::i64));
        assert_eq!(result, Err(WireError::TooManyElements(count)));
    }

    #[test]
    fn unknown_and_repeated_tags_are_skipped_and_fields_are_confined() {
        let frame = frame(b"\x03\x01\x02ab\x01\x01c\x05\x00Z");
        let mut reader = Reader::new(&frame, true);
        let mut seen = Vec::new();
        reader
            .tagged_fields(|tag, field| {
                seen.push((tag, field.remaining()));
                assert_eq!(field.i32(), Err(WireError::Truncated));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [(1, 2), (5, 0)]);
        assert_eq!(reader.i8(), Ok(b'Z' as i8));
    }

    #[test]
    fn strings_must_be_utf8_and_of_bounded_length() {
        let latin1 = frame(b"\x00\x01\xe9");
        assert_eq!(
            Reader::new(&latin1, false).string(),
            Err(WireError::InvalidUtf8)
        );
        // Compact length 32768: one more than a classic length can say.
        let long = frame(b"\x81\x80\x02");
        assert_eq!(
            Reader::new(&long, true).string(),
            Err(WireError::StringTooLong(32768))
        );
    }
}
