//! The primitives of these records: strings and arrays with their lengths, in both forms.

use super::FormatError;
use uuid::Uuid;

/// Longest string, in bytes: the classic length is an `i16`, and the flexible form keeps to it.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A cursor over one key or value. No input makes a method panic.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// A reader in the classic form.
    pub fn new(rest: &'a [u8]) -> Self {
        Reader {
            rest,
            flexible: false,
        }
    }

    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn i16(&mut self) -> Result<i16, FormatError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub fn i32(&mut self) -> Result<i32, FormatError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    pub fn uuid(&mut self) -> Result<Uuid, FormatError> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    pub fn string(&mut self) -> Result<&'a str, FormatError> {
        self.nullable_string()?.ok_or(FormatError::BadLength(-1))
    }

    pub fn nullable_string(&mut self) -> Result<Option<&'a str>, FormatError> {
        let length = if self.flexible {
            self.compact_length()?
        } else {
            classic_length(i32::from(self.i16()?))?
        };
        let Some(length) = length else {
            return Ok(None);
        };
        if length > STRING_BYTES_MAX {
            return Err(FormatError::StringTooLong(length));
        }
        let text = std::str::from_utf8(self.take(length)?);
        text.map(Some).map_err(|_| FormatError::InvalidUtf8)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let length = self.length()?;
        self.take(length)
    }

    /// The length of bytes or of an array, which cannot be null.
    pub fn length(&mut self) -> Result<usize, FormatError> {
        let length = if self.flexible {
            self.compact_length()?
        } else {
            classic_length(self.i32()?)?
        };
        length.ok_or(FormatError::BadLength(-1))
    }

    /// Ends a structure: calls `field` with each tag and a reader confined to that field. Nothing
    /// in the classic form.
    pub fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let mut value = Reader {
                rest: self.take(size)?,
                flexible: true,
            };
            field(tag, &mut value)?;
        }
        Ok(())
    }

    fn compact_length(&mut self) -> Result<Option<usize>, FormatError> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|n| n as usize))
    }

    fn unsigned_varint(&mut self) -> Result<u32, FormatError> {
        let mut value = 0u64;
        for index in 0..5 {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| FormatError::BadVarint);
            }
        }
        Err(FormatError::BadVarint)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// -1 is null; lower values are errors.
fn classic_length(length: i32) -> Result<Option<usize>, FormatError> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length)
            .map(Some)
            .map_err(|_| FormatError::BadLength(length)),
    }
}

/// Builds one key or value, which begins with its version.
#[derive(Debug)]
pub struct Writer {
    content: Vec<u8>,
    flexible: bool,
}

impl Writer {
    pub fn new(version: i16, flexible: bool) -> Self {
        Writer {
            content: version.to_be_bytes().to_vec(),
            flexible,
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.content
    }

    pub fn i32(&mut self, value: i32) {
        self.content.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.content.extend_from_slice(&value.to_be_bytes());
    }

    pub fn string(&mut self, value: &str) -> Result<(), FormatError> {
        self.nullable_string(Some(value))
    }

    pub fn nullable_string(&mut self, value: Option<&str>) -> Result<(), FormatError> {
        let text = value.unwrap_or_default();
        if text.len() > STRING_BYTES_MAX {
            return Err(FormatError::StringTooLong(text.len()));
        }
        if self.flexible {
            self.unsigned_varint(value.map_or(0, |value| value.len() as u32 + 1));
        } else {
            // At most STRING_BYTES_MAX, so the cast keeps the value.
            let length = value.map_or(-1, |value| value.len() as i16);
            self.content.extend_from_slice(&length.to_be_bytes());
        }
        self.content.extend_from_slice(text.as_bytes());
        Ok(())
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.length(value.len());
        self.content.extend_from_slice(value);
    }

    /// The length of bytes or of an array. It is far below 2 GiB, as every record is.
    pub fn length(&mut self, length: usize) {
        debug_assert!(i32::try_from(length).is_ok());
        if self.flexible {
            self.unsigned_varint(length as u32 + 1);
        } else {
            self.i32(length as i32);
        }
    }

    /// Ends a structure. Nothing in the classic form.
    pub fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.unsigned_varint(0);
        }
    }

    /// Ends a structure that has one tagged field. The classic form has no tagged fields.
    pub fn only_tagged_field(&mut self, tag: u32, value: &[u8]) {
        if self.flexible {
            self.unsigned_varint(1);
            self.unsigned_varint(tag);
            self.unsigned_varint(value.len() as u32);
            self.content.extend_from_slice(value);
        }
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.content.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.content.push(value as u8);
    }
}
