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
        Worker::start_after(thread::Builder::new(), name, || {})
    }

    /// Starts a thread that runs when others leave it time.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_yielding(name: &str) -> std::io::Result<Worker> {
        Worker::start_after(thread::Builder::new(), name, process::yield_to_others)
    }

    /// Starts a thread with a stack of so many bytes, for jobs that call themselves.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_deep(name: &str, stack_bytes: usize) -> std::io::Result<Worker> {
        let builder = thread::Builder::new().stack_size(stack_bytes);
        Worker::start_after(builder, name, || {})
    }

    fn start_after(builder: thread::Builder, name: &str, prepare: fn()) -> std::io::Result<Worker> {
        let (jobs, queue) = mpsc::channel::<Job>();
        builder.name(name.into()).spawn(move || {
            prepare();
            for job in queue {
                job();
            }
        })?;
        Ok(Worker { jobs })
    }

    /// A worker without a thread: a test runs its jobs, when it likes.
    #[cfg(any(test, feature = "faults"))]
    pub fn by_hand() -> (Worker, Jobs) {
        let (jobs, queue) = mpsc::channel();
        (Worker { jobs }, Jobs(queue))
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
            // The caller may be gone; then the answer is not needed.
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

/// What was handed to a worker that has no thread.
#[cfg(any(test, feature = "faults"))]
pub struct Jobs(mpsc::Receiver<Job>);

#[cfg(any(test, feature = "faults"))]
impl Jobs {
    /// Runs the oldest job on this thread; false when there is none.
    pub fn run_next(&self) -> bool {
        self.0.try_recv().map(|job| job()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn jobs_of_all_who_hold_it_run_one_after_the_other_and_a_panic_ends_only_its_own() {
        let worker = Worker::start("worker").unwrap();
        let done = Arc::new(Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for asker in 0..3 {
                let (worker, done) = (worker.clone(), Arc::clone(&done));
                scope.spawn(move || {
                    for number in 0..4 {
                        let done = Arc::clone(&done);
                        worker.start_job(move || done.lock().unwrap().push((asker, number)));
                    }
                });
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let panicked = worker.run(|| -> u8 { panic!("a job that fails") });
        assert_eq!(runtime.block_on(panicked), None);
        assert_eq!(runtime.block_on(worker.run(|| 7)), Some(7));
        let done = done.lock().unwrap();
        for asker in 0..3 {
            let own = done.iter().filter(|(of, _)| *of == asker);
            assert!(own.map(|(_, number)| *number).eq(0..4));
        }
    }
}
