//! The figures of one source, which its client and its loop note side by side on one thread.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::engine::metrics::SourceMetrics;

/// Takes notes. Clones share them.
#[derive(Clone, Default)]
pub struct MetricsHandle(Rc<RefCell<SourceMetrics>>);

impl MetricsHandle {
    /// Goes on from what was noted before. Boxed, as it is large to be held over a wait.
    #[must_use]
    pub fn new(figures: Box<SourceMetrics>) -> Self {
        Self(Rc::new(RefCell::new(*figures)))
    }

    /// Has `note` change the figures: quickly, and without another note inside.
    pub fn update<T>(&self, note: impl FnOnce(&mut SourceMetrics) -> T) -> T {
        note(&mut self.0.borrow_mut())
    }

    /// The figures as they are.
    #[must_use]
    pub fn snapshot(&self) -> Box<SourceMetrics> {
        Box::new(self.0.borrow().clone())
    }
}

impl fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").finish_non_exhaustive()
    }
}
