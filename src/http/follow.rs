//! Records as they come: an answer without an end.

use super::activity::Activity;
use super::answer::{self, Answer, Broken, PIECE_BYTES, Pieces};
use super::form::Form;
use super::problem::Problem;
use super::reading::{self, Cursor, Reader};
use super::records::Found;
use crate::engine::EngineError;
use crate::io::reactor;
use crate::net::budget::Share;
use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::io::Write;
use std::mem;
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::{Instant, timeout};

/// A follower that is sent nothing else is sent this, so that both ends see whether the other is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// How many pieces a client may be behind.
const PIECES_AHEAD: usize = 4;
/// A client that takes nothing for this long is cut off.
const SLOW_AFTER: Duration = Duration::from_secs(30);
/// How long an `EventSource` waits before it connects again.
const RETRY_MS: u32 = 1_000;
/// Proxies hold nothing back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// One client that follows a topic.
pub struct Follower {
    pub reader: Reader,
    pub form: Form,
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
    ///
    /// `memory` is what the backlog takes.
    pub fn answer(mut self, backlog: Vec<Found>, memory: Share) -> Answer {
        // An array has an end.
        if self.form == Form::Json {
            self.form = Form::NdJson;
        }
        let form = self.form;
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD + 1);
        reactor::spawn(self.run((backlog, memory), sender));
        let mut answer = answer::streamed(form.kind(), pieces);
        let headers = answer.headers_mut();
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static("no-cache, no-transform"),
        );
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        answer
    }

    async fn run(mut self, backlog: (Vec<Found>, Share), sender: Sender<Pieces>) {
        // The last word has its place, however far behind the client is.
        let Ok(last_word) = sender.clone().reserve_owned().await else {
            return;
        };
        let problem = match self.follow(backlog, &sender).await {
            End::Closed => return,
            End::Slow => Problem::slow_reader(SLOW_AFTER),
            End::Problem(problem) => problem,
        };
        self.reader.engine.stats.error(problem.kind);
        let last = if self.form == Form::Events {
            let event = format!("event: error\ndata: {}\n\n", problem.to_json());
            Ok(Bytes::from(event))
        } else {
            // The other forms have no place for words: the client sees that the answer broke off.
            Err(Broken)
        };
        last_word.send(last);
    }

    async fn follow(&mut self, backlog: (Vec<Found>, Share), sender: &Sender<Pieces>) -> End {
        let (backlog, memory) = backlog;
        let mut out = Out::new(self.form, &self.cursors, &backlog);
        for found in backlog {
            out.record(&found);
            if let Err(end) = self.send_piece(&mut out, sender).await {
                return end;
            }
        }
        drop(memory);
        let mut is_caught_up = false;
        let mut sent = Instant::now();
        loop {
            out.go_to(&self.cursors);
            let is_at_end = self.cursors.iter().all(|cursor| cursor.next >= cursor.end);
            if is_at_end && !mem::replace(&mut is_caught_up, true) {
                out.event("caught-up");
            } else if sent.elapsed() >= PING_EVERY {
                out.event("ping");
            }
            if !out.text.is_empty() || sent.elapsed() >= PING_EVERY {
                sent = Instant::now();
            }
            if let Err(end) = self.send(out.take(), sender).await {
                return end;
            }
            if self.reader.engine.is_stopping() {
                return End::Problem(EngineError::Stopping.into());
            }
            let until = is_at_end.then(|| sent + PING_EVERY);
            // Held until all that was found is on its way.
            let mut memory = self.reader.engine.memory.share();
            let round = self.reader.round(&mut self.cursors, until, &mut memory);
            let found = tokio::select! {
                found = round => found,
                () = sender.closed() => return End::Closed,
            };
            let mut found = match found {
                Ok(found) => found,
                Err(problem) => return End::Problem(problem),
            };
            // A search may find nothing for long.
            self.activity.touch();
            while let Some((place, record)) = found.pop() {
                out.record(&(self.cursors[place].index, record));
                sent = Instant::now();
                if let Err(end) = self.send_piece(&mut out, sender).await {
                    return end;
                }
            }
        }
    }

    /// Sends what there is, if it is much.
    async fn send_piece(&mut self, out: &mut Out, sender: &Sender<Pieces>) -> Result<(), End> {
        self.reader.rest().await;
        if out.text.len() < PIECE_BYTES {
            return Ok(());
        }
        self.send(out.take(), sender).await
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
    next: BTreeMap<i32, i64>,
}

impl Out {
    fn new(form: Form, cursors: &[Cursor], backlog: &[Found]) -> Out {
        let mut out = Out {
            form,
            text: Vec::new(),
            next: BTreeMap::new(),
        };
        out.go_to(cursors);
        // The first of each partition is the last that counts.
        let firsts = backlog.iter().rev();
        out.next
            .extend(firsts.map(|(index, record)| (*index, record.offset)));
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
        self.next.insert(*partition, record.offset + 1);
        if self.form != Form::Events {
            return self.form.put(&mut self.text, found);
        }
        self.text.extend_from_slice(b"event: record\nid: ");
        self.put_id();
        self.text.extend_from_slice(b"\ndata: ");
        record.shown(*partition).put(&mut self.text);
        self.text.extend_from_slice(b"\n\n");
    }

    /// An event without a record. The other forms have none.
    fn event(&mut self, name: &str) {
        if self.form == Form::Events {
            self.put(format_args!("event: {name}\nid: "));
            self.put_id();
            self.text.extend_from_slice(b"\ndata: {\"next\":\"");
            self.put_id();
            self.text.extend_from_slice(b"\"}\n\n");
        }
    }

    fn put_id(&mut self) {
        let next = self.next.iter().map(|(index, offset)| (*index, *offset));
        reading::put_vector(&mut self.text, next);
    }

    /// All that the cursors have passed is written.
    fn go_to(&mut self, cursors: &[Cursor]) {
        let next = cursors.iter().map(|cursor| (cursor.index, cursor.next));
        self.next.extend(next);
    }

    fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.text)
    }
}
