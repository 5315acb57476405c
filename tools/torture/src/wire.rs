//! One connection to the broker: frames out, frames in, nothing retried.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A broker that is silent for longer hangs.
pub const HANG: Duration = Duration::from_secs(30);

pub struct Wire {
    stream: TcpStream,
    sent: i32,
    received: i32,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect_timeout(&address, HANG)?;
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        stream.set_nodelay(true)?;
        let (sent, received) = (0, 0);
        Ok(Wire {
            stream,
            sent,
            received,
        })
    }

    /// Sends a request and reads its reply.
    ///
    /// # Errors
    /// `InvalidData` for a reply that makes no sense, `TimedOut` for a hang; otherwise the
    /// connection has ended.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    /// Sends a request; replies are read with [`Wire::receive`], in the same order.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.sent += 1;
        self.stream.write_all(&frame(request, version, self.sent))
    }

    /// Sends a request that has no reply.
    pub fn send_unanswered<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.stream.write_all(&frame(request, version, -1))
    }

    pub fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut frame = self.receive_frame()?;
        self.received += 1;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version));
        let header = header.map_err(|error| nonsense(error.to_string()))?;
        if header.correlation_id != self.received {
            let (found, expected) = (header.correlation_id, self.received);
            return Err(nonsense(format!("reply {found} instead of {expected}")));
        }
        let response = R::Response::decode(&mut frame, version);
        response.map_err(|error| nonsense(error.to_string()))
    }

    fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut size = [0; 4];
        self.read_whole(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        if size > 256 << 20 {
            return Err(nonsense(format!("a reply of {size} bytes")));
        }
        let mut frame = vec![0; size];
        self.read_whole(&mut frame)?;
        Ok(frame.into())
    }

    fn read_whole(&mut self, to: &mut [u8]) -> io::Result<()> {
        self.stream
            .read_exact(to)
            .map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
                _ => error,
            })
    }
}

/// A whole request frame, its size included.
pub fn frame<R: Request>(request: &R, version: i16, correlation_id: i32) -> BytesMut {
    let mut frame = BytesMut::zeroed(4);
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text("torture")))
        .encode(&mut frame, R::header_version(version))
        .expect("a header that can be encoded");
    request
        .encode(&mut frame, version)
        .expect("a request that can be encoded");
    let size = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn nonsense(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
