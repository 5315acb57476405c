//! What a handler is given beside the request's body.

use super::header::RequestHeader;
use crate::access::{Caller, Principal};
use crate::coordinator::Coordinators;
use crate::coordinator::groups::Groups;
use crate::engine::Engine;
use crate::wire::Writer;
use std::net::SocketAddr;
use std::rc::Rc;

/// One request's surroundings: what serves it, who asks, and in which form the reply is written.
///
/// All of it is borrowed from the connection and the frame. What outlives the call (the future of a
/// reply that waits) takes [`reply`](Self::reply) and clones of what it needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub engine: &'a Rc<Engine>,
    pub groups: &'a Rc<Groups>,
    pub principal: &'a Principal,
    pub client_id: Option<&'a str>,
    pub address: SocketAddr,
    /// Name of the listener that accepted the connection.
    pub listener: &'a str,
    /// Version of the API; it is served.
    pub version: i16,
    /// What the reply tells the client to wait before its next request. 0 while there are no quotas.
    pub throttle_time_ms: i32,
    header: RequestHeader<'a>,
}

impl<'a> Context<'a> {
    pub fn new(
        engine: &'a Rc<Engine>,
        coordinators: &'a Coordinators,
        caller: &'a Caller,
        header: RequestHeader<'a>,
    ) -> Context<'a> {
        Context {
            engine,
            groups: &coordinators.groups,
            principal: &caller.principal,
            client_id: header.client_id,
            address: caller.address,
            listener: caller.listener,
            version: header.api_version,
            throttle_time_ms: 0,
            header,
        }
    }

    /// Starts the reply to this request, in the form that its version asks for.
    pub fn reply(&self) -> Writer {
        self.header.reply()
    }
}
