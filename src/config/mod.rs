//! Every knob, once.
//!
//! **To add a broker knob**, add one row to the table in `broker.rs`; **to add a topic config**,
//! one row to the table in `topic.rs`. A row is
//!
//! ```text
//! /// Help: what it does and what happens at the edge. Becomes rustdoc, --help, docs and DescribeConfigs.
//! field_with_unit_last: Type = default, kind(range), kafka "kafka.name", shown "…", why "…";
//! ```
//!
//! where `kafka` (the name a Kafka broker has for it), `shown` (how the docs write a default that
//! is computed), `why` (the reason for a narrow range, for the error) and `without_effect` (why it is only stored
//! and shown) may be left out. The typed
//! field, the flag `--field-with-unit-last`, the key `field_with_unit_last` in the TOML file, the
//! variable `MILLSTREAM_FIELD_WITH_UNIT_LAST`, DescribeConfigs and `docs/config.md` all follow.
//! A topic config that has no effect and needs no flag has a row in `stored.rs`.
//! Then run `UPDATE_DOCS=1 cargo test --lib config` to rewrite that page.
//!
//! A flag wins over the environment, the environment over the file, the file over the default.
//! This room is the lowest: it imports nothing from the rest of the crate.

mod broker;
mod change;
mod derived;
mod describe;
mod docs;
mod dynamic;
mod error;
mod header_name;
mod knob;
mod load;
mod nearest;
mod registry_url;
mod stored;
mod topic;
mod value;

pub use broker::{Config, PARTITION_PRODUCERS_LIMIT};
pub use change::{ConfigChange, Owner};
pub use describe::{Entry, Source, Synonym};
pub use docs::docs_markdown;
pub use dynamic::{BrokerScope, Dynamic};
pub use error::{ConfigError, Origin};
pub use header_name::HeaderName;
pub use knob::{Knob, Scope, WITHOUT_EFFECT};
pub use registry_url::RegistryUrl;
pub use stored::REMOVED;
pub use topic::{TopicConfig, TopicDefaults};
pub use value::{
    CleanupPolicy, CompressionType, Durability, GzipLevel, HostPort, HttpListen, Kind, LogFormat,
    MessageValidation, Ratio, ReactorChoice, TimestampType, Unit, duration_ms,
};

/// Every knob an operator can set: the broker's, then the defaults for topics.
pub fn knobs() -> impl Iterator<Item = &'static Knob> {
    Config::KNOBS.iter().chain(TopicConfig::KNOBS)
}

#[cfg(test)]
mod tests;
