//! A cache with bounds: so many entries, so many bytes. What was used the longest ago goes first.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

pub struct Cache<K, V> {
    entries: HashMap<K, Entry<V>>,
    entries_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// Grows with every use.
    uses: u64,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    until: Option<Instant>,
    last_use: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    pub fn new(entries_max: usize, bytes_max: usize) -> Cache<K, V> {
        Cache {
            entries: HashMap::new(),
            entries_max,
            bytes_max,
            bytes: 0,
            uses: 0,
        }
    }

    pub fn get(&mut self, key: &K, now: Instant) -> Option<V> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        if entry.until.is_some_and(|until| now >= until) {
            self.remove(key);
            return None;
        }
        entry.last_use = self.uses;
        Some(entry.value.clone())
    }

    /// Keeps a value that takes about so many bytes, for a time or for as long as there is room.
    pub fn put(&mut self, key: K, value: V, bytes: usize, kept: Option<Duration>, now: Instant) {
        self.remove(&key);
        if bytes > self.bytes_max {
            return;
        }
        while self.entries.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last_use);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.remove(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        let entry = Entry {
            value,
            bytes,
            until: kept.map(|kept| now + kept),
            last_use: self.uses,
        };
        self.entries.insert(key, entry);
    }

    /// Removes what this says of.
    pub fn forget(&mut self, mut is_it: impl FnMut(&K, &V) -> bool) {
        let entries = self.entries.iter();
        let wrong = entries.filter(|(key, entry)| is_it(key, &entry.value));
        let wrong: Vec<K> = wrong.map(|(key, _)| key.clone()).collect();
        for key in &wrong {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &K) {
        if let Some(removed) = self.entries.remove(key) {
            self.bytes -= removed.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_entries_and_bytes_and_the_oldest_goes() {
        let now = Instant::now();
        let mut cache = Cache::new(3, 100);
        for key in ["a", "b", "c"] {
            cache.put(key, key, 30, None, now);
        }
        assert_eq!(cache.get(&"a", now), Some("a"));
        cache.put("d", "d", 10, None, now);
        assert_eq!(cache.get(&"b", now), None, "the oldest of too many");
        cache.put("e", "e", 60, None, now);
        assert_eq!(cache.get(&"c", now), None, "too many bytes");
        assert_eq!(cache.get(&"a", now), Some("a"));
        cache.put("f", "f", 101, None, now);
        assert_eq!(cache.get(&"f", now), None, "too large alone");
        cache.put("e", "other", 10, None, now);
        assert_eq!(cache.get(&"e", now), Some("other"));
        assert_eq!(cache.bytes, 50);
        cache.forget(|key, _| *key == "e");
        assert_eq!((cache.get(&"e", now), cache.bytes), (None, 40));
    }

    #[test]
    fn what_is_kept_for_a_time_is_gone_then() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut cache = Cache::new(3, 100);
        cache.put("a", 1, 10, Some(second), now);
        assert_eq!(cache.get(&"a", now), Some(1));
        assert_eq!(cache.get(&"a", now + second), None);
        assert_eq!(cache.bytes, 0);
    }
}
