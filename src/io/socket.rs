//! A connected TCP socket on this thread's reactor.

use bytes::{Bytes, BytesMut};
use std::io;
use std::net::{Shutdown, TcpStream};
use tokio_uring::buf::BoundedBuf;

/// A connected socket. Operations own their buffers until they end, and return them.
pub struct Socket(tokio_uring::net::TcpStream);

impl Socket {
    /// Hands a blocking socket to the reactor.
    pub fn new(stream: TcpStream) -> Socket {
        Socket(tokio_uring::net::TcpStream::from_std(stream))
    }

    /// Reads at most `room` bytes behind what is in `buffer`. 0 bytes: the end of the stream.
    pub async fn read(&self, mut buffer: BytesMut, room: usize) -> (io::Result<usize>, BytesMut) {
        buffer.reserve(room);
        let from = buffer.len();
        let (result, slice) = self.0.read(buffer.slice(from..)).await;
        (result, slice.into_inner())
    }

    /// Writes parts one after the other, as many bytes as the kernel takes at once. At most 1024 parts
    /// (IOV_MAX).
    pub async fn write(&self, parts: Vec<Bytes>) -> (io::Result<usize>, Vec<Bytes>) {
        self.0.writev(parts).await
    }

    /// Ends a direction or both; reads and writes under way return. The socket may be gone already.
    pub fn shut_down(&self, how: Shutdown) {
        let _ = self.0.shutdown(how);
    }
}
