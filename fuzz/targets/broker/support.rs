//! What the tests' model takes from `tests/support`.

#[path = "../../../tests/support/batch.rs"]
pub mod batch;
#[path = "../../../tests/support/wire.rs"]
pub mod wire;

/// How long a reply over a socket may take; there are no sockets here.
pub const HANG: std::time::Duration = std::time::Duration::from_secs(90);
