//! Where the broker is: a flag that all commands have that need one.

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
