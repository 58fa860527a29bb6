//! The loop of one source: wait, decide, perform.
//!
//! Whatever runs beside the loop is a job whose answer comes back as a [`Done`].
//! Jobs may be dropped at any time; only a commit is always waited for.

mod circuits;
mod clock;
mod count;
mod doubt;
mod intake;
mod leave;
mod perform;
mod publish;
mod trace;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::{Instrument, Span, error};

use crate::engine::metrics::SourceMetrics;
use crate::engine::{
    CredentialState, Effect, Event, Failure, MachineConfig, RequestScope, RestartCause, SessionId,
    State, StateMachine, Status, SyncPhase, Timestamp,
};
use crate::ledger::Tally;
use crate::retry::Policy;
use crate::source::http::PoolHealth;
use crate::source::{Meter, Source};
use crate::worker::breakers::{Circuits, Shut};
use crate::worker::downloads::{Downloads, Policies};
use crate::worker::jobs::{Done, Shared};
use crate::worker::liveness::Seat;
use crate::worker::rate::Rate;
use crate::worker::tracer::Tracer;
use crate::worker::view::View;
use crate::worker::world::World;

use self::doubt::Doubt;
use self::publish::{PUBLISH_INTERVAL, Published};

/// What one turn of the loop is called in the log. Its fields are `session` and `state`.
pub const TURN_SPAN: &str = "turn";

/// How long the worker keeps going.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// For ever.
    Keep,
    /// One session, through whatever waits it takes.
    UntilDone,
    /// One session, asked for now: waits that only we chose are passed over, and what needs
    /// a person ends it.
    Once,
}

/// How a life begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// Where the last one ended.
    AsLeft,
    /// A person has changed what the last one waited for: that wait is over.
    Asked,
}

/// Whether the worker is asked to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    No,
    Asked,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// The session is completed.
    Completed,
    /// There was nothing to do.
    NothingNew,
    Stopped,
    /// Only a person, or time, can help; asked for one session, it does not wait for them.
    GaveUp,
    Restart(RestartCause),
}

/// The loop's last word.
#[derive(Clone, Debug)]
pub struct Ended {
    pub exit: Exit,
    /// The source has never answered as one.
    pub never_worked: bool,
    pub machine: StateMachine,
    pub tally: Tally,
}

/// What a loop is made of.
#[derive(Debug)]
pub struct Parts<S, W> {
    pub source: S,
    pub world: Rc<W>,
    pub shared: Shared<W>,
    pub machine: StateMachine,
    /// When the machine under it was started, by the clock that it was read by.
    pub booted: Timestamp,
    pub tally: Tally,
    /// When the newest request for an item that succeeded was sent.
    pub succeeded_at: Option<Timestamp>,
    /// Nothing of the source was ever listed to its end.
    pub is_new: bool,
    pub rules: MachineConfig,
    pub policies: Policies,
    /// How a page of the listing is tried again before its failure is the session's.
    pub collect: Policy,
    /// Counts what the loop does, beside what the source counts.
    pub meter: Meter,
    pub tracer: Tracer,
    /// The proxies that the source goes out by.
    pub proxies: Option<Arc<PoolHealth>>,
    pub circuits: Circuits,
    pub concurrency: usize,
    pub mode: Mode,
    pub stop: watch::Receiver<Stop>,
    pub view: watch::Sender<View>,
    pub seat: Seat,
    pub opening: Opening,
}

type Jobs = FuturesUnordered<LocalBoxFuture<'static, Done>>;

#[expect(clippy::struct_excessive_bools, reason = "each stands for something of its own")]
struct Driver<S, W> {
    source: Rc<S>,
    world: Rc<W>,
    shared: Shared<W>,
    rules: MachineConfig,
    collect: Policy,
    meter: Meter,
    tracer: Tracer,
    proxies: Option<Arc<PoolHealth>>,
    circuits: Circuits,
    /// Wakes the loop when a breaker has changed.
    news: watch::Receiver<u64>,
    /// The breaker that is waited for.
    shut_by: Option<Shut>,
    concurrency: usize,
    mode: Mode,
    stop: watch::Receiver<Stop>,
    view: watch::Sender<View>,
    seat: Seat,
    opening: Opening,
    machine: StateMachine,
    tally: Tally,
    is_new: bool,
    waiting: u64,
    expected_documents: Option<u64>,
    rate: Rate,
    downloads: Downloads,
    doubt: Doubt,
    /// What may be dropped.
    jobs: Jobs,
    /// What must be waited for.
    commits: Jobs,
    proof: Proof,
    finishing: bool,
    /// Asked for one session, it found one open: before that ends, it looks for news once.
    owes_look: bool,
    is_looking: bool,
    /// When the machine was started, by the clock that all moments here are of.
    booted: Timestamp,
    /// Likewise, by the clock that the moments in the ledger are of.
    ledger_booted: Timestamp,
    /// The last failure with a reply, until that is kept.
    refused: Option<Failure>,
    /// When the listing, or something about the service as a whole, was last asked for.
    asked_at: Timestamp,
    published_at: Timestamp,
    figures: Published,
    logged_at: Timestamp,
    unsaved: bool,
    /// What log lines say of the state they are written in.
    span: Option<(Status, Option<SessionId>, Span)>,
    exit: Option<Exit>,
}

/// Whether the source must answer one harmless request before downloads go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    NotOwed,
    Owed,
    Asked,
}

enum Fact {
    Stop,
    Done(Box<Done>),
    Woken,
}

/// Runs the loop of one source until it ends.
pub async fn drive<S: Source + 'static, W: World>(parts: Parts<S, W>) -> Ended {
    let now = parts.world.now();
    let owes_look = parts.mode == Mode::Once && has_open_session(&parts.machine);
    let mut driver = Driver {
        source: Rc::new(parts.source),
        world: parts.world,
        shared: parts.shared,
        rules: parts.rules,
        collect: parts.collect,
        tracer: parts.tracer,
        proxies: parts.proxies,
        news: parts.circuits.news(),
        circuits: parts.circuits,
        shut_by: None,
        concurrency: parts.concurrency,
        mode: parts.mode,
        stop: parts.stop,
        view: parts.view,
        seat: parts.seat,
        opening: parts.opening,
        machine: parts.machine,
        tally: parts.tally,
        is_new: parts.is_new,
        waiting: 0,
        expected_documents: None,
        rate: Rate::default(),
        downloads: Downloads::new(parts.policies, parts.succeeded_at, parts.meter.clone()),
        meter: parts.meter,
        jobs: Jobs::new(),
        commits: Jobs::new(),
        doubt: Doubt::default(),
        proof: Proof::NotOwed,
        finishing: false,
        owes_look,
        is_looking: false,
        booted: parts.booted,
        ledger_booted: parts.booted,
        refused: None,
        asked_at: now,
        // At once: whoever looks sees that there is a worker again.
        published_at: Timestamp::default(),
        figures: Published::default(),
        logged_at: now,
        unsaved: true,
        span: None,
        exit: None,
    };
    driver.run().await
}

impl<S: Source + 'static, W: World> Driver<S, W> {
    async fn run(&mut self) -> Ended {
        self.shut_by = self.circuits.shut();
        self.meter.note(SourceMetrics::record_start);
        self.decide(Event::Started).await;
        if self.mode == Mode::Once {
            self.circuits.try_now();
        }
        if self.mode == Mode::Once || self.opening == Opening::Asked {
            self.decide(Event::RunRequested).await;
        }
        self.watch_credential();
        while self.exit.is_none() {
            let span = self.span();
            self.turn().instrument(span).await;
        }
        self.wind_down().await;
        Ended {
            exit: self.exit.unwrap_or(Exit::Stopped),
            never_worked: self.has_never_worked(),
            machine: self.machine.clone(),
            tally: self.tally,
        }
    }

    async fn turn(&mut self) {
        self.launch().await;
        let fact = self.wait().await;
        // Before anything is made of what has happened.
        self.follow_clock();
        match fact {
            Fact::Stop => self.exit = Some(Exit::Stopped),
            Fact::Done(done) => self.take_in(*done).await,
            Fact::Woken => {}
        }
        self.check_deadline().await;
        self.give_up_if_asked_once();
        self.move_ledger().await;
        self.publish().await;
    }

    /// Waits for an answer, a deadline, or the request to stop.
    async fn wait(&mut self) -> Fact {
        let wake = self.reckoned(self.wakes_at());
        self.seat.promise(wake.wall.since(self.world.now()), self.machine.status().name());
        let fact = tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Fact::Stop,
            Some(done) = self.commits.next(), if !self.commits.is_empty() => Fact::Done(Box::new(done)),
            Some(done) = self.jobs.next(), if !self.jobs.is_empty() => Fact::Done(Box::new(done)),
            Ok(()) = self.news.changed() => Fact::Woken,
            () = self.world.sleep_until(wake) => Fact::Woken,
        };
        // What it does now is short, however long it might have waited.
        self.seat.promise(Duration::ZERO, self.machine.status().name());
        fact
    }

    fn wakes_at(&self) -> Timestamp {
        let publish = self.unsaved.then(|| self.published_at.after(PUBLISH_INTERVAL));
        let download = if self.may_fetch() {
            self.machine.active_throttle(self.world.now()).or_else(|| {
                // What is due is not asked for before the source has proved itself.
                self.downloads.refills_at().filter(|_| self.proof == Proof::NotOwed)
            })
        } else {
            None
        };
        let look = (self.may_fetch() && !self.is_looking && self.downloads.has_only_retries())
            .then(|| self.machine.next_poll_at(&self.rules, self.world.now()));
        let wakes = [publish, download, self.downloads.group_closes_at(), self.heeds_at(), look];
        wakes.into_iter().flatten().fold(self.machine.deadline(&self.rules), Timestamp::min)
    }

    fn is_downloading(&self) -> bool {
        self.machine.state == State::Working(SyncPhase::Downloading)
    }

    /// Whether documents may be asked for: not while the credential is read again.
    fn may_fetch(&self) -> bool {
        self.is_downloading() && self.machine.credential != CredentialState::Refreshing
    }

    async fn check_deadline(&mut self) {
        let now = self.world.now();
        if self.exit.is_some() || now < self.machine.deadline(&self.rules) {
            return;
        }
        // A request that may not be sent yet is a wait with a known end, and nothing is stuck.
        if let Some(until) = self.source.waits_until().filter(|until| now < *until) {
            self.decide(Event::IdleUntil { until }).await;
        }
        if self.machine.deadline(&self.rules) <= now {
            self.decide(Event::DeadlineReached).await;
        }
    }

    /// Tells the machine a fact, saves what it became, and carries out what it wants.
    async fn decide(&mut self, event: Event) {
        let now = self.follow_clock();
        let mut step = self.machine.step(&self.rules, &event, now);
        // Before it is saved, since the figures are written with it: the next ones may come in hours.
        self.count_step(&self.machine, &step, now);
        if self.is_worth_saving(&step.machine) {
            if !step.effects.iter().any(|effect| matches!(effect, Effect::Restart { .. })) {
                self.log_transition(&step.machine);
            }
            if let Err(failure) = self.save(&step.machine).await {
                error!(cause = %failure.cause, "cannot save the state: {failure}");
                self.unsaved = true;
                // The next life would begin from what was saved before, and come here again at once.
                step.effects.retain(|effect| !matches!(effect, Effect::Restart { .. }));
                // What is not saved must not begin; what waits may go on waiting.
                if let State::Working(_) = step.machine.state {
                    let failed = Event::Failed {
                        scope: RequestScope::Session,
                        failure,
                        sample: self.world.draw(),
                    };
                    let unsaved = step.machine;
                    step = unsaved.step(&self.rules, &failed, now);
                    self.count_step(&unsaved, &step, now);
                }
            }
        } else {
            self.unsaved |= step.machine != self.machine;
        }
        self.tracer.moved(&self.machine, &step.machine, now);
        self.machine = step.machine;
        self.seat.show(&self.machine);
        for effect in step.effects {
            self.perform(effect);
        }
    }

    /// Whether the source has never answered as one: then it is the configuration that is wrong.
    fn has_never_worked(&self) -> bool {
        self.is_new && self.tally.listed == 0
    }
}

fn has_open_session(machine: &StateMachine) -> bool {
    machine.session.as_ref().is_some_and(|session| session.completed_at.is_none())
}

/// Returns when the worker is asked to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // A closed channel means that nobody is left who could ask.
    if stop.wait_for(|stop| *stop == Stop::Asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}
