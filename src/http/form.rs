//! How records are shown: the forms of an answer, and which one a client takes.

use super::answer::{self, PIECE_BYTES};
use super::problem::Problem;
use super::records::Found;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};
use std::{iter, mem};

pub const EVENTS: &str = "text/event-stream";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A value a line.
    Text,
    /// An array.
    Json,
    /// An object a line.
    NdJson,
    /// Server-sent events, as HTML's standard has them.
    Events,
}

impl Form {
    /// The first form that `Accept` has.
    ///
    /// # Errors
    /// 406 where it has none.
    pub fn of(headers: &HeaderMap) -> Result<Form, Problem> {
        let lines = headers.get_all(ACCEPT).iter();
        let lines = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase());
        let accept = lines.collect::<Vec<_>>().join(",");
        for kind in accept.split(',') {
            match kind.split(';').next().unwrap_or_default().trim() {
                answer::JSON => return Ok(Form::Json),
                answer::NDJSON => return Ok(Form::NdJson),
                EVENTS => return Ok(Form::Events),
                "*/*" | "text/*" | "text/plain" | "text/html" | "" => return Ok(Form::Text),
                _ => {}
            }
        }
        let detail = "records come as text/plain, application/json, application/x-ndjson or text/event-stream";
        let status = StatusCode::NOT_ACCEPTABLE;
        Err(Problem::new(status, "not-acceptable", detail))
    }

    /// The type of an answer in this form.
    pub fn kind(self) -> &'static str {
        match self {
            Form::Text => answer::TEXT,
            Form::Json => answer::JSON,
            Form::NdJson => answer::NDJSON,
            Form::Events => EVENTS,
        }
    }

    /// Adds a record to a body in which records stand one after the other: not for JSON's arrays.
    pub fn put(self, body: &mut Vec<u8>, (partition, record): &Found) {
        if self == Form::Text {
            body.extend_from_slice(record.value.as_deref().unwrap_or_default());
        } else {
            body.extend_from_slice(record.to_json(*partition).to_string().as_bytes());
        }
        body.push(b'\n');
    }

    /// A body of records, in pieces of some size, made when they are asked for. There is one at least.
    pub fn pieces(self, found: Vec<Found>) -> impl Iterator<Item = Bytes> {
        let is_array = self == Form::Json;
        let mut found = found.into_iter().peekable();
        let mut opening: &[u8] = if is_array { b"[" } else { b"" };
        let mut is_over = false;
        iter::from_fn(move || {
            if mem::replace(&mut is_over, found.peek().is_none()) {
                return None;
            }
            let mut piece = Vec::new();
            while piece.len() < PIECE_BYTES
                && let Some(one) = found.next()
            {
                piece.extend_from_slice(opening);
                if is_array {
                    opening = b",\n ";
                    piece.extend_from_slice(one.1.to_json(one.0).to_string().as_bytes());
                } else {
                    self.put(&mut piece, &one);
                }
            }
            is_over = found.peek().is_none();
            if is_over && is_array {
                let end: &[u8] = if opening == b"[" { b"[]\n" } else { b"]\n" };
                piece.extend_from_slice(end);
            }
            Some(piece.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn the_form_is_the_first_that_is_taken_and_served() {
        let form = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            Form::of(&headers).ok()
        };
        assert_eq!(Form::of(&HeaderMap::new()).ok(), Some(Form::Text));
        assert_eq!(form("*/*"), Some(Form::Text));
        assert_eq!(form("application/json"), Some(Form::Json));
        assert_eq!(form("text/event-stream"), Some(Form::Events));
        let several = form("image/png, application/x-ndjson;q=0.5");
        assert_eq!(several, Some(Form::NdJson));
        assert_eq!(form("image/png"), None);
        let mut two = HeaderMap::new();
        for accept in ["image/png", "application/json"] {
            two.append(ACCEPT, HeaderValue::from_static(accept));
        }
        assert_eq!(Form::of(&two).ok(), Some(Form::Json));
    }
}
