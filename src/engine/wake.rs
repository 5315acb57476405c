//! How partitions wake a fetch that waits for records.

use crate::io::reactor::STEPS_FEW;
use std::mem;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Wakes a parked fetch. One of many partitions is told which of them have something new, so that it
/// looks at these only.
pub struct Wake {
    notify: Notify,
    /// Places in the fetch's list of reads; `None` where there are few, which are all read again.
    places: Option<Mutex<Vec<usize>>>,
}

impl Wake {
    /// For a fetch of so many partitions.
    pub fn new(reads: usize) -> Wake {
        Wake {
            notify: Notify::new(),
            places: (reads > STEPS_FEW).then(Mutex::default),
        }
    }

    /// There is something new in the partition at this place.
    pub fn wake(&self, place: usize) {
        if let Some(places) = &self.places {
            let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
            places.push(place);
        }
        self.notify.notify_one();
    }

    /// Returns when something is new, or was since the last time.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// The places with something new since the last call; `None` where all are to be read.
    pub fn take_places(&self) -> Option<Vec<usize>> {
        let places = self.places.as_ref()?;
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        Some(mem::take(&mut places))
    }
}
