//! Requests that wait for their coordinator, for minutes if need be.

use super::runtime::CoordinatorError;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use tokio::sync::oneshot;

/// Identifies a parked request within its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// The requests of one tenant on one shard that are not answered yet. `R` is an answer.
pub struct Parked<R> {
    waiting: RefCell<HashMap<Token, oneshot::Sender<R>>>,
    next_token: Cell<u64>,
}

impl<R> Default for Parked<R> {
    fn default() -> Parked<R> {
        Parked {
            waiting: RefCell::default(),
            next_token: Cell::new(0),
        }
    }
}

impl<R> Parked<R> {
    /// Parks a request: `begin` hands its token to the coordinator, and the request waits for
    /// [`answer`](Self::answer). When the request ends without an answer, because `begin` failed or the
    /// client is gone and this future is dropped, `given_up` takes the token back.
    ///
    /// # Errors
    /// What `begin` returns.
    pub async fn park<E: From<CoordinatorError>>(
        &self,
        begin: impl FnOnce(Token) -> Result<(), E>,
        given_up: impl FnOnce(Token),
    ) -> Result<R, E> {
        let token = Token(self.next_token.get());
        self.next_token.set(token.0 + 1);
        let (sender, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(token, sender);
        let request = Request {
            parked: self,
            token,
            given_up: Some(given_up),
        };
        begin(token)?;
        let answer = answer.await;
        drop(request);
        answer.map_err(|_| CoordinatorError::NotCoordinator.into())
    }

    /// Answers a request. Nothing happens when it was answered or given up before.
    pub fn answer(&self, token: Token, answer: R) {
        let sender = self.waiting.borrow_mut().remove(&token);
        if let Some(sender) = sender {
            // The client may be gone.
            let _ = sender.send(answer);
        }
    }
}

/// One parked request; takes its token back when it is dropped unanswered.
struct Request<'a, R, F: FnOnce(Token)> {
    parked: &'a Parked<R>,
    token: Token,
    given_up: Option<F>,
}

impl<R, F: FnOnce(Token)> Drop for Request<'_, R, F> {
    fn drop(&mut self) {
        let waiting = self.parked.waiting.borrow_mut().remove(&self.token);
        if let (Some(_), Some(given_up)) = (waiting, self.given_up.take()) {
            given_up(self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// The requests, the tokens that began and those that were given up.
    #[derive(Default)]
    struct Desk {
        parked: Parked<u32>,
        begun: RefCell<Vec<Token>>,
        given_up: RefCell<Vec<Token>>,
    }

    impl Desk {
        async fn park(&self, refusal: Option<CoordinatorError>) -> Result<u32, CoordinatorError> {
            let begin = |token| {
                self.begun.borrow_mut().push(token);
                refusal.map_or(Ok(()), Err)
            };
            let given_up = |token| self.given_up.borrow_mut().push(token);
            self.parked.park(begin, given_up).await
        }

        fn is_empty(&self) -> bool {
            self.parked.waiting.borrow().is_empty()
        }
    }

    #[test]
    fn each_request_gets_its_own_answer_whatever_the_order() {
        let desk = Desk::default();
        let mut first = Box::pin(desk.park(None));
        let mut second = Box::pin(desk.park(None));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        let begun = desk.begun.borrow().clone();
        desk.parked.answer(begun[1], 2);
        desk.parked.answer(begun[0], 1);
        assert_eq!(first.now_or_never(), Some(Ok(1)));
        assert_eq!(second.now_or_never(), Some(Ok(2)));
        assert_eq!(*desk.given_up.borrow(), []);
        assert!(desk.is_empty());
    }

    #[test]
    fn a_request_that_is_dropped_unanswered_is_given_up_once() {
        let desk = Desk::default();
        let mut request = Box::pin(desk.park(None));
        assert!(request.as_mut().now_or_never().is_none());
        drop(request);
        let begun = desk.begun.borrow().clone();
        assert_eq!(*desk.given_up.borrow(), begun);
        // The token is not known any more.
        desk.parked.answer(begun[0], 1);
        assert!(desk.is_empty());
    }

    #[test]
    fn a_request_that_is_answered_and_then_dropped_is_not_given_up() {
        let desk = Desk::default();
        let mut request = Box::pin(desk.park(None));
        assert!(request.as_mut().now_or_never().is_none());
        let token = desk.begun.borrow()[0];
        desk.parked.answer(token, 1);
        drop(request);
        assert_eq!(*desk.given_up.borrow(), []);
    }

    #[test]
    fn a_request_that_cannot_begin_leaves_nothing() {
        let desk = Desk::default();
        let refusal = CoordinatorError::NotAvailable;
        assert_eq!(desk.park(Some(refusal)).now_or_never(), Some(Err(refusal)));
        assert_eq!(*desk.given_up.borrow(), *desk.begun.borrow());
        assert!(desk.is_empty());
    }
}
