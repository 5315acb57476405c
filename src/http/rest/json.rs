//! Bodies in JSON.

use super::error;
use crate::http::Services;
use crate::http::body::Whole;
use crate::http::problem::Problem;
use crate::http::request::Asked;
use crate::io::reactor::Slice;
use crate::net::budget::Share;
use bytes::Bytes;
use hyper::Uri;
use hyper::header::HeaderMap;
use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;

/// The most bytes of a body that asks for something, and has no records.
pub const CONTROL_BYTES_MAX: usize = 256 << 10;
/// The most elements of a list that a body has.
const ELEMENTS_MAX: usize = 100_000;

/// A request whose body is read.
pub struct Read {
    pub services: Rc<Services>,
    pub params: Vec<String>,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What the body takes, twice.
    pub memory: Share,
}

/// Reads the whole body of a request, of at most `limit` bytes.
///
/// # Errors
/// 413 for more; 400 when the client breaks off; 415 for a coding that is not known.
pub async fn read(asked: Asked, limit: usize) -> Result<Read, Problem> {
    let config = &asked.services.engine.config;
    let whole = Whole {
        limit,
        limit_name: "a body here",
        frame_bytes_min: config.frame_bytes_min(),
        activity: &asked.activity,
    };
    let mut memory = asked.services.engine.memory.share();
    let body = whole.read(&asked.headers, asked.body, &mut memory).await?;
    Ok(Read {
        services: asked.services,
        params: asked.params,
        uri: asked.uri,
        headers: asked.headers,
        body,
        memory,
    })
}

/// What a body says.
///
/// # Errors
/// 400 for what is no JSON; 422 for JSON that says something else.
pub fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let parsed = serde_json::from_slice(body);
    parsed.map_err(|error| match error.classify() {
        Category::Data => error::constraint(format!("the body is not as it should be: {error}")),
        _ => Problem::bad_request(format!("the body is no JSON: {error}")),
    })
}

/// Likewise; an empty body says nothing.
///
/// # Errors
/// As [`parsed`].
pub fn parsed_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    parsed(body)
}

/// Reads a list of at most [`ELEMENTS_MAX`]: an element of few bytes takes many here.
pub fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Elements<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = elements.next_element()? {
                if list.len() == ELEMENTS_MAX {
                    let why = format!("a list has at most {ELEMENTS_MAX} elements");
                    return Err(serde::de::Error::custom(why));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Elements(PhantomData))
}

/// An array of these in compact JSON, in pieces that go together to its whole.
pub async fn array<T: Serialize>(items: impl Iterator<Item = T>) -> Vec<u8> {
    let mut slice = Slice::new();
    let mut out = vec![b'['];
    for item in items {
        if out.len() > 1 {
            out.push(b',');
        }
        // To memory, of what has no keys but text, nothing fails.
        let _ = serde_json::to_writer(&mut out, &item);
        slice.rest().await;
    }
    out.push(b']');
    out
}
