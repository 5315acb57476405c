//! How long something took, again and again.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer than this counts as this.
const LONGEST: Duration = Duration::from_secs(60);

/// Times of one kind.
pub struct Timing(Histogram<u64>);

impl Timing {
    pub fn new() -> Timing {
        let longest = LONGEST.as_nanos() as u64;
        Timing(Histogram::new_with_bounds(1, longest, 3).expect("the bounds make sense"))
    }

    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    /// One JSON object, in microseconds.
    pub fn json(&self) -> String {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        format!(
            r#"{{"p50_us":{:.1},"p90_us":{:.1},"p99_us":{:.1},"p999_us":{:.1},"max_us":{:.1},"count":{}}}"#,
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            self.0.max() as f64 / 1e3,
            self.0.len()
        )
    }
}
