//! Metrics of one source, updated by its client and its event loop on one thread.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use cynosure_engine::metrics::SourceMetrics;

/// Shared handle to a source's metrics. Clones share the same metrics.
#[derive(Clone, Default)]
pub struct MetricsHandle(Rc<RefCell<SourceMetrics>>);

impl MetricsHandle {
    /// Continues from earlier metrics. They are boxed because they are too large to be held across
    /// an await.
    #[must_use]
    pub fn new(metrics: Box<SourceMetrics>) -> Self {
        Self(Rc::new(RefCell::new(*metrics)))
    }

    /// Updates the metrics with `change`, which must be quick and must not call `update` itself.
    pub fn update<T>(&self, change: impl FnOnce(&mut SourceMetrics) -> T) -> T {
        change(&mut self.0.borrow_mut())
    }

    /// Returns a copy of the metrics.
    #[must_use]
    pub fn snapshot(&self) -> Box<SourceMetrics> {
        Box::new(self.0.borrow().clone())
    }
}

impl fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MetricsHandle").finish_non_exhaustive()
    }
}
