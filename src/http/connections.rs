//! The connections of one shard that speak HTTP.

use super::Services;
use super::activity::Activity;
use crate::access::Caller;
use crate::io::{clock, reactor};
use futures_util::future::join_all;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::TcpListener;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

/// A connection that does nothing for this long is closed: its client is silent, or does not read, or sends a
/// body too slowly. Longer than a read may wait.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// The head of a request comes within this time after the last answer: a connection that clients keep for later
/// lives as long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The most bytes of a head, and of what a connection reads ahead.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// HTTP/2: requests of one connection that are answered side by side, and the bytes of their bodies that it may
/// send before they are read, of one and of all together.
const STREAMS_MAX: u32 = 64;
const STREAM_BYTES_MAX: u32 = 256 << 10;
const STREAMS_BYTES_MAX: u32 = 1 << 20;
/// After an accept that failed (no descriptors left, say) the next is tried this much later.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts and serves until the shard stops, over tokio's own sockets. Returns when the requests that were under way
/// then are answered.
pub async fn serve(services: Services, listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "HTTP cannot be served");
            return;
        }
    };
    let most = places(&services);
    let services = Rc::new(services);
    let mut connections: Vec<Connection> = Vec::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        let accepted = tokio::select! {
            () = services.engine.stop.wait() => break,
            accepted = listener.accept() => accepted,
            _ = sweep.tick() => {
                connections.retain(|open| !open.has_ended() && open.idle() < IDLE_TIMEOUT);
                continue;
            }
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        // hyper writes the date into replies, and panics for one before 1970.
        if clock::is_before_1970() {
            continue;
        }
        // Small replies must not wait for each other's acknowledgement; one that cannot is slower.
        let _ = stream.set_nodelay(true);
        make_room(&mut connections, most);
        let activity = Activity::now();
        let caller = Caller::new(address);
        let serving = serve_client(Rc::clone(&services), caller, activity.clone(), stream);
        let task = reactor::spawn(serving);
        connections.push(Connection { activity, task });
    }
    drop(listener);
    join_all(connections.iter_mut().map(|open| &mut open.task)).await;
}

/// This shard's part of `http_connections_max`.
fn places(services: &Services) -> usize {
    let engine = &services.engine;
    (engine.config.http_connections_max / engine.mailboxes.shard_count()).max(1)
}

/// Whatever others do, health can be asked for: where all places are taken, the connection gives its up which
/// has done nothing for longest.
fn make_room(connections: &mut Vec<Connection>, most: usize) {
    if connections.len() < most {
        return;
    }
    connections.retain(|open| !open.has_ended());
    if connections.len() < most {
        return;
    }
    let places = 0..connections.len();
    if let Some(longest) = places.max_by_key(|place| connections[*place].idle()) {
        connections.swap_remove(longest);
    }
}

/// A connection that is open, or was; closed when this is dropped.
struct Connection {
    activity: Activity,
    task: JoinHandle<()>,
}

impl Connection {
    fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    fn idle(&self) -> Duration {
        self.activity.idle()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one client over any stream, until it or the broker ends that: HTTP/1.1, or HTTP/2 with a client that begins
/// with its preface (RFC 9113, 3.3).
pub async fn serve_client<S>(services: Rc<Services>, caller: Caller, activity: Activity, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let serving = Rc::new((services, caller, activity));
    let service = service_fn(|request| {
        let serving = Rc::clone(&serving);
        async move {
            let (services, caller, activity) = &*serving;
            activity.touch();
            let router = &services.router;
            Ok::<_, Infallible>(router.answer(services, caller, activity, request).await)
        }
    });
    let mut builder = auto::Builder::new(OnThisThread);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(BUFFER_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_BYTES_MAX)
        .initial_connection_window_size(STREAMS_BYTES_MAX)
        .max_send_buf_size(STREAM_BYTES_MAX as usize);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A client may break off at any time.
    tokio::select! {
        _ = served.as_mut() => return,
        () = serving.0.engine.stop.wait() => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}

/// Requests of an HTTP/2 connection are tasks of its shard.
#[derive(Clone)]
struct OnThisThread;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, request: F) {
        reactor::spawn(request);
    }
}
