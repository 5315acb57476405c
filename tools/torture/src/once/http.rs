//! A client of the broker's HTTP interface: one connection, one request after the other, nothing retried.

use crate::wire::HANG;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

const HEAD_BYTES_MAX: usize = 64 << 10;

pub struct Http {
    stream: TcpStream,
    /// What came and was not taken yet.
    came: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

/// A request, but for the headers that every one has.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn get(path: String) -> Request {
        Request {
            method: "GET",
            path,
            ..Request::default()
        }
    }
}

impl Http {
    pub fn connect(address: SocketAddr) -> io::Result<Http> {
        let stream = TcpStream::connect_timeout(&address, HANG)?;
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        stream.set_nodelay(true)?;
        let came = Vec::new();
        Ok(Http { stream, came })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// `InvalidData` for an answer that makes no sense, `TimedOut` for a hang; otherwise the connection has
    /// ended.
    pub fn call(&mut self, request: &Request) -> io::Result<Reply> {
        self.send(request)?;
        self.receive()
    }

    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\n",
            request.method, request.path
        );
        for (name, value) in &request.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", request.body.len());
        let mut bytes = head.into_bytes();
        bytes.extend(&request.body);
        self.stream.write_all(&bytes)
    }

    pub fn receive(&mut self) -> io::Result<Reply> {
        let head = self.take_until(b"\r\n\r\n")?;
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| nonsense(&head))?;
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
        };
        if matches!(status, 204 | 304) {
            return Ok(reply);
        }
        if reply.header("transfer-encoding").is_some() {
            loop {
                let size = self.take_until(b"\r\n")?;
                let size = usize::from_str_radix(&size, 16).map_err(|_| nonsense(&size))?;
                let piece = self.take(size + 2)?;
                reply.body.extend(&piece[..size]);
                if size == 0 {
                    return Ok(reply);
                }
            }
        }
        let length = reply.header("content-length").map(str::parse);
        let Some(Ok(length)) = length else {
            return Err(nonsense(&reply.head));
        };
        reply.body = self.take(length)?;
        Ok(reply)
    }

    fn take_until(&mut self, end: &[u8]) -> io::Result<String> {
        loop {
            let found = self.came.windows(end.len()).position(|at| at == end);
            if let Some(at) = found {
                let taken = self.take(at + end.len())?;
                return Ok(String::from_utf8_lossy(&taken[..at]).into_owned());
            }
            if self.came.len() > HEAD_BYTES_MAX {
                return Err(nonsense("a head without end"));
            }
            self.read_more()?;
        }
    }

    fn take(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.came.len() < bytes {
            self.read_more()?;
        }
        let rest = self.came.split_off(bytes);
        Ok(std::mem::replace(&mut self.came, rest))
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut some = [0; 16 << 10];
        match self.stream.read(&mut some) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                self.came.extend(&some[..bytes]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
            Err(error) => Err(error),
        }
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// `Null` for what is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The number of an ETag such as `"k:7"`.
    pub fn tag(&self, kind: &str) -> Option<i64> {
        let tag = self.header("etag")?.strip_prefix('"')?.strip_suffix('"')?;
        tag.strip_prefix(kind)?.strip_prefix(':')?.parse().ok()
    }

    /// Whether it is a refusal of this kind.
    pub fn is(&self, status: u16, kind: &str) -> bool {
        self.status == status && problem_kind(&self.json()) == kind
    }
}

/// The last word of a problem's type.
pub fn problem_kind(problem: &Value) -> String {
    let kind = problem["type"].as_str().unwrap_or_default();
    kind.rsplit(':').next().unwrap_or_default().to_owned()
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}
