//! Message ids and conditions: clients that send again what was not answered, or what was, and clients that race for
//! the same version. What each was told is in the `book`; the `senders` are the load, and `check` holds a broker that
//! has come back against it.

mod book;
mod check;
mod form;
mod http;
mod sender;

pub use check::Addresses;

use crate::load::judge;
use crate::model::{Model, add, count, lock};
use crate::record::now_ms;
use crate::rng::Rng;
use crate::violation::{Violation, violated};
use book::{Book, Rules};
use http::{Http, Request};
use sender::Sender;
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const SENDERS: usize = 7;
/// Records from which on a topic is replaced by a new one.
const RECORDS_MAX: usize = 3_000;
const KEYS: usize = 6;
/// Longer than any run.
const LONG_WINDOW_MS: i64 = 24 * 3_600_000;
const MONTH_MS: i64 = 30 * 24 * 3_600_000;

/// What is sent to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records with ids, sent again at any time.
    Ids,
    /// The same, with a window that is shorter than a run.
    Short,
    /// Writers that race for the next offset.
    Line,
    /// Writers that race for keys.
    Keys,
    /// The same without ids, and compacted.
    Compacted,
}

const KINDS: [Kind; 5] = [
    Kind::Ids,
    Kind::Short,
    Kind::Line,
    Kind::Keys,
    Kind::Compacted,
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Ids => "ids",
            Kind::Short => "short",
            Kind::Line => "line",
            Kind::Keys => "keys",
            Kind::Compacted => "compacted",
        }
    }

    fn has_keys(self) -> bool {
        matches!(self, Kind::Keys | Kind::Compacted)
    }
}

/// A topic that records are sent to.
#[derive(Debug)]
pub struct Topic {
    name: String,
    kind: Kind,
    configs: Vec<(&'static str, String)>,
    /// Records may say in their headers what they expect.
    conditional: bool,
    rules: Rules,
    /// By partition.
    books: Vec<Mutex<Book>>,
    /// Its creation was answered after so many cuts of the power.
    created: Mutex<Option<u64>>,
    /// It was deleted, or its disk replaced.
    gone: AtomicBool,
}

/// What all senders share.
#[derive(Debug, Default)]
pub struct Shared {
    topics: Mutex<Vec<Arc<Topic>>>,
    next_number: AtomicU64,
    next_topic: AtomicU64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    unanswered: AtomicU64,
    again: AtomicU64,
    duplicates: AtomicU64,
    again_stored: AtomicU64,
    conditions: AtomicU64,
    changed: AtomicU64,
    keys_read: AtomicU64,
    /// Answers that a key's newest record is not known yet.
    keys_unknown: AtomicU64,
}

impl Shared {
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        lock(&self.topics).clone()
    }

    fn new_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

/// The keys that are written to.
fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|number| format!("k{number}"))
}

/// What goes on from cycle to cycle.
pub struct Once {
    pub shared: Arc<Shared>,
    senders: Vec<Sender>,
}

/// The load of one cycle, under way.
pub struct Running(Vec<JoinHandle<Sender>>);

impl Once {
    pub fn new() -> Once {
        Once {
            shared: Arc::default(),
            senders: (0..SENDERS).map(Sender::new).collect(),
        }
    }

    /// Nothing is promised any more: the disk was replaced by an empty one.
    pub fn forget_all(&self) {
        for topic in lock(&self.shared.topics).drain(..) {
            topic.gone.store(true, Ordering::SeqCst);
        }
    }

    /// Holds a broker that has come back against all that is known, after a cut of the power or without.
    pub fn check(
        &self,
        model: &Model,
        broker: Addresses,
        cut: Option<u64>,
    ) -> Result<(), Violation> {
        check::check(model, &self.shared, broker, cut)
    }

    /// Before the load of a cycle: topics that have grown large are replaced.
    pub fn prepare(
        &self,
        model: &Model,
        broker: Addresses,
        rng: &mut Rng,
    ) -> Result<(), Violation> {
        let mut prepared = || -> io::Result<Result<(), Violation>> {
            let http = &mut Http::connect(broker.http)?;
            for topic in self.shared.topics() {
                let known: usize = topic.books.iter().map(|book| lock(book).len()).sum();
                if known > RECORDS_MAX {
                    lock(&self.shared.topics).retain(|other| other.name != topic.name);
                    topic.gone.store(true, Ordering::SeqCst);
                    let reply = http.call(&Request {
                        method: "DELETE",
                        path: format!("/api/topics/{0}?confirm={0}", topic.name),
                        ..Request::default()
                    })?;
                    add(&model.tally.catalog_changes, 1);
                    if reply.status / 100 != 2 {
                        return Ok(refused("the deletion of", &topic, &reply));
                    }
                }
            }
            for kind in KINDS {
                let there = self
                    .shared
                    .topics()
                    .into_iter()
                    .find(|topic| topic.kind == kind);
                let topic = there.unwrap_or_else(|| {
                    let topic = Arc::new(self.draw(kind, rng));
                    // Before there is an answer: a broker that ends meanwhile may have created it.
                    lock(&self.shared.topics).push(Arc::clone(&topic));
                    topic
                });
                if lock(&topic.created).is_some() {
                    continue;
                }
                let reply = http.call(&topic.creation())?;
                add(&model.tally.catalog_changes, 1);
                if reply.status / 100 != 2 {
                    return Ok(refused("the creation of", &topic, &reply));
                }
                *lock(&topic.created) = Some(model.cuts());
            }
            Ok(Ok(()))
        };
        prepared()
            .unwrap_or_else(|error| violated!(Broker, "no answer to a change of topics: {error}"))
    }

    fn draw(&self, kind: Kind, rng: &mut Rng) -> Topic {
        let number = self.shared.next_topic.fetch_add(1, Ordering::Relaxed);
        let window_ms = match kind {
            Kind::Short => Some(*rng.pick(&[40, 150, 600, 2_500])),
            Kind::Compacted => None,
            _ => Some(LONG_WINDOW_MS),
        };
        let segment_ms = *rng.pick(&[40, 150, 600, 10_000]);
        let mut configs = vec![
            ("segment.bytes", "1048576".to_owned()),
            ("segment.ms", segment_ms.to_string()),
        ];
        if let Some(window_ms) = window_ms {
            configs.push(("dedup.window.ms", window_ms.to_string()));
        }
        if rng.one_in(4) {
            configs.push(("message.timestamp.type", "LogAppendTime".to_owned()));
        }
        let conditional = match kind {
            Kind::Ids | Kind::Short => false,
            Kind::Keys => true,
            Kind::Line | Kind::Compacted => rng.one_in(2),
        };
        if conditional {
            configs.push(("conditional.append", "true".to_owned()));
        } else if kind.has_keys() {
            configs.push(("key.index", "true".to_owned()));
        }
        if kind.has_keys() {
            configs.push(("cleanup.policy", "compact".to_owned()));
            configs.push(("min.cleanable.dirty.ratio", "0.01".to_owned()));
            configs.push(("delete.retention.ms", MONTH_MS.to_string()));
        }
        let rules = Rules {
            window_ms,
            for_ever: window_ms == Some(LONG_WINDOW_MS),
            compacts: kind == Kind::Compacted,
        };
        let partitions = 1 + rng.below(3);
        Topic {
            name: format!("{}-{number}", kind.name()),
            kind,
            configs,
            conditional,
            rules,
            books: (0..partitions)
                .map(|_| Mutex::new(Book::new(rules)))
                .collect(),
            created: Mutex::new(None),
            gone: AtomicBool::new(false),
        }
    }

    /// Starts the senders.
    pub fn start(&mut self, model: &Arc<Model>, broker: Addresses, rng: &mut Rng) -> Running {
        let senders = std::mem::take(&mut self.senders).into_iter();
        let start = |mut sender: Sender| {
            let (model, shared) = (Arc::clone(model), Arc::clone(&self.shared));
            let rng = Rng::new(rng.next());
            std::thread::spawn(move || {
                let end = sender.run(&model, &shared, broker, rng);
                if let Some(violation) = end.err().and_then(|end| judge(end, &model)) {
                    model.report(violation.at(format!("sender {}", sender.number)));
                }
                sender
            })
        };
        Running(senders.map(start).collect())
    }

    /// Waits for the senders, whose connections have ended or are about to.
    pub fn join(&mut self, running: Running) {
        let senders = running.0.into_iter();
        self.senders = senders
            .map(|sender| sender.join().expect("a sender panicked"))
            .collect();
        let now_ms = now_ms();
        for topic in self.shared.topics() {
            for book in &topic.books {
                lock(book).end_life(now_ms);
            }
        }
    }

    /// What was done, for the summary.
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let counts = &self.shared.counts;
        vec![
            ("requests unanswered", count(&counts.unanswered)),
            ("ids sent again", count(&counts.again)),
            ("duplicates told", count(&counts.duplicates)),
            ("stored again", count(&counts.again_stored)),
            ("conditions held", count(&counts.conditions)),
            ("conditions changed", count(&counts.changed)),
            ("keys read", count(&counts.keys_read)),
            ("keys not known yet", count(&counts.keys_unknown)),
        ]
    }
}

impl Topic {
    fn creation(&self) -> Request {
        let configs = self.configs.iter();
        let configs: serde_json::Map<String, Value> = configs
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .collect();
        let body = json!({ "partitions": self.books.len(), "configs": configs });
        Request {
            method: "PUT",
            path: format!("/api/topics/{}", self.name),
            body: body.to_string().into_bytes(),
            ..Request::default()
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

fn refused(what: &str, topic: &Topic, reply: &http::Reply) -> Result<(), Violation> {
    let (status, text) = (reply.status, reply.text());
    violated!(
        Catalog,
        "{what} {} is answered with {status}: {text}",
        topic.name
    )
}
