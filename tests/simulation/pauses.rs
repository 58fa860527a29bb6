//! Waits of quick retries in virtual time, and chance from the seed.

use std::sync::Mutex;
use std::time::Duration;

use cynosure::engine::RandomSample;
use cynosure::retry::{Pauses, Policy, Registry, Shape};
use futures_util::future::BoxFuture;

struct SimPauses(Mutex<fastrand::Rng>);

impl Pauses for SimPauses {
    fn draw(&self) -> RandomSample {
        RandomSample(self.0.lock().unwrap().u32(..))
    }

    fn pass(&self, delay: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(delay))
    }

    /// A call that blocks takes no time here, and so does its waiting.
    fn block(&self, _delay: Duration) {}
}

/// The policy of this name, as `config.toml` has it.
pub(crate) fn policy(name: &str, shape: Shape, seed: u64, registry: &Registry) -> Policy {
    let pauses = SimPauses(Mutex::new(fastrand::Rng::with_seed(seed)));
    Policy::new(name, shape).counted_in(registry).pausing_in(pauses)
}
