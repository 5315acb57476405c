//! A client that sends records until its connection ends, and goes on with what was not answered in the next cycle.

mod exchange;

use super::book::{Book, Condition, Content, Told};
use super::check::{self, Addresses};
use super::form::{lines, single};
use super::http::{Http, Request, problem_kind};
use super::{KEYS, Kind, Shared, Topic};
use crate::load::End;
use crate::model::{Model, add, lock};
use crate::record::now_ms;
use crate::rng::{Rng, mix};
use crate::violation::{Kind as Wrong, Violation};
use crate::wire::Wire;
use exchange::{Form, Outcome, fitting};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request in so many of one record is not waited for.
const ABANDON_IN: usize = 12;
const BATCH_RECORDS_MAX: usize = 12;
/// Records that are sent again are often among the newest so many.
const RECENT: usize = 20;
const PAUSE: Duration = Duration::from_millis(2);
/// The error code NOT_LEADER_OR_FOLLOWER, of a broker that stops.
const STOPPING: i16 = 6;

/// The next one by topic and partition.
type Sequences = HashMap<(String, i32), i32>;

/// A record whose outcome is to be learned.
#[derive(Clone)]
struct Pending {
    topic: Arc<Topic>,
    partition: i32,
    number: u64,
}

pub struct Sender {
    pub number: usize,
    pending: Vec<Pending>,
    /// The next offset of a partition, and the newest record of a key with its count, as far as it knows.
    next: HashMap<(String, i32), i64>,
    newest: HashMap<(String, i32, String), (i64, u64)>,
    http: Option<Http>,
    kafka: Option<Wire>,
    /// Its id of this cycle, and the next sequence of each partition, as an idempotent producer.
    producer: Option<(i64, Sequences)>,
}

/// All that a sender works with in one cycle.
struct Bench<'b> {
    model: &'b Model,
    shared: &'b Shared,
    broker: Addresses,
}

impl Sender {
    pub fn new(number: usize) -> Sender {
        Sender {
            number,
            pending: Vec::new(),
            next: HashMap::new(),
            newest: HashMap::new(),
            http: None,
            kafka: None,
            producer: None,
        }
    }

    /// Sends until its connection ends.
    pub fn run(
        &mut self,
        model: &Model,
        shared: &Shared,
        broker: Addresses,
        mut rng: Rng,
    ) -> Result<(), End> {
        (self.http, self.kafka, self.producer) = (None, None, None);
        let bench = Bench {
            model,
            shared,
            broker,
        };
        loop {
            self.pending.retain(|pending| !pending.topic.is_gone());
            let mut known = self.pending.iter();
            // Not where it is gone with the power, until it is created again.
            if let Some(first) = known
                .find(|one| lock(&one.topic.created).is_some())
                .cloned()
            {
                let form = *rng.pick(&[Form::Single, Form::Single, Form::Lines]);
                let Pending {
                    topic,
                    partition,
                    number,
                } = first;
                add(&shared.counts.again, 1);
                self.send(&bench, (&topic, partition), &[number], form, true)?;
                continue;
            }
            let wanted = match self.number {
                0..3 => *rng.pick(&[Kind::Ids, Kind::Ids, Kind::Short]),
                3..5 => Kind::Line,
                _ => *rng.pick(&[Kind::Keys, Kind::Compacted]),
            };
            let topics = shared.topics();
            let Some(topic) = topics.into_iter().find(|topic| topic.kind == wanted) else {
                return Ok(());
            };
            // One that was being created when the broker ended, and is not there in a cycle that creates none.
            if lock(&topic.created).is_none() {
                return Ok(());
            }
            let partition = rng.below(topic.books.len()) as i32;
            let at = (&topic, partition);
            match wanted {
                Kind::Ids | Kind::Short => self.send_ids(&bench, at, &mut rng)?,
                Kind::Line => self.race_for_offset(&bench, at, &mut rng)?,
                Kind::Keys | Kind::Compacted => self.race_for_key(&bench, at, &mut rng)?,
            }
        }
    }

    /// Records with ids, new ones and old ones.
    fn send_ids(&mut self, bench: &Bench<'_>, at: At<'_>, rng: &mut Rng) -> Result<(), End> {
        let durable = !rng.one_in(3);
        match rng.below(12) {
            0..4 => {
                let number = add_record(bench, at, None, Condition::None, 0, true);
                match rng.one_in(ABANDON_IN) {
                    true => self.abandon(bench, at, number, rng),
                    false => self.send(bench, at, &[number], Form::Single, durable),
                }
            }
            4..6 => self.send_again(bench, at, rng),
            // The first one is told of when it is appended, the second one when it is durable.
            6..8 => {
                let number = add_record(bench, at, None, Condition::None, 0, true);
                self.send(bench, at, &[number], Form::Single, false)?;
                add(&bench.shared.counts.again, 1);
                self.send(bench, at, &[number], Form::Single, true)
            }
            8..11 => {
                let numbers = (0..1 + rng.below(BATCH_RECORDS_MAX)).map(|_| {
                    let old = match rng.below(4) {
                        0 => pick(book(at), rng),
                        _ => None,
                    };
                    old.unwrap_or_else(|| add_record(bench, at, None, Condition::None, 0, true))
                });
                let mut numbers: Vec<u64> = numbers.collect();
                if rng.one_in(4) {
                    numbers.push(numbers[0]);
                }
                let form = *rng.pick(&[Form::Lines, Form::Kafka]);
                self.send(bench, at, &numbers, form, durable)
            }
            _ => self.send_another(bench, at, rng),
        }
    }

    /// Writes that expect the next offset, and some that expect nothing.
    fn race_for_offset(&mut self, bench: &Bench<'_>, at: At<'_>, rng: &mut Rng) -> Result<(), End> {
        let (topic, partition) = at;
        let place = (topic.name.clone(), partition);
        let durable = !rng.one_in(4);
        if rng.one_in(8) {
            return self.send_again(bench, at, rng);
        }
        if rng.one_in(6) {
            let records = 1 + rng.below(3);
            let new = |_| add_record(bench, at, None, Condition::None, 0, true);
            let numbers: Vec<u64> = (0..records).map(new).collect();
            let form = *rng.pick(&[Form::Single, Form::Lines, Form::Kafka]);
            let numbers = if form == Form::Single {
                &numbers[..1]
            } else {
                &numbers
            };
            return self.send(bench, at, numbers, form, durable).map(drop);
        }
        let next = match self.next.get(&place) {
            Some(next) => *next,
            None => self.ask_next(bench, at)?,
        };
        let number = add_record(bench, at, None, Condition::Next(next), 0, true);
        if rng.one_in(ABANDON_IN) {
            return self.abandon(bench, at, number, rng);
        }
        let form = match topic.conditional && rng.one_in(3) {
            true => *rng.pick(&[Form::Lines, Form::Kafka]),
            false => Form::Single,
        };
        self.send(bench, at, &[number], form, durable)
    }

    /// Counters: each write expects the newest record, and is one more.
    fn race_for_key(&mut self, bench: &Bench<'_>, at: At<'_>, rng: &mut Rng) -> Result<(), End> {
        let (topic, partition) = at;
        let has_ids = topic.rules.window_ms.is_some();
        let durable = !rng.one_in(4);
        if has_ids && rng.one_in(8) {
            return self.send_again(bench, at, rng);
        }
        let mut numbers = Vec::new();
        let mut first = rng.below(KEYS);
        let writes = match topic.conditional && rng.one_in(8) {
            true => 2 + rng.below(2),
            false => 1,
        };
        for _ in 0..writes {
            let key = format!("k{first}");
            first = (first + 1) % KEYS;
            if rng.one_in(12) {
                let number = add_record(bench, at, Some(key), Condition::None, 0, !rng.one_in(2));
                numbers.push(number);
                continue;
            }
            let place = (topic.name.clone(), partition, key.clone());
            let cached = self.newest.get(&place).copied().filter(|_| rng.one_in(2));
            let newest = match cached {
                Some(newest) => Some(newest),
                None => self.ask_key(bench, at, &key)?,
            };
            let Some((newest, count)) = newest else {
                return Ok(());
            };
            let has_value = !(topic.conditional && rng.one_in(12));
            let condition = Condition::Newest(newest);
            numbers.push(add_record(
                bench,
                at,
                Some(key),
                condition,
                count + 1,
                has_value,
            ));
        }
        if let [number] = numbers[..] {
            if rng.one_in(ABANDON_IN) {
                return self.abandon(bench, at, number, rng);
            }
            let form = match topic.conditional && rng.one_in(3) {
                true => *rng.pick(&[Form::Lines, Form::Kafka]),
                false => Form::Single,
            };
            return self.send(bench, at, &[number], form, durable);
        }
        self.send(bench, at, &numbers, Form::Lines, durable)
    }

    /// One that was sent before, by anyone, and may be on its way.
    fn send_again(&mut self, bench: &Bench<'_>, at: At<'_>, rng: &mut Rng) -> Result<(), End> {
        let Some(number) = pick(book(at), rng) else {
            return Ok(());
        };
        add(&bench.shared.counts.again, 1);
        let form = *rng.pick(&[Form::Single, Form::Lines]);
        self.send(bench, at, &[number], form, !rng.one_in(4))
    }

    /// Another record with an id that is known is refused.
    fn send_another(&mut self, bench: &Bench<'_>, at: At<'_>, rng: &mut Rng) -> Result<(), End> {
        let number = pick(book(at), rng).filter(|number| lock(book(at)).is_known(*number));
        let Some(number) = number else {
            return Ok(());
        };
        let mut content = lock(book(at))
            .content(number)
            .cloned()
            .expect("it is known");
        content.value = Some("another".to_owned());
        let request = single(at, number, &content, true);
        let reply = self.http(bench)?.call(&request)?;
        if reply.is(422, "other-payload") {
            return Ok(());
        }
        let (status, text) = (reply.status, reply.text());
        if status == 503 && problem_kind(&reply.json()) == "stopping" {
            return Err(End::Refused(STOPPING, "a record".to_owned()));
        }
        let what = format!("another record with the id {number} is answered with {status}: {text}");
        wrong(at, Wrong::Doubled, what)
    }

    /// The next offset of a partition.
    fn ask_next(&mut self, bench: &Bench<'_>, at: At<'_>) -> Result<i64, End> {
        let (topic, partition) = at;
        let path = format!("/t/{}?partition={partition}&max=1", topic.name);
        let floor = lock(book(at)).end();
        let reply = self.http(bench)?.call(&Request::get(path))?;
        match reply.tag("p") {
            Some(next) if reply.status == 200 && next >= floor => Ok(next),
            _ if reply.status == 503 => Err(End::Refused(STOPPING, "a read".to_owned())),
            tag => broken(
                at,
                format!(
                    "a read is answered with {} and the tag {tag:?}, and {floor} is durable",
                    reply.status
                ),
            ),
        }
    }

    /// The newest record of a key and its count; `None` if that is not known yet.
    fn ask_key(
        &mut self,
        bench: &Bench<'_>,
        at: At<'_>,
        key: &str,
    ) -> Result<Option<(i64, u64)>, End> {
        let (topic, partition) = at;
        let floor = lock(book(at)).newest(key);
        let reply = self
            .http(bench)?
            .call(&check::of_key(topic, partition, key))?;
        add(&bench.shared.counts.keys_read, 1);
        let cuts = bench.model.cuts();
        let mut book = lock(book(at));
        let (at_least, is_deleted) = floor.unwrap_or((-1, true));
        match reply.status {
            200 => {}
            404 if is_deleted || book.may_be_deleted(key, at_least) => return Ok(Some((-1, 0))),
            404 => {
                drop(book);
                return key_violation(
                    at,
                    format!("{key} is said to have no record; it is at {at_least}"),
                );
            }
            503 => {
                drop(book);
                if reply.is(503, "no-key-index") {
                    add(&bench.shared.counts.keys_unknown, 1);
                    std::thread::sleep(PAUSE);
                    return Ok(None);
                }
                return Err(End::Refused(STOPPING, "a key".to_owned()));
            }
            status => {
                drop(book);
                return broken(
                    at,
                    format!("{key} is answered with {status}: {}", reply.text()),
                );
            }
        }
        let (tag, number) = (reply.tag("k"), check::number(&reply));
        let (Some(offset), Some(number)) = (tag, number) else {
            drop(book);
            return key_violation(
                at,
                format!("{key} is shown with the tag {tag:?}, record {number:?}"),
            );
        };
        let content = book.content(number).cloned();
        let is_it = content.as_ref().is_some_and(|content| {
            content.key.as_deref() == Some(key) && content.value.as_deref() == Some(&*reply.text())
        });
        if !is_it || offset < at_least || offset == at_least && is_deleted {
            drop(book);
            return key_violation(
                at,
                format!(
                    "{key} is shown as record {number} at {offset}, {content:?}; {floor:?} is durable"
                ),
            );
        }
        let seen = book.seen(number, offset, now_ms(), cuts);
        drop(book);
        seen.map_err(|violation| violation.at(place(at)))?;
        let count = content.map_or(0, |content| content.count);
        Ok(Some((offset, count)))
    }

    /// Sends a record and hangs up.
    fn abandon(
        &mut self,
        bench: &Bench<'_>,
        at: At<'_>,
        number: u64,
        rng: &mut Rng,
    ) -> Result<(), End> {
        let content = lock(book(at))
            .content(number)
            .cloned()
            .expect("it was added");
        let request = match content.value {
            Some(_) => single(at, number, &content, true),
            None => lines(at, &[(number, content)], true),
        };
        lock(book(at)).begin(number, now_ms());
        self.note_pending(at, number);
        add(&bench.shared.counts.unanswered, 1);
        add(&bench.model.tally.sent, 1);
        self.http(bench)?.send(&request)?;
        if rng.one_in(2) {
            std::thread::sleep(rng.time(PAUSE));
        }
        self.http = None;
        Ok(())
    }

    /// Sends records, and notes what is answered.
    fn send(
        &mut self,
        bench: &Bench<'_>,
        at: At<'_>,
        numbers: &[u64],
        form: Form,
        durable: bool,
    ) -> Result<(), End> {
        let (topic, _) = at;
        let book = book(at);
        let mut records = Vec::new();
        let mut tries = Vec::new();
        let mut floors = Vec::new();
        {
            let mut book = lock(book);
            for number in numbers {
                let Some(content) = book.content(*number).cloned() else {
                    continue;
                };
                floors.push(match &content.key {
                    Some(key) => book.newest(key),
                    None => Some((book.end(), false)),
                });
                records.push((*number, content));
                tries.push(book.begin(*number, now_ms()));
            }
        }
        let form = fitting(topic, &records, form);
        add(&bench.model.tally.sent, records.len() as u64);
        let answered = self.exchange(bench, at, &records, &tries, form, durable);
        let answered_ms = now_ms();
        let cuts = bench.model.cuts();
        let (outcomes, end) = match answered {
            Ok(outcomes) => outcomes,
            Err(end) => (vec![Outcome::Doubt; records.len()], Some(end)),
        };
        let told = records.iter().zip(&tries).zip(floors).zip(outcomes);
        for ((((number, content), one), floor), outcome) in told {
            let (number, one) = (*number, *one);
            let mut book = lock(book);
            let counts = &bench.shared.counts;
            match outcome {
                Outcome::Stored { offset, duplicate } => {
                    let was_there = book.may_be_stored(number, one);
                    let told = Told {
                        offset,
                        duplicate,
                        durable,
                    };
                    let noted = book.answered(number, one, told, answered_ms, cuts);
                    drop(book);
                    noted.map_err(|violation| {
                        violation.at(format!("{} ({form:?}, durable: {durable})", place(at)))
                    })?;
                    self.learn(at, content, offset);
                    self.forget_pending(number);
                    add(&bench.model.tally.acknowledged, 1);
                    add(&counts.duplicates, u64::from(duplicate == Some(true)));
                    add(
                        &counts.again_stored,
                        u64::from(duplicate == Some(false) && was_there),
                    );
                    add(
                        &counts.conditions,
                        u64::from(content.condition != Condition::None),
                    );
                }
                Outcome::Changed(current) => {
                    book.refused(number, one);
                    let why = not_so(&book, content, floor, current);
                    drop(book);
                    if let Some(why) = why {
                        return wrong(at, Wrong::Condition, format!("record {number} {why}"));
                    }
                    self.unlearn(at, content, current);
                    self.forget_pending(number);
                    add(&counts.changed, 1);
                }
                Outcome::NoEffect => {
                    book.had_no_effect(number, one);
                    drop(book);
                    self.note_pending(at, number);
                    std::thread::sleep(PAUSE);
                }
                Outcome::Doubt => {
                    book.unanswered(number, one, answered_ms);
                    drop(book);
                    self.note_pending(at, number);
                    add(&counts.unanswered, 1);
                }
            }
        }
        end.map_or(Ok(()), Err)
    }

    fn http(&mut self, bench: &Bench<'_>) -> io::Result<&mut Http> {
        if self.http.is_none() {
            self.http = Some(Http::connect(bench.broker.http)?);
        }
        Ok(self.http.as_mut().expect("it was connected"))
    }

    fn note_pending(&mut self, at: At<'_>, number: u64) {
        let (topic, partition) = at;
        let is_there = self.pending.iter().any(|pending| pending.number == number);
        if topic.rules.window_ms.is_some() && !is_there {
            self.pending.push(Pending {
                topic: Arc::clone(topic),
                partition,
                number,
            });
        }
    }

    fn forget_pending(&mut self, number: u64) {
        self.pending.retain(|pending| pending.number != number);
    }

    fn learn(&mut self, at: At<'_>, content: &Content, offset: i64) {
        let (topic, partition) = at;
        match &content.key {
            None => {
                let next = self
                    .next
                    .entry((topic.name.clone(), partition))
                    .or_insert(0);
                *next = (*next).max(offset + 1);
            }
            Some(key) => {
                let place = (topic.name.clone(), partition, key.clone());
                let newest = if content.value.is_some() {
                    (offset, content.count)
                } else {
                    (-1, 0)
                };
                self.newest.insert(place, newest);
            }
        }
    }

    fn unlearn(&mut self, at: At<'_>, content: &Content, current: Option<i64>) {
        let (topic, partition) = at;
        match (&content.key, current) {
            (None, Some(next)) => {
                self.next.insert((topic.name.clone(), partition), next);
            }
            (None, None) => {
                self.next.remove(&(topic.name.clone(), partition));
            }
            (Some(key), _) => {
                let place = (topic.name.clone(), partition, key.clone());
                self.newest.remove(&place);
            }
        }
    }
}

/// A topic and a partition.
pub type At<'a> = (&'a Arc<Topic>, i32);

fn book<'a>(at: At<'a>) -> &'a Mutex<Book> {
    &at.0.books[at.1 as usize]
}

fn place(at: At<'_>) -> String {
    format!("{}-{}", at.0.name, at.1)
}

fn wrong<T>(at: At<'_>, kind: Wrong, what: String) -> Result<T, End> {
    Err(Violation::new(kind, what).at(place(at)).into())
}

fn broken<T>(at: At<'_>, what: String) -> Result<T, End> {
    wrong(at, Wrong::Broker, what)
}

fn key_violation<T>(at: At<'_>, what: String) -> Result<T, End> {
    wrong(at, Wrong::Key, what)
}

/// One that was sent before.
fn pick(book: &Mutex<Book>, rng: &mut Rng) -> Option<u64> {
    let book = lock(book);
    let known = book.len();
    if known == 0 {
        return None;
    }
    let among = if rng.one_in(2) {
        known
    } else {
        known.min(RECENT)
    };
    book.numbers().rev().nth(rng.below(among))
}

/// A new record.
fn add_record(
    bench: &Bench<'_>,
    at: At<'_>,
    key: Option<String>,
    condition: Condition,
    count: u64,
    has_value: bool,
) -> u64 {
    let number = bench.shared.new_number();
    let hash = mix(number);
    let length = if hash.is_multiple_of(8) {
        hash >> 8 & 0x1fff
    } else {
        hash >> 8 & 0x3f
    };
    let fill: String = (0..length)
        .map(|at| char::from(b'a' + (mix(hash + at / 8) >> (at % 8 * 8) & 15) as u8))
        .collect();
    let content = Content {
        key,
        value: has_value.then(|| format!("{count} {number} {fill}")),
        condition,
        count: if has_value { count } else { 0 },
    };
    lock(book(at)).add(number, content);
    number
}

/// Why a refusal cannot be right.
fn not_so(
    book: &Book,
    content: &Content,
    floor: Option<(i64, bool)>,
    current: Option<i64>,
) -> Option<String> {
    let current = current?;
    let (known, is_deleted) = floor.unwrap_or((-1, true));
    match content.condition {
        Condition::None => Some(format!("has no condition, and is refused with {current}")),
        Condition::Next(next) => (current == next || current < known).then(|| {
            format!("expected to be next at {next}, and is told {current}; {known} is durable")
        }),
        Condition::Newest(newest) => {
            let key = content.key.as_deref().unwrap_or_default();
            let is_newer = current > known || current == known && !is_deleted;
            let is_gone = current == -1 && (is_deleted || book.may_be_deleted(key, known));
            (current == newest || !is_newer && !is_gone).then(|| {
                format!("of {key} expected {newest}, and is told {current}; {floor:?} is durable")
            })
        }
    }
}
