//! Connections and requests of each client address, over all shards.

use crate::config::Config;
use crate::io::limits::{self, Limit};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Window for connection and request rates; a burst may use one window's worth at once.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// From this value on the rate of requests is not limited.
const NO_RATE: usize = i32::MAX as usize;
/// Addresses without a connection are forgotten when their number has doubled since the last time, but
/// not below this number.
const FORGET_AT_MIN: usize = 1024;

/// The connections of the whole broker. The lock is taken when a connection begins and ends, and for each
/// request where their rate is limited.
pub struct Addresses(Mutex<Counts>);

struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, Address>,
    forget_at: usize,
}

struct Address {
    open: usize,
    /// When the current window began, and how many connections were opened in it.
    since: Instant,
    opened: usize,
    /// When the requests so far would have ended, had each taken its time at the full rate.
    paced: Instant,
}

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses(Mutex::new(Counts {
            total: 0,
            by_address: HashMap::new(),
            forget_at: FORGET_AT_MIN,
        }))
    }
}

impl Addresses {
    /// Counts a new connection.
    ///
    /// # Errors
    /// The limit that it would exceed; then it is not counted.
    pub fn admit(&self, from: IpAddr, config: &Config) -> Result<(), &'static Limit> {
        self.admit_at(from, config, Instant::now())
    }

    fn admit_at(&self, from: IpAddr, config: &Config, now: Instant) -> Result<(), &'static Limit> {
        let mut counts = self.counts();
        if counts.total >= config.connections_max {
            return Err(&limits::CONNECTIONS);
        }
        counts.forget(now);
        let address = counts.by_address.entry(from).or_insert(Address {
            open: 0,
            since: now,
            opened: 0,
            paced: now,
        });
        if address.open >= config.connections_per_address_max {
            return Err(&limits::ADDRESS_CONNECTIONS);
        }
        if now.saturating_duration_since(address.since) >= RATE_WINDOW {
            (address.since, address.opened) = (now, 0);
        }
        if address.opened >= config.connection_rate_per_address_max {
            return Err(&limits::ADDRESS_CONNECTION_RATE);
        }
        address.opened += 1;
        address.open += 1;
        counts.total += 1;
        Ok(())
    }

    /// Counts a request from an address that has a connection; returns how long the request has to wait.
    pub fn pace(&self, from: IpAddr, config: &Config) -> Duration {
        if is_paced(config) {
            self.pace_at(from, config, Instant::now())
        } else {
            Duration::ZERO
        }
    }

    fn pace_at(&self, from: IpAddr, config: &Config, now: Instant) -> Duration {
        let mut counts = self.counts();
        let Some(address) = counts.by_address.get_mut(&from) else {
            return Duration::ZERO;
        };
        let one = RATE_WINDOW / config.request_rate_per_address_max as u32;
        address.paced = address.paced.max(now) + one;
        (address.paced - now).saturating_sub(RATE_WINDOW)
    }

    /// Counts the end of a connection that was admitted.
    pub fn release(&self, from: IpAddr) {
        let mut counts = self.counts();
        counts.total = counts.total.saturating_sub(1);
        if let Some(address) = counts.by_address.get_mut(&from) {
            address.open = address.open.saturating_sub(1);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether the rate of requests is limited.
pub fn is_paced(config: &Config) -> bool {
    config.request_rate_per_address_max < NO_RATE
}

impl Counts {
    fn forget(&mut self, now: Instant) {
        if self.by_address.len() < self.forget_at {
            return;
        }
        self.by_address.retain(|_, address| {
            address.open > 0 || now.saturating_duration_since(address.since) < RATE_WINDOW
        });
        self.forget_at = (2 * self.by_address.len()).max(FORGET_AT_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(result: Result<(), &'static Limit>) -> &'static str {
        result.map_or_else(|limit| limit.knob, |()| "admitted")
    }

    #[test]
    fn each_address_has_its_own_number_and_rate_and_all_have_one_together() {
        let config = Config {
            connections_max: 5,
            connections_per_address_max: 3,
            connection_rate_per_address_max: 2,
            ..Config::default()
        };
        let addresses = Addresses::default();
        let start = Instant::now();
        let one = IpAddr::from([127, 0, 0, 1]);
        let other = IpAddr::from([127, 0, 0, 2]);
        let at = |from, ms| {
            refused(addresses.admit_at(from, &config, start + Duration::from_millis(ms)))
        };
        assert_eq!(at(one, 0), "admitted");
        assert_eq!(at(one, 1), "admitted");
        assert_eq!(at(one, 999), "connection_rate_per_address_max");
        assert_eq!(at(other, 999), "admitted");
        assert_eq!(at(one, 1000), "admitted");
        assert_eq!(at(one, 1001), "connections_per_address_max");
        assert_eq!(at(other, 1002), "admitted");
        assert_eq!(at(other, 3000), "connections_max");
        addresses.release(one);
        assert_eq!(at(one, 3001), "admitted");
    }

    #[test]
    fn shards_that_admit_at_the_same_time_keep_to_the_limit_together() {
        let config = Config {
            connections_max: 3,
            ..Config::default()
        };
        let addresses = Addresses::default();
        let from = IpAddr::from([127, 0, 0, 1]);
        let admitted = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    if addresses.admit(from, &config).is_ok() {
                        admitted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| addresses.release(from));
            }
        });
        assert_eq!(addresses.counts().total, 0);
    }

    #[test]
    fn an_address_may_send_a_seconds_requests_at_once_and_then_one_at_its_time() {
        let config = Config {
            request_rate_per_address_max: 10,
            ..Config::default()
        };
        let addresses = Addresses::default();
        let start = Instant::now();
        let one = IpAddr::from([127, 0, 0, 1]);
        let other = IpAddr::from([127, 0, 0, 2]);
        for from in [one, other] {
            addresses.admit_at(from, &config, start).unwrap_or_default();
        }
        let wait = |from, ms| {
            let now = start + Duration::from_millis(ms);
            addresses.pace_at(from, &config, now).as_millis()
        };
        for _ in 0..10 {
            assert_eq!(wait(one, 0), 0);
        }
        assert_eq!((wait(one, 0), wait(one, 50)), (100, 150));
        assert_eq!(wait(other, 50), 0);
        assert_eq!(wait(one, 1300), 0);
        let unlimited = Config::default();
        assert_eq!(addresses.pace(one, &unlimited), Duration::ZERO);
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let addresses = Addresses::default();
        let config = Config::default();
        let start = Instant::now();
        for number in 0..5000_u32 {
            let from = IpAddr::from(number.to_be_bytes());
            let now = start + RATE_WINDOW * number;
            addresses.admit_at(from, &config, now).unwrap_or_default();
            addresses.release(from);
        }
        assert!(addresses.counts().by_address.len() <= FORGET_AT_MIN);
    }
}
