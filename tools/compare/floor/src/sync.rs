//! What one append and its fdatasync take, with nothing else going on.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::sys;
use crate::timing::Timing;

/// The file is written round and round within so much.
const FILE_BYTES: u64 = 1 << 30;
const ZEROS_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the file is made; removed at the end
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How long it is measured
    #[arg(long, value_name = "S")]
    seconds: f64,
    /// How much is appended before each fdatasync
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=64 << 20))]
    bytes: u64,
    /// Write the whole file before, so that no fdatasync has to mark its blocks as written
    #[arg(long)]
    zeros: bool,
    /// Run on this core only
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

/// Appends and syncs until the time is over, and prints how long each took.
pub fn run(args: Args) -> anyhow::Result<()> {
    sys::stop_on_signals();
    sys::pin(args.core)?;
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let path = args.dir.join("millstream-floor-sync");
    let done = measure(&path, &args);
    let _ = fs::remove_file(&path);
    println!("{}", done?.json());
    Ok(())
}

fn measure(path: &Path, args: &Args) -> anyhow::Result<Timing> {
    let file = prepare(path, args.zeros)
        .with_context(|| format!("cannot make {} of {FILE_BYTES} bytes", path.display()))?;
    let data = vec![b'f'; args.bytes as usize];
    let mut timing = Timing::new();
    let mut position = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs_f64(args.seconds) && !sys::is_stopped() {
        let before = Instant::now();
        file.write_all_at(&data, position)
            .context("cannot append")?;
        file.sync_data().context("cannot sync")?;
        timing.record(before.elapsed());
        position += args.bytes;
        if position + args.bytes > FILE_BYTES {
            position = 0;
        }
    }
    Ok(timing)
}

fn prepare(path: &Path, zeros: bool) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    sys::allocate(&file, FILE_BYTES)?;
    if zeros {
        let block = vec![0; ZEROS_BYTES];
        for position in (0..FILE_BYTES).step_by(ZEROS_BYTES) {
            file.write_all_at(&block, position)?;
        }
    }
    file.sync_all()?;
    Ok(file)
}
