//! The client that does nothing wrong: one small request after the other. Its latency is measured.

use crate::record::{self, Id, Shape};
use crate::requests::{self, Configs, NONE, PRODUCE};
use crate::wire::{Wire, topic_name};
use anyhow::ensure;
use bytes::Bytes;
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::records::Compression;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TOPIC: &str = "probe";
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(3);
const METADATA: i16 = 12;

/// What was measured.
#[derive(Default)]
pub struct Latency {
    /// How long each answer took, and to which request: the shortest first.
    pub(super) answers: Vec<(Duration, &'static str)>,
    /// Why it ended early: an error, or no answer within [`crate::wire::HANG`].
    pub error: Option<String>,
}

/// Makes the topic that it uses.
///
/// # Errors
/// The connection's, or what the broker refused.
pub fn prepare(broker: SocketAddr) -> anyhow::Result<()> {
    let error = requests::create_topic(&mut Wire::connect(broker)?, TOPIC, 1, &Configs::new())?;
    ensure!(error == NONE, "the probe's topic is refused with {error}");
    Ok(())
}

/// Asks until it is told to end, or until an error.
pub fn measure(broker: SocketAddr, end: &AtomicBool) -> Latency {
    let mut latency = Latency::default();
    if let Err(error) = latency.ask(broker, end) {
        latency.error = Some(format!("{error:#}"));
    }
    latency.answers.sort_unstable();
    latency
}

impl Latency {
    pub fn count(&self) -> usize {
        self.answers.len()
    }

    /// The latency that this share of the answers does not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let place = (share * self.answers.len() as f64).ceil() as usize;
        let found = self.answers.get(place.saturating_sub(1));
        found.map_or(Duration::ZERO, |(took, _)| *took)
    }

    /// The request that waited the longest.
    pub fn slowest(&self) -> &'static str {
        self.answers.last().map_or("", |(_, request)| request)
    }

    fn ask(&mut self, broker: SocketAddr, end: &AtomicBool) -> anyhow::Result<()> {
        let mut wire = Wire::connect(broker)?;
        let batch = batch();
        while !end.load(Ordering::SeqCst) {
            self.time("Produce", || produce(&mut wire, &batch))?;
            self.time("Metadata", || metadata(&mut wire))?;
        }
        Ok(())
    }

    /// A request that ends in an error counts with the time that it took.
    fn time(
        &mut self,
        request: &'static str,
        call: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let result = call();
        self.answers.push((started.elapsed(), request));
        std::thread::sleep(PAUSE);
        result
    }
}

fn batch() -> Bytes {
    let shape = Shape {
        keys: None,
        value_bytes_max: 20,
    };
    let id = Id {
        worker: 0,
        number: 0,
    };
    record::encode((TOPIC, 0), shape, &[id], None, Compression::None)
}

fn produce(wire: &mut Wire, batch: &Bytes) -> anyhow::Result<()> {
    let request = requests::produce(TOPIC, 0, -1, batch.clone());
    let (error, _) = requests::produced(&wire.call(&request, PRODUCE)?);
    ensure!(error == NONE, "Produce is answered with error {error}");
    Ok(())
}

fn metadata(wire: &mut Wire) -> anyhow::Result<()> {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    let error = wire.call(&request, METADATA)?.topics[0].error_code;
    ensure!(error == NONE, "Metadata is answered with error {error}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_an_answer_that_the_share_does_not_exceed() {
        let latency = Latency {
            answers: (1..=200)
                .map(|ms| (Duration::from_millis(ms), "Produce"))
                .collect(),
            error: None,
        };
        assert_eq!(latency.quantile(0.5), Duration::from_millis(100));
        assert_eq!(latency.quantile(0.99), Duration::from_millis(198));
        assert_eq!(latency.quantile(1.0), Duration::from_millis(200));
        assert_eq!(Latency::default().quantile(0.5), Duration::ZERO);
    }
}
