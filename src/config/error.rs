//! Why there is no configuration.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Env,
    File(PathBuf),
    /// A topic's own configs, from a client.
    Topic,
    /// The broker's configs, from a client while it runs.
    Broker,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("the command line"),
            Origin::Env => f.write_str("the environment"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Topic => f.write_str("the topic's configs"),
            Origin::Broker => f.write_str("the broker's configs"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not valid TOML: {source}", path.display())]
    Parse {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("unknown setting `{name}` in {origin}{}", did_you_mean(nearest))]
    Unknown {
        name: String,
        origin: Origin,
        nearest: Option<String>,
    },
    #[error("`{name}` cannot be `{value}`, as {origin} says: it takes {permitted}")]
    BadValue {
        name: String,
        value: String,
        origin: Origin,
        permitted: String,
    },
    #[error(
        "`{0}` cannot change while the broker runs: change its flag or the configuration file, then restart"
    )]
    ReadOnly(String),
    #[error("`{0}` cannot be appended to or subtracted from: it is not a list")]
    NotAList(String),
    #[error("{0}")]
    Conflict(String),
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}
