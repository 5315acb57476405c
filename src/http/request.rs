//! A request as its handler sees it.

use super::Services;
use super::activity::Activity;
use super::query::Query;
use hyper::Uri;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use std::rc::Rc;

/// What a handler is given.
pub struct Asked {
    pub services: Rc<Services>,
    pub activity: Activity,
    /// The parts of the path that the route names, percent-decoded, in their order.
    pub params: Vec<String>,
    pub query: Query,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Incoming,
}
