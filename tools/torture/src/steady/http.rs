//! The broker's pages.

use crate::wire::HANG;
use anyhow::{Context, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const TURNS: &str = "millstream_shard_turn_seconds_bucket{";

/// How many turns of the only shard ended in each bucket so far, by its upper bound in seconds.
#[derive(Default)]
pub struct Turns(Vec<(f64, u64)>);

/// The body of a page that is answered with 200.
///
/// # Errors
/// No connection, no answer within [`HANG`], another status.
pub fn get(address: SocketAddr, page: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, HANG)?;
    stream.set_read_timeout(Some(HANG))?;
    stream.set_write_timeout(Some(HANG))?;
    let request = format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").context("no HTTP reply")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200"), "{page} is answered with {status}");
    Ok(body.to_owned())
}

impl Turns {
    /// # Errors
    /// As [`get`].
    pub fn read(address: SocketAddr) -> anyhow::Result<Turns> {
        Ok(Turns::parse(&get(address, "/metrics")?))
    }

    fn parse(page: &str) -> Turns {
        let mut below = 0;
        let bucket = |line: &str| {
            let (_, rest) = line.strip_prefix(TURNS)?.split_once("le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            let count: u64 = count.parse().ok()?;
            // A bucket also counts what is in those below it.
            let own = count - below;
            below = count;
            Some((bound.parse().ok()?, own))
        };
        Turns(page.lines().filter_map(bucket).collect())
    }

    /// The upper bound of the longest turn since `before`, in seconds.
    pub fn longest_since(&self, before: &Turns) -> Option<f64> {
        let pairs = self.0.iter().zip(&before.0).rev();
        let mut grown = pairs.filter(|(now, then)| now.1 > then.1);
        grown.next().map(|(now, _)| now.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(counts: [u64; 3]) -> String {
        let bounds = ["0.0001", "0.0512", "+Inf"];
        let lines = bounds.iter().zip(counts);
        let line =
            |(bound, count)| format!("{TURNS}shard=\"0\",le=\"{bound}\"}} {count}\n# other\n");
        lines.map(line).collect()
    }

    #[test]
    fn the_longest_turn_is_the_last_bucket_that_grew() {
        let before = Turns::parse(&page([5, 5, 6]));
        let after = Turns::parse(&page([9, 10, 11]));
        assert_eq!(after.longest_since(&before), Some(0.0512));
        let worse = Turns::parse(&page([5, 5, 7]));
        assert_eq!(worse.longest_since(&before), Some(f64::INFINITY));
        assert_eq!(before.longest_since(&before), None);
    }
}
