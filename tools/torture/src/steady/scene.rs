//! Where a load runs: a broker's addresses, and connections of which no call outlasts the load.

use crate::wire::Wire;
use socket2::{Domain, Socket, Type};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a blocked call looks whether the load has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The kernel makes it a few kilobytes: then the replies stay in the broker.
const UNREAD_RECEIVE_BYTES: usize = 4096;
/// A client that the broker sent away waits for this long before it connects again.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);
/// A larger reply is nonsense.
const REPLY_BYTES_MAX: usize = 256 << 20;

/// One broker under load.
pub struct Scene {
    pub kafka: SocketAddr,
    pub http: SocketAddr,
    /// How many idle partitions those loads have that need many.
    pub partitions: i32,
    stop: AtomicBool,
}

/// What became of a request that was sent again and again.
#[derive(Default)]
pub struct Repeated {
    pub replies: u64,
    /// How often the broker closed the connection.
    pub closed: u64,
    /// The last reply, without its size.
    pub last: Vec<u8>,
}

impl fmt::Display for Repeated {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (replies, bytes) = (self.replies, self.last.len());
        write!(to, "{replies} replies of {bytes} bytes")?;
        if self.closed > 0 {
            write!(to, ", closed {} times", self.closed)?;
        }
        Ok(())
    }
}

impl Scene {
    pub fn new(kafka: SocketAddr, http: SocketAddr, partitions: i32) -> Scene {
        Scene {
            kafka,
            http,
            partitions,
            stop: AtomicBool::new(false),
        }
    }

    /// Tells the loads to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Sleeps, at most until the load ends.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while self.goes_on() && Instant::now() < until {
            std::thread::sleep((until - Instant::now()).min(LOOK_EVERY));
        }
    }

    /// Sleeps until the load ends.
    pub fn wait(&self) {
        while self.goes_on() {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub fn wire(&self) -> io::Result<Wire> {
        Wire::connect(self.kafka)
    }

    /// A connection for [`Scene::push`] and [`Scene::pull`].
    pub fn stream(&self) -> io::Result<TcpStream> {
        prepared(TcpStream::connect_timeout(&self.kafka, CONNECT_MAX)?)
    }

    /// The same to one of the broker's addresses, for a client that does not read.
    pub fn unread_stream(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(UNREAD_RECEIVE_BYTES)?;
        socket.connect_timeout(&address.into(), CONNECT_MAX)?;
        prepared(socket.into())
    }

    /// Writes all of it. False when the load ended before.
    pub fn push(&self, stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<bool> {
        while !bytes.is_empty() {
            match self.unless_stopped(|| stream.write(bytes))? {
                Some(count) => bytes = &bytes[count..],
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads as many bytes as fit into `to`. False when the load ended before.
    pub fn pull(&self, stream: &mut TcpStream, to: &mut [u8]) -> io::Result<bool> {
        let mut read = 0;
        while read < to.len() {
            match self.unless_stopped(|| stream.read(&mut to[read..]))? {
                Some(count) => read += count,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Repeats a call that times out; `None` once the load ends. 0 bytes are the connection's end.
    fn unless_stopped(
        &self,
        mut call: impl FnMut() -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        while self.goes_on() {
            match call() {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Sends a frame, reads its reply and rests for `pause`, again and again. A connection that the
    /// broker closes is opened again.
    pub fn repeat(&self, frame: &[u8], pause: Duration) -> Repeated {
        let mut done = Repeated::default();
        while self.goes_on() {
            if self.repeat_on_one(frame, pause, &mut done).is_err() {
                done.closed += 1;
                self.pause(RECONNECT_AFTER);
            }
        }
        done
    }

    fn repeat_on_one(&self, frame: &[u8], pause: Duration, done: &mut Repeated) -> io::Result<()> {
        let mut stream = self.stream()?;
        while self.push(&mut stream, frame)? {
            match self.reply(&mut stream)? {
                Some(reply) => done.last = reply,
                None => break,
            }
            done.replies += 1;
            self.pause(pause);
        }
        Ok(())
    }

    /// A whole reply without its size; `None` when the load ended before.
    fn reply(&self, stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
        let mut size = [0; 4];
        if !self.pull(stream, &mut size)? {
            return Ok(None);
        }
        let size = u32::from_be_bytes(size) as usize;
        if size > REPLY_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut reply = vec![0; size];
        Ok(self.pull(stream, &mut reply)?.then_some(reply))
    }
}

fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    stream.set_write_timeout(Some(LOOK_EVERY))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
