//! What is asked for, and the topic that it is asked of.

use crate::cli::{topic, words};
use crate::client::offsets::{self, Bounds, by_leader};
use crate::client::producer::Acks;
use crate::client::{Client, Topic};
use crate::log::batch::Codec;
use anyhow::bail;
use clap::builder::RangedI64ValueParser;
use std::collections::BTreeMap;
use std::time::Duration;

const LEADERS_WAIT: Duration = Duration::from_secs(30);

/// One run.
#[derive(Debug)]
pub struct Plan {
    pub producers: Option<Producers>,
    pub consumers: Option<Consumers>,
    pub warmup: Duration,
    pub measured: Duration,
    pub target: Target,
}

/// The topic, and the leaders of its partitions.
#[derive(Clone, Debug)]
pub struct Target {
    pub topic: Topic,
    /// Addresses, with the partitions led there.
    pub leaders: Vec<(String, Vec<i32>)>,
    /// Of each partition, at the start.
    pub bounds: BTreeMap<i32, Bounds>,
}

impl Target {
    /// All partitions.
    pub fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.leaders
            .iter()
            .flat_map(|(_, partitions)| partitions.iter().copied())
    }

    /// Divides the partitions among `count` connections: for each an address and its partitions. No
    /// partition is left out; those of one leader are divided evenly, and shared where there are more
    /// connections than partitions.
    pub fn divide(&self, count: u32) -> Vec<(String, Vec<i32>)> {
        let leaders = self.leaders.len();
        let count = (count as usize).max(leaders);
        let mut shares = Vec::with_capacity(count);
        for (at, (address, partitions)) in self.leaders.iter().enumerate() {
            let of_leader = count / leaders + usize::from(at < count % leaders);
            for number in 0..of_leader {
                let own = partitions.iter().copied().skip(number).step_by(of_leader);
                let mut own: Vec<i32> = own.collect();
                if own.is_empty() {
                    own.push(partitions[number % partitions.len()]);
                }
                shares.push((address.clone(), own));
            }
        }
        shares
    }
}

/// How to write: the flags of what writes.
#[derive(Clone, Debug, clap::Args)]
pub struct Producers {
    /// Size of a record's value, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = record_bytes())]
    pub record_bytes: u32,
    /// As many records as fit into this many bytes make a batch; at least one
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10, value_parser = clap::value_parser!(u32).range(0..=64 << 20))]
    pub batch_bytes: u32,
    /// Batches under way on a connection
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = few())]
    pub in_flight: u32,
    /// Connections that write
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = few())]
    pub connections: u32,
    /// When the broker answers; with 0 never, and nothing is timed
    #[arg(long, value_name = "0|1|all", default_value = "all", value_parser = words::acks)]
    pub acks: Acks,
    /// Compression of each batch
    #[arg(long, value_enum, default_value_t = Codec::None)]
    pub codec: Codec,
    /// Records to send in a second; latencies count from when each was due
    #[arg(long, value_name = "RECORDS")]
    pub rate: Option<f64>,
    /// Measure first what this client can send to a server that throws it away
    #[arg(long)]
    pub ceiling: bool,
}

impl Producers {
    /// A record a batch, one batch under way.
    pub fn one_by_one(
        record_bytes: u32,
        connections: u32,
        rate: Option<f64>,
        acks: Acks,
    ) -> Producers {
        Producers {
            record_bytes,
            batch_bytes: 0,
            in_flight: 1,
            connections,
            acks,
            codec: Codec::None,
            rate,
            ceiling: false,
        }
    }
}

/// How to read: the flags of what reads.
#[derive(Clone, Debug, clap::Args)]
pub struct Consumers {
    /// Connections that read
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = few())]
    pub connections: u32,
    /// Where to read
    #[arg(long, value_enum, default_value_t = ReadFrom::Beginning)]
    pub from: ReadFrom,
    /// Only the last N records of each partition, as it was at the start
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub last_records: Option<i64>,
    /// The fewest bytes worth an answer
    #[arg(long, value_name = "BYTES", default_value_t = 1)]
    pub min_bytes: i32,
    /// The most bytes of an answer
    #[arg(long, value_name = "BYTES", default_value_t = 50 << 20)]
    pub max_bytes: i32,
    /// The most bytes of a partition in an answer
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    pub partition_max_bytes: i32,
    /// How long the broker may wait for `--min-bytes`
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub max_wait_ms: i32,
}

impl Consumers {
    /// Reads what is written meanwhile.
    pub fn tail(connections: u32) -> Consumers {
        Consumers {
            connections,
            from: ReadFrom::End,
            last_records: None,
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            max_wait_ms: 500,
        }
    }
}

/// Where to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadFrom {
    /// From the first record; at the end, from the first again.
    Beginning,
    /// What is written from now on.
    End,
    /// Each fetch somewhere else.
    Random,
}

pub fn record_bytes() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=16 << 20)
}

pub fn few() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=10_000)
}

/// A time of at most a day.
pub fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("it is not a number of seconds from 0 to 86400".to_owned()),
    }
}

/// Makes sure that the topic exists with this number of partitions, all of which have leaders.
pub fn prepare(
    client: &mut Client,
    name: &str,
    partitions: i32,
    fresh: bool,
) -> anyhow::Result<Target> {
    let topics = client.metadata(Some(&[name]), false)?;
    let mut exists = topics.iter().any(|topic| !topic.error.is_error());
    if fresh && exists {
        topic::delete_topic(client, name)?;
        exists = false;
    }
    if !exists {
        topic::create_topic(client, name, partitions)?;
    }
    // A new topic may have no leaders for a moment.
    let is_led = |topic: &Topic| topic.partitions.iter().all(|p| p.leader_id >= 0);
    let topic = client.await_topic(name, false, LEADERS_WAIT, is_led)?;
    if topic.partitions.len() != partitions as usize {
        bail!(
            "topic {name} has {} and not {partitions}: say --fresh, or name another one",
            words::count(topic.partitions.len() as u64, "partition")
        );
    }
    let all: Vec<i32> = (0..partitions).collect();
    let bounds = offsets::bounds(client, &topic, &all)?;
    let leaders = by_leader(&topic, all).into_iter();
    let leaders = leaders.map(|(leader, partitions)| {
        let address = leader.and_then(|leader| client.address_of(leader));
        (address.unwrap_or_default().to_owned(), partitions)
    });
    Ok(Target {
        leaders: leaders.collect(),
        topic,
        bounds,
    })
}

#[cfg(test)]
mod tests {
    use super::{Target, Topic};

    fn target(leaders: &[(&str, &[i32])]) -> Target {
        let leaders = leaders.iter();
        Target {
            topic: Topic::default(),
            bounds: Default::default(),
            leaders: leaders
                .map(|(address, partitions)| ((*address).to_owned(), partitions.to_vec()))
                .collect(),
        }
    }

    #[test]
    fn every_partition_has_one_connection_when_there_are_enough_of_them() {
        let shares = target(&[("a", &[0, 1, 2, 3, 4])]).divide(2);
        assert_eq!(
            shares,
            [
                ("a".to_owned(), vec![0, 2, 4]),
                ("a".to_owned(), vec![1, 3])
            ]
        );
    }

    #[test]
    fn connections_share_partitions_when_there_are_too_few() {
        let shares = target(&[("a", &[0, 1])]).divide(3);
        let partitions: Vec<_> = shares
            .into_iter()
            .map(|(_, partitions)| partitions)
            .collect();
        assert_eq!(partitions, [vec![0], vec![1], vec![0]]);
    }

    #[test]
    fn each_leader_has_a_connection_at_least() {
        let shares = target(&[("a", &[0]), ("b", &[1]), ("c", &[2])]).divide(1);
        assert_eq!(shares.len(), 3);
        let shares = target(&[("a", &[0, 2]), ("b", &[1, 3])]).divide(3);
        assert_eq!(shares[2], ("b".to_owned(), vec![1, 3]));
    }
}
