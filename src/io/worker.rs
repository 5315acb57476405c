//! A thread for what may block: opening, reserving, sealing, checkpoints, unlinking, cold pages.

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
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new().name(name.into()).spawn(move || {
            for job in queue {
                job();
            }
        })?;
        Ok(Worker { jobs })
    }

    /// Runs `job` on the worker thread; the answer comes back to the shard that waits for it.
    ///
    /// # Errors
    /// `None` when the job panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            if let Ok(value) = result {
                // The asker may be gone; then nobody needs the answer.
                let _ = answer.send(value);
            }
        });
        self.jobs.send(run).ok()?;
        answered.await.ok()
    }
}
