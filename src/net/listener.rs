//! The listening sockets: one for each shard on one port, between which the kernel spreads
//! connections (SO_REUSEPORT).

use super::connections::Connections;
use super::stream::Peer;
use crate::config::HostPort;
use crate::io::reactor;
use crate::io::socket::Socket as Connected;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

const BACKLOG: i32 = 1024;
/// After an accept that failed (no descriptors left, say) the next is tried this much later.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The kernel probes a connection that was silent for this time, and again after each interval; it gives up
/// after nine probes.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Binds one listening socket for each of `count` shards and returns them with their address.
///
/// # Errors
/// `AddrInUse` when another process listens there. The first socket shares the port only after it has
/// bound it alone, or two brokers could share a port and each see half of the connections.
pub fn bind(address: &HostPort, count: usize) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let first = socket(resolve(address)?, false)?;
    let first = listening(first)?;
    SockRef::from(&first).set_reuse_port(true)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(listening(socket(bound, true)?)?);
    }
    Ok((listeners, bound))
}

fn listening(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from(socket))
}

fn resolve(address: &HostPort) -> io::Result<SocketAddr> {
    let mut found = (address.host.as_str(), address.port).to_socket_addrs()?;
    found
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepts connections until the shard is told to stop. `serve` speaks with each until it ends.
///
/// This waits for readiness rather than in the ring: when the process is killed, the kernel ends the
/// ring's operations only after a while, and until then an accept in the ring would keep the port
/// from the next broker.
pub async fn accept_loop<F>(
    connections: Rc<Connections>,
    listener: TcpListener,
    serve: impl Fn(Rc<Peer>) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "connections cannot be accepted");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.stop.wait() => return,
        };
        match accepted.and_then(|(stream, address)| Ok((into_reactor(stream)?, address))) {
            Ok((socket, address)) => take_in(&connections, socket, address, &serve),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Sets a socket's options and hands it to the shard's reactor.
fn into_reactor(stream: tokio::net::TcpStream) -> io::Result<Connected> {
    let stream = stream.into_std()?;
    // Small replies must not wait for each other's acknowledgement.
    stream.set_nodelay(true)?;
    // A client that waits for records sends nothing, and neither does one whose host is gone.
    let probes = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&probes)?;
    Connected::new(stream)
}

fn take_in<F>(
    connections: &Rc<Connections>,
    socket: Connected,
    address: SocketAddr,
    serve: impl Fn(Rc<Peer>) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let counters = Rc::clone(&connections.counters);
    let peer = Rc::new(Peer::new(address, socket, counters));
    let Some(id) = connections.admit(&peer) else {
        return;
    };
    let connections = Rc::clone(connections);
    let served = serve(peer);
    reactor::spawn(async move {
        served.await;
        connections.release(id);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::sync::Barrier;

    #[test]
    fn of_brokers_that_start_at_once_one_gets_the_port() {
        for _ in 0..100 {
            let (free, at) = bind(&HostPort::new("127.0.0.1", 0), 1).unwrap();
            drop(free);
            let address = HostPort::new("127.0.0.1", at.port());
            let together = Barrier::new(4);
            let start = || {
                together.wait();
                let bound = bind(&address, 3);
                together.wait();
                bound.is_ok()
            };
            let started = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(start));
                threads.map(|thread| thread.join().unwrap())
            });
            assert_eq!(started.iter().filter(|started| **started).count(), 1);
        }
    }

    #[test]
    fn every_socket_gets_its_share_of_the_connections() {
        let (listeners, at) = bind(&HostPort::new("127.0.0.1", 0), 3).unwrap();
        let clients: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(at).unwrap()).collect();
        let mut accepted = listeners.iter().map(|listener| {
            let count = std::iter::repeat_with(|| listener.accept());
            count.take_while(Result::is_ok).count()
        });
        assert!(accepted.all(|count| count > clients.len() / 10));
    }
}
