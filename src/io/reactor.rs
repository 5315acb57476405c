//! The event loop of one thread, and the tasks that run on it.
//!
//! There are two: one over io_uring, and one over epoll(7) for kernels and sandboxes that forbid
//! io_uring, where threads wait for the disk. `ring` and `socket` look at which of them the thread has.
//! Nothing outside `io` names the crates behind them.

#[cfg(debug_assertions)]
use super::clock;
use super::counters::Histogram;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, LocalSet};

/// Submission entries. More operations than this at once cost one more system call.
const SUBMISSION_ENTRIES: u32 = 256;
/// Completion entries: a read and a write for each of some thousands of connections.
const COMPLETION_ENTRIES: u32 = 16 << 10;
/// What will do where memory is in too many pieces for more. Completions that find no room wait in the
/// kernel.
const COMPLETION_ENTRIES_MIN: u32 = 1 << 10;
/// With epoll: files that are synced side by side, by a thread each.
const DISK_THREADS_MAX: usize = 32;

/// How long a task may keep the thread: others wait as long.
pub const SLICE: Duration = Duration::from_millis(1);
/// Steps that take less than a slice together.
pub const STEPS_FEW: usize = 32;

/// No turn of a debug build takes so long, though it is slow.
#[cfg(debug_assertions)]
const STALL: Duration = Duration::from_secs(1);

/// What the kernel tells of sockets and files through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reactor {
    Uring,
    Epoll,
}

thread_local! {
    /// `None` on a thread without one: a test drives its tasks by hand.
    static CURRENT: Cell<Option<Reactor>> = const { Cell::new(None) };
    static TURNS: RefCell<Histogram> = RefCell::default();
    /// The permit to go on, for tasks with much to do.
    static LONG_TASKS: Rc<Semaphore> = Rc::new(Semaphore::new(1));
}

impl Reactor {
    /// The one of the calling thread.
    pub fn current() -> Reactor {
        CURRENT.get().unwrap_or(Reactor::Uring)
    }

    pub fn name(self) -> &'static str {
        match self {
            Reactor::Uring => "uring",
            Reactor::Epoll => "epoll",
        }
    }

    /// Runs `main` on the calling thread, with the tasks that it spawns, until `main` ends. Tasks that
    /// still run then are left as they are: the caller's thread, and with it the process, is on its way
    /// out.
    ///
    /// # Errors
    /// When the reactor cannot be made; nothing was run then.
    pub fn run(self, main: impl Future<Output = ()>) -> io::Result<()> {
        CURRENT.set(Some(self));
        match self {
            Reactor::Uring => {
                let runtime = ring_runtime(COMPLETION_ENTRIES)?;
                runtime.block_on(main);
                // Operations may still be in flight on sockets of clients that hold on; the process ends
                // now, and the kernel with it ends them.
                std::mem::forget(runtime);
            }
            Reactor::Epoll => {
                let runtime = epoll_runtime()?;
                let tasks = LocalSet::new();
                tasks.block_on(&runtime, main);
                // A drop would wait for threads that wait for the disk.
                std::mem::forget((tasks, runtime));
            }
        }
        Ok(())
    }
}

fn ring_runtime(completion_entries: u32) -> io::Result<tokio_uring::Runtime> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(completion_entries);
    let mut builder = tokio_uring::builder();
    builder.entries(SUBMISSION_ENTRIES).uring_builder(&ring);
    let made = tokio_uring::Runtime::new(&builder);
    // The kernel wants the entries in one piece of memory.
    let is_short = |error: &io::Error| error.raw_os_error() == Some(libc::ENOMEM);
    if completion_entries > COMPLETION_ENTRIES_MIN && made.as_ref().is_err_and(is_short) {
        return ring_runtime(completion_entries / 2);
    }
    made
}

fn epoll_runtime() -> io::Result<tokio::runtime::Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(DISK_THREADS_MAX)
        .build()
}

/// Runs a test's `main` on the calling thread and ends all that it spawned. The variable
/// `MILLSTREAM_REACTOR` says over what, as for a broker.
#[cfg(any(test, feature = "faults"))]
pub fn start<T>(main: impl Future<Output = T>) -> T {
    if std::env::var("MILLSTREAM_REACTOR").as_deref() != Ok("epoll") {
        CURRENT.set(Some(Reactor::Uring));
        return tokio_uring::start(main);
    }
    CURRENT.set(Some(Reactor::Epoll));
    let runtime = epoll_runtime().expect("a runtime");
    LocalSet::new().block_on(&runtime, main)
}

/// Starts a task on this thread's reactor. How long each of its turns takes is measured.
pub fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(Measured(Box::pin(task)))
}

/// How long the turns of this thread's tasks took: what one does between two waits, while all others wait.
pub fn turns() -> Histogram {
    TURNS.with_borrow(Histogram::clone)
}

/// A task whose turns are measured.
struct Measured<F>(Pin<Box<F>>);

impl<F: Future> Future for Measured<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let begun = Instant::now();
        #[cfg(debug_assertions)]
        let cpu_before = clock::thread_cpu();
        let polled = self.0.as_mut().poll(context);
        TURNS.with_borrow_mut(|turns| turns.observe(begun.elapsed()));
        #[cfg(debug_assertions)]
        assert_no_stall(clock::thread_cpu().saturating_sub(cpu_before));
        polled
    }
}

/// Ends a task that kept the thread for as long as only a mistake does, and with it a test. Counted is what
/// the processor worked for it: a busy machine is no mistake.
#[cfg(debug_assertions)]
fn assert_no_stall(worked: Duration) {
    assert!(
        worked < STALL,
        "a task kept its thread for {worked:?} without letting others pass"
    );
}

/// Lets all that is ready pass: other tasks, requests that have arrived, and replies.
///
/// Tokio's own `yield_now` only lets other tasks pass: while any is ready it never parks, and tokio-uring
/// submits operations when the thread parks, so that nothing would be sent or received.
pub async fn yield_now() {
    match CURRENT.get() {
        Some(Reactor::Uring) => {
            // It is over when the ring was submitted and looked at.
            let _ = tokio_uring::no_op().await;
        }
        Some(Reactor::Epoll) | None => tokio::task::yield_now().await,
    }
}

/// As [`yield_now`], one task after the other: between two looks at what has arrived one of those that wait
/// here goes on, however many there are.
pub async fn take_turn() {
    let turns = LONG_TASKS.with(Rc::clone);
    // It is never closed.
    let _turn = turns.acquire().await;
    yield_now().await;
}

/// For a task with much to do: lets others pass whenever it has kept the thread for [`SLICE`].
///
/// Each loop whose length a client or the number of partitions, groups or topics decides calls
/// [`rest`](Self::rest) in each step, in which it may do no more than some microseconds of work.
pub struct Slice(Option<Instant>);

impl Slice {
    /// One that begins now.
    #[expect(
        clippy::new_without_default,
        reason = "a default that reads the clock would surprise"
    )]
    pub fn new() -> Slice {
        Slice(Some(Instant::now()))
    }

    /// For so many steps. While they are few nothing is measured and nobody passes.
    pub fn of(steps: usize) -> Slice {
        Slice((steps > STEPS_FEW).then(Instant::now))
    }

    /// Lets others pass, if the slice is over.
    pub async fn rest(&mut self) {
        if self.is_over() {
            take_turn().await;
            self.0 = Some(Instant::now());
        }
    }

    /// Whether [`rest`](Self::rest) would let others pass: where each instruction counts, it is asked for only then.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.0.is_some_and(|begun| begun.elapsed() >= SLICE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tasks that yield all the time must not keep a third from a file.
    #[test]
    fn a_yield_lets_operations_of_others_pass() {
        start(async {
            let done = Rc::new(Cell::new(false));
            let yielding = |done: Rc<Cell<bool>>| async move {
                let mut yields = 0;
                while !done.get() {
                    yield_now().await;
                    yields += 1;
                    assert!(yields < 1_000_000, "the file was never synced");
                }
            };
            let tasks = [
                spawn(yielding(Rc::clone(&done))),
                spawn(yielding(Rc::clone(&done))),
            ];
            let file = std::sync::Arc::new(tempfile::tempfile().unwrap());
            crate::io::ring::sync_data(file).await.unwrap();
            done.set(true);
            for task in tasks {
                task.await.unwrap();
            }
        });
    }

    /// Of many tasks with much to do, one goes on between two looks at the ring.
    #[test]
    fn tasks_with_much_to_do_take_turns() {
        start(async {
            const TASKS: usize = 50;
            let steps = Rc::new(Cell::new(0));
            for _ in 0..TASKS {
                let steps = Rc::clone(&steps);
                spawn(async move {
                    loop {
                        steps.set(steps.get() + 1);
                        take_turn().await;
                    }
                });
            }
            yield_now().await;
            for _ in 0..100 {
                let before = steps.get();
                yield_now().await;
                assert!(
                    steps.get() - before <= 2,
                    "{} went on at once",
                    steps.get() - before
                );
            }
            assert!(steps.get() > TASKS + 50);
        });
    }

    #[test]
    fn a_slice_yields_when_it_is_over_and_not_before() {
        start(async {
            let passed = Rc::new(Cell::new(0));
            let counter = Rc::clone(&passed);
            spawn(async move {
                loop {
                    counter.set(counter.get() + 1);
                    yield_now().await;
                }
            });
            let mut slice = Slice::new();
            let before = passed.get();
            slice.0 = Some(Instant::now() + Duration::from_secs(60));
            slice.rest().await;
            assert_eq!(passed.get(), before);
            slice.0 = Some(Instant::now() - SLICE);
            slice.rest().await;
            assert!(passed.get() > before);
        });
    }
}
