//! The primitive types of Kafka's protocol and of the records in its internal topics: [`Reader`] takes
//! a frame or a record apart, [`Writer`] builds one.
//!
//! Both know whether the message is *flexible* (KIP-482). A flexible message writes lengths as
//! unsigned varints of length + 1 ("compact"), and ends each structure with tagged fields. A
//! classic message has fixed-width lengths and no tagged fields. The codecs say `string()` or
//! `array()` and the form follows from the version.
//!
//! All integers are big-endian, except in varints.

pub mod partitioner;
mod reader;
#[cfg(test)]
pub mod round_trip;
pub mod schema;
mod slices;
pub mod types;
mod writer;

pub use reader::Reader;
pub use slices::{SHORT_BYTES, Slices, decode_long, encode_long};
pub use types::{Nullable, Wire};
pub use writer::{Reply, TaggedFields, Writer, cut_to};

/// Bytes of the length prefix that stands before every frame, in both directions.
pub const SIZE_PREFIX_BYTES: usize = 4;

/// Longest string the protocol can say, in bytes: the classic length is an `i16`, and Kafka holds
/// compact strings to the same bound.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Why a frame could not be read, or written. Bytes left over at the end are not an error: Kafka tolerates
/// them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field, or the elements that an array claims, would lie past the end of the frame.
    #[error("the frame ends before the message does")]
    Truncated,
    /// Arrays that would take far more memory than the frame that asks for them.
    #[error("an array of {0} elements is out of proportion to its frame")]
    TooManyElements(usize),
    /// A length below -1, which has no meaning.
    #[error("negative length {0}")]
    NegativeLength(i32),
    /// A version below 0, which has no meaning.
    #[error("negative version {0}")]
    NegativeVersion(i16),
    /// Null where the protocol does not allow null.
    #[error("null in a field that cannot be null")]
    UnexpectedNull,
    /// A string longer than [`STRING_BYTES_MAX`].
    #[error("string of {0} bytes is longer than the protocol allows")]
    StringTooLong(usize),
    /// A string that is not UTF-8.
    #[error("string is not valid UTF-8")]
    InvalidUtf8,
    /// A varint with more bits than its type.
    #[error("variable-length integer is too long")]
    VarintTooLong,
    /// A reply whose length is no `i32`.
    #[error("a reply of {0} bytes is longer than the protocol allows")]
    TooLarge(usize),
}
