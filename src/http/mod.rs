//! HTTP for people and monitors: health, readiness, metrics, and a page with an overview.

mod metrics;
mod page;

use crate::coordinator::Coordinators;
use crate::coordinator::groups::lag::LagReport;
use crate::engine::stats::ShardReport;
use crate::engine::{Engine, reports};
use crate::io::clock;
use crate::io::reactor;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Monitors need few connections. One more closes the one whose last request is the longest ago: whatever
/// others do, health can be asked for.
const CONNECTIONS_MAX: usize = 64;
/// A connection without a new request for this long is closed: its client is silent, or does not read.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A shard that does not answer for this long is not healthy.
const SHARD_TIMEOUT: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The paths there are.
const ROUTES: &[(&str, Route)] = &[
    ("/", Route::Page),
    ("/healthz", Route::Health),
    ("/readyz", Route::Ready),
    ("/metrics", Route::Metrics),
];

#[derive(Clone, Copy)]
enum Route {
    Page,
    Health,
    Ready,
    Metrics,
}

/// What a route answers.
struct Content {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Content {
    fn ok(kind: &'static str, body: String) -> Content {
        Content {
            status: StatusCode::OK,
            kind,
            body,
        }
    }

    fn text(status: StatusCode, body: &str) -> Content {
        Content {
            status,
            kind: TEXT,
            body: format!("{body}\n"),
        }
    }
}

/// What the shards report.
struct Reports {
    /// By shard; one that has stopped has none.
    shards: Vec<ShardReport>,
    lags: Vec<Arc<LagReport>>,
}

/// Serves HTTP until the shard ends, over tokio's own sockets: few connections need no ring.
pub async fn serve(engine: Rc<Engine>, coordinators: Rc<Coordinators>, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "HTTP cannot be served");
            return;
        }
    };
    let mut connections: VecDeque<Connection> = VecDeque::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = sweep.tick() => {
                connections.retain(|open| !open.has_ended() && open.idle() < IDLE_TIMEOUT);
                continue;
            }
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // hyper writes the date into replies, and panics for one before 1970.
        if clock::is_before_1970() {
            continue;
        }
        if connections.len() >= CONNECTIONS_MAX {
            connections.retain(|open| !open.has_ended());
        }
        if connections.len() >= CONNECTIONS_MAX {
            let places = 0..connections.len();
            let longest = places.max_by_key(|place| connections[*place].idle());
            if let Some(place) = longest {
                connections.remove(place);
            }
        }
        let last_request = Rc::new(Cell::new(Instant::now()));
        let task = reactor::spawn(serve_one(
            Rc::clone(&engine),
            Rc::clone(&coordinators),
            stream,
            Rc::clone(&last_request),
        ));
        connections.push_back(Connection { last_request, task });
    }
}

/// A connection that is open, or was; closed when this is dropped.
struct Connection {
    last_request: Rc<Cell<Instant>>,
    task: JoinHandle<()>,
}

impl Connection {
    fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    fn idle(&self) -> Duration {
        self.last_request.get().elapsed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_one(
    engine: Rc<Engine>,
    coordinators: Rc<Coordinators>,
    stream: TcpStream,
    last_request: Rc<Cell<Instant>>,
) {
    let service = service_fn(|request| {
        last_request.set(Instant::now());
        respond(&engine, &coordinators, request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client may break off at any time.
    let _ = served.await;
}

async fn respond<B>(
    engine: &Rc<Engine>,
    coordinators: &Coordinators,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let route = ROUTES.iter().find(|(known, _)| *known == path);
    let content = match (request.method(), route) {
        (&Method::GET | &Method::HEAD, Some((_, route))) => {
            answer(engine, coordinators, *route).await
        }
        (_, Some(_)) => Content::text(StatusCode::METHOD_NOT_ALLOWED, "only GET here"),
        (_, None) => Content::text(StatusCode::NOT_FOUND, "no such path"),
    };
    let mut response = Response::new(Full::new(Bytes::from(content.body)));
    *response.status_mut() = content.status;
    let kind = HeaderValue::from_static(content.kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

async fn answer(engine: &Rc<Engine>, coordinators: &Coordinators, route: Route) -> Content {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    if let Route::Ready = route {
        return if engine.is_stopping() {
            Content::text(unavailable, "stopping")
        } else {
            Content::text(StatusCode::OK, "ready")
        };
    }
    if let Route::Health = route {
        return match tokio::time::timeout(SHARD_TIMEOUT, reports::reach_all_shards(engine)).await {
            Ok(()) => Content::text(StatusCode::OK, "ok"),
            Err(_) => Content::text(unavailable, "a shard does not answer"),
        };
    }
    // Many who ask at once are served one after the other, with others in between.
    reactor::take_turn().await;
    let reports = reports(engine, coordinators);
    let Ok(reports) = tokio::time::timeout(SHARD_TIMEOUT, reports).await else {
        return Content::text(unavailable, "a shard does not answer");
    };
    match route {
        Route::Metrics => Content::ok(METRICS, metrics::render(engine, &reports).await),
        Route::Page => Content::ok(HTML, page::render(engine, &reports)),
        Route::Health | Route::Ready => Content::text(StatusCode::OK, "ok"),
    }
}

async fn reports(engine: &Rc<Engine>, coordinators: &Coordinators) -> Reports {
    let mut shards = reports::of_all_shards(engine).await;
    for report in &mut shards {
        report.mailbox_depth += coordinators.mailbox_depth(report.shard) as u64;
    }
    Reports {
        shards,
        lags: coordinators.groups.lag_reports().await,
    }
}
