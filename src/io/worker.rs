//! A thread for what may block: opening, reserving, sealing, checkpoints, unlinking, cold pages.

use super::process;
use std::sync::mpsc;
use std::thread;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs one after the other on a thread of its own. The thread ends with the last handle.
#[derive(Clone)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// EAGAIN when the system has no thread to give.
    pub fn start(name: &str) -> std::io::Result<Worker> {
        Worker::start_after(name, || {})
    }

    /// Starts a thread that runs when others leave it time.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_yielding(name: &str) -> std::io::Result<Worker> {
        Worker::start_after(name, process::yield_to_others)
    }

    fn start_after(name: &str, prepare: fn()) -> std::io::Result<Worker> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new().name(name.into()).spawn(move || {
            prepare();
            for job in queue {
                job();
            }
        })?;
        Ok(Worker { jobs })
    }

    /// Runs `job` on the worker thread, after all jobs that were handed over before; the answer
    /// comes back to the shard that waits for it. The job is in the queue when this returns,
    /// whether or when the answer is awaited.
    ///
    /// # Errors
    /// `None` when the job panicked.
    pub fn run<T, J>(&self, job: J) -> impl Future<Output = Option<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.start_job(move || {
            // The asker may be gone; then nobody needs the answer.
            let _ = answer.send(job());
        });
        async move { answered.await.ok() }
    }

    /// Runs `job` on the worker thread, without waiting for it. A panic ends the job, not the thread.
    pub fn start_job(&self, job: impl FnOnce() + Send + 'static) {
        let contained = move || {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
        };
        // The thread is there for as long as a handle is.
        let _ = self.jobs.send(Box::new(contained));
    }
}
