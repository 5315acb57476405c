//! Where the broker is: flags that all commands have that need one.

use crate::client::http::Http;
use anyhow::Context;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct BrokerArgs {
    /// The broker's address; several with commas between them are tried in turn
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "MILLSTREAM_BOOTSTRAP",
        default_value = "127.0.0.1:9092"
    )]
    pub bootstrap: String,
}

/// Where the broker serves HTTP. The variable is that of `serve`, so that one line sets both.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HttpArgs {
    /// The broker's address for HTTP
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "MILLSTREAM_HTTP",
        default_value = "127.0.0.1:8082"
    )]
    pub http: String,
}

impl HttpArgs {
    /// Asks there.
    pub fn client(&self) -> anyhow::Result<Http> {
        Http::at(&self.http).context("cannot start a runtime")
    }
}
