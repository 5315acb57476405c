//! Kafka's protocol: connections, the table of APIs, dispatch, error codes, and one file per API in the
//! folders `data`, `group`, `txn`, `admin` and `auth`.
//!
//! An API file declares the messages of its API with `message!` (`schema.rs`) and has their handler. A handler
//! gets the request and a [`Context`]: what serves the request, who asks, and in which version. What many
//! APIs share is in `topics.rs` (answers by topic and partition) and `error.rs` ([`ApiError`]).
//!
//! No frame makes the broker allocate more than a small multiple of the frame's size: strings borrow from
//! the frame, byte fields share it, and all arrays draw on one budget ([`crate::wire::Reader`]). Decoders
//! never panic.

pub mod admin;
pub mod answer;
pub mod api;
mod api_names;
pub mod api_versions;
pub mod auth;
pub mod codes;
pub mod connection;
pub mod context;
pub mod data;
pub mod dispatch;
pub mod error;
pub mod group;
mod schema;
pub mod topics;
pub mod txn;

// Used in nearly every API's file.
pub use context::Context;
pub use error::{ApiError, ErrorCode};
pub(crate) use schema::message;
