//! One connection to the broker: frames out, frames in, nothing retried.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A broker that is silent for longer hangs.
pub const HANG: Duration = Duration::from_secs(30);

/// So small that the kernel keeps little of a reply on its way to a slow client: both ends' buffers
/// follow from these.
const SLOW_RECEIVE_BYTES: usize = 32 << 10;
const SLOW_SEGMENT_BYTES: u32 = 536;

pub struct Wire {
    stream: TcpStream,
    sent: i32,
    received: i32,
    /// How long it waits once a reply has begun to come.
    pause: Duration,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> io::Result<Wire> {
        Wire::over(TcpStream::connect_timeout(&address, HANG)?)
    }

    /// The same, to a broker that hangs when it is silent for longer than `limit`.
    pub fn connect_within(address: SocketAddr, limit: Duration) -> io::Result<Wire> {
        let wire = Wire::connect(address)?;
        wire.stream.set_read_timeout(Some(limit))?;
        Ok(wire)
    }

    /// A client that waits for so long before it takes what it is sent. Most of a large reply is with the
    /// broker until then: the kernel keeps some hundred kilobytes for this connection.
    pub fn connect_slowly(address: SocketAddr, pause: Duration) -> io::Result<Wire> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(SLOW_RECEIVE_BYTES)?;
        socket.set_tcp_mss(SLOW_SEGMENT_BYTES)?;
        socket.connect_timeout(&address.into(), HANG)?;
        let wire = Wire::over(socket.into())?;
        Ok(Wire { pause, ..wire })
    }

    fn over(stream: TcpStream) -> io::Result<Wire> {
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        stream.set_nodelay(true)?;
        Ok(Wire {
            stream,
            sent: 0,
            received: 0,
            pause: Duration::ZERO,
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
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
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
