//! `ingest` and `send`: what they are told, and how they begin.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context;

use crate::control::MakePartitions;
use crate::flush::Flusher;
use crate::log::{Fixed, Partition, Space};
use crate::segment::Copy;
use crate::server::{How, Server};
use crate::sys;

#[derive(Debug, clap::Args)]
pub struct IngestArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Answer when the batch is durable
    #[arg(long)]
    fsync: bool,
    /// Size of a file, such as 1GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    segment_bytes: u64,
    /// All files of a topic; its partitions then write over what they wrote first
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = size)]
    wrap_bytes: u64,
    /// How bytes get from the socket into the file
    #[arg(long, value_enum, default_value_t = Copy::BySize)]
    copy: Copy,
    /// The most that one receive takes
    #[arg(long, value_name = "SIZE", default_value = "128KiB", value_parser = size)]
    receive_bytes: u64,
}

#[derive(Debug, clap::Args)]
pub struct SendArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How much there is to read
    #[arg(long, value_name = "SIZE", value_parser = size)]
    bytes: u64,
    /// How bytes get from the file into the socket
    #[arg(long, value_enum, default_value_t = SendCopy::Map)]
    copy: SendCopy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum SendCopy {
    /// writev of the mapping
    Map,
    /// sendfile
    Sendfile,
}

#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// Where files are made; removed at the end
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The port on 127.0.0.1; 0: any free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Run on this core only
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

/// Serves producers until a signal comes.
pub fn ingest(args: IngestArgs) -> anyhow::Result<()> {
    let IngestArgs {
        segment_bytes,
        wrap_bytes,
        copy,
        ..
    } = args;
    let listener = start(&args.common)?;
    let dir = args.common.dir;
    let mut made = 0;
    let make: MakePartitions = Box::new(move |count| {
        let partition_bytes = wrap_bytes / count as u64;
        let space = Space {
            dir: dir.clone(),
            segment_bytes,
            partition_bytes,
            copy,
        };
        let partitions = (made..made + count as u64).map(|id| Partition::new(id, &space));
        made += count as u64;
        partitions.collect()
    });
    let flusher = args.fsync.then(Flusher::start).transpose()?;
    let how = How {
        copy,
        sendfile: false,
        receive_bytes: args.receive_bytes as usize,
    };
    Server::new(listener, how, make, flusher)?.run()
}

/// Serves consumers until a signal comes.
pub fn send(args: SendArgs) -> anyhow::Result<()> {
    let listener = start(&args.common)?;
    let fixed = Rc::new(Fixed::create(&args.common.dir, args.bytes)?);
    let make: MakePartitions =
        Box::new(move |count| Ok((0..count).map(|_| Partition::of(&fixed)).collect()));
    let sendfile = args.copy == SendCopy::Sendfile;
    let how = How {
        copy: Copy::Map,
        sendfile,
        receive_bytes: 256 << 10,
    };
    Server::new(listener, how, make, None)?.run()
}

fn start(args: &CommonArgs) -> anyhow::Result<TcpListener> {
    sys::stop_on_signals();
    sys::pin(args.core)?;
    make_dir(&args.dir)?;
    let listener = TcpListener::bind(("127.0.0.1", args.port)).with_context(|| {
        format!(
            "cannot listen on 127.0.0.1:{}: choose another --port",
            args.port
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)
        .with_context(|| format!("cannot make {}: choose another --dir", dir.display()))
}

/// A number of bytes, or one with KiB, MiB or GiB behind it.
fn size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("it is not a size such as 512MiB or 1GiB".to_owned()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    let bytes = bytes.ok_or("it is not a size such as 512MiB or 1GiB")?;
    match (4096..=1 << 40).contains(&bytes) {
        true => Ok(bytes),
        false => Err("it is not between 4 KiB and 1 TiB".to_owned()),
    }
}
