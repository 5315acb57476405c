//! `millstream top`: what a broker is doing, again and again.
//!
//! - here: asking; `snapshot`: what two looks at the metrics say; `view`: that as text.

mod snapshot;
mod view;

use self::snapshot::{Disk, Snapshot};
use crate::cli::broker_args::{BrokerArgs, HttpArgs};
use crate::cli::exit::is_connection;
use crate::cli::output::{self, Line, Output};
use crate::cli::screen::{self, Every};
use crate::client::http::Http;
use crate::client::{self, Client, log_dirs};
use crate::findings::metrics::Metrics;
use crate::io::clock;
use std::time::Instant;

/// The broker looks up the sizes of all partitions to answer for the disk: it is asked every so many looks.
const DISK_EVERY: u64 = 5;

/// `millstream top …`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
BUSY is the share of time in which a core's thread worked, WAITING the calls of other cores that wait for it. \
The busiest topics and the groups furthest behind come first; --json has all of them. In a pipe there is one \
look after the other, with an empty line between. Rates are those since the look before.")]
pub struct Args {
    /// How often: seconds, or such as 500ms
    #[arg(long, value_name = "TIME", default_value = "2")]
    interval: Every,
    /// Look once, over one interval
    #[arg(long)]
    once: bool,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    http: HttpArgs,
}

/// Shows what the broker does, until it is interrupted. A connection that is lost on the way is made again.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut watcher = Watcher {
        http: args.http.client()?,
        bootstrap: args.broker.bootstrap.clone(),
        client: None,
        disk: None,
        looks: 0,
    };
    let mut out = Output::new();
    let mut last = watcher.look()?;
    loop {
        args.interval.wait();
        match watcher.look() {
            Ok(look) => {
                let snapshot = watcher.snapshot(&last, &look);
                show(&mut out, &snapshot, watcher.http.address(), args.json)?;
                last = look;
            }
            Err(error) if is_connection(&error) && !args.once => {
                tell(&mut out, &error, args.json)?;
            }
            Err(error) => return Err(error),
        }
        if args.once {
            return Ok(());
        }
    }
}

/// The metrics as of one moment.
struct Look {
    at: Instant,
    metrics: Metrics,
}

struct Watcher {
    http: Http,
    bootstrap: String,
    client: Option<Client>,
    /// As of the last time that it was asked for; None if that failed.
    disk: Option<Disk>,
    looks: u64,
}

impl Watcher {
    fn look(&mut self) -> anyhow::Result<Look> {
        let page = self.http.get("/metrics")?;
        let at = Instant::now();
        if self.looks.is_multiple_of(DISK_EVERY) {
            // The screen is of use without it.
            self.disk = self.ask_for_disk().ok();
        }
        self.looks += 1;
        let metrics = Metrics::parse(&page);
        Ok(Look { at, metrics })
    }

    fn ask_for_disk(&mut self) -> client::Result<Disk> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.bootstrap)?,
        };
        let directories = log_dirs::describe(&mut client, false)?;
        self.client = Some(client);
        Ok(Disk::of(&directories))
    }

    fn snapshot(&self, before: &Look, after: &Look) -> Snapshot {
        let seconds = (after.at - before.at).as_secs_f64();
        let mut snapshot = Snapshot::between(&before.metrics, &after.metrics, seconds);
        snapshot.time_ms = clock::now_ms();
        snapshot.disk = self.disk;
        snapshot
    }
}

fn show(out: &mut Output, snapshot: &Snapshot, address: &str, json: bool) -> anyhow::Result<()> {
    if json {
        out.line(&serde_json::to_string(snapshot)?)?;
        return out.flush();
    }
    let height = out.is_terminal().then(|| screen::size().1);
    let mut lines = view::lines(snapshot, address, height);
    if !out.is_terminal() {
        lines.push(Line::default());
    }
    screen::show(out, &lines)
}

/// Says that the broker does not answer: in place of the screen, which is out of date, or beside the output.
fn tell(out: &mut Output, error: &anyhow::Error, json: bool) -> anyhow::Result<()> {
    let text = format!("{error:#}");
    if json || !out.is_terminal() {
        output::say(&text);
        return Ok(());
    }
    screen::show(out, &[Line::heading(text)])
}
