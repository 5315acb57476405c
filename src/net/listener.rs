//! The listening sockets: one for each shard on one port, between which the kernel spreads
//! connections (SO_REUSEPORT).

use super::connection;
use super::limits::{Net, Peer};
use crate::config::HostPort;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::rc::Rc;
use std::time::{Duration, Instant};

const BACKLOG: i32 = 1024;
/// How long to try for an address that is in use: the sockets of a broker that was killed live on
/// until the kernel has taken down its ring, which ends some milliseconds after the process.
const BIND_PATIENCE: Duration = Duration::from_secs(1);
const BIND_RETRY: Duration = Duration::from_millis(10);
/// After an accept that failed (no descriptors left, say) the next is tried this much later.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Binds one listening socket for each of `count` shards and returns them with their address.
///
/// # Errors
/// `AddrInUse` when anyone listens there already: the first socket is bound without SO_REUSEPORT
/// just to find that out, for with it two brokers could share a port and each see half.
pub fn bind(address: &HostPort, count: usize) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    let wanted = resolve(address)?;
    let until = Instant::now() + BIND_PATIENCE;
    let probe = loop {
        match socket(wanted, false) {
            Err(error) if is_in_use(&error) && Instant::now() < until => {
                std::thread::sleep(BIND_RETRY);
            }
            socket => break socket?,
        }
    };
    probe.listen(1)?;
    let bound = TcpListener::from(probe).local_addr()?;
    let listeners = (0..count).map(|_| {
        let socket = socket(bound, true)?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    });
    Ok((listeners.collect::<io::Result<_>>()?, bound))
}

fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Binds a single listening socket that nobody shares.
pub fn bind_one(address: &HostPort) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = socket(resolve(address)?, false)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((listener, bound))
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

/// Accepts connections until the socket is shut down with [`stop`].
pub async fn accept_loop(net: Rc<Net>, listener: TcpListener) {
    let listener = tokio_uring::net::TcpListener::from_std(listener);
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Small replies must not wait for each other's acknowledgement.
                let _ = stream.set_nodelay(true);
                let peer = Rc::new(Peer::new(address, stream));
                match net.admit(&peer) {
                    Some(id) => {
                        let net = Rc::clone(&net);
                        tokio_uring::spawn(async move {
                            connection::serve(&net, &peer).await;
                            net.release(id);
                        });
                    }
                    None => net.complain(
                        address,
                        "too_many",
                        "there are connections_max connections already",
                    ),
                }
            }
            Err(_) if net.engine.is_stopping() => return,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Makes an accept that waits return, and all later ones fail.
pub fn stop(listener: &TcpListener) {
    let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Both);
}
