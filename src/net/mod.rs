//! Connections: frames in, replies out in the order of the requests.

pub mod addresses;
pub mod connection;
pub mod limits;
pub mod listener;
