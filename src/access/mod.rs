//! Who asks. The dispatchers of both protocols know it of each request; the engine never does.

use std::fmt;
use std::net::SocketAddr;

/// The one listener that there is, until listeners are configured by name.
pub const DEFAULT_LISTENER: &str = "default";

/// In whose name a request is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody has proved who they are.
    #[default]
    Anonymous,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Anonymous => f.write_str("User:ANONYMOUS"),
        }
    }
}

/// The other end of a connection. It lives as long as the connection; its requests borrow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub principal: Principal,
    pub address: SocketAddr,
    /// Name of the listener that accepted the connection.
    pub listener: &'static str,
}

impl Caller {
    /// A caller who has just connected and proved nothing.
    pub fn new(address: SocketAddr) -> Caller {
        Caller {
            principal: Principal::default(),
            address,
            listener: DEFAULT_LISTENER,
        }
    }
}

/// What an operation is done to, in the words of Kafka's access control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The broker itself.
    Cluster,
    Topic,
    Group,
}

/// What is done to a [`Resource`], in the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    DescribeConfigs,
    AlterConfigs,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
