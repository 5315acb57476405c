//! Replies: their bodies, and the headers that all of them have.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use std::pin::Pin;
use std::task::{Context, Poll};
use thiserror::Error;
use tokio::sync::mpsc::Receiver;

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";
pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";

pub type Answer = Response<Content>;

/// The body of an answer.
pub enum Content {
    /// All of it; taken when it is sent.
    Whole(Option<Bytes>),
    /// Made piece by piece, as fast as the client takes it.
    Pieces(Box<dyn Iterator<Item = Bytes>>),
    /// Sent as it comes.
    Streamed(Receiver<Pieces>),
}

/// A piece of a stream; an error breaks it off.
pub type Pieces = Result<Bytes, Broken>;

/// An answer has to end before its end.
#[derive(Debug, Error)]
#[error("the answer broke off")]
pub struct Broken;

impl Body for Content {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let piece = match self.get_mut() {
            Content::Whole(bytes) => bytes.take().filter(|bytes| !bytes.is_empty()),
            Content::Pieces(pieces) => pieces.next(),
            Content::Streamed(pieces) => {
                let polled = pieces.poll_recv(context);
                return polled.map(|piece| piece.map(|piece| piece.map(Frame::data)));
            }
        };
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::Pieces(_) | Content::Streamed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Pieces(_) | Content::Streamed(_) => SizeHint::default(),
        }
    }
}

/// An answer of one kind of content.
pub fn of(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    with(status, kind, Content::Whole(Some(body.into())))
}

/// An answer whose body is made while it is sent. Each piece is at least some kilobytes.
pub fn in_pieces(
    status: StatusCode,
    kind: &'static str,
    pieces: impl Iterator<Item = Bytes> + 'static,
) -> Answer {
    with(status, kind, Content::Pieces(Box::new(pieces)))
}

/// An answer whose body comes over time.
pub fn streamed(kind: &'static str, pieces: Receiver<Pieces>) -> Answer {
    with(StatusCode::OK, kind, Content::Streamed(pieces))
}

fn with(status: StatusCode, kind: &'static str, body: Content) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// A line of text.
pub fn line(status: StatusCode, text: &str) -> Answer {
    of(status, TEXT, format!("{text}\n"))
}

/// Has a browser take the answer for nothing else than it is: records are anybody's bytes, and this origin can
/// change data.
pub fn protect(answer: &mut Answer) {
    let headers = answer.headers_mut();
    let set = |value| HeaderValue::from_static(value);
    headers.insert(X_CONTENT_TYPE_OPTIONS, set("nosniff"));
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(set("default-src 'none'; sandbox"));
    headers.entry(CACHE_CONTROL).or_insert(set("no-store"));
}
