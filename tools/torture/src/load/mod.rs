//! The load that runs while a fault strikes: producers, consumers in groups, readers, and whoever
//! changes the catalog. Each worker ends when its connection does.

pub mod admin;
pub mod consumer;
mod laggard;
mod member;
mod producer;
mod reader;
pub mod session;
mod topics;

pub use topics::{FULL, LARGE, SMALL, Scale, prepare, replace};

use crate::model::Model;
use crate::rng::Rng;
use crate::violation::{Kind, Violation};
use admin::Admin;
use laggard::Laggard;
use member::Member;
use producer::{Mode, PARTITIONS_MAX, Producer};
use reader::Reader;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const IDEMPOTENT_PRODUCERS: usize = 3;
/// COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR and NOT_LEADER_OR_FOLLOWER.
const WHEN_STOPPING: [i16; 3] = [15, 16, 6];
/// COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR and KAFKA_STORAGE_ERROR.
pub const WHEN_FULL: [i16; 3] = [15, 16, 56];
const PAUSE_WHEN_FULL: Duration = Duration::from_millis(20);
const GROUPS: [(&str, usize); 2] = [("alone", 1), ("together", 2)];

/// What a worker has to work with.
#[derive(Clone)]
pub struct Context {
    pub model: Arc<Model>,
    pub broker: SocketAddr,
}

/// Why a worker ended.
pub enum End {
    /// Its connection has.
    Connection(io::Error),
    /// A request was answered with an error code.
    Refused(i16, String),
    Violated(Violation),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Connection(error)
    }
}

impl From<Violation> for End {
    fn from(violation: Violation) -> End {
        End::Violated(violation)
    }
}

/// What goes on from cycle to cycle.
#[derive(Default)]
pub struct Load {
    producers: Vec<Producer>,
    members: Vec<Member>,
    admin: Admin,
}

/// The load of one cycle, under way.
pub struct Running {
    producers: Vec<JoinHandle<Producer>>,
    members: Vec<JoinHandle<Member>>,
    readers: Vec<JoinHandle<()>>,
    admin: Option<JoinHandle<Admin>>,
    /// Those that have no part in this cycle.
    idle: Load,
}

impl Load {
    pub fn new(model: &Model) -> Load {
        let producer = |_| Producer::new(model.new_worker(), Mode::Idempotent);
        let stays = model.clock.jumps();
        let member = |(group, members): (&'static str, usize)| {
            (0..members).map(move |_| Member::new(group, stays))
        };
        Load {
            producers: (0..IDEMPOTENT_PRODUCERS).map(producer).collect(),
            members: GROUPS.into_iter().flat_map(member).collect(),
            admin: Admin::default(),
        }
    }

    /// Starts the workers; what each does is drawn here. Of a load that is `calm` nothing reaches the
    /// catalog: it has plain producers and readers.
    pub fn start(
        mut self,
        context: &Context,
        rng: &mut Rng,
        cut: Option<u64>,
        calm: bool,
    ) -> Running {
        for producer in &mut self.producers {
            producer.settle(cut, &context.model);
        }
        self.producers.truncate(IDEMPOTENT_PRODUCERS);
        let idle = match calm {
            true => std::mem::take(&mut self),
            false => Load::default(),
        };
        for acks in [-1, 1, *rng.pick(&[-1, 0, 1])] {
            let worker = context.model.new_worker();
            self.producers
                .push(Producer::new(worker, Mode::Plain { acks }));
        }
        for producer in &mut self.producers {
            producer.take_partitions(&context.model, rng, PARTITIONS_MAX);
        }
        Running {
            producers: spawn_all("producer", self.producers, context, rng, Producer::run),
            members: spawn_all("member", self.members, context, rng, Member::run),
            readers: [
                spawn_all("reader", vec![(); 1], context, rng, |_, context, rng| {
                    Reader::run(context, rng)
                }),
                spawn_all("laggard", vec![(); 1], context, rng, |_, context, rng| {
                    Laggard::run(context, rng)
                }),
            ]
            .into_iter()
            .flatten()
            .collect(),
            admin: (!calm).then(|| spawn("admin", self.admin, context, rng, Admin::run)),
            idle,
        }
    }
}

impl Running {
    /// Whether all workers have ended.
    pub fn is_over(&self) -> bool {
        self.producers.iter().all(JoinHandle::is_finished)
            && self.members.iter().all(JoinHandle::is_finished)
            && self.readers.iter().all(JoinHandle::is_finished)
            && self.admin.iter().all(JoinHandle::is_finished)
    }

    /// Waits for all workers, whose connections have ended or are about to.
    pub fn join(self) -> Load {
        for reader in self.readers {
            reader.join().expect("a reader panicked");
        }
        let mut load = self.idle;
        load.producers.extend(join_all(self.producers));
        load.members.extend(join_all(self.members));
        if let Some(admin) = self.admin {
            load.admin = admin.join().expect("the admin panicked");
        }
        load
    }
}

type Run<W> = fn(&mut W, &Context, &mut Rng) -> Result<(), End>;

fn spawn_all<W: Send + 'static>(
    name: &'static str,
    workers: Vec<W>,
    context: &Context,
    rng: &mut Rng,
    run: Run<W>,
) -> Vec<JoinHandle<W>> {
    let workers = workers.into_iter();
    workers
        .map(|worker| spawn(name, worker, context, rng, run))
        .collect()
}

fn spawn<W: Send + 'static>(
    name: &'static str,
    mut worker: W,
    context: &Context,
    rng: &mut Rng,
    run: Run<W>,
) -> JoinHandle<W> {
    let (context, mut rng) = (context.clone(), Rng::new(rng.next()));
    std::thread::spawn(move || {
        let model = &context.model;
        loop {
            let end = match run(&mut worker, &context, &mut rng) {
                Err(End::Refused(error, _)) if model.may_refuse() && WHEN_FULL.contains(&error) => {
                    std::thread::sleep(PAUSE_WHEN_FULL);
                    continue;
                }
                end => end,
            };
            if let Some(violation) = end.err().and_then(|end| judge(end, model)) {
                model.report(violation.at(format!("a {name}")));
            }
            return worker;
        }
    })
}

/// A connection may end when a fault strikes, and only then; and a broker that stops may say so.
pub fn judge(end: End, model: &Model) -> Option<Violation> {
    let broken = |text: String| Some(Violation::new(Kind::Broker, text));
    match end {
        End::Violated(violation) => Some(violation),
        End::Refused(error, _) if model.is_struck() && WHEN_STOPPING.contains(&error) => None,
        End::Refused(error, what) => broken(format!("{what} is answered with error {error}")),
        End::Connection(error) => match error.kind() {
            ErrorKind::InvalidData => broken(format!("a reply makes no sense: {error}")),
            ErrorKind::TimedOut => broken("no reply for 30 s".to_owned()),
            _ if model.is_struck() => None,
            _ => broken(format!(
                "the connection ended, and the broker did not: {error}"
            )),
        },
    }
}

fn join_all<W>(workers: Vec<JoinHandle<W>>) -> Vec<W> {
    let workers = workers.into_iter();
    workers
        .map(|worker| worker.join().expect("a worker panicked"))
        .collect()
}
