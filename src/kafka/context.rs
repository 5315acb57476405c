//! What a handler is given beside the request's body.

use super::answer::{Answer, Handled, LaterAnswer};
use super::api::Api;
use super::error::ErrorCode;
use crate::access::Principal;
use crate::coordinator::groups::Groups;
use crate::engine::catalog::Topic;
use crate::engine::{Engine, PartitionKey};
use crate::wire::{Wire, Writer};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

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
    pub api: &'static Api,
    pub correlation_id: i32,
}

impl Context<'_> {
    /// The topic of this name.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, ErrorCode> {
        let topic = self.engine.topic(name);
        topic.ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// The partition of this topic and index.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION.
    pub fn key_of(&self, topic: &str, index: i32) -> Result<PartitionKey, ErrorCode> {
        let key = self.engine.key_of(topic, index);
        key.ok_or(ErrorCode::UnknownTopicOrPartition)
    }

    /// Starts the reply to this request, in the form that its version asks for.
    pub fn reply(&self) -> Writer {
        self.api.reply(self.version, self.correlation_id)
    }

    /// A reply whose response is there.
    pub fn now<R>(&self, response: &R) -> Handled
    where
        R: Wire<'static>,
    {
        let mut writer = self.reply();
        response.encode(&mut writer, self.version);
        Handled::Now(Answer::of(writer))
    }

    /// A reply that is written when its response is there.
    pub fn later<R>(&self, response: impl Future<Output = R> + 'static) -> Handled
    where
        R: Wire<'static>,
    {
        Handled::Later(self.written(response))
    }

    /// A reply that others decide on. Returns when it is there, or when `stored` says that the request is
    /// kept where it waits.
    pub async fn parked<R>(
        &self,
        stored: oneshot::Receiver<()>,
        response: impl Future<Output = R> + 'static,
    ) -> Handled
    where
        R: Wire<'static>,
    {
        let mut answer = self.written(response);
        tokio::select! {
            biased;
            answer = &mut answer => Handled::Now(answer),
            Ok(()) = stored => Handled::Parked(answer),
        }
    }

    fn written<R>(&self, response: impl Future<Output = R> + 'static) -> LaterAnswer
    where
        R: Wire<'static>,
    {
        let (mut writer, version) = (self.reply(), self.version);
        Box::pin(async move {
            response.await.encode(&mut writer, version);
            Answer::of(writer)
        })
    }
}
