//! Records as they come: an answer without an end.

use super::answer::{self, Answer, Broken, Pieces};
use super::form::Form;
use super::problem::Problem;
use super::reading::{self, Cursor, Filter, Found};
use super::request::Activity;
use crate::engine::{Engine, EngineError};
use crate::io::reactor::{self, Slice};
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use std::collections::VecDeque;
use std::io::Write;
use std::mem;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{Instant, sleep, timeout};

/// A follower that is sent nothing else is sent this, so that both ends see whether the other is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// What is made at a time, and how many of these a client may be behind.
const PIECE_BYTES: usize = 64 << 10;
const PIECES_AHEAD: usize = 4;
/// A client that takes nothing for this long is cut off.
const SLOW_AFTER: Duration = Duration::from_secs(30);
/// How long an `EventSource` waits before it connects again.
const RETRY_MS: u32 = 1_000;
/// A fetch that does not wait, for lack of room, is tried again after this time.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(100);
/// Proxies hold nothing back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// One client that follows a topic.
pub struct Follower {
    pub engine: Rc<Engine>,
    pub form: Form,
    pub filter: Filter,
    /// Where to read on, of each partition.
    pub cursors: Vec<Cursor>,
    pub activity: Activity,
}

/// Why a stream ends.
enum End {
    /// The client is gone.
    Closed,
    /// It takes nothing.
    Slow,
    Problem(Problem),
}

impl Follower {
    /// Sends `backlog`, and then what comes until the client goes.
    pub fn answer(mut self, backlog: Vec<Found>) -> Answer {
        // An array has an end.
        if self.form == Form::Json {
            self.form = Form::NdJson;
        }
        let form = self.form;
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD + 1);
        reactor::spawn(self.run(backlog, sender));
        let mut answer = answer::streamed(form.kind(), pieces);
        let headers = answer.headers_mut();
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static("no-cache, no-transform"),
        );
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        answer
    }

    async fn run(mut self, backlog: Vec<Found>, sender: Sender<Pieces>) {
        // The last word has its place, however far behind the client is.
        let Ok(last_word) = sender.clone().reserve_owned().await else {
            return;
        };
        let problem = match self.follow(backlog, &sender).await {
            End::Closed => return,
            End::Slow => Problem::slow_reader(SLOW_AFTER),
            End::Problem(problem) => problem,
        };
        self.engine.stats.error(problem.kind);
        let last = if self.form == Form::Events {
            let event = format!("event: error\ndata: {}\n\n", problem.to_json());
            Ok(Bytes::from(event))
        } else {
            // The other forms have no place for words: the client sees that the answer broke off.
            Err(Broken)
        };
        last_word.send(last);
    }

    async fn follow(&mut self, backlog: Vec<Found>, sender: &Sender<Pieces>) -> End {
        let mut out = Out::new(self.form, &self.cursors, &backlog);
        for found in &backlog {
            out.record(found);
        }
        let mut is_caught_up = false;
        let mut slice = Slice::new();
        loop {
            out.go_to(&self.cursors);
            let is_at_end = self.cursors.iter().all(|cursor| cursor.next >= cursor.end);
            if is_at_end && !mem::replace(&mut is_caught_up, true) {
                out.event("caught-up");
            }
            if let Err(end) = self.send(out.take(), sender).await {
                return end;
            }
            if self.engine.is_stopping() {
                return End::Problem(EngineError::Stopping.into());
            }
            let began = Instant::now();
            let until = is_at_end.then(|| began + PING_EVERY);
            let round = reading::round(&self.engine, &mut self.cursors, &self.filter, until);
            let lists = tokio::select! {
                lists = round => lists,
                () = sender.closed() => return End::Closed,
            };
            let lists = match lists {
                Ok(lists) => lists,
                Err(problem) => return End::Problem(problem),
            };
            // A search may find nothing for long.
            self.activity.touch();
            let mut lists: Vec<VecDeque<_>> = lists.into_iter().map(VecDeque::from).collect();
            let mut any = false;
            while let Some(place) = reading::earliest(&lists) {
                let Some(record) = lists[place].pop_front() else {
                    break;
                };
                any = true;
                out.record(&(self.cursors[place].index, record));
                if out.text.len() >= PIECE_BYTES
                    && let Err(end) = self.send(out.take(), sender).await
                {
                    return end;
                }
                slice.rest().await;
            }
            if any || !is_at_end {
                continue;
            }
            if began.elapsed() >= PING_EVERY {
                out.event("ping");
            } else {
                tokio::select! {
                    () = sleep(NO_ROOM_PAUSE) => {}
                    () = sender.closed() => return End::Closed,
                }
            }
        }
    }

    async fn send(&self, text: Vec<u8>, sender: &Sender<Pieces>) -> Result<(), End> {
        if text.is_empty() {
            return Ok(());
        }
        match timeout(SLOW_AFTER, sender.send(Ok(text.into()))).await {
            Ok(Ok(())) => {
                self.activity.touch();
                Ok(())
            }
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::Slow),
        }
    }
}

/// What is to be sent.
struct Out {
    form: Form,
    text: Vec<u8>,
    /// Partitions, and where each goes on behind what was written: the id of the next event.
    next: Vec<(i32, i64)>,
}

impl Out {
    fn new(form: Form, cursors: &[Cursor], backlog: &[Found]) -> Out {
        let next = cursors.iter().map(|cursor| {
            let mut own = backlog.iter().filter(|(index, _)| *index == cursor.index);
            let first = own.next().map(|(_, record)| record.offset);
            (cursor.index, first.unwrap_or(cursor.next))
        });
        let mut out = Out {
            form,
            text: Vec::new(),
            next: next.collect(),
        };
        if form == Form::Events {
            out.put(format_args!("retry: {RETRY_MS}\n\n"));
        }
        out
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.text.write_fmt(text);
    }

    fn record(&mut self, found: &Found) {
        let (partition, record) = found;
        let mut next = self.next.iter_mut();
        if let Some((_, offset)) = next.find(|(index, _)| index == partition) {
            *offset = record.offset + 1;
        }
        if self.form != Form::Events {
            return self.form.put(&mut self.text, found);
        }
        let id = self.id();
        let json = record.to_json(*partition);
        self.put(format_args!("event: record\nid: {id}\ndata: {json}\n\n"));
    }

    /// An event without a record. The other forms have none.
    fn event(&mut self, name: &str) {
        if self.form == Form::Events {
            let id = self.id();
            self.put(format_args!(
                "event: {name}\nid: {id}\ndata: {{\"next\":\"{id}\"}}\n\n"
            ));
        }
    }

    fn id(&self) -> String {
        reading::vector(self.next.iter().copied())
    }

    /// All that the cursors have passed is written.
    fn go_to(&mut self, cursors: &[Cursor]) {
        for ((_, next), cursor) in self.next.iter_mut().zip(cursors) {
            *next = cursor.next;
        }
    }

    fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.text)
    }
}
