//! Checking a log's bytes: one walker over a segment's batches, one rule for their offsets, and what is built on both.
//!
//! [`scan`] finds the batches of a file, and what lies between them. [`order`] is the rule that says whether a
//! batch has the offset that it should have. [`walk`] is the loop that puts the two together. On top of it:
//!
//! - [`recovery`](super::recovery) stops at the first batch that is not sound.
//! - [`survey`] continues behind it, and makes a list of [`damage`].
//! - [`verify`] continues too, and says in detail what is wrong and what it means.
//! - [`repair`] writes a segment again without what a survey found.
//! - [`scrub`] applies the rule to what it reads past the page cache.
//! - Compaction stops at the first batch that is not sound, and leaves the segment as it is.

pub mod damage;
pub mod order;
pub mod repair;
pub mod scan;
pub mod scrub;
pub mod survey;
pub mod verify;
pub mod walk;
