//! The types that have a form on the wire: fields of messages, and messages themselves.

use super::{Reader, Slices, WireError, Writer};
use bytes::Bytes;
use bytestring::ByteString;
use std::borrow::Cow;
use uuid::Uuid;

/// From this size on byte fields are shared with a reply instead of copied into it. Below it the copy
/// costs less than one more part of the reply.
const SHARED_BYTES_MIN: usize = 4096;

/// A type that can be read and written. Its form may depend on the version of the message.
///
/// `'a` is the life of the frame that is read: strings borrow from it.
pub trait Wire<'a>: Sized {
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, WireError>;
    fn encode(&self, w: &mut Writer, version: i16);

    /// As [`decode`](Self::decode), of what may be long.
    fn decode_in_slices(
        r: &mut Reader<'a>,
        version: i16,
        _slices: &mut Slices,
    ) -> impl Future<Output = Result<Self, WireError>> {
        async move { Self::decode(r, version) }
    }

    /// As [`encode`](Self::encode), of what may be long, which is dropped as it is written.
    fn encode_in_slices(
        self,
        w: &mut Writer,
        version: i16,
        _slices: &mut Slices,
    ) -> impl Future<Output = ()> {
        async move { self.encode(w, version) }
    }
}

/// A type that can be null on the wire: then `Option` of it is a field.
///
/// The methods as they stand are for structures, which have a byte before them: -1 for null, else 1.
pub trait Nullable<'a>: Wire<'a> {
    #[inline]
    fn decode_nullable(r: &mut Reader<'a>, version: i16) -> Result<Option<Self>, WireError> {
        if r.i8()? < 0 {
            return Ok(None);
        }
        Self::decode(r, version).map(Some)
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, w: &mut Writer, version: i16) {
        w.i8(if value.is_some() { 1 } else { -1 });
        if let Some(value) = value {
            value.encode(w, version);
        }
    }

    /// As [`decode_nullable`](Self::decode_nullable), of what may be long.
    fn decode_nullable_in_slices(
        r: &mut Reader<'a>,
        version: i16,
        _slices: &mut Slices,
    ) -> impl Future<Output = Result<Option<Self>, WireError>> {
        async move { Self::decode_nullable(r, version) }
    }
}

impl<'a, T: Nullable<'a>> Wire<'a> for Option<T> {
    #[inline]
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, WireError> {
        T::decode_nullable(r, version)
    }

    #[inline]
    fn encode(&self, w: &mut Writer, version: i16) {
        T::encode_nullable(self.as_ref(), w, version);
    }

    async fn decode_in_slices(
        r: &mut Reader<'a>,
        version: i16,
        slices: &mut Slices,
    ) -> Result<Self, WireError> {
        T::decode_nullable_in_slices(r, version, slices).await
    }
}

/// Reads a field in a version that cannot say null, of what may be long.
pub(crate) async fn decode_present_in_slices<'a, T: Nullable<'a>>(
    r: &mut Reader<'a>,
    version: i16,
    slices: &mut Slices,
) -> Result<Option<T>, WireError> {
    T::decode_in_slices(r, version, slices).await.map(Some)
}

/// Writes a field in a version that cannot say null: as the empty one.
pub(crate) fn encode_never_null<'a, T>(value: &Option<T>, w: &mut Writer, version: i16)
where
    T: Nullable<'a> + Default,
{
    match value {
        Some(value) => value.encode(w, version),
        None => T::default().encode(w, version),
    }
}

/// `!=` for two of the same type, so that a default's type is known.
pub(crate) fn differs<T: PartialEq>(value: &T, default: &T) -> bool {
    value != default
}

macro_rules! fixed_width {
    ($($type:ty = $name:ident),*) => {$(
        impl<'a> Wire<'a> for $type {
            #[inline]
            fn decode(r: &mut Reader<'a>, _version: i16) -> Result<Self, WireError> {
                r.$name()
            }

            #[inline]
            fn encode(&self, w: &mut Writer, _version: i16) {
                w.$name(*self);
            }
        }
    )*};
}

fixed_width!(
    bool = bool,
    i8 = i8,
    i16 = i16,
    u16 = u16,
    i32 = i32,
    i64 = i64,
    Uuid = uuid
);

/// Strings, which borrow from the frame that is read.
macro_rules! strings {
    ($($type:ty = $borrow:expr),*) => {$(
        impl<'a> Wire<'a> for $type {
            #[inline]
            fn decode(r: &mut Reader<'a>, _version: i16) -> Result<Self, WireError> {
                r.string().map($borrow)
            }

            #[inline]
            fn encode(&self, w: &mut Writer, _version: i16) {
                w.string(self);
            }
        }

        impl<'a> Nullable<'a> for $type {
            #[inline]
            fn decode_nullable(r: &mut Reader<'a>, _: i16) -> Result<Option<Self>, WireError> {
                Ok(r.nullable_string()?.map($borrow))
            }

            #[inline]
            fn encode_nullable(value: Option<&Self>, w: &mut Writer, _version: i16) {
                w.nullable_string(value.map(|value| &**value));
            }
        }
    )*};
}

strings!(&'a str = std::convert::identity, Cow<'a, str> = Cow::Borrowed);

/// Strings that the broker keeps: long ones are shared with a reply, whoever waits for it.
impl<'a> Wire<'a> for ByteString {
    #[inline]
    fn decode(r: &mut Reader<'a>, _version: i16) -> Result<Self, WireError> {
        r.string().map(ByteString::from)
    }

    #[inline]
    fn encode(&self, w: &mut Writer, _version: i16) {
        w.shared_string(Some(self));
    }
}

impl<'a> Nullable<'a> for ByteString {
    #[inline]
    fn decode_nullable(r: &mut Reader<'a>, _: i16) -> Result<Option<Self>, WireError> {
        Ok(r.nullable_string()?.map(ByteString::from))
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, w: &mut Writer, _version: i16) {
        w.shared_string(value);
    }
}

impl<'a> Wire<'a> for Bytes {
    #[inline]
    fn decode(r: &mut Reader<'a>, _version: i16) -> Result<Self, WireError> {
        r.bytes()
    }

    #[inline]
    fn encode(&self, w: &mut Writer, _version: i16) {
        if self.len() >= SHARED_BYTES_MIN {
            w.shared_bytes(std::slice::from_ref(self));
        } else {
            w.bytes(self);
        }
    }
}

impl<'a> Nullable<'a> for Bytes {
    #[inline]
    fn decode_nullable(r: &mut Reader<'a>, _version: i16) -> Result<Option<Self>, WireError> {
        r.nullable_bytes()
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, w: &mut Writer, version: i16) {
        match value {
            Some(value) => value.encode(w, version),
            None => w.nullable_bytes(None),
        }
    }
}

/// Record batches in a reply: however short, they leave as a slice that is shared, and are not copied. Null is
/// read as no batches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records(pub Bytes);

impl<'a> Wire<'a> for Records {
    #[inline]
    fn decode(r: &mut Reader<'a>, _version: i16) -> Result<Self, WireError> {
        Ok(Records(r.nullable_bytes()?.unwrap_or_default()))
    }

    #[inline]
    fn encode(&self, w: &mut Writer, _version: i16) {
        w.shared_bytes(std::slice::from_ref(&self.0));
    }
}

/// For records of internal topics: a frame's byte fields are [`Bytes`].
impl<'a> Wire<'a> for &'a [u8] {
    #[inline]
    fn decode(r: &mut Reader<'a>, _version: i16) -> Result<Self, WireError> {
        r.borrowed_bytes()
    }

    #[inline]
    fn encode(&self, w: &mut Writer, _version: i16) {
        w.bytes(self);
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    #[inline]
    fn decode(r: &mut Reader<'a>, version: i16) -> Result<Self, WireError> {
        r.array(|r| T::decode(r, version))
    }

    #[inline]
    fn encode(&self, w: &mut Writer, version: i16) {
        w.array(self, |w, element| element.encode(w, version));
    }

    async fn decode_in_slices(
        r: &mut Reader<'a>,
        version: i16,
        slices: &mut Slices,
    ) -> Result<Self, WireError> {
        let elements = Self::decode_nullable_in_slices(r, version, slices).await?;
        elements.ok_or(WireError::UnexpectedNull)
    }

    async fn encode_in_slices(self, w: &mut Writer, version: i16, slices: &mut Slices) {
        w.array_length(self.len());
        for element in self {
            element.encode_in_slices(w, version, slices).await;
            slices.written(w).await;
        }
    }
}

impl<'a, T: Wire<'a>> Nullable<'a> for Vec<T> {
    #[inline]
    fn decode_nullable(r: &mut Reader<'a>, version: i16) -> Result<Option<Self>, WireError> {
        r.nullable_array(|r| T::decode(r, version))
    }

    async fn decode_nullable_in_slices(
        r: &mut Reader<'a>,
        version: i16,
        slices: &mut Slices,
    ) -> Result<Option<Self>, WireError> {
        let Some(count) = r.length()? else {
            return Ok(None);
        };
        let mut elements = r.reserve(count)?;
        for _ in 0..count {
            elements.push(T::decode_in_slices(r, version, slices).await?);
            slices.read(r).await;
        }
        Ok(Some(elements))
    }

    #[inline]
    fn encode_nullable(value: Option<&Self>, w: &mut Writer, version: i16) {
        let elements = value.map(Vec::as_slice);
        w.nullable_array(elements, |w, element| element.encode(w, version));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_fields_of_a_frame_are_shared_when_large() {
        let write = |bytes: &Bytes| {
            let mut w = Writer::frame(false);
            bytes.encode(&mut w, 0);
            w.finish().unwrap().parts
        };
        let (small, large) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 1 << 16]));
        assert_eq!(write(&small).len(), 1);
        assert_eq!(write(&large)[1].as_ptr(), large.as_ptr());
    }
}
