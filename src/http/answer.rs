//! Replies: their bodies, and the headers that all of them have.

use super::activity::Activity;
use crate::net::budget::Share;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll};
use thiserror::Error;
use tokio::sync::mpsc::Receiver;

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";
pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";

/// What is sent of a body at a time, and about what is made of one at a time.
pub const PIECE_BYTES: usize = 64 << 10;

pub type Answer = Response<Content>;

/// The body of an answer.
pub struct Content {
    made: Made,
    /// What it takes, until it is sent.
    memory: Option<Share>,
    /// Touched with each piece that is sent.
    activity: Option<Activity>,
}

impl Content {
    /// Holds `memory` until all is sent.
    pub fn hold(&mut self, memory: Share) {
        self.memory = Some(memory);
    }

    /// Has each piece that is sent touch `activity`.
    pub fn touch(&mut self, activity: &Activity) {
        self.activity = Some(activity.clone());
    }
}

enum Made {
    /// What is left of it.
    Whole(Bytes),
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
        let content = self.get_mut();
        if let Some(activity) = &content.activity {
            activity.touch();
        }
        let piece = match &mut content.made {
            Made::Whole(bytes) if bytes.is_empty() => None,
            Made::Whole(bytes) => Some(bytes.split_to(bytes.len().min(PIECE_BYTES))),
            Made::Pieces(pieces) => pieces.next(),
            Made::Streamed(pieces) => {
                let polled = pieces.poll_recv(context);
                return polled.map(|piece| piece.map(|piece| piece.map(Frame::data)));
            }
        };
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.made, Made::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.made {
            Made::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Made::Pieces(_) | Made::Streamed(_) => SizeHint::default(),
        }
    }
}

/// An answer of one kind of content.
pub fn of(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    with(status, kind, Made::Whole(body.into()))
}

/// An answer whose body is made while it is sent. Each piece is at least some kilobytes.
pub fn in_pieces(
    status: StatusCode,
    kind: &'static str,
    pieces: impl Iterator<Item = Bytes> + 'static,
) -> Answer {
    with(status, kind, Made::Pieces(Box::new(pieces)))
}

/// A JSON array of items in pieces of some size; `put` adds an item to a piece.
pub fn array<T>(
    items: impl Iterator<Item = T>,
    mut put: impl FnMut(T, &mut Vec<u8>),
) -> impl Iterator<Item = Bytes> {
    // Behind the last one is `None`.
    let items = items.map(Some).chain(iter::once(None));
    gathered(items.enumerate(), move |(place, item), piece| {
        match (place, &item) {
            (0, Some(_)) => piece.push(b'['),
            (0, None) => piece.extend_from_slice(b"[]\n"),
            (_, Some(_)) => piece.extend_from_slice(b",\n "),
            (_, None) => piece.extend_from_slice(b"]\n"),
        }
        if let Some(item) = item {
            put(item, piece);
        }
    })
}

/// Items in pieces of some size; `put` adds an item to a piece.
pub fn gathered<T>(
    mut items: impl Iterator<Item = T>,
    mut put: impl FnMut(T, &mut Vec<u8>),
) -> impl Iterator<Item = Bytes> {
    iter::from_fn(move || {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            match items.next() {
                Some(item) => put(item, &mut piece),
                None => break,
            }
        }
        (!piece.is_empty()).then(|| piece.into())
    })
}

/// An answer whose body comes over time.
pub fn streamed(kind: &'static str, pieces: Receiver<Pieces>) -> Answer {
    with(StatusCode::OK, kind, Made::Streamed(pieces))
}

fn with(status: StatusCode, kind: &'static str, made: Made) -> Answer {
    let mut answer = Response::new(Content {
        made,
        memory: None,
        activity: None,
    });
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// A line of text.
pub fn line(status: StatusCode, text: &str) -> Answer {
    of(status, TEXT, format!("{text}\n"))
}

/// A page of another site may not even show it, or run it as a script.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Has a browser take the answer for nothing else than it is: records are anybody's bytes, and this origin can
/// change data.
pub fn protect(answer: &mut Answer) {
    let headers = answer.headers_mut();
    let set = |value| HeaderValue::from_static(value);
    headers.insert(X_CONTENT_TYPE_OPTIONS, set("nosniff"));
    headers.insert(RESOURCE_POLICY, set("same-origin"));
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(set("default-src 'none'; sandbox"));
    headers.entry(CACHE_CONTROL).or_insert(set("no-store"));
}
