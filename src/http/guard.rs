//! What a browser could be made to do to a broker on its own machine, refused before anything is looked up.
//!
//! A page of another site whose name is made to lead to 127.0.0.1 (DNS rebinding) is told by the name in `Host`;
//! one that posts across origins by what browsers say of the request (Fetch Metadata, `Origin`).

use super::problem::Problem;
use crate::config::Config;
use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, StatusCode, Uri};
use std::net::IpAddr;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Monitors ask for these under any name.
const UNDER_ANY_NAME: &[&str] = &["/healthz", "/readyz", "/metrics"];

/// Whether a request may go on.
///
/// # Errors
/// 421 for a name that is not this broker's, 403 for a write from another origin.
pub fn check(
    config: &Config,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    if UNDER_ANY_NAME.contains(&uri.path()) {
        return Ok(());
    }
    let host = host(uri, headers)?;
    if let Some(host) = &host
        && !is_ours(config, host.host())
    {
        let detail = format!(
            "this broker is not {:?}: ask for it by its address, as localhost, or by a name in http_allowed_hosts",
            host.host()
        );
        let status = StatusCode::MISDIRECTED_REQUEST;
        return Err(Problem::new(status, "unknown-host", detail));
    }
    if method.is_safe() {
        return Ok(());
    }
    check_origin(uri, headers)
}

/// For requests that change something: whether this one comes from this broker's own page, or from no page at all. A
/// GET that does checks it itself.
///
/// # Errors
/// 403 for a page of another origin.
pub fn check_origin(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if is_same_origin(headers, host(uri, headers)?.as_ref()) {
        return Ok(());
    }
    let detail = "a page of another origin may not change anything here";
    Err(Problem::new(StatusCode::FORBIDDEN, "other-origin", detail))
}

/// The name under which a request came. HTTP/1.0, which no browser speaks, may have none.
///
/// # Errors
/// 400 for what is no name, and for two.
pub fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, Problem> {
    let bad = || Problem::bad_request("the Host header is not a host and a port");
    let mut named = headers.get_all(HOST).iter();
    let (first, second) = (named.next(), named.next());
    if second.is_some() {
        return Err(bad());
    }
    // A request to a proxy, or HTTP/2, has it in its first line.
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.clone()));
    }
    let Some(value) = first else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|host| host.parse().ok());
    parsed.map(Some).ok_or_else(bad)
}

/// The beginning of this broker's addresses, as the client knows it: under the name that it asked for.
pub fn base(uri: &Uri, headers: &HeaderMap) -> String {
    let host = host(uri, headers).ok().flatten();
    let host = host.map_or_else(|| "localhost".to_owned(), |host| host.to_string());
    format!("http://{host}")
}

fn is_ours(config: &Config, host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is = |known: &str| host == known.to_ascii_lowercase();
    is("localhost")
        || host.ends_with(".localhost")
        || is(&config.advertised().host)
        || config.http_allowed_hosts.iter().any(|known| is(known))
}

/// Whether a request comes from this broker's own page, or from no page at all.
fn is_same_origin(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().ok();
    let origin = origin.and_then(|origin| origin.strip_prefix("http://"));
    origin.is_some_and(|origin| host.is_some_and(|host| origin == host.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn asked(method: Method, path: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        let config = Config {
            http_allowed_hosts: vec!["broker.example".to_owned()],
            ..Config::default()
        };
        let checked = check(&config, &method, &path.parse().unwrap(), &map);
        checked.err().map(|problem| problem.status.as_u16())
    }

    #[test]
    fn only_names_of_this_broker_are_answered() {
        let get = |host| asked(Method::GET, "/t/x", &[("host", host)]);
        for host in [
            "127.0.0.1:8082",
            "[::1]:8082",
            "192.168.0.7",
            "localhost",
            "LocalHost.:8082",
            "a.localhost:8082",
            "Broker.Example:8082",
        ] {
            assert_eq!(get(host), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "xlocalhost",
            "127.0.0.1.evil.example",
            "broker.example.evil",
        ] {
            assert_eq!(get(host), Some(421), "{host}");
        }
        assert_eq!(get("a b"), Some(400));
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(asked(Method::GET, "/t/x", &two), Some(400));
        assert_eq!(asked(Method::GET, "/t/x", &[]), None, "HTTP/1.0");
        let absolute = asked(
            Method::GET,
            "http://evil.example/t/x",
            &[("host", "localhost")],
        );
        assert_eq!(absolute, Some(421));
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(asked(Method::GET, path, &[("host", "evil.example")]), None);
        }
    }

    #[test]
    fn pages_of_other_origins_change_nothing() {
        let post = |more: &[(&'static str, &str)]| {
            let headers = [&[("host", "localhost:8082")], more].concat();
            asked(Method::POST, "/t/x", &headers)
        };
        assert_eq!(post(&[]), None, "no browser");
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]), None);
        assert_eq!(post(&[("sec-fetch-site", "none")]), None);
        assert_eq!(post(&[("sec-fetch-site", "cross-site")]), Some(403));
        assert_eq!(post(&[("sec-fetch-site", "same-site")]), Some(403));
        assert_eq!(post(&[("origin", "http://localhost:8082")]), None);
        assert_eq!(post(&[("origin", "http://localhost:3000")]), Some(403));
        assert_eq!(post(&[("origin", "http://evil.example")]), Some(403));
        assert_eq!(post(&[("origin", "null")]), Some(403));
        let get = [("host", "localhost"), ("origin", "http://evil.example")];
        assert_eq!(asked(Method::GET, "/t/x", &get), None);
    }
}
