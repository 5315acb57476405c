//! How records are shown: the forms of an answer, and which one a client takes.

use super::answer;
use super::problem::Problem;
use super::records::Found;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderMap};

pub const EVENTS: &str = "text/event-stream";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A value a line.
    Text,
    /// A key a line.
    Keys,
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
            Form::Text | Form::Keys => answer::TEXT,
            Form::Json => answer::JSON,
            Form::NdJson => answer::NDJSON,
            Form::Events => EVENTS,
        }
    }

    /// Adds a record to a body in which records stand one after the other: not for JSON's arrays.
    pub fn put(self, body: &mut Vec<u8>, (partition, record): &Found) {
        match self {
            Form::Text => body.extend_from_slice(record.value.as_deref().unwrap_or_default()),
            Form::Keys => body.extend_from_slice(record.key.as_deref().unwrap_or_default()),
            _ => record.shown(*partition).put(body),
        }
        body.push(b'\n');
    }

    /// A body of records, in pieces of some size, made when they are asked for.
    pub fn pieces(self, found: Vec<Found>) -> Box<dyn Iterator<Item = Bytes>> {
        let found = found.into_iter();
        if self == Form::Json {
            return Box::new(answer::array(found, |(partition, record), piece| {
                record.shown(partition).put(piece);
            }));
        }
        Box::new(answer::gathered(found, move |one, piece| {
            self.put(piece, &one);
        }))
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
