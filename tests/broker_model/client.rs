//! A client of the machine: sends frames, and takes replies in their order, each with what was noted (`A`) when it was
//! asked for.

use super::machine::Connection;
use crate::support::wire;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use millstream::kafka::answer::Answer;
use std::collections::VecDeque;
use std::fmt;

/// A reply without its size.
pub struct Reply(Bytes);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.len().min(100);
        write!(f, "{} bytes, {:?}", self.0.len(), self.0.slice(..shown))
    }
}

pub struct Client<A> {
    connection: Connection,
    next_correlation_id: i32,
    pub asked: VecDeque<(i32, Option<A>)>,
}

impl<A> Client<A> {
    pub fn new(connection: Connection) -> Client<A> {
        Client {
            connection,
            next_correlation_id: 1,
            asked: VecDeque::new(),
        }
    }

    pub fn send<R: Request>(&mut self, request: &R, version: i16, asked: Option<A>) {
        let frame = wire::frame(request, version, self.next_correlation_id);
        self.connection.send(Bytes::from(frame).slice(4..));
        self.asked.push_back((self.next_correlation_id, asked));
        self.next_correlation_id += 1;
    }

    pub fn receive(&mut self) -> Option<(Option<A>, Reply)> {
        let reply = match self.connection.receive()? {
            Answer::Reply(reply) => Bytes::from(reply.to_vec()).slice(4..),
            other => panic!("no reply, but {other:?}"),
        };
        let (expected, asked) = self.asked.pop_front().expect("nothing was asked");
        let correlation_id = i32::from_be_bytes(reply[..4].try_into().unwrap());
        assert_eq!(correlation_id, expected, "replies are out of order");
        Some((asked, Reply(reply)))
    }
}

pub fn decode<R: Request>(reply: Reply, version: i16) -> R::Response {
    let mut bytes = reply.0;
    ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).unwrap();
    let response = R::Response::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty(), "{} bytes left over", bytes.len());
    response
}

/// Kafka has an error of this code, or it is none.
pub fn code_is_known(code: i16) -> bool {
    !matches!(
        ResponseError::try_from_code(code),
        Some(ResponseError::Unknown(_))
    )
}
