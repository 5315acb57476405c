//! The rooms that a walk goes through, compiled a second time for the benches: so `cargo bench` builds neither
//! HTTP nor the commands nor what these depend on, and its first figure is there in half of the time.

#[path = "../../src/access/mod.rs"]
pub mod access;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/coordinator/mod.rs"]
pub mod coordinator;
#[path = "../../src/engine/mod.rs"]
pub mod engine;
#[path = "../../src/io/mod.rs"]
pub mod io;
#[path = "../../src/kafka/mod.rs"]
pub mod kafka;
#[path = "../../src/log/mod.rs"]
pub mod log;
#[path = "../../src/net/mod.rs"]
pub mod net;
#[path = "../../src/server.rs"]
pub mod server;
#[path = "../../src/shard/mod.rs"]
pub mod shard;
#[path = "../../src/wire/mod.rs"]
pub mod wire;

/// What a shard asks of the room that serves HTTP. The broker of the benches serves none.
pub mod http {
    use crate::config::Config;
    use crate::coordinator::Coordinators;
    use crate::engine::Engine;
    use std::net::TcpListener;
    use std::rc::Rc;

    pub struct Parts;

    /// One for each shard.
    ///
    /// # Errors
    /// Never.
    pub fn parts(config: &Config) -> std::io::Result<Vec<Parts>> {
        Ok((0..config.cores).map(|_| Parts).collect())
    }

    pub struct Services;

    impl Services {
        pub fn new(_: &Rc<Engine>, _: &Rc<Coordinators>, _: Parts) -> Services {
            Services
        }
    }

    pub async fn serve(_: Services, _: TcpListener) {}
}
