//! How a consumer fetches: everything each time, or in a session (KIP-227), in which it names what has
//! changed and is told what has.

use super::End;
use super::consumer::Position;
use crate::requests::{self, NONE};
use crate::rng::Rng;
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use std::collections::BTreeMap;

/// The epoch of a fetch that is in no session, and of one that ends its session.
const NO_SESSION: i32 = -1;
/// The epoch of a fetch that asks for a session.
const INITIAL: i32 = 0;

/// What the broker knows of a consumer.
pub struct Session {
    id: i32,
    epoch: i32,
    /// Where it is to read each partition from.
    told: BTreeMap<(String, i32), i64>,
}

impl Session {
    /// None: each fetch names everything.
    pub fn none() -> Session {
        Session {
            id: 0,
            epoch: NO_SESSION,
            told: BTreeMap::new(),
        }
    }

    /// None, or one that the first fetch opens.
    pub fn draw(rng: &mut Rng) -> Session {
        Session {
            epoch: *rng.pick(&[NO_SESSION, INITIAL]),
            ..Session::none()
        }
    }

    /// The next fetch.
    pub fn request(&mut self, positions: &[Position], max_wait_ms: i32) -> FetchRequest {
        let is_new = |position: &&Position| {
            self.epoch <= INITIAL || self.told.get(&position.key()) != Some(&position.next)
        };
        let wanted: Vec<(&str, i32, i64)> = positions
            .iter()
            .filter(is_new)
            .map(|position| (position.topic.name.as_str(), position.index, position.next))
            .collect();
        let keys = positions.iter().map(|at| (at.key(), at.next)).collect();
        let before = std::mem::replace(&mut self.told, keys);
        let forgotten = before
            .into_keys()
            .filter(|key| !self.told.contains_key(key));
        let forgotten = forgotten.map(|(topic, index)| {
            ForgottenTopic::default()
                .with_topic(crate::wire::topic_name(&topic))
                .with_partitions(vec![index])
        });
        requests::fetch(&wanted, max_wait_ms)
            .with_session_id(self.id)
            .with_session_epoch(self.epoch)
            .with_forgotten_topics_data(forgotten.collect())
    }

    /// Takes the answer. A session that is in use is not forgotten.
    pub fn answered(&mut self, response: &FetchResponse) -> Result<(), End> {
        if response.error_code != NONE {
            let (id, epoch) = (self.id, self.epoch);
            let what = format!("a fetch of session {id} in epoch {epoch}");
            return Err(End::Refused(response.error_code, what));
        }
        match self.epoch {
            NO_SESSION => {}
            // Without an id there was no place for another one.
            INITIAL if response.session_id == 0 => self.epoch = NO_SESSION,
            _ => {
                self.id = response.session_id;
                self.epoch = self.epoch.checked_add(1).unwrap_or(1);
            }
        }
        Ok(())
    }

    /// The fetch that ends the session, if there is one.
    pub fn end(&self) -> Option<FetchRequest> {
        let is_open = self.epoch > INITIAL;
        is_open.then(|| requests::fetch(&[], 0).with_session_id(self.id))
    }
}
