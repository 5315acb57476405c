//! The broker's process.

use crate::moment::KillAt;
use crate::violation::{Violation, violated};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A start or stop that takes longer is a hang.
const HANG: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a broker that was told to end by itself may take to be gone once it answers no more.
const GONE_MAX: Duration = Duration::from_secs(1);

/// A broker's process. Dropping it kills and reaps it.
pub struct Broker {
    child: Child,
    ready: Receiver<String>,
    log: PathBuf,
    /// Where its pages are, once it is ready.
    http: Option<SocketAddr>,
    /// It was told to end by SIGKILL at one of its file operations.
    ends_by_itself: bool,
}

impl Broker {
    /// Starts a broker that is not waited for. Its log goes to `log`; `clock` is the file that says
    /// how far its clock is off, `kill_at` the operation at which it ends by itself.
    pub fn spawn(
        binary: &Path,
        data_dir: &Path,
        flags: &[String],
        log: &Path,
        clock: Option<&PathBuf>,
        kill_at: Option<KillAt>,
    ) -> std::io::Result<Broker> {
        let mut command = Command::new(binary);
        command.envs(clock.map(|file| ("MILLSTREAM_CLOCK_OFFSET", file)));
        command.envs(kill_at.map(|kill| ("MILLSTREAM_FAULT", kill.variable())));
        let mut broker = Broker::spawn_with(command, data_dir, flags, log)?;
        broker.ends_by_itself = kill_at.is_some();
        Ok(broker)
    }

    /// The same, by a command that has its program and environment.
    pub fn spawn_with(
        mut command: Command,
        data_dir: &Path,
        flags: &[String],
        log: &Path,
    ) -> std::io::Result<Broker> {
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", "127.0.0.1:0"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().append(true).create(true).open(log)?)
            // Who panics says why in a line, which is worth more than where in forty.
            .env("RUST_BACKTRACE", "0")
            // An interrupt at the terminal is for us: we bring it down in our own way.
            .process_group(0);
        // SAFETY: prctl is safe to call between fork and exec, and takes no pointers here.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("piped");
        let (sender, ready) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let log = log.to_owned();
        Ok(Broker {
            child,
            ready,
            log,
            http: None,
            ends_by_itself: false,
        })
    }

    /// Waits until it serves; where.
    pub fn wait_until_ready(&mut self) -> Result<SocketAddr, Violation> {
        let line = match self.ready.recv_timeout(HANG) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                violated!(Broker, "it is not ready after {} s", HANG.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait();
                violated!(
                    Broker,
                    "it does not start ({status:?}):\n{}",
                    self.last_words()
                )
            }
        };
        self.http = address(&line, "http ");
        match address(&line, "kafka ") {
            Some(address) => Ok(address),
            None => violated!(Broker, "it said `{line}` instead of where it listens"),
        }
    }

    /// Where its pages are, if it serves them and is ready.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Fails if it has ended by itself.
    pub fn check_running(&mut self) -> Result<(), Violation> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            status => violated!(
                Broker,
                "it ended by itself ({status:?}):\n{}",
                self.last_words()
            ),
        }
    }

    /// Whether it has ended by SIGKILL at the operation that it was told.
    pub fn has_struck(&mut self) -> bool {
        let status = self.child.try_wait().ok().flatten();
        let killed = status.and_then(|status| status.signal()) == Some(libc::SIGKILL);
        self.ends_by_itself && killed
    }

    /// The same of a broker that answers no more, which may be about to end.
    pub fn strikes_soon(&mut self) -> bool {
        let until = Instant::now() + GONE_MAX;
        while self.ends_by_itself && Instant::now() < until {
            if self.has_struck() {
                return true;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        false
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that is its own: mapped files are not counted. 0 when it has ended.
    pub fn own_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// SIGKILL, and waits until nothing of it is left.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        // SAFETY: kill takes no pointers; the process is ours and not reaped yet.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
    }

    /// Waits for the end of a clean stop.
    pub fn wait_stopped(mut self) -> Result<(), Violation> {
        let until = Instant::now() + HANG;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return self.check_stopped(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
                other => violated!(Broker, "a clean stop does not end: {other:?}"),
            }
        }
    }

    fn check_stopped(&self, status: ExitStatus) -> Result<(), Violation> {
        match status.success() {
            true => Ok(()),
            false => violated!(
                Broker,
                "a clean stop ended in {status}:\n{}",
                self.last_words()
            ),
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        let from = (from..log.len()).find(|at| log.is_char_boundary(*at));
        log[from.unwrap_or(log.len())..].to_owned()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

/// "... kafka 127.0.0.1:1234, http 127.0.0.1:1235, ..."
fn address(line: &str, listener: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(listener)?;
    rest.split(',').next()?.trim().parse().ok()
}
