//! A connected TCP socket on this thread's reactor.

use super::reactor::Reactor;
use bytes::{BufMut, Bytes, BytesMut};
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use tokio_uring::buf::BoundedBuf;

/// Parts that one write(2) over epoll takes.
const PARTS_AT_ONCE: usize = 64;

/// A connected socket. Operations own their buffers until they end, and return them.
pub struct Socket(Stream);

enum Stream {
    Uring(tokio_uring::net::TcpStream),
    Epoll(tokio::net::TcpStream),
}

impl Socket {
    /// Hands a socket to the reactor.
    ///
    /// # Errors
    /// When its mode cannot be set, or epoll cannot take it.
    pub fn new(stream: TcpStream) -> io::Result<Socket> {
        Ok(Socket(match Reactor::current() {
            Reactor::Uring => {
                // On a ring, operations wait by themselves.
                stream.set_nonblocking(false)?;
                Stream::Uring(tokio_uring::net::TcpStream::from_std(stream))
            }
            Reactor::Epoll => {
                stream.set_nonblocking(true)?;
                Stream::Epoll(tokio::net::TcpStream::from_std(stream)?)
            }
        }))
    }

    /// Reads at most `room` bytes behind what is in `buffer`. 0 bytes: the end of the stream.
    pub async fn read(&self, mut buffer: BytesMut, room: usize) -> (io::Result<usize>, BytesMut) {
        buffer.reserve(room);
        match &self.0 {
            Stream::Uring(stream) => {
                let from = buffer.len();
                let (result, slice) = stream.read(buffer.slice(from..from + room)).await;
                (result, slice.into_inner())
            }
            Stream::Epoll(stream) => loop {
                if let Err(error) = stream.readable().await {
                    return (Err(error), buffer);
                }
                match stream.try_read_buf(&mut (&mut buffer).limit(room)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return (result, buffer),
                }
            },
        }
    }

    /// Writes parts one after the other, as many bytes as the kernel takes at once. At most 1024 parts
    /// (IOV_MAX).
    pub async fn write(&self, parts: Vec<Bytes>) -> (io::Result<usize>, Vec<Bytes>) {
        match &self.0 {
            Stream::Uring(stream) => stream.writev(parts).await,
            Stream::Epoll(stream) => loop {
                if let Err(error) = stream.writable().await {
                    return (Err(error), parts);
                }
                let mut slices = [IoSlice::new(&[]); PARTS_AT_ONCE];
                for (slice, part) in slices.iter_mut().zip(&parts) {
                    *slice = IoSlice::new(part);
                }
                let count = parts.len().min(PARTS_AT_ONCE);
                match stream.try_write_vectored(&slices[..count]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return (result, parts),
                }
            },
        }
    }

    /// Ends a direction or both; reads and writes under way return. The socket may be gone already.
    pub fn shut_down(&self, how: Shutdown) {
        let _ = match &self.0 {
            Stream::Uring(stream) => stream.shutdown(how),
            Stream::Epoll(stream) => socket2::SockRef::from(stream).shutdown(how),
        };
    }
}
