//! What a request and its reply take over loopback, with nobody doing anything about them.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::sys;
use crate::timing::Timing;

const REQUEST_BYTES: usize = 1024;
const REPLY_BYTES: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long it is measured
    #[arg(long, value_name = "S")]
    seconds: f64,
    /// Answer on this core only
    #[arg(long, value_name = "N")]
    server_core: Option<usize>,
    /// Ask on this core only
    #[arg(long, value_name = "M")]
    client_core: Option<usize>,
}

/// Asks and answers until the time is over, and prints how long each took.
pub fn run(args: &Args) -> anyhow::Result<()> {
    sys::stop_on_signals();
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on 127.0.0.1")?;
    let address = listener.local_addr()?;
    let core = args.server_core;
    let server = thread::spawn(move || answer(&listener, core));
    let stream = TcpStream::connect(address).context("cannot connect to 127.0.0.1")?;
    sys::pin(args.client_core)?;
    let timing = ask(stream, args.seconds);
    // Its error first: the client's is only what followed.
    server
        .join()
        .map_err(|_| anyhow!("the server thread broke"))??;
    println!("{}", timing?.json());
    Ok(())
}

fn ask(mut stream: TcpStream, seconds: f64) -> io::Result<Timing> {
    stream.set_nodelay(true)?;
    let request = [1; REQUEST_BYTES];
    let mut reply = [0; REPLY_BYTES];
    let mut timing = Timing::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs_f64(seconds) && !sys::is_stopped() {
        let before = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        timing.record(before.elapsed());
    }
    Ok(timing)
}

/// Answers until the client hangs up.
fn answer(listener: &TcpListener, core: Option<usize>) -> anyhow::Result<()> {
    sys::pin(core)?;
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST_BYTES];
    let reply = [2; REPLY_BYTES];
    while stream.read_exact(&mut request).is_ok() {
        stream.write_all(&reply)?;
    }
    Ok(())
}
