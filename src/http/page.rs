//! The page at `/`: three files, which ask the public API for all that they show.

use super::answer::{self, Answer};
use super::problem::Problem;
use super::request::Asked;
use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderValue};

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// It takes nothing from elsewhere, nothing that stands in a record is run, and no other page can show it.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`: for browsers the page. Clients of REST proxies, which ask for JSON, get `{}`, as there.
pub async fn html(asked: Asked) -> Result<Answer, Problem> {
    let accept = asked.headers.get(ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("json")) {
        return Ok(answer::of(StatusCode::OK, answer::JSON, "{}"));
    }
    let page = include_str!("page/page.html");
    let mut answer = answer::of(StatusCode::OK, answer::HTML, page);
    let policy = HeaderValue::from_static(POLICY);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

/// `GET /page.css`.
pub async fn css(_: Asked) -> Result<Answer, Problem> {
    Ok(answer::of(
        StatusCode::OK,
        CSS,
        include_str!("page/page.css"),
    ))
}

/// `GET /page.js`.
pub async fn script(_: Asked) -> Result<Answer, Problem> {
    Ok(answer::of(
        StatusCode::OK,
        SCRIPT,
        include_str!("page/page.js"),
    ))
}
