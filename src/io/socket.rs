//! A connected TCP socket on this thread's reactor.

use super::reactor::Reactor;
use bytes::{BufMut, Bytes, BytesMut};
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
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
    ///
    /// A peer that goes on sending is told by a reset, once it has everything that was written.
    pub fn shut_down(&self, how: Shutdown) {
        if how != Shutdown::Write {
            self.reset_when_closed();
        }
        let _ = match &self.0 {
            Stream::Uring(stream) => stream.shutdown(how),
            Stream::Epoll(stream) => socket2::SockRef::from(stream).shutdown(how),
        };
    }

    /// A socket that is shut for reading no longer tells its peer that there is room again. A peer with a full
    /// window would ask in growing steps and, while the closed socket lingers in FIN_WAIT2, get no answer
    /// for up to two minutes. With this option nothing lingers (TCP_LINGER2 in tcp(7)).
    fn reset_when_closed(&self) {
        let descriptor = match &self.0 {
            Stream::Uring(stream) => stream.as_raw_fd(),
            Stream::Epoll(stream) => stream.as_raw_fd(),
        };
        let none: libc::c_int = -1;
        // SAFETY: the descriptor is open for as long as `self` lives, and the option is read from an int.
        // An error leaves the socket as it was.
        unsafe {
            libc::setsockopt(
                descriptor,
                libc::IPPROTO_TCP,
                libc::TCP_LINGER2,
                (&raw const none).cast(),
                size_of_val(&none) as libc::socklen_t,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reactor;
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    /// Longer than anything here takes, and shorter than FIN_WAIT2 (a minute).
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Sends until neither side has room for more, slowly: what overtakes the window would be sent again, and
    /// that is answered.
    fn fill(client: &mut TcpStream) {
        client.set_nonblocking(true).unwrap();
        let mut refused = 0;
        while refused < 20 {
            match client.write(&[7; 1000]) {
                Ok(written) => {
                    assert_ne!(written, 0);
                    refused = 0;
                    thread::sleep(Duration::from_micros(10));
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    refused += 1;
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        client.set_nonblocking(false).unwrap();
    }

    #[test]
    fn a_peer_that_is_in_the_middle_of_a_write_learns_of_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        fill(&mut client);
        reactor::start(async move {
            let socket = Socket::new(server).unwrap();
            let (written, _) = socket.write(vec![Bytes::from_static(b"last reply")]).await;
            assert_eq!(written.unwrap(), 10);
            socket.shut_down(Shutdown::Both);
            let mut buffer = BytesMut::new();
            loop {
                let (read, filled) = socket.read(buffer, 1 << 20).await;
                if read.unwrap() == 0 {
                    break;
                }
                buffer = filled;
                buffer.clear();
            }
        });
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        let error = loop {
            if let Err(error) = client.write_all(&[7; 1 << 16]) {
                break error;
            }
        };
        assert_ne!(
            error.kind(),
            io::ErrorKind::WouldBlock,
            "nobody told the client"
        );
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).unwrap();
        assert_eq!(reply, b"last reply");
    }
}
