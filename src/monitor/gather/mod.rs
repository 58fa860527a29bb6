//! Gathers the facts of health, side by side, each within a time limit of its own.
//!
//! What does not come in time is a fact as well: that it is not known, and why. One that hangs, as on
//! a network disk that is gone, is not started a second time before it has ended.

mod journal;
mod sources;
mod system;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use self::sources::Gathered;
use self::system::Meter;
use crate::engine::Moment;
use crate::engine::health::{Errors, Facts, Known, System};
use crate::engine::span;
use crate::engine::watch::{Finding, Subject, What};

/// A source of the configuration, and who is behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    pub name: String,
    pub provider: String,
}

/// What is looked at.
#[derive(Clone, Debug)]
pub struct Scope {
    pub state_dir: PathBuf,
    pub archive_dir: PathBuf,
    /// The enabled ones.
    pub sources: Vec<Named>,
    pub unit: String,
    /// Requests go out by a pool of proxies.
    pub has_pool: bool,
    /// How far back the journal is read.
    pub journal_window: Duration,
    /// The longest that one of those who look may take.
    pub timeout: Duration,
}

/// Those who look, and what they remember between two looks.
#[derive(Debug, Default)]
pub struct Gatherers {
    meter: Arc<Mutex<Meter>>,
    sources: Busy,
    system: Busy,
    journal: Busy,
}

/// Whether one of them is still at it.
type Busy = Arc<AtomicBool>;

impl Gatherers {
    /// Looks at everything that the watch, which made `findings`, does not look at itself.
    #[must_use]
    pub fn gather(&self, scope: &Scope, findings: Vec<Finding>, now: Moment) -> Facts {
        let sources = start(&self.sources, {
            let scope = scope.clone();
            move || Ok(sources::gather(&scope, now))
        });
        let system = start(&self.system, {
            let (folders, meter) = (scope.folders(), Arc::clone(&self.meter));
            move || meter.lock().unwrap_or_else(PoisonError::into_inner).look(&folders)
        });
        let journal = has_unit(&findings).then(|| {
            let (unit, window) = (scope.unit.clone(), scope.journal_window);
            let timeout = scope.timeout;
            start(&self.journal, move || journal::errors(&unit, window, timeout, now))
        });
        let gathered: Known<Gathered> = sources.wait(scope.timeout);
        let system: Known<System> = system.wait(scope.timeout);
        let journal: Option<Known<Errors>> = journal.map(|journal| journal.wait(scope.timeout));
        let Gathered { sources, breakers, loops, pool } =
            gathered.unwrap_or_else(|why| Gathered::unknown(scope, &why));
        let unit = scope.unit.clone();
        Facts { unit, findings, sources, breakers, loops, pool, system, journal }
    }
}

impl Scope {
    /// What we write to.
    fn folders(&self) -> Vec<PathBuf> {
        vec![self.state_dir.clone(), self.archive_dir.clone()]
    }
}

/// Whether systemd knows the unit, so that it has a journal.
fn has_unit(findings: &[Finding]) -> bool {
    let unit = findings.iter().find(|finding| matches!(finding.about, Subject::Unit(_)));
    unit.is_some_and(|finding| {
        !matches!(
            finding.what,
            What::NoSystemd { .. } | What::NotInstalled | What::UnitUntold { .. }
        )
    })
}

/// One who looks.
enum Looking<T> {
    Begun(Receiver<Known<T>>),
    /// The one before is still at it.
    Hangs,
}

fn start<T: Send + 'static>(
    busy: &Busy,
    look: impl FnOnce() -> Known<T> + Send + 'static,
) -> Looking<T> {
    if busy.swap(true, Ordering::AcqRel) {
        return Looking::Hangs;
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let at_work = AtWork(Arc::clone(busy));
    thread::spawn(move || {
        let seen = look();
        drop(at_work);
        // Whoever waited may have given up.
        drop(sender.send(seen));
    });
    Looking::Begun(receiver)
}

/// Also where it panics, it has ended.
struct AtWork(Busy);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> Looking<T> {
    /// They wait one after the other, while all of them look: the last may get more time than it should.
    fn wait(self, timeout: Duration) -> Known<T> {
        let Self::Begun(receiver) = self else {
            return Err("the look before this one has not ended yet".to_owned());
        };
        match receiver.recv_timeout(timeout) {
            Ok(seen) => seen,
            Err(RecvTimeoutError::Timeout) => Err(format!("no answer within {}", span(timeout))),
            Err(RecvTimeoutError::Disconnected) => Err("the look broke off".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_told_and_not_begun_again_until_it_has_ended() {
        let busy = Busy::default();
        let (go, wait) = mpsc::channel::<()>();
        let short = Duration::from_millis(20);

        let first = start(&busy, move || wait.recv().map_err(|gone| gone.to_string()));
        assert_eq!(first.wait(short), Err("no answer within 20 ms".to_owned()));
        let second = start(&busy, || Ok(()));
        assert_eq!(
            second.wait(short),
            Err("the look before this one has not ended yet".to_owned())
        );

        go.send(()).unwrap();
        while busy.load(Ordering::Acquire) {
            thread::yield_now();
        }
        assert_eq!(start(&busy, || Ok(7)).wait(Duration::from_secs(30)), Ok(7));
    }

    #[test]
    fn one_that_panics_is_told_and_may_look_again() {
        let busy = Busy::default();

        let broken: Looking<()> = start(&busy, || panic!("a test"));
        assert_eq!(broken.wait(Duration::from_secs(30)), Err("the look broke off".to_owned()));
        assert!(!busy.load(Ordering::Acquire));
    }
}
