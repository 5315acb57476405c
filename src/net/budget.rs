//! Budgets of bytes: a request waits until its bytes are free.

use crate::io::limits::Limit;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Budgets count in these, for a semaphore counts in 32 bits.
const PERMIT_BYTES: usize = 1024;

/// The part of a budget that is kept for small shares is one in this many.
const KEPT_FOR_SMALL: u32 = 8;
/// A share of up to 1 MiB is small, where the budget is not small itself.
const SMALL_PERMITS: u32 = 1024;

/// Bytes that may be in use at once. Clones share one budget.
#[derive(Clone)]
pub struct Budget {
    permits: Arc<Semaphore>,
    most: u32,
    /// How many of the permits shares may have for what goes beyond small ones.
    large: Arc<Semaphore>,
    /// Held by the one share that may grow beyond the budget.
    overdraft: Arc<Mutex<()>>,
    /// Counts each wait.
    limit: &'static Limit,
    /// Wakes tasks that can give memory back.
    pressed: Rc<Notify>,
    /// Shares that wait.
    waiting: Rc<Cell<usize>>,
}

impl Budget {
    pub fn new(bytes: usize, limit: &'static Limit) -> Budget {
        let most = (bytes / PERMIT_BYTES).clamp(1, u32::MAX as usize / 2) as u32;
        Budget {
            permits: Arc::new(Semaphore::new(most as usize)),
            most,
            large: Arc::new(Semaphore::new((most - most / KEPT_FOR_SMALL) as usize)),
            overdraft: Arc::default(),
            limit,
            pressed: Rc::default(),
            waiting: Rc::default(),
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        (self.used_permits() * PERMIT_BYTES) as u64
    }

    /// Whether less than half is in use.
    pub fn is_ample(&self) -> bool {
        self.permits.available_permits() > self.most as usize / 2
    }

    /// Whether a share waits, or more than three quarters are in use.
    pub fn is_short(&self) -> bool {
        self.waiting.get() > 0 || self.used_permits() > self.most as usize / 4 * 3
    }

    fn used_permits(&self) -> usize {
        (self.most as usize).saturating_sub(self.permits.available_permits())
    }

    /// While memory is short, the bytes in use beyond half of it; else 0.
    pub fn excess(&self) -> usize {
        if !self.is_short() {
            return 0;
        }
        self.used_permits().saturating_sub(self.most as usize / 2) * PERMIT_BYTES
    }

    /// Returns when a share waits.
    pub async fn pressed(&self) {
        if self.waiting.get() == 0 {
            self.pressed.notified().await;
        }
    }

    /// Takes `bytes` out of the budget until the permit is dropped. More than the whole budget takes all
    /// of it, and so runs alone.
    pub async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = self.permits_for(bytes);
        let permits = Arc::clone(&self.permits);
        if let Ok(taken) = Arc::clone(&permits).try_acquire_many_owned(wanted) {
            return Some(taken);
        }
        self.limit.waited_for("a connection");
        permits.acquire_many_owned(wanted).await.ok()
    }

    /// A share of nothing yet.
    pub fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            permit: None,
            large: None,
            overdraft: None,
        }
    }

    /// How many of a share's permits count as large.
    fn large_for(&self, permits: u32) -> u32 {
        let small = SMALL_PERMITS.min(self.most / KEPT_FOR_SMALL);
        let large = self.most - self.most / KEPT_FOR_SMALL;
        permits.saturating_sub(small).min(large)
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        bytes.div_ceil(PERMIT_BYTES).min(self.most as usize).max(1) as u32
    }
}

/// A part of a budget that grows, for a request that arrives bit by bit: a client that announces
/// a large request and sends nothing holds nothing. Given back when dropped.
///
/// An eighth of the budget is kept for shares that are small: large ones, which hold what they have
/// while they wait for more, cannot take all of it.
pub struct Share {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
    /// Of what large shares may have, for what goes beyond a small one.
    large: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedMutexGuard<()>>,
}

impl Share {
    /// Waits until `bytes` are available. One waiter at a time may exceed the budget, so that
    /// requests that each hold half of what they need cannot deadlock.
    pub async fn grow(&mut self, bytes: usize) {
        let wanted = self.budget.permits_for(bytes);
        if wanted as usize <= held(&self.permit) || self.overdraft.is_some() {
            return;
        }
        let missing = wanted - held(&self.permit) as u32;
        let large = self.budget.large_for(wanted);
        let large_missing = large.saturating_sub(held(&self.large) as u32);
        let budget = self.budget.clone();
        let is_there = budget.permits.available_permits() >= missing as usize
            && budget.large.available_permits() >= large_missing as usize;
        let _waiting = (!is_there).then(|| {
            budget.limit.waited_for("connections");
            budget.pressed.notify_waiters();
            Waiting::new(&budget.waiting)
        });
        let (permit, large_permit) = (&mut self.permit, &mut self.large);
        let more = async {
            add(large_permit, &budget.large, large_missing).await;
            add(permit, &budget.permits, missing).await;
        };
        tokio::select! {
            biased;
            () = more => {}
            overdraft = Arc::clone(&budget.overdraft).lock_owned() => {
                self.overdraft = Some(overdraft);
            }
        }
    }

    /// Gives back what is held beyond `bytes`. One that exceeds the budget does so until it is dropped.
    fn shrink_to(&mut self, bytes: usize) {
        shrink(&mut self.permit, &self.budget, bytes);
        let kept = self.budget.large_for(held(&self.permit) as u32) as usize;
        if let Some(large) = &mut self.large {
            let more = large.num_permits().saturating_sub(kept);
            drop(large.split(more));
        }
    }
}

fn held(permit: &Option<OwnedSemaphorePermit>) -> usize {
    permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
}

async fn add(permit: &mut Option<OwnedSemaphorePermit>, semaphore: &Arc<Semaphore>, count: u32) {
    if count == 0 {
        return;
    }
    // It is never closed.
    let more = Arc::clone(semaphore).acquire_many_owned(count).await.ok();
    match (permit, more) {
        (Some(permit), Some(more)) => permit.merge(more),
        (permit, more) => *permit = more,
    }
}

/// Counts a share for as long as it waits.
struct Waiting(Rc<Cell<usize>>);

impl Waiting {
    fn new(waiting: &Rc<Cell<usize>>) -> Waiting {
        waiting.set(waiting.get() + 1);
        Waiting(Rc::clone(waiting))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What a request takes: of its connection's budget, and of the one that all connections share.
pub struct Charge {
    connection: Budget,
    own: Option<OwnedSemaphorePermit>,
    shared: Share,
    /// What both are held for, in bytes; less of `shared` where that is free of charge.
    own_bytes: usize,
    shared_bytes: usize,
}

impl Charge {
    /// Of nothing yet.
    pub fn new(connection: &Budget, all: &Budget) -> Charge {
        Charge {
            connection: connection.clone(),
            own: None,
            shared: all.share(),
            own_bytes: 0,
            shared_bytes: 0,
        }
    }

    /// Waits for `bytes` more of the connection's budget.
    pub async fn add_own(&mut self, bytes: usize) {
        self.own_bytes += bytes;
        // What is held goes back first: who holds one part and waits for another could wait for itself.
        self.own = None;
        self.own = self.connection.take(self.own_bytes).await;
    }

    /// Waits until the part of the shared budget is `bytes` or more.
    pub async fn grow_shared(&mut self, bytes: usize) {
        self.shared_bytes = self.shared_bytes.max(bytes);
        self.shared.grow(bytes).await;
    }

    /// Waits for `bytes` more of both budgets.
    pub async fn add(&mut self, bytes: usize) {
        self.add_own(bytes).await;
        self.grow_shared(self.shared_bytes + bytes).await;
    }

    /// Bytes that the request may take without asking again.
    pub fn bytes(&self) -> usize {
        self.own_bytes.min(self.shared_bytes)
    }

    /// Gives back what is more than `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.own_bytes = self.own_bytes.min(bytes);
        self.shared_bytes = self.shared_bytes.min(bytes);
        shrink(&mut self.own, &self.connection, self.own_bytes);
        self.shared.shrink_to(self.shared_bytes);
    }

    /// As [`shrink_to`](Self::shrink_to), for a request that may wait for minutes with a few `bytes`: it also
    /// gives back the right to exceed the budget, which others may need meanwhile.
    pub fn park(&mut self, bytes: usize) {
        self.shrink_to(bytes);
        self.shared.overdraft = None;
    }
}

/// Gives back what a permit has beyond `bytes`.
fn shrink(permit: &mut Option<OwnedSemaphorePermit>, budget: &Budget, bytes: usize) {
    if bytes == 0 {
        *permit = None;
    }
    let kept = budget.permits_for(bytes) as usize;
    if let Some(permit) = permit {
        let more = permit.num_permits().saturating_sub(kept);
        drop(permit.split(more));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::limits;
    use futures_util::FutureExt;
    use std::time::Duration;

    #[tokio::test]
    async fn what_is_larger_than_the_budget_is_admitted_alone() {
        let budget = Budget::new(10 * PERMIT_BYTES, &limits::INFLIGHT_BYTES);
        let all = budget.take(1 << 30).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(5), budget.take(1));
        assert!(waits.await.is_err());
        drop(all);
        let _some = budget.take(3 * PERMIT_BYTES).await.unwrap();
        let _more = budget.take(7 * PERMIT_BYTES).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(5), budget.take(1));
        assert!(waits.await.is_err());
    }

    #[tokio::test]
    async fn what_is_parked_leaves_the_right_to_exceed_the_budget_to_others() {
        let budgets = [100, 10].map(|permits| {
            let limit = &limits::INFLIGHT_BYTES;
            Budget::new(permits * PERMIT_BYTES, limit)
        });
        let grown = async |charge: &mut Charge| {
            let grow = charge.grow_shared(8 * PERMIT_BYTES);
            tokio::time::timeout(Duration::from_millis(5), grow)
                .await
                .is_ok()
        };
        let mut charges = [(); 3].map(|()| Charge::new(&budgets[0], &budgets[1]));
        for charge in &mut charges {
            charge.grow_shared(3 * PERMIT_BYTES).await;
        }
        let [first, second, third] = &mut charges;
        assert!(grown(first).await, "beyond the budget");
        assert!(!grown(second).await);
        first.park(PERMIT_BYTES);
        assert!(grown(second).await, "beyond the budget");
        assert!(!grown(third).await);
    }

    #[tokio::test]
    async fn large_shares_that_wait_leave_room_for_small_ones() {
        let budget = Budget::new(80 << 20, &limits::INFLIGHT_BYTES);
        let mut shares: Vec<Share> = (0..10).map(|_| budget.share()).collect();
        for share in &mut shares[..7] {
            share.grow(10 << 20).await;
        }
        let (large, small) = shares.split_at_mut(9);
        // The first that does not fit may exceed the budget; those behind it wait.
        large[7].grow(10 << 20).await;
        large[7].grow(30 << 20).await;
        let mut waits = Box::pin(large[8].grow(10 << 20));
        assert!((&mut waits).now_or_never().is_none());
        assert!(small[0].grow(1 << 20).now_or_never().is_some());
        drop(waits);
    }

    #[tokio::test]
    async fn who_comes_to_park_while_a_share_waits_is_told_at_once() {
        let budget = Budget::new(10 * PERMIT_BYTES, &limits::INFLIGHT_BYTES);
        let is_pressed = || budget.pressed().now_or_never().is_some();
        let mut shares: Vec<Share> = (0..3).map(|_| budget.share()).collect();
        shares[0].grow(9 * PERMIT_BYTES).await;
        assert!(!is_pressed());
        shares[1].grow(5 * PERMIT_BYTES).await;
        assert!(!is_pressed(), "that one exceeds the budget");
        let mut third = Box::pin(shares[2].grow(5 * PERMIT_BYTES));
        assert!((&mut third).now_or_never().is_none());
        assert!(is_pressed());
        drop(third);
        assert!(!is_pressed());
    }

    #[tokio::test]
    async fn a_charge_grows_for_a_reply_and_gives_back_what_it_did_not_take() {
        let budget = || Budget::new(100 * PERMIT_BYTES, &limits::INFLIGHT_BYTES);
        let (own, all) = (budget(), budget());
        let mut charge = Charge::new(&own, &all);
        charge.add_own(2 * PERMIT_BYTES).await;
        charge.grow_shared(10 * PERMIT_BYTES).await;
        let used = || {
            (
                own.used() as usize / PERMIT_BYTES,
                all.used() as usize / PERMIT_BYTES,
            )
        };
        assert_eq!(used(), (2, 10));
        charge.add(50 * PERMIT_BYTES).await;
        assert_eq!(used(), (52, 60));
        assert_eq!(charge.bytes(), 52 * PERMIT_BYTES);
        charge.shrink_to(30 * PERMIT_BYTES);
        assert_eq!(used(), (30, 30));
        charge.shrink_to(40 * PERMIT_BYTES);
        assert_eq!(used(), (30, 30));
        let mut other = Charge::new(&own, &all);
        let mut waits = Box::pin(other.add(80 * PERMIT_BYTES));
        assert!((&mut waits).now_or_never().is_none());
        charge.shrink_to(0);
        waits.await;
        assert_eq!(used(), (80, 80));
        drop(other);
        assert_eq!(used(), (0, 0));
    }

    #[tokio::test]
    async fn shares_hold_what_they_grew_to_and_one_that_waits_may_go_on_without() {
        let waits = |share: &mut Share, bytes| {
            let grow = share.grow(bytes);
            futures_util::future::FutureExt::now_or_never(grow).is_none()
        };
        let budget = Budget::new(10 * PERMIT_BYTES, &limits::INFLIGHT_BYTES);
        let mut shares: Vec<Share> = (0..4).map(|_| budget.share()).collect();
        for share in &mut shares {
            assert!(!waits(share, 2 * PERMIT_BYTES));
        }
        // 8 of 10 are held; all four want 5.
        assert!(
            !waits(&mut shares[0], 5 * PERMIT_BYTES),
            "beyond the budget"
        );
        assert!(!waits(&mut shares[0], 90 * PERMIT_BYTES), "to its end");
        assert!(waits(&mut shares[1], 5 * PERMIT_BYTES));
        assert!(
            !waits(&mut shares[1], 3 * PERMIT_BYTES),
            "there are two left"
        );
        shares.remove(0);
        assert!(!waits(&mut shares[1], 5 * PERMIT_BYTES), "given back");
    }
}
