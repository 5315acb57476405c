//! A promise that the broker did not keep.

use std::fmt;

/// What was promised and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An acknowledged record is not there.
    Lost,
    /// A record is there twice.
    Doubled,
    /// Records of one producer are not in the order in which it sent them.
    Reordered,
    /// What a consumer saw is not there any more.
    Unseen,
    /// A record is not what was sent, or another than the one that was there.
    Changed,
    /// A record that nobody sent to this partition.
    Stranger,
    /// Offsets or sequence numbers leave one out.
    Gap,
    /// The log start offset is not where it may be.
    Start,
    /// A committed group offset is older than the last one acknowledged, or was never committed.
    Commit,
    /// An append was done or refused although what it expected was not, or was, so.
    Condition,
    /// What is shown of a key is not its newest record.
    Key,
    /// A topic, its partitions or configs are not what was answered.
    Catalog,
    /// The broker does not start, ends by itself, hangs or answers nonsense.
    Broker,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Doubled => "doubled",
            Kind::Reordered => "reordered",
            Kind::Unseen => "un-seen",
            Kind::Changed => "changed",
            Kind::Stranger => "stranger",
            Kind::Gap => "gap",
            Kind::Start => "start",
            Kind::Commit => "commit",
            Kind::Condition => "condition",
            Kind::Key => "key",
            Kind::Catalog => "catalog",
            Kind::Broker => "broker",
        }
    }
}

/// One violation, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    /// Where, what was expected, what was found.
    pub text: String,
}

impl Violation {
    pub fn new(kind: Kind, text: impl Into<String>) -> Violation {
        let text = text.into();
        Violation { kind, text }
    }

    /// The same, with the place before it.
    pub fn at(mut self, place: impl fmt::Display) -> Violation {
        self.text = format!("{place}: {}", self.text);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.kind.name(), self.text)
    }
}

impl std::error::Error for Violation {}

/// Returns a violation from the function around it.
macro_rules! violated {
    ($kind:ident, $($text:tt)*) => {
        return Err($crate::violation::Violation::new(
            $crate::violation::Kind::$kind,
            format!($($text)*),
        ))
    };
}
pub(crate) use violated;
