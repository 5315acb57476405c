//! Requests over HTTP/1.1, one after the other on each of many connections that are kept.

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde_json::json;
use std::cell::RefCell;
use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, timeout_at};

const NANOS_MAX: u64 = 60_000_000_000;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The server
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value = "POST")]
    method: String,
    /// What is asked for; `{n}` is a number below --numbers, another one each time
    #[arg(long, default_value = "/")]
    path: String,
    #[arg(long, default_value_t = 1)]
    numbers: u64,
    /// A header, as in `Content-Type: text/plain`
    #[arg(long = "header")]
    headers: Vec<String>,
    /// Bytes of each body: lines of --line-bytes
    #[arg(long, default_value_t = 0)]
    body_bytes: usize,
    /// Bytes of each line of a body, its end included; NDJSON records. 0: the body is no lines
    #[arg(long, default_value_t = 0)]
    line_bytes: usize,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Read one answer without an end on each connection, and count its bytes
    #[arg(long)]
    stream: bool,
    /// How long it is measured
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long the load runs before
    #[arg(long, default_value_t = 1.0)]
    warmup_seconds: f64,
}

struct Tally {
    from: Instant,
    to: Instant,
    times: Histogram<u64>,
    /// Of answers that were read as they came.
    streamed_bytes: u64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let from = std::time::Instant::now() + Duration::from_secs_f64(args.warmup_seconds);
    let tally = Rc::new(RefCell::new(Tally {
        from: from.into(),
        to: (from + Duration::from_secs_f64(args.seconds)).into(),
        times: Histogram::new_with_bounds(1, NANOS_MAX, 3)?,
        streamed_bytes: 0,
    }));
    let body = body(args);
    LocalSet::new().block_on(&runtime, async {
        let mut all = JoinSet::new();
        for number in 0..args.connections {
            let connection = Connection {
                args: args.clone(),
                body: body.clone(),
                tally: Rc::clone(&tally),
                next: number as u64,
            };
            all.spawn_local(connection.run());
        }
        while let Some(done) = all.join_next().await {
            done??;
        }
        anyhow::Ok(())
    })?;
    let tally = tally.borrow();
    if args.stream {
        let per_second = tally.streamed_bytes as f64 / args.seconds;
        println!("{}", json!({ "bytes_per_second": per_second }));
        return Ok(());
    }
    let times = &tally.times;
    let micros = |share| times.value_at_quantile(share) as f64 / 1e3;
    let per_second = times.len() as f64 / args.seconds;
    let told = json!({
        "requests": times.len(),
        "requests_per_second": per_second,
        "bytes_per_second": per_second * body.len() as f64,
        "p50_us": micros(0.5),
        "p99_us": micros(0.99),
        "p999_us": micros(0.999),
    });
    println!("{told}");
    Ok(())
}

fn body(args: &Args) -> Vec<u8> {
    if args.line_bytes == 0 {
        return vec![b'x'; args.body_bytes];
    }
    const FRAME: &str = "{\"value\":\"\"}\n";
    let text = "x".repeat(args.line_bytes.saturating_sub(FRAME.len()));
    let line = format!("{{\"value\":\"{text}\"}}\n");
    line.repeat(args.body_bytes / line.len()).into_bytes()
}

struct Connection {
    args: Args,
    body: Vec<u8>,
    tally: Rc<RefCell<Tally>>,
    next: u64,
}

impl Connection {
    async fn run(mut self) -> anyhow::Result<()> {
        let address = self.args.address;
        let stream = TcpStream::connect(address).await;
        let mut stream = stream.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let to = self.tally.borrow().to;
        let mut buffer = vec![0; 256 << 10];
        if self.args.stream {
            let head = self.head();
            stream.write_all(&head).await?;
            return timeout_at(to, self.count(&mut stream, &mut buffer))
                .await
                .unwrap_or(Ok(()));
        }
        while Instant::now() < to {
            let mut request = self.head();
            request.extend_from_slice(&self.body);
            let began = Instant::now();
            stream.write_all(&request).await?;
            answer(&mut stream, &mut buffer).await?;
            let ended = Instant::now();
            let tally = &mut *self.tally.borrow_mut();
            if began >= tally.from && ended <= tally.to {
                let nanos = (ended - began).as_nanos() as u64;
                tally.times.saturating_record(nanos.max(1));
            }
        }
        Ok(())
    }

    async fn count(&self, stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
        let mut is_first = true;
        loop {
            let read = stream.read(buffer).await?;
            if read == 0 {
                bail!("the server ended an answer");
            }
            if mem::take(&mut is_first) && !buffer.starts_with(b"HTTP/1.1 200") {
                bail!(
                    "the answer was {}",
                    String::from_utf8_lossy(&buffer[..read])
                );
            }
            let tally = &mut *self.tally.borrow_mut();
            if Instant::now() >= tally.from {
                tally.streamed_bytes += read as u64;
            }
        }
    }

    fn head(&mut self) -> Vec<u8> {
        // Scattered, and the same in each run.
        self.next = self
            .next
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let number = (self.next >> 33) % self.args.numbers.max(1);
        let path = self.args.path.replace("{n}", &number.to_string());
        let mut head = format!(
            "{} {path} HTTP/1.1\r\nHost: localhost\r\n",
            self.args.method
        );
        for header in &self.args.headers {
            head += &format!("{header}\r\n");
        }
        if !self.body.is_empty() {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        head += "\r\n";
        head.into_bytes()
    }
}

/// Reads one answer; fails for any but 200.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            bail!("the server closed a connection");
        }
        filled += read;
        if let Some(whole) = whole_length(&buffer[..filled])?
            && filled >= whole
        {
            return Ok(());
        }
    }
}

/// The length of an answer once its head is there.
fn whole_length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        bail!("the answer was {}", String::from_utf8_lossy(answer));
    }
    if head.contains("transfer-encoding: chunked") {
        let is_over = answer.ends_with(b"0\r\n\r\n");
        return Ok(is_over.then_some(answer.len()));
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    Ok(Some(end + 4 + length.map_or(Ok(0), str::parse)?))
}
