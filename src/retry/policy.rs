//! A policy, and the calls made under it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::retry::course::Course;
use crate::retry::fault::{Fault, GaveUp};
use crate::retry::guard::{Budget, Guard};
use crate::retry::pauses::{Pauses, RealPauses};
use crate::retry::shape::Shape;
use crate::retry::statistics::{Registry, Statistics};

/// How calls of one kind are tried again. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Policy {
    name: Arc<str>,
    shape: Shape,
    guard: Option<Arc<dyn Guard>>,
    budget: Option<Arc<dyn Budget>>,
    pauses: Arc<dyn Pauses>,
    registry: Registry,
}

/// A retry that is about to be waited for.
#[derive(Debug)]
pub struct Retry<'a, E> {
    /// The policy's name.
    pub policy: &'a str,
    /// The attempt that failed, from 1.
    pub attempt: u32,
    /// The wait before the next one.
    pub delay: Duration,
    pub failure: &'a E,
}

/// A call about to be made, with a judgement of its own.
pub struct Attempts<'a, E> {
    policy: &'a Policy,
    pub(super) retryable: Reads<'a, E, bool>,
    pub(super) told: Reads<'a, E, Option<Duration>>,
    pub(super) on_retry: Option<OnRetry<'a, E>>,
}

/// What is read from a failure.
type Reads<'a, E, T> = Box<dyn Fn(&E) -> T + Send + Sync + 'a>;
type OnRetry<'a, E> = Box<dyn FnMut(&Retry<'_, E>) + Send + 'a>;

impl Policy {
    /// Makes a policy that waits in real time and counts for itself, without breaker and budget.
    #[must_use]
    pub fn new(name: &str, shape: Shape) -> Self {
        Self {
            name: name.into(),
            shape,
            guard: None,
            budget: None,
            pauses: Arc::new(RealPauses),
            registry: Registry::default(),
        }
    }

    /// Has every attempt permitted by a breaker, which is told of its end.
    #[must_use]
    pub fn guarded_by(mut self, guard: Arc<dyn Guard>) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Has every retry permitted by a budget, which may be a closure.
    #[must_use]
    pub fn within(mut self, budget: impl Budget + 'static) -> Self {
        self.budget = Some(Arc::new(budget));
        self
    }

    /// Waits there, and draws there, instead of in the real world.
    #[must_use]
    pub fn pausing_in(mut self, pauses: impl Pauses + 'static) -> Self {
        self.pauses = Arc::new(pauses);
        self
    }

    /// Counts there, beside other policies.
    #[must_use]
    pub fn counted_in(mut self, registry: &Registry) -> Self {
        self.registry = registry.clone();
        self
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the calls of this name came to so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.registry.of(&self.name)
    }

    /// Starts a call that judges for itself which failures are worth another attempt.
    pub fn when<'a, E: fmt::Display + 'a>(
        &'a self,
        retryable: impl Fn(&E) -> bool + Send + Sync + 'a,
    ) -> Attempts<'a, E> {
        let retryable = Box::new(retryable);
        Attempts { policy: self, retryable, told: Box::new(|_| None), on_retry: None }
    }

    /// Starts a call whose failures tell themselves whether they are worth another attempt.
    #[must_use]
    pub fn attempts<'a, E: Fault + 'a>(&'a self) -> Attempts<'a, E> {
        self.when(E::is_retryable).told(E::told)
    }

    /// Calls `once` until it succeeds or the policy gives up.
    ///
    /// It may be dropped at any await.
    ///
    /// # Errors
    /// The last failure, or that the breaker let no attempt through.
    pub async fn run<'a, T, E: Fault + 'a>(
        &'a self,
        once: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, GaveUp<E>> {
        self.attempts().run(once).await
    }

    /// Calls `once` until it succeeds or the policy gives up, waiting on this thread.
    ///
    /// # Errors
    /// As of [`run`](Self::run).
    pub fn run_blocking<'a, T, E: Fault + 'a>(
        &'a self,
        once: impl FnMut() -> Result<T, E>,
    ) -> Result<T, GaveUp<E>> {
        self.attempts().run_blocking(once)
    }

    pub(super) fn guard(&self) -> Option<&dyn Guard> {
        self.guard.as_deref()
    }

    pub(super) fn may_retry(&self) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.may_retry())
    }

    pub(super) fn delay(&self, retry: u32, told: Option<Duration>) -> Duration {
        self.shape.delay(retry, told, self.pauses.draw())
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Statistics)) {
        self.registry.count(&self.name, count);
    }
}

impl<'a, E: fmt::Display> Attempts<'a, E> {
    /// Reads from a failure how long the other side told us to stay away.
    #[must_use]
    pub fn told(mut self, told: impl Fn(&E) -> Option<Duration> + Send + Sync + 'a) -> Self {
        self.told = Box::new(told);
        self
    }

    /// Calls back before each wait.
    #[must_use]
    pub fn on_retry(mut self, call: impl FnMut(&Retry<'_, E>) + Send + 'a) -> Self {
        self.on_retry = Some(Box::new(call));
        self
    }

    /// As [`Policy::run`].
    ///
    /// # Errors
    /// The last failure, or that the breaker let no attempt through.
    pub async fn run<T>(
        mut self,
        mut once: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, GaveUp<E>> {
        let mut course = Course::begin(self.policy)?;
        loop {
            let failure = match once().await {
                Ok(value) => {
                    course.succeeded();
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            let delay = match course.failed(&mut self, &failure) {
                Ok(delay) => delay,
                Err(why) => return Err(course.gave_up(failure, why)),
            };
            self.policy.pauses.pass(delay).await;
            if let Err(why) = course.again(delay) {
                return Err(course.gave_up(failure, why));
            }
        }
    }

    /// As [`Policy::run_blocking`].
    ///
    /// # Errors
    /// The last failure, or that the breaker let no attempt through.
    pub fn run_blocking<T>(
        mut self,
        mut once: impl FnMut() -> Result<T, E>,
    ) -> Result<T, GaveUp<E>> {
        let mut course = Course::begin(self.policy)?;
        loop {
            let failure = match once() {
                Ok(value) => {
                    course.succeeded();
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            let delay = match course.failed(&mut self, &failure) {
                Ok(delay) => delay,
                Err(why) => return Err(course.gave_up(failure, why)),
            };
            self.policy.pauses.block(delay);
            if let Err(why) = course.again(delay) {
                return Err(course.gave_up(failure, why));
            }
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Policy");
        shown.field("name", &self.name).field("shape", &self.shape);
        shown.field("guard", &self.guard.as_ref().map(|guard| guard.name()));
        shown.finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Attempts<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("policy", self.policy).finish_non_exhaustive()
    }
}
