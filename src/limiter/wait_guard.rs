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
    pub(super) fn enqueue(waiting: &Rc<RefCell<Vec<LimiterScope>>>, key: &LimiterScope) -> Self {
        waiting.borrow_mut().push(key.clone());
        Self { waiting: Rc::clone(waiting), key: key.clone() }
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(index) = waiting.iter().position(|key| *key == self.key) {
            waiting.swap_remove(index);
        }
    }
}
