//! Entry of a waiting request in the list of those that wait.

use std::cell::RefCell;
use std::rc::Rc;

use crate::state::LimiterScope;

/// Entry of a waiting request, removed when the request is sent or cancelled.
pub(super) struct WaitGuard {
    waiting: Rc<RefCell<Vec<LimiterScope>>>,
    key: LimiterScope,
}

impl WaitGuard {
    pub(super) fn enqueue(queue: &Rc<RefCell<Vec<LimiterScope>>>, key: &LimiterScope) -> Self {
        queue.borrow_mut().push(key.clone());
        Self { waiting: Rc::clone(queue), key: key.clone() }
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        let mut queue = self.waiting.borrow_mut();
        if let Some(place) = queue.iter().position(|key| *key == self.key) {
            queue.swap_remove(place);
        }
    }
}
