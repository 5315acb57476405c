//! What HTTP itself costs: hyper on one thread, which reads a request and answers with the same bytes.

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Bytes of each answer
    #[arg(long, default_value_t = 100)]
    answer_bytes: usize,
}

/// Serves until it is killed; prints its address first.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
        println!("http {}", listener.local_addr()?);
        let answer = Bytes::from(vec![b'x'; args.answer_bytes]);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(serve(stream, answer.clone()));
        }
    })
}

async fn serve(stream: TcpStream, answer: Bytes) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            request.into_body().collect().await?;
            Ok::<_, hyper::Error>(Response::new(Full::new(answer)))
        }
    });
    // A client may break off at any time.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
