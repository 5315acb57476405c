//! What an engine announces to the code that keeps state about its topics. The engine knows nothing else of
//! them.

use super::EngineError;
use super::catalog::Topic;
use futures_util::future::LocalBoxFuture;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Hears of an engine's events.
pub trait Listener {
    /// A topic was deleted: this shard's catalog does not have it any more. The engine waits: the name is
    /// free for another topic when all listeners on all shards have returned.
    ///
    /// # Errors
    /// When a new topic of that name could get the listener's state about the deleted one. Then the name
    /// stays taken until the next start.
    fn topic_deleted(
        self: Rc<Self>,
        topic: Arc<Topic>,
    ) -> LocalBoxFuture<'static, Result<(), EngineError>>;
}

/// The listeners of one shard, in the order in which they were added.
#[derive(Default)]
pub struct Listeners(RefCell<Vec<Weak<dyn Listener>>>);

impl Listeners {
    /// Adds a listener, which its owner keeps alive for as long as the engine serves.
    pub fn add<L: Listener + 'static>(&self, listener: &Rc<L>) {
        let listener: Weak<L> = Rc::downgrade(listener);
        self.0.borrow_mut().push(listener);
    }

    /// Calls all listeners, one after the other, whatever those before returned.
    ///
    /// # Errors
    /// What the first of those that failed returned; `Stopping` for one that is gone.
    pub(super) async fn topic_deleted(&self, topic: &Arc<Topic>) -> Result<(), EngineError> {
        let listeners = self.0.borrow().clone();
        let mut told = Ok(());
        for listener in listeners {
            let heard = match listener.upgrade() {
                Some(listener) => listener.topic_deleted(Arc::clone(topic)).await,
                None => Err(EngineError::Stopping),
            };
            told = told.and(heard);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::catalog::changes::{self, NewTopic};
    use crate::engine::tests::{create, start};
    use crate::io::reactor;
    use futures_util::FutureExt;
    use std::cell::Cell;

    /// Counts deletions, and returns `answer` when the notes that it keeps are removed.
    struct Notes {
        engine: Rc<Engine>,
        answer: Result<(), EngineError>,
        deletions: Cell<u32>,
    }

    impl Listener for Notes {
        fn topic_deleted(
            self: Rc<Self>,
            topic: Arc<Topic>,
        ) -> LocalBoxFuture<'static, Result<(), EngineError>> {
            assert!(self.engine.topic(&topic.name).is_none());
            let remove = async move {
                tokio::task::yield_now().await;
                self.deletions.set(self.deletions.get() + 1);
                self.answer.clone()
            };
            remove.boxed_local()
        }
    }

    fn notes(engine: &Rc<Engine>, answer: Result<(), EngineError>) -> Rc<Notes> {
        let notes = Rc::new(Notes {
            engine: Rc::clone(engine),
            answer,
            deletions: Cell::new(0),
        });
        engine.listeners.add(&notes);
        notes
    }

    /// Deletes a topic of two shards whose second has such listeners; says whether its name is free then.
    async fn is_free_after(add: impl FnOnce(&Rc<Engine>) -> Vec<Rc<Notes>>) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let engines = start(dir.path(), 2);
        let topic = create(&engines[0], "t", 1).await;
        let listeners = add(&engines[1]);
        let deleted = changes::delete_topic(&engines[0], topic.id).await;
        assert!(listeners.iter().all(|notes| notes.deletions.get() == 1));
        let new = NewTopic {
            name: "t".into(),
            partitions: 1,
            configs: Default::default(),
        };
        let created = changes::create_topic(&engines[0], new, false).await;
        assert_eq!(created.is_ok(), deleted.is_ok());
        deleted.is_ok()
    }

    #[test]
    fn the_name_of_a_deleted_topic_is_free_when_all_listeners_have_heard_of_it() {
        reactor::start(async {
            let both = |engine: &Rc<Engine>| vec![notes(engine, Ok(())), notes(engine, Ok(()))];
            assert!(is_free_after(both).await);
        });
    }

    #[test]
    fn the_name_of_a_deleted_topic_stays_taken_when_a_listener_fails_or_is_gone() {
        reactor::start(async {
            let failed = Err(EngineError::StorageFailed);
            let first = |engine: &Rc<Engine>| vec![notes(engine, failed), notes(engine, Ok(()))];
            assert!(!is_free_after(first).await);
            let gone = |engine: &Rc<Engine>| {
                drop(notes(engine, Ok(())));
                Vec::new()
            };
            assert!(!is_free_after(gone).await);
        });
    }
}
