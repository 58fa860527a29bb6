//! Who may forbid an attempt: a breaker, and a budget of retries.

/// A breaker with a name, asked before every attempt and told of each one's end.
///
/// For every `permits` that says yes there is one `succeeded`, `failed` or `abandoned`.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use cynosure::retry::{GaveUp, Guard, Policy, Shape};
///
/// /// Opens at the first failure.
/// #[derive(Default)]
/// struct Strict(AtomicBool);
///
/// impl Guard for Strict {
///     fn name(&self) -> &str {
///         "strict"
///     }
///     fn permits(&self) -> bool {
///         !self.0.load(Ordering::Relaxed)
///     }
///     fn succeeded(&self) {}
///     fn failed(&self) {
///         self.0.store(true, Ordering::Relaxed);
///     }
/// }
///
/// let policy = Policy::new("guarded", Shape { max_attempts: 1, ..Shape::FAST })
///     .guarded_by(Arc::new(Strict::default()));
/// let fails = || policy.when(|_: &&str| true).run_blocking(|| Err::<(), _>("down"));
///
/// assert!(matches!(fails(), Err(GaveUp::Failed { failure: "down", .. })));
/// assert_eq!(fails(), Err(GaveUp::Refused { guard: "strict".to_owned() }));
/// ```
pub trait CircuitBreaker: Send + Sync {
    fn name(&self) -> &str;

    /// Whether an attempt may be made now.
    fn try_acquire(&self) -> bool;

    fn record_success(&self);

    /// The attempt failed in a way that is worth another: the other side may be ill.
    fn record_failure(&self);

    /// The attempt says nothing of the other side's health: it was refused for a reason
    /// that stays, or dropped before its end.
    fn record_abandoned(&self) {}
}

/// A budget of retries that calls share, so that an outage is not answered with many times the requests.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use cynosure::retry::{Policy, Shape, Why, GaveUp};
///
/// let spare = AtomicU32::new(0);
/// let policy = Policy::new("thrifty", Shape::FAST).within(move || {
///     spare.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
/// });
/// let outcome = policy.when(|_: &&str| true).run_blocking(|| Err::<(), _>("busy"));
///
/// assert_eq!(outcome, Err(GaveUp::Failed { failure: "busy", attempts: 1, why: Why::Budget }));
/// ```
pub trait Budget: Send + Sync {
    /// Takes one retry out of the budget, if there is one.
    fn try_withdraw(&self) -> bool;
}

impl<F: Fn() -> bool + Send + Sync> Budget for F {
    fn try_withdraw(&self) -> bool {
        self()
    }
}
