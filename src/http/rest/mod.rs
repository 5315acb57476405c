//! What the clients of REST proxies ask: versions 2 and 3 of Confluent's REST Proxy, and what Redpanda's HTTP Proxy,
//! Karapace and Strimzi's bridge have beside them.
//!
//! [`instances`] are consumers for those who speak HTTP. `error` has the form of refusals, `embedded` the forms that records have in JSON, `json` reads bodies.
//! [`schemas`] is what the formats need whose schemas are in a registry.

mod embedded;
pub mod error;
pub mod instances;
pub mod json;
pub mod schemas;
pub mod v2;
pub mod v3;
