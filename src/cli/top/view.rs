//! A snapshot as text. Names stand last in a row: where a terminal is too narrow, it is they that are cut.

use super::snapshot::{Disk, Snapshot};
use crate::cli::output::Line;
use crate::cli::table::{Table, or_dash};
use crate::cli::words;
use indicatif::HumanCount;

/// Lines that are no rows of a table.
const OTHER_LINES: usize = 11;
/// Rows of topics and of groups in a pipe.
const PIPED_ROWS: usize = 20;

/// How many rows each table may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rows {
    cores: usize,
    topics: usize,
    groups: usize,
}

impl Rows {
    /// As many as a terminal of `height` rows has room for. Topics get what the others leave.
    fn within(height: usize, snapshot: &Snapshot) -> Rows {
        let room = height.saturating_sub(OTHER_LINES).max(3);
        let cores = snapshot.cores.len().min(room / 3);
        let groups = snapshot.groups.len().min(room / 3);
        Rows {
            cores,
            topics: room - cores - groups,
            groups,
        }
    }

    const PIPED: Rows = Rows {
        cores: usize::MAX,
        topics: PIPED_ROWS,
        groups: PIPED_ROWS,
    };
}

/// The snapshot of the broker at `address`: as much as a terminal of `height` rows has room for, or what is
/// readable in a pipe.
pub fn lines(snapshot: &Snapshot, address: &str, height: Option<usize>) -> Vec<Line> {
    let rows = height.map_or(Rows::PIPED, |height| Rows::within(height, snapshot));
    let mut lines = heading(snapshot, address);
    for table in [
        cores(snapshot, rows.cores),
        topics(snapshot, rows.topics),
        groups(snapshot, rows.groups),
    ] {
        lines.push(Line::default());
        lines.extend(table.lines());
    }
    lines
}

fn heading(s: &Snapshot, address: &str) -> Vec<Line> {
    let flush = s.flush_ms;
    let flush = flush.map_or(String::new(), |ms| format!(" of {ms:.1} ms"));
    let (version, seconds) = (&s.version, s.seconds);
    vec![
        Line::heading(format!(
            "millstream {version} at {address}, over {seconds:.1} s"
        )),
        Line::from(format!(
            "in {} records/s, {}/s  out {}/s  {} requests/s  {} flushes/s{flush}",
            number(s.records_in_per_second),
            size(s.bytes_in_per_second),
            size(s.bytes_out_per_second),
            number(s.requests_per_second),
            number(s.flushes_per_second),
        )),
        Line::from(format!(
            "{}  {} in flight, {}  memory {}",
            words::count(s.connections, "connection"),
            words::count(s.inflight_requests, "request"),
            words::size(s.inflight_bytes),
            words::size(s.memory_bytes),
        )),
        Line::from(format!(
            "{} with {}  disk {}",
            words::count(s.partitions, "partition"),
            words::size(s.log_bytes),
            disk(s.disk),
        )),
    ]
}

fn disk(disk: Option<Disk>) -> String {
    match disk.filter(|disk| disk.total_bytes > 0) {
        Some(Disk {
            free_bytes: free,
            total_bytes: total,
        }) => {
            let percent = free as f64 / total as f64 * 100.0;
            let (free, total) = (words::size(free), words::size(total));
            format!("{free} of {total} free, {percent:.0} %")
        }
        None => "not known".to_owned(),
    }
}

fn cores(snapshot: &Snapshot, rows: usize) -> Table {
    let mut table = Table::new(&[">CORE", ">BUSY", ">CONNECTIONS", ">IN FLIGHT", ">WAITING"]);
    for core in snapshot.cores.iter().take(rows) {
        table.row(vec![
            core.shard.to_string(),
            format!("{:.0} %", core.busy * 100.0),
            HumanCount(core.connections).to_string(),
            HumanCount(core.inflight_requests).to_string(),
            HumanCount(core.mailbox_depth).to_string(),
        ]);
    }
    table
}

fn topics(snapshot: &Snapshot, rows: usize) -> Table {
    let columns = [">RECORDS/S", ">IN/S", ">OUT/S", ">SIZE", "TOPIC"];
    let mut table = Table::new(&columns);
    for topic in snapshot.topics.iter().take(rows) {
        let stopped = match topic.stopped_partitions {
            0 => String::new(),
            stopped => format!(" ({} stopped)", words::count(stopped, "partition")),
        };
        table.row(vec![
            number(topic.records_in_per_second),
            size(topic.bytes_in_per_second),
            size(topic.bytes_out_per_second),
            words::size(topic.log_bytes),
            format!("{}{stopped}", topic.topic),
        ]);
    }
    table
}

fn groups(snapshot: &Snapshot, rows: usize) -> Table {
    let mut table = Table::new(&[">LAG", ">BEHIND", "GROUP"]);
    for group in snapshot.groups.iter().take(rows) {
        table.row(vec![
            HumanCount(group.lag).to_string(),
            or_dash(group.lag_seconds.map(words::duration)),
            group.group.clone(),
        ]);
    }
    table
}

/// A number of things a second.
fn number(count: f64) -> String {
    HumanCount(count.round() as u64).to_string()
}

/// A number of bytes a second.
fn size(bytes: f64) -> String {
    words::size(bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{Core, Group, Topic};
    use super::*;

    fn snapshot(cores: usize, topics: usize, groups: usize) -> Snapshot {
        Snapshot {
            cores: vec![Core::default(); cores],
            topics: vec![Topic::default(); topics],
            groups: vec![Group::default(); groups],
            ..Snapshot::default()
        }
    }

    #[test]
    fn all_tables_fit_into_a_terminal() {
        for (cores, topics, groups) in [(1, 1, 1), (64, 100, 100), (2, 100, 0), (2, 0, 100)] {
            let snapshot = snapshot(cores, topics, groups);
            for height in [16, 24, 50, 200] {
                let lines = lines(&snapshot, "a:1", Some(height)).len();
                // The last row of the terminal stays free.
                assert!(lines < height, "{lines} lines in {height} rows");
            }
        }
        let topics = |height| Rows::within(height, &snapshot(2, 100, 0)).topics;
        assert_eq!(topics(40), 27, "topics get what is left");
    }

    #[test]
    fn a_pipe_has_all_cores() {
        let all = lines(&snapshot(64, 100, 100), "a:1", None).len();
        assert_eq!(all, 4 + 3 * 2 + 64 + 2 * PIPED_ROWS);
    }

    #[test]
    fn a_row_says_what_is_wrong_with_its_topic() {
        let mut snapshot = snapshot(0, 1, 1);
        snapshot.topics[0] = Topic {
            topic: "orders".to_owned(),
            bytes_in_per_second: 1500.4,
            stopped_partitions: 2,
            ..Topic::default()
        };
        snapshot.disk = Some(Disk {
            free_bytes: 250,
            total_bytes: 1000,
        });
        let lines = lines(&snapshot, "a:1", None).into_iter();
        let text: Vec<String> = lines.map(|line| line.text).collect();
        let text = text.join("\n");
        assert!(text.contains("1.5 KB"), "{text}");
        assert!(text.contains("orders (2 partitions stopped)"), "{text}");
        assert!(text.contains("disk 250 B of 1.0 KB free, 25 %"), "{text}");
        assert!(text.ends_with("0       -"), "{text}");
    }
}
