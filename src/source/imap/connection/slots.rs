//! Number of connections of an account, which is lowered while the server refuses more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cynosure_engine::{Cause, Failure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Time after which a lowered number is raised by one again. Other clients of the account give up
/// their connections within minutes, and a refused connection costs a wait for all of ours.
const LOWERED_FOR: Duration = Duration::from_secs(10 * 60);

/// Slots for the connections of an account. Waiting tasks get them in the order of arrival.
#[derive(Debug)]
pub(in crate::source::imap) struct ConnectionSlots {
    semaphore: Arc<Semaphore>,
    /// Number of connections that are allowed now.
    limit: Cell<usize>,
    /// Slots beyond the limit that are taken. They disappear when they are given back.
    excess: Cell<usize>,
    waiting: Cell<usize>,
    /// Times at which the limit is raised by one, the earliest first.
    raises: RefCell<VecDeque<Instant>>,
}

/// Slot of one connection. Dropping it gives it back.
#[derive(Debug)]
pub(in crate::source::imap) struct ConnectionSlot {
    permit: Option<OwnedSemaphorePermit>,
    slots: Rc<ConnectionSlots>,
}

/// Entry of a task in the count of those that wait.
struct WaitingEntry<'a>(&'a Cell<usize>);

impl ConnectionSlots {
    pub(in crate::source::imap) fn new(connections: u32) -> Self {
        let limit = usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS);
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            semaphore: Arc::new(Semaphore::new(limit)),
            limit: Cell::new(limit),
            excess: Cell::new(0),
            waiting: Cell::new(0),
            raises: RefCell::default(),
        }
    }

    /// Waits for a slot.
    pub(in crate::source::imap) async fn acquire(
        self: &Rc<Self>,
    ) -> Result<ConnectionSlot, Failure> {
        let waiting = WaitingEntry::new(&self.waiting);
        let permit = Arc::clone(&self.semaphore).acquire_owned().await;
        drop(waiting);
        let permit = permit
            .map_err(|_closed| Failure::new(Cause::Unknown, "the pool of connections is closed"))?;
        Ok(ConnectionSlot { permit: Some(permit), slots: Rc::clone(self) })
    }

    pub(in crate::source::imap) fn has_waiters(&self) -> bool {
        0 < self.waiting.get()
    }

    /// Returns the number of slots that nobody has taken.
    pub(in crate::source::imap) fn free_count(&self) -> usize {
        self.semaphore.available_permits()
    }

    /// True if more slots are taken than the limit allows, because it was lowered.
    pub(in crate::source::imap) fn is_over_limit(&self) -> bool {
        0 < self.excess.get()
    }

    /// Lowers the limit by one for a time. Returns the new limit, unless it cannot be lower.
    pub(super) fn lower(&self, now: Instant) -> Option<usize> {
        let limit = self.limit.get().checked_sub(1).filter(|limit| 0 < *limit)?;
        self.limit.set(limit);
        self.raises.borrow_mut().push_back(now + LOWERED_FOR);
        if self.semaphore.forget_permits(1) == 0 {
            self.excess.set(self.excess.get().saturating_add(1));
        }
        Some(limit)
    }

    /// Raises the limit by one for each time that has come. Returns the new limit, if it changed.
    pub(in crate::source::imap) fn raise_if_due(&self, now: Instant) -> Option<usize> {
        let mut raises = self.raises.borrow_mut();
        let mut raised = None;
        while raises.front().is_some_and(|at| *at <= now) {
            raises.pop_front();
            let limit = self.limit.get().saturating_add(1);
            self.limit.set(limit);
            raised = Some(limit);
            match self.excess.get().checked_sub(1) {
                Some(excess) => self.excess.set(excess),
                None => self.semaphore.add_permits(1),
            }
        }
        raised
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        match self.slots.excess.get().checked_sub(1) {
            Some(excess) => {
                self.slots.excess.set(excess);
                permit.forget();
            }
            None => drop(permit),
        }
    }
}

impl<'a> WaitingEntry<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get().saturating_add(1));
        Self(count)
    }
}

impl Drop for WaitingEntry<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    async fn take(slots: &Rc<ConnectionSlots>) -> ConnectionSlot {
        slots.acquire().await.unwrap()
    }

    #[tokio::test]
    async fn slots_are_given_in_the_order_of_arrival() {
        let slots = Rc::new(ConnectionSlots::new(1));
        let taken = take(&slots).await;
        let (mut first, mut second) = (Box::pin(take(&slots)), Box::pin(take(&slots)));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!(slots.has_waiters());

        drop(taken);

        assert!((&mut second).now_or_never().is_none());
        let taken = (&mut first).now_or_never().unwrap();
        drop(taken);
        assert!(second.now_or_never().is_some());
        assert!(!slots.has_waiters());
    }

    #[tokio::test]
    async fn a_dropped_wait_counts_no_more() {
        let slots = Rc::new(ConnectionSlots::new(1));
        let _taken = take(&slots).await;
        let mut waiting = Box::pin(take(&slots));
        assert!((&mut waiting).now_or_never().is_none());

        drop(waiting);

        assert!(!slots.has_waiters());
    }

    #[tokio::test]
    async fn a_lowered_limit_takes_a_free_slot_or_the_next_one() {
        let (slots, now) = (Rc::new(ConnectionSlots::new(3)), Instant::now());
        let (first, second) = (take(&slots).await, take(&slots).await);

        assert_eq!([slots.lower(now), slots.lower(now)], [Some(2), Some(1)]);
        assert_eq!(slots.lower(now), None, "one connection remains");
        assert_eq!(slots.free_count(), 0);
        assert!(slots.is_over_limit());
        drop(first);
        assert_eq!(slots.free_count(), 0);
        assert!(!slots.is_over_limit());
        drop(second);
        assert_eq!(slots.free_count(), 1);
    }

    #[tokio::test]
    async fn the_limit_is_raised_after_ten_minutes() {
        let (slots, now) = (Rc::new(ConnectionSlots::new(2)), Instant::now());
        let taken = [take(&slots).await, take(&slots).await];
        slots.lower(now);

        assert_eq!(slots.raise_if_due(now + Duration::from_secs(599)), None);
        assert_eq!(slots.raise_if_due(now + LOWERED_FOR), Some(2));
        drop(taken);

        assert_eq!(slots.free_count(), 2);
        assert_eq!(slots.raise_if_due(now + LOWERED_FOR * 2), None);
    }
}
