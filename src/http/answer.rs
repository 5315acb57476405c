//! Replies: their bodies, and the headers that all of them have.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";
pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";

pub type Answer = Response<Full<Bytes>>;

/// An answer of one kind of content.
pub fn of(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
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
