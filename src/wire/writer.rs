//! Writing replies and records.

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

use super::{SIZE_PREFIX_BYTES, STRING_BYTES_MAX, WireError};

/// Room for a reply without records: most fit, so most replies cost one allocation.
const HEAD_BYTES: usize = 256;

/// One reply, ready to be sent with a vectored write: the whole frame, size prefix included.
///
/// A reply without shared slices is a single part. No part is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub parts: Vec<Bytes>,
}

impl Reply {
    /// Bytes of all parts together, the size prefix included.
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Never true of a finished reply, which holds its size prefix at least.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The frame in one piece. Copies: for tools and tests, not for the hot path.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts.concat()
    }
}

/// Methods that write numbers of a fixed width, each named as its type.
macro_rules! fixed_width {
    ($($number:ident),*) => {$(
        #[inline]
        pub fn $number(&mut self, value: $number) {
            self.own.extend_from_slice(&value.to_be_bytes());
        }
    )*};
}

/// From this size on a string that is kept is shared with a reply: a copy takes memory that is fresh, too.
const SHARED_STRING_BYTES_MIN: usize = 1024;
/// What may be left over of a buffer when it is handed out.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// Builds a frame or a record: fields are copied into a buffer of the writer's own, shared slices are
/// kept aside with their position and are never copied.
#[derive(Debug)]
pub struct Writer {
    own: Vec<u8>,
    /// Each shared slice with the length that `own` had when it was put.
    shared: Vec<(usize, Bytes)>,
    flexible: bool,
    /// `own` begins with a size, which is known last.
    is_frame: bool,
    /// Length of the longest string that had to be cut; 0 if none had.
    cut_bytes: usize,
}

impl Writer {
    /// Starts what is part of something else: a record's key, say. Allocates nothing yet.
    pub fn new(flexible: bool) -> Self {
        Self {
            own: Vec::new(),
            shared: Vec::new(),
            flexible,
            is_frame: false,
            cut_bytes: 0,
        }
    }

    /// Starts a frame, with room for its size.
    pub fn frame(flexible: bool) -> Self {
        let mut own = Vec::with_capacity(HEAD_BYTES);
        own.extend_from_slice(&[0; SIZE_PREFIX_BYTES]);
        Self {
            own,
            is_frame: true,
            ..Self::new(flexible)
        }
    }

    /// Ends a frame: the size before it is now known.
    ///
    /// # Errors
    /// `TooLarge` when the protocol cannot say that size.
    ///
    /// # Panics
    /// When the writer was not started with [`Writer::frame`].
    pub fn finish(mut self) -> Result<Reply, WireError> {
        let bytes = self.len() - SIZE_PREFIX_BYTES;
        let size = i32::try_from(bytes).map_err(|_| WireError::TooLarge(bytes))?;
        self.own[..SIZE_PREFIX_BYTES].copy_from_slice(&size.to_be_bytes());
        Ok(Reply {
            parts: self.into_parts(),
        })
    }

    /// Ends a frame in which no string may be cut: a reply bears that, a request does not.
    ///
    /// # Errors
    /// `StringTooLong` when a string had to be cut, and those of [`Writer::finish`].
    pub fn finish_uncut(self) -> Result<Reply, WireError> {
        self.check_uncut()?;
        self.finish()
    }

    fn check_uncut(&self) -> Result<(), WireError> {
        match self.cut_bytes {
            0 => Ok(()),
            bytes => Err(WireError::StringTooLong(bytes)),
        }
    }

    /// What was written, in one piece.
    ///
    /// # Errors
    /// `StringTooLong` when a string had to be cut: a reply bears that, a record does not.
    pub fn into_vec(self) -> Result<Vec<u8>, WireError> {
        self.check_uncut()?;
        if self.shared.is_empty() {
            return Ok(self.own);
        }
        Ok(self.into_parts().concat())
    }

    fn into_parts(mut self) -> Vec<Bytes> {
        // A long reply may wait for its client for long; what it had grown to was twice as much.
        if self.own.capacity() - self.own.len() > SPARE_BYTES_MAX {
            self.own.shrink_to_fit();
        }
        let mut parts = Vec::with_capacity(2 * self.shared.len() + 1);
        in_order(Bytes::from(self.own), 0, self.shared, |part| {
            parts.push(part);
        });
        parts
    }

    /// Bytes of the writer's own that were not sealed.
    pub(super) fn unsealed_bytes(&self) -> usize {
        self.own.len()
    }

    /// Takes what was written out of the buffer, which so never becomes large: to grow copies all of it.
    pub(super) fn seal(&mut self) {
        let kept = if self.is_frame { SIZE_PREFIX_BYTES } else { 0 };
        let own = Bytes::from(self.own.split_off(kept));
        // What was sealed before stands right behind the bytes that are kept.
        let sealed = self
            .shared
            .partition_point(|(position, _)| *position <= kept);
        let unsealed = self.shared.split_off(sealed);
        in_order(own, kept, unsealed, |part| self.shared.push((kept, part)));
    }

    /// Bytes written so far, the size prefix and shared slices included.
    pub fn len(&self) -> usize {
        let shared: usize = self.shared.iter().map(|(_, slice)| slice.len()).sum();
        self.own.len() + shared
    }

    /// Never true of a frame, which starts with its size.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Switches form: the header of a reply may have another one than its body.
    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub fn bool(&mut self, value: bool) {
        self.own.push(u8::from(value));
    }

    fixed_width!(i8, i16, u16, i32, i64);

    pub fn uuid(&mut self, value: Uuid) {
        self.own.extend_from_slice(value.as_bytes());
    }

    /// An unsigned varint: seven bits a byte, least significant first.
    #[inline]
    pub fn unsigned_varint(&mut self, value: u32) {
        if value < 0x80 {
            self.own.push(value as u8);
        } else {
            self.base128(u64::from(value));
        }
    }

    /// A signed 32-bit varint in zigzag form.
    pub fn varint(&mut self, value: i32) {
        self.unsigned_varint(((value << 1) ^ (value >> 31)) as u32);
    }

    /// A signed 64-bit varint in zigzag form.
    pub fn varlong(&mut self, value: i64) {
        self.base128(((value << 1) ^ (value >> 63)) as u64);
    }

    /// A string; one that the protocol cannot say is cut at a character boundary.
    pub fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    pub fn nullable_string(&mut self, value: Option<&str>) {
        let value = value.map(|value| self.cut_if_too_long(value));
        self.string_length(value.map(str::len));
        self.own
            .extend_from_slice(value.unwrap_or_default().as_bytes());
    }

    /// A string that is not copied if it is long.
    pub fn shared_string(&mut self, value: Option<&ByteString>) {
        match value {
            Some(long) if (SHARED_STRING_BYTES_MIN..=STRING_BYTES_MAX).contains(&long.len()) => {
                self.string_length(Some(long.len()));
                self.put_shared(long.as_bytes().clone());
            }
            _ => self.nullable_string(value.map(|value| &**value)),
        }
    }

    /// The length of a string; `None` is null.
    fn string_length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.compact_length(length);
        } else {
            // At most STRING_BYTES_MAX, so the cast keeps the value.
            self.i16(length.map_or(-1, |length| length as i16));
        }
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.nullable_bytes(Some(value));
    }

    pub fn nullable_bytes(&mut self, value: Option<&[u8]>) {
        self.length(value.map(<[u8]>::len));
        self.own.extend_from_slice(value.unwrap_or_default());
    }

    /// A bytes field made of `slices` one after the other, none of which is copied: how record
    /// batches go from a segment's mapping to the socket.
    pub fn shared_bytes(&mut self, slices: &[Bytes]) {
        self.length(Some(slices.iter().map(Bytes::len).sum()));
        for slice in slices {
            self.put_shared(slice.clone());
        }
    }

    /// Puts a slice into the reply as it is: no length before it, and no copy.
    fn put_shared(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.shared.push((self.own.len(), slice));
        }
    }

    pub fn array<T>(&mut self, elements: &[T], element: impl FnMut(&mut Self, &T)) {
        self.nullable_array(Some(elements), element);
    }

    pub fn nullable_array<T>(
        &mut self,
        elements: Option<&[T]>,
        mut element: impl FnMut(&mut Self, &T),
    ) {
        self.length(elements.map(<[T]>::len));
        for one in elements.unwrap_or_default() {
            element(self, one);
        }
    }

    /// The length of an array whose elements are written next.
    pub(super) fn array_length(&mut self, elements: usize) {
        self.length(Some(elements));
    }

    /// Ends a structure that has no tagged fields to say. Nothing in a classic message.
    pub fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.unsigned_varint(0);
        }
    }

    /// Ends a structure: `write` adds the tagged fields, in ascending order of their tags. It is
    /// not called for a classic message, which has none.
    pub fn tagged_fields(&mut self, write: impl FnOnce(&mut TaggedFields)) {
        if !self.flexible {
            return;
        }
        let mut fields = TaggedFields {
            count: 0,
            encoded: Self::new(true),
        };
        write(&mut fields);
        self.unsigned_varint(fields.count);
        if fields.count > 0 {
            self.append(fields.encoded);
        }
    }

    fn append(&mut self, fragment: Self) {
        let base = self.own.len();
        self.cut_bytes = self.cut_bytes.max(fragment.cut_bytes);
        self.own.extend_from_slice(&fragment.own);
        let moved = fragment.shared.into_iter();
        self.shared
            .extend(moved.map(|(position, slice)| (base + position, slice)));
    }

    fn cut_if_too_long<'v>(&mut self, value: &'v str) -> &'v str {
        if value.len() <= STRING_BYTES_MAX {
            return value;
        }
        self.cut_bytes = self.cut_bytes.max(value.len());
        cut_to(value, STRING_BYTES_MAX)
    }

    /// The length of an array or of bytes; `None` is null.
    fn length(&mut self, length: Option<usize>) {
        if self.flexible {
            self.compact_length(length);
        } else {
            self.i32(length.map_or(-1, |length| length as i32));
        }
    }

    fn compact_length(&mut self, length: Option<usize>) {
        self.unsigned_varint(length.map_or(0, |length| length as u32 + 1));
    }

    fn base128(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.own.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.own.push(value as u8);
    }
}

/// Gives out a writer's `own` bytes from position `taken` on and the `shared` slices between them, none of
/// them empty.
#[inline(always)]
fn in_order(
    mut own: Bytes,
    mut taken: usize,
    shared: Vec<(usize, Bytes)>,
    mut take: impl FnMut(Bytes),
) {
    for (position, slice) in shared {
        if position > taken {
            take(own.split_to(position - taken));
            taken = position;
        }
        take(slice);
    }
    if !own.is_empty() {
        take(own);
    }
}

/// The tagged fields at the end of a structure, while they are written.
#[derive(Debug)]
pub struct TaggedFields {
    count: u32,
    encoded: Writer,
}

impl TaggedFields {
    /// Adds the field `tag`, whose value `write` writes. Kafka leaves out fields that hold their
    /// default; so should callers.
    pub fn field(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        let mut value = Writer::new(true);
        write(&mut value);
        self.count += 1;
        self.encoded.unsigned_varint(tag);
        self.encoded.unsigned_varint(value.len() as u32);
        self.encoded.append(value);
    }
}

/// As much of a text as `bytes_max` has room for, cut at a character.
pub fn cut_to(value: &str, bytes_max: usize) -> &str {
    let mut end = value.len().min(bytes_max);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Reader;

    #[test]
    fn a_frame_starts_with_its_size_and_a_record_with_itself() {
        let mut writer = Writer::frame(true);
        writer.i16(-2);
        let reply = writer.finish().unwrap();
        assert_eq!(reply.parts.len(), 1);
        assert_eq!(reply.to_vec(), b"\x00\x00\x00\x02\xff\xfe");

        let mut writer = Writer::new(true);
        writer.i16(-2);
        assert_eq!(writer.into_vec().unwrap(), b"\xff\xfe");
    }

    #[test]
    fn shared_slices_are_parts_in_their_place_and_are_not_copied() {
        let first = Bytes::from(vec![1; 5]);
        let second = Bytes::from(vec![2; 3]);
        let write = |mut writer: Writer| {
            writer.shared_bytes(&[first.clone(), Bytes::new(), second.clone()]);
            writer.i8(9);
            writer.shared_bytes(&[]);
            writer
        };
        let writer = write(Writer::frame(false));
        assert_eq!(writer.len(), 4 + 4 + 8 + 1 + 4);
        let reply = writer.finish().unwrap();

        assert_eq!(reply.parts.len(), 4);
        assert_eq!(reply.parts[1].as_ptr(), first.as_ptr());
        assert_eq!(reply.parts[2].as_ptr(), second.as_ptr());
        assert_eq!(reply.len(), 21);
        let whole = reply.to_vec();
        assert_eq!(whole[..4], 17u32.to_be_bytes());
        let fields = b"\x00\x00\x00\x08\x01\x01\x01\x01\x01\x02\x02\x02\x09\x00\x00\x00\x00";
        assert_eq!(whole[4..], *fields);
        assert_eq!(write(Writer::new(false)).into_vec().unwrap(), fields);
    }

    #[test]
    fn shared_slices_keep_their_place_inside_tagged_fields() {
        let slice = Bytes::from_static(b"xyz");
        let mut writer = Writer::new(true);
        writer.tagged_fields(|fields| {
            fields.field(0, |w| w.i8(4));
            fields.field(3, |w| w.shared_bytes(&[slice]));
        });
        let fields = writer.into_vec().unwrap();
        assert_eq!(fields, b"\x02\x00\x01\x04\x03\x04\x04xyz");
    }

    #[test]
    fn a_reply_whose_size_the_protocol_cannot_say_is_none() {
        let slice = Bytes::from(vec![0; 1 << 20]);
        let mut writer = Writer::frame(false);
        for _ in 0..2 {
            writer.shared_bytes(&vec![slice.clone(); 1024]);
        }
        let bytes = (2 << 30) + 2 * 4;
        assert_eq!(writer.finish(), Err(WireError::TooLarge(bytes)));
    }

    #[test]
    fn varints_read_back() {
        for value in [0, 1, -1, 63, 64, -65, i32::MAX, i32::MIN] {
            let mut writer = Writer::new(true);
            writer.varint(value);
            writer.varlong(i64::from(value) << 31);
            let frame = Bytes::from(writer.into_vec().unwrap());
            let mut reader = Reader::new(&frame, true);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.varlong(), Ok(i64::from(value) << 31));
        }
    }

    #[test]
    fn a_kept_string_is_written_as_any_other_and_shared_if_it_is_long() {
        for bytes in [
            0,
            5,
            SHARED_STRING_BYTES_MIN,
            STRING_BYTES_MAX,
            STRING_BYTES_MAX + 1,
        ] {
            for flexible in [false, true] {
                let text = ByteString::from("x".repeat(bytes));
                let mut kept = Writer::frame(flexible);
                kept.shared_string(Some(&text));
                kept.shared_string(None);
                let kept = kept.finish().unwrap();
                let is_shared = kept.parts.iter().any(|part| part.as_ptr() == text.as_ptr());
                let is_long = (SHARED_STRING_BYTES_MIN..=STRING_BYTES_MAX).contains(&bytes);
                assert_eq!(is_shared, is_long, "{bytes} bytes");
                let mut other = Writer::frame(flexible);
                other.nullable_string(Some(&text));
                other.nullable_string(None);
                assert_eq!(kept.to_vec(), other.finish().unwrap().to_vec());
            }
        }
    }

    #[test]
    fn a_string_too_long_for_the_protocol_is_cut_at_a_character() {
        let long = "é".repeat(STRING_BYTES_MAX);
        for flexible in [false, true] {
            let mut writer = Writer::frame(flexible);
            writer.string(&long);
            let frame = Bytes::from(writer.finish().unwrap().to_vec()).slice(4..);
            let text = Reader::new(&frame, flexible).string().unwrap().to_owned();
            assert_eq!(text.len(), STRING_BYTES_MAX - 1);
        }
    }

    #[test]
    fn a_record_with_a_string_too_long_is_refused() {
        let long = "x".repeat(STRING_BYTES_MAX + 1);
        let error = Err(WireError::StringTooLong(long.len()));
        let mut writer = Writer::new(false);
        writer.nullable_string(Some(&long));
        writer.string("short");
        assert_eq!(writer.into_vec(), error);

        let mut writer = Writer::new(true);
        writer.tagged_fields(|fields| fields.field(0, |w| w.string(&long)));
        assert_eq!(writer.into_vec(), error);
    }
}
