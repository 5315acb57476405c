//! Counters that are declared once: field, kind, and the name and help that `/metrics` shows. The rooms that count
//! have the tables.

use std::cell::Cell;
use std::time::Duration;

/// Upper bounds of the latency buckets in microseconds; the last bucket has none.
pub const BUCKETS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400, 6_553_600, 26_214_400,
];

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Counts by bucket, not cumulative; one more than there are bounds.
    pub buckets: [u64; BUCKETS_US.len() + 1],
    pub sum_us: u64,
}

impl Histogram {
    pub fn observe(&mut self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.buckets[BUCKETS_US.partition_point(|bound| *bound < us)] += 1;
        self.sum_us += us;
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_us += other.sum_us;
    }
}

/// How a family is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    /// Milliseconds, shown as a gauge of seconds.
    Millis,
}

/// A metric family with one sample for each report of type `R`. One without a name is not shown.
pub struct Family<R> {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub value: fn(&R) -> u64,
}

/// Declares counters, the report that copies them (beside what is measured when the report is made), the sum
/// of two reports, and the metric families.
macro_rules! counters {
    (
        $(#[$about:meta])*
        $Counters:ident($Cell:ty, $get:path) {
            $($counted:ident: $counted_kind:ident $counted_name:literal $counted_help:literal;)*
        } besides {
            $($(#[$counter_doc:meta])* $counter:ident: $Counter:ty,)*
        }
        $(#[$report_about:meta])*
        $Report:ident, $FAMILIES:ident {
            $($measured:ident: $kind:ident $name:literal $help:literal;)*
        } besides {
            $($(#[$field_doc:meta])* $field:ident: $Field:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Default)]
        pub struct $Counters {
            $(#[doc = $counted_help] pub $counted: $Cell,)*
            $($(#[$counter_doc])* pub $counter: $Counter,)*
        }

        $(#[$report_about])*
        #[derive(Clone, Debug, Default)]
        pub struct $Report {
            $(#[doc = $counted_help] pub $counted: u64,)*
            $(#[doc = $help] pub $measured: u64,)*
            $($(#[$field_doc])* pub $field: $Field,)*
        }

        impl From<&$Counters> for $Report {
            fn from(counters: &$Counters) -> $Report {
                $Report {
                    $($counted: $get(&counters.$counted),)*
                    ..$Report::default()
                }
            }
        }

        impl $Report {
            /// Adds the numbers of another report that have a line in the table.
            pub fn add(&mut self, other: &$Report) {
                $(self.$counted += other.$counted;)*
                $(self.$measured += other.$measured;)*
            }
        }

        pub const $FAMILIES: &[$crate::io::counters::Family<$Report>] = &[
            $($crate::io::counters::Family {
                name: $counted_name,
                kind: $crate::io::counters::Kind::$counted_kind,
                help: $counted_help,
                value: |report| report.$counted,
            },)*
            $($crate::io::counters::Family {
                name: $name,
                kind: $crate::io::counters::Kind::$kind,
                help: $help,
                value: |report| report.$measured,
            },)*
        ];
    };
}

pub(crate) use counters;

/// Adds to a counter.
pub fn add(counter: &Cell<u64>, by: u64) {
    counter.set(counter.get().wrapping_add(by));
}

/// Takes from a gauge.
pub fn sub(gauge: &Cell<u64>, by: u64) {
    gauge.set(gauge.get().saturating_sub(by));
}
