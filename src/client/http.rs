//! One GET over HTTP, for what a broker tells there: health, metrics.

use super::error::io_words;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an answer may take in all.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer taken: metrics of tens of thousands of topics.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers there in HTTP, or not to the end.
    #[error(
        "no broker answers HTTP at {address}: {}. --http names another address",
        io_words(why)
    )]
    Unreachable { address: String, why: io::Error },
    /// The answer is a refusal.
    #[error("{path} at {address} answered {status}: {text}")]
    Refused {
        address: String,
        path: String,
        status: StatusCode,
        text: String,
    },
}

/// A connection's worth of questions to one address.
#[derive(Debug)]
pub struct Http {
    address: String,
    runtime: tokio::runtime::Runtime,
}

impl Http {
    /// Asks at `address` (`host:port`, or a URL of nothing more). Connects with each question.
    pub fn at(address: &str) -> io::Result<Http> {
        let address = address.strip_prefix("http://").unwrap_or(address);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Http {
            address: address.trim_end_matches('/').to_owned(),
            runtime,
        })
    }

    /// Where it asks.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The body of a GET that was answered 200.
    pub fn get(&self, path: &str) -> Result<String, Error> {
        let (status, text) = self.ask(path).map_err(|why| Error::Unreachable {
            address: self.address.clone(),
            why,
        })?;
        if status == StatusCode::OK {
            return Ok(text);
        }
        Err(Error::Refused {
            address: self.address.clone(),
            path: path.to_owned(),
            status,
            text: text.trim().to_owned(),
        })
    }

    fn ask(&self, path: &str) -> io::Result<(StatusCode, String)> {
        let answer = async { tokio::time::timeout(TIMEOUT, exchange(&self.address, path)).await };
        let late = |_| io::Error::from(ErrorKind::TimedOut);
        self.runtime.block_on(answer).map_err(late)?
    }
}

async fn exchange(address: &str, path: &str) -> io::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = Request::get(path)
        .header(HOST, address)
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok((head.status, text))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It ends before the answer is all taken only when it broke, and then the answer says so.
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// What a GET makes of a server that answers with these bytes and closes.
    fn got(answer: &'static str) -> (Result<String, Error>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("has an address").to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepts");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a whole head");
                asked.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).expect("takes it");
            String::from_utf8(asked).expect("text")
        });
        let http = Http::at(&format!("http://{address}/")).expect("a runtime");
        assert_eq!(http.address(), address);
        let got = http.get("/x?y=z");
        (got, server.join().expect("served"))
    }

    #[test]
    fn a_body_is_returned_whole() {
        let (body, asked) = got("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(body.expect("answered"), "hello");
        assert!(asked.starts_with("GET /x?y=z HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("host: 127.0.0.1:"), "{asked}");
    }

    #[test]
    fn a_refusal_says_what_was_asked_and_why_not() {
        let (body, _) = got("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nbusy\n");
        let error = body.expect_err("refused").to_string();
        assert!(
            error.ends_with("answered 503 Service Unavailable: busy"),
            "{error}"
        );
    }

    #[test]
    fn half_an_answer_is_none() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            "SSH-2.0\r\n",
        ] {
            let (body, _) = got(answer);
            assert!(matches!(body, Err(Error::Unreachable { .. })), "{answer:?}");
        }
    }
}
