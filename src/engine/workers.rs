//! The threads on which one shard runs what may block.

use crate::io::worker::Worker;
use std::cell::OnceCell;
use std::future::Future;
use std::io;

/// Threads that close the logs of all shards together. Their jobs wait for the disk and for little
/// else, and the disk serves many waits at once.
const CLOSERS: usize = 256;
/// Each shard has at least this many of them, however many shards there are.
const CLOSERS_OF_SHARD_MIN: usize = 2;

/// A shard's threads.
pub struct Workers {
    /// One for each shard, so that the jobs of one log run in order.
    pub worker: Worker,
    /// Reads what is not in memory. It gives way to the shard: a reader that is far behind must not slow
    /// producers down.
    reader: Worker,
    /// Run the jobs of logs beside `worker` while the broker stops; there are none before.
    closers: OnceCell<Vec<Worker>>,
}

impl Workers {
    pub fn new(worker: Worker, reader: Worker) -> Workers {
        Workers {
            worker,
            reader,
            closers: OnceCell::new(),
        }
    }

    /// Runs a job after all that were handed over before. The job is in the worker's queue when this
    /// returns; the future brings its result.
    pub fn run<T, J>(&self, job: J) -> impl Future<Output = io::Result<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> io::Result<T> + Send + 'static,
    {
        run_on(&self.worker, job)
    }

    /// Runs a job that reads and changes no file, beside the others.
    pub fn read<T, J>(&self, job: J) -> impl Future<Output = io::Result<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> io::Result<T> + Send + 'static,
    {
        run_on(&self.reader, job)
    }

    /// Runs a job of one log, after all of the same log that were handed over before: as [`run`](Self::run)
    /// does, or, while the broker stops, beside those of other logs. `index` is the partition's.
    pub fn run_for<T, J>(
        &self,
        index: u32,
        job: J,
    ) -> impl Future<Output = io::Result<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let closers = self.closers.get().filter(|closers| !closers.is_empty());
        // For one partition always the same: the jobs of one log run in order.
        let closer = closers.map(|closers| &closers[index as usize % closers.len()]);
        run_on(closer.unwrap_or(&self.worker), job)
    }

    /// Starts the threads that a stop uses, as many as the system gives. From here on jobs of different
    /// logs overtake one another, but none those of its own log that wait in the worker's queue.
    pub async fn start_closers(&self, shard: usize, shards: usize) {
        let _ = self.run(|| Ok(())).await;
        let count = (CLOSERS / shards).max(CLOSERS_OF_SHARD_MIN);
        let start = |place| Worker::start(&format!("closer-{shard}-{place}")).ok();
        // A second stop finds them there.
        let _ = self.closers.set((0..count).map_while(start).collect());
    }
}

fn run_on<T, J>(worker: &Worker, job: J) -> impl Future<Output = io::Result<T>> + use<T, J>
where
    T: Send + 'static,
    J: FnOnce() -> io::Result<T> + Send + 'static,
{
    let result = worker.run(job);
    async move {
        let result = result.await;
        result.unwrap_or_else(|| Err(io::Error::other("the worker thread failed")))
    }
}
