//! Which client reads which partitions of a topic for a group, over requests that know nothing of one another.
//!
//! A partition is leased to one client at a time, and as long as the client comes back. Clients share the
//! partitions: one that has more than its part gives some back when it comes with what it has done. No clock
//! and no I/O here; times are told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Groups and topics that are read at the same time, of one shard.
const READ_MAX: usize = 1_000;
/// Bytes of a group's name.
const GROUP_BYTES_MAX: usize = 249;
/// Clients of one group and topic that are remembered.
const CLIENTS_MAX: usize = 1_000;

/// A partition that a client may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    pub partition: i32,
    /// Another one each time that the partition goes to a client.
    pub number: u64,
}

/// There are too many groups, topics or clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The leases of the groups that a shard is the home of.
pub struct Leases {
    by_reading: HashMap<(String, Uuid), Reading>,
    /// The last number that was given.
    number: u64,
}

/// A topic that a group reads.
#[derive(Default)]
struct Reading {
    leases: BTreeMap<i32, Lease>,
    /// Clients, and until when they count.
    clients: BTreeMap<String, Instant>,
}

struct Lease {
    client: String,
    number: u64,
    until: Instant,
}

/// Who asks for leases, and for how long.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub lease: Duration,
}

impl Leases {
    /// None. The first number is one that no earlier process has given.
    pub fn new(number: u64) -> Leases {
        Leases {
            by_reading: HashMap::new(),
            number,
        }
    }

    /// Leases a client its part of a topic's partitions, for `client.lease` from now on. What it has it keeps; with
    /// `gives_back` no more than its part.
    pub fn acquire(
        &mut self,
        group: &str,
        (topic, partitions): (Uuid, i32),
        client: &Client,
        gives_back: bool,
        now: Instant,
    ) -> Result<Vec<Leased>, TooMany> {
        if group.len() > GROUP_BYTES_MAX {
            return Err(TooMany);
        }
        let key = (group.to_owned(), topic);
        if self.by_reading.len() >= READ_MAX && !self.by_reading.contains_key(&key) {
            self.by_reading.retain(|_, reading| reading.is_in_use(now));
            if self.by_reading.len() >= READ_MAX {
                return Err(TooMany);
            }
        }
        let reading = self.by_reading.entry(key).or_default();
        reading.end_what_is_over(now);
        if reading.clients.len() >= CLIENTS_MAX && !reading.clients.contains_key(&client.id) {
            return Err(TooMany);
        }
        let until = now + client.lease;
        reading.clients.insert(client.id.clone(), until);
        // Rounded up, so that none is left over.
        let part = (partitions as usize).div_ceil(reading.clients.len());
        let mut own: Vec<i32> = reading.of_client(&client.id);
        if gives_back {
            for partition in own.split_off(own.len().min(part)) {
                reading.leases.remove(&partition);
            }
        }
        let free = (0..partitions).filter(|partition| !reading.leases.contains_key(partition));
        let more: Vec<i32> = free.take(part.saturating_sub(own.len())).collect();
        for partition in more {
            self.number = self.number.wrapping_add(1);
            let lease = Lease {
                client: client.id.clone(),
                number: self.number,
                until,
            };
            reading.leases.insert(partition, lease);
        }
        let own = reading
            .leases
            .iter_mut()
            .filter(|(_, lease)| lease.client == client.id);
        let own = own.map(|(partition, lease)| {
            lease.until = until;
            Leased {
                partition: *partition,
                number: lease.number,
            }
        });
        Ok(own.collect())
    }

    /// Which of these a client does not have any more.
    pub fn lost(
        &self,
        group: &str,
        topic: Uuid,
        client: &str,
        held: &[Leased],
        now: Instant,
    ) -> BTreeSet<i32> {
        let reading = self.by_reading.get(&(group.to_owned(), topic));
        let has = |held: &&Leased| {
            let lease = reading.and_then(|reading| reading.leases.get(&held.partition));
            lease.is_some_and(|lease| {
                lease.client == client && lease.number == held.number && lease.until > now
            })
        };
        let lost = held.iter().filter(|held| !has(held));
        lost.map(|held| held.partition).collect()
    }
}

impl Reading {
    fn is_in_use(&self, now: Instant) -> bool {
        self.clients.values().any(|until| *until > now)
    }

    fn end_what_is_over(&mut self, now: Instant) {
        self.leases.retain(|_, lease| lease.until > now);
        self.clients.retain(|_, until| *until > now);
    }

    fn of_client(&self, client: &str) -> Vec<i32> {
        let own = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.client == client);
        own.map(|(partition, _)| *partition).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(id: &str) -> Client {
        Client {
            id: id.to_owned(),
            lease: Duration::from_secs(10),
        }
    }

    fn partitions(leased: &[Leased]) -> Vec<i32> {
        leased.iter().map(|leased| leased.partition).collect()
    }

    #[test]
    fn clients_share_the_partitions_and_a_lease_ends() {
        let (topic, now) = (Uuid::from_u128(1), Instant::now());
        let mut leases = Leases::new(40);
        let mut acquire = |id: &str, gives_back, at| {
            leases
                .acquire(
                    "g",
                    (topic, 3),
                    &client(id),
                    gives_back,
                    now + Duration::from_secs(at),
                )
                .unwrap()
        };
        let first = acquire("a", false, 0);
        assert_eq!(partitions(&first), [0, 1, 2]);
        assert!(acquire("b", false, 1).is_empty(), "there is none left yet");
        // What it has read and not committed it keeps.
        assert_eq!(acquire("a", false, 2), first);
        assert_eq!(partitions(&acquire("a", true, 3)), [0, 1]);
        assert_eq!(partitions(&acquire("b", false, 4)), [2]);
        // The first does not come again.
        let all = acquire("b", true, 13);
        assert_eq!(partitions(&all), [0, 1, 2]);
        assert!(
            all.iter().all(|leased| !first.contains(leased)),
            "with other numbers"
        );
        let lost = |client: &str, held: &[Leased], at| {
            leases.lost("g", topic, client, held, now + Duration::from_secs(at))
        };
        assert_eq!(lost("a", &first, 13), BTreeSet::from([0, 1, 2]));
        assert!(lost("b", &all, 22).is_empty());
        assert_eq!(lost("b", &all, 23).len(), 3);
        assert_eq!(leases.lost("other", topic, "b", &all, now).len(), 3);
    }

    proptest! {
        /// Never are two clients told that a partition is theirs, and with enough patience each has a part.
        #[test]
        fn no_partition_is_leased_twice(
            steps in proptest::collection::vec((0..5usize, any::<bool>(), 0..4u64), 1..200),
            count in 1..8i32,
        ) {
            let (topic, mut now) = (Uuid::from_u128(1), Instant::now());
            let mut leases = Leases::new(0);
            let mut held: Vec<Vec<Leased>> = vec![Vec::new(); 5];
            for (id, gives_back, pause) in steps {
                now += Duration::from_secs(pause);
                let name = id.to_string();
                held[id] = leases.acquire("g", (topic, count), &client(&name), gives_back, now).unwrap();
                let mut seen = BTreeSet::new();
                for (other, of_other) in held.iter().enumerate() {
                    let lost = leases.lost("g", topic, &other.to_string(), of_other, now);
                    for leased in of_other.iter().filter(|leased| !lost.contains(&leased.partition)) {
                        prop_assert!(seen.insert(leased.partition));
                    }
                }
            }
        }
    }
}
