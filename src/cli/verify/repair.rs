//! `millstream verify --repair`: mends what verify finds, and says what it did.

use super::{Args, progress_bar};
use crate::cli::output::Output;
use crate::engine::data_dir::{DataDirError, FORMAT_VERSION, LOCK_FILE, read_format};
use crate::engine::repair;
use crate::engine::verify::{is_data_dir, plan};
use crate::io::{clock, file};
use crate::log::check::repair::Repaired;
use anyhow::{Context, bail};
use serde_json::json;
use std::path::Path;

/// Refuses what cannot be mended, and makes sure that there is a lock to take.
pub fn prepare(args: &Args) -> anyhow::Result<()> {
    let [data_dir] = &args.paths[..] else {
        bail!("--repair takes one data directory");
    };
    if !is_data_dir(data_dir) {
        bail!(
            "{} is not a data directory of this broker; nothing else is mended",
            data_dir.display()
        );
    }
    // What a newer version wrote may mean something else than it would here.
    if let Err(DataDirError::NewerFormat { found, .. }) = read_format(data_dir) {
        bail!(
            "the data directory {} has format {found}; this version mends up to {FORMAT_VERSION}",
            data_dir.display()
        );
    }
    let lock = data_dir.join(LOCK_FILE);
    file::open(&lock, true).with_context(|| format!("cannot open {}", lock.display()))?;
    Ok(())
}

/// Mends a data directory; its lock must be held.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let data_dir = &args.paths[0];
    let copies = repair::copies_dir(data_dir, &clock::now_ms().to_string());
    let mut out = Output::new();
    let written = repair::write_journals_back(data_dir, &copies)
        .context("the journals cannot be written back")?;
    if written > 0 {
        let path = data_dir.join("journal");
        let what = format!("{written} bytes are written back to their partitions");
        print(&mut out, args, &path, &what)?;
    }
    let plan = plan(&args.paths);
    let bar = progress_bar(&plan, args.quiet);
    for job in &plan.jobs {
        let (_, findings) = job.run(false, &|bytes| bar.inc(bytes));
        if !repair::is_needed(&findings) && !has_list_of_damage(&job.dir) {
            continue;
        }
        let mended = repair::mend(job, &findings, &copies)
            .with_context(|| format!("{} cannot be mended", job.dir.display()))?;
        for Repaired { path, change } in mended {
            bar.suspend(|| print(&mut out, args, &path, &change.to_string()))?;
        }
    }
    bar.finish_and_clear();
    repair::finish(data_dir, &copies)?;
    if copies.exists() {
        print(&mut out, args, &copies, "has what was changed, as it was")?;
    }
    Ok(())
}

fn has_list_of_damage(dir: &Path) -> bool {
    dir.join(crate::log::check::damage::FILE_NAME).exists()
}

fn print(out: &mut Output, args: &Args, path: &Path, what: &str) -> anyhow::Result<()> {
    let path = path.display();
    let line = if args.json {
        json!({ "type": "repaired", "path": path.to_string(), "what": what }).to_string()
    } else {
        format!("repaired: {path}: {what}")
    };
    out.line(&line)?;
    out.flush()
}
