//! One connection: what has come and is not dealt with, and what is to leave.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

use crate::log::Slice;
use crate::produce::Body;
use crate::sys::{self, Interest};

/// Slices that leave in one call.
const TOGETHER_MAX: usize = 64;

/// A client.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Tells it from others that had its place before.
    pub serial: u64,
    /// The beginning of a request whose rest has not come.
    pub pending: Vec<u8>,
    /// The batch that is being received.
    pub body: Option<Body>,
    /// Replies that wait for the disk.
    pub waiting: usize,
    out: VecDeque<Chunk>,
    /// The client sends nothing more, but may wait for replies.
    pub is_half_closed: bool,
    pub watched: Interest,
}

#[derive(Debug)]
enum Chunk {
    Bytes(Vec<u8>, usize),
    File(Slice),
}

impl Connection {
    pub fn new(stream: TcpStream, serial: u64) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            serial,
            pending: Vec::new(),
            body: None,
            waiting: 0,
            out: VecDeque::new(),
            is_half_closed: false,
            watched: Interest::Bytes,
        })
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Where to write a reply.
    pub fn out(&mut self) -> &mut Vec<u8> {
        if !matches!(self.out.back(), Some(Chunk::Bytes(..))) {
            self.out.push_back(Chunk::Bytes(Vec::with_capacity(128), 0));
        }
        match self.out.back_mut() {
            Some(Chunk::Bytes(bytes, _)) => bytes,
            _ => unreachable!("it was just put there"),
        }
    }

    /// A part of a file is to leave after what was written before.
    pub fn out_file(&mut self, slice: Slice) {
        self.out.push_back(Chunk::File(slice));
    }

    /// What its poll should wait for.
    pub fn interest(&self) -> Interest {
        match (self.out.is_empty(), self.is_half_closed) {
            (false, _) => Interest::Room,
            (true, false) => Interest::Bytes,
            (true, true) => Interest::Nothing,
        }
    }

    /// The client sends nothing more, and has all its replies.
    pub fn is_over(&self) -> bool {
        self.is_half_closed && self.out.is_empty() && self.waiting == 0
    }

    /// Sends what there is, until it is gone or the socket is full. With `sendfile` files' bytes go
    /// without a look at the mapping.
    pub fn flush(&mut self, sendfile: bool) -> io::Result<()> {
        while !self.out.is_empty() {
            let sent = match sendfile {
                true => self.send_one(),
                false => self.send_many(),
            };
            match sent {
                Ok(bytes) => self.sent(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_many(&self) -> io::Result<usize> {
        let chunks = self.out.iter().take(TOGETHER_MAX);
        let slices: Vec<IoSlice<'_>> = chunks.map(|chunk| IoSlice::new(chunk.bytes())).collect();
        sys::send(self.fd(), &slices, false)
    }

    fn send_one(&self) -> io::Result<usize> {
        match &self.out[0] {
            Chunk::File(slice) => {
                sys::sendfile(self.fd(), &slice.segment.file, slice.position, slice.bytes)
            }
            chunk => sys::send(
                self.fd(),
                &[IoSlice::new(chunk.bytes())],
                self.out.len() > 1,
            ),
        }
    }

    fn sent(&mut self, mut bytes: usize) {
        while let Some(first) = self.out.front_mut() {
            let left = first.bytes().len();
            if bytes < left {
                return first.advance(bytes);
            }
            bytes -= left;
            self.out.pop_front();
        }
    }
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Bytes(bytes, from) => &bytes[*from..],
            Chunk::File(slice) => slice.segment.slice(slice.position, slice.bytes),
        }
    }

    fn advance(&mut self, bytes: usize) {
        match self {
            Chunk::Bytes(_, from) => *from += bytes,
            Chunk::File(slice) => {
                slice.position += bytes as u64;
                slice.bytes -= bytes;
            }
        }
    }
}
