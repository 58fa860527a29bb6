//! The loop of one source: wait, decide, perform.
//!
//! Whatever runs beside the loop is a job whose answer comes back as a [`Done`].
//! Jobs may be dropped at any time; only a commit is always waited for.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::archive::Archive;
use crate::engine::{
    Cause, Draw, Effect, Event, Failure, Kind, Machine, Moment, RestartCause, Rules, Scope, State,
    Status, Then, Work,
};
use crate::ledger::Tally;
use crate::source::{News, Renewal, Source};
use crate::worker::downloads::{Downloads, Group, Lull, Policies};
use crate::worker::jobs::{self, Done, Shared};
use crate::worker::rate::Rate;
use crate::worker::store::{Progress, Store};
use crate::worker::view::View;
use crate::worker::world::World;

/// How often progress is written to the state file and shown, between transitions.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);

/// How often progress is logged: a week of downloading is ten thousand lines.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How long what is in flight may take to end when the worker is asked to stop.
/// Below systemd's own limit of 90 s by far, and a person waits for it.
const STOP_LIMIT: Duration = Duration::from_secs(10);

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
    pub machine: Machine,
    pub tally: Tally,
}

/// What a loop is made of.
#[derive(Debug)]
pub struct Parts<S, W> {
    pub source: S,
    /// Where drafts come from, without waiting for the store.
    pub drafts: Arc<Archive>,
    pub world: Rc<W>,
    pub shared: Shared<W>,
    pub machine: Machine,
    pub tally: Tally,
    pub rules: Rules,
    pub policies: Policies,
    pub concurrency: usize,
    pub mode: Mode,
    pub stop: watch::Receiver<Stop>,
    pub view: watch::Sender<View>,
}

type Jobs = FuturesUnordered<LocalBoxFuture<'static, Done>>;

struct Driver<S, W> {
    source: Rc<S>,
    drafts: Arc<Archive>,
    world: Rc<W>,
    shared: Shared<W>,
    rules: Rules,
    concurrency: usize,
    mode: Mode,
    stop: watch::Receiver<Stop>,
    view: watch::Sender<View>,
    machine: Machine,
    tally: Tally,
    waiting: u64,
    expected_documents: Option<u64>,
    rate: Rate,
    downloads: Downloads,
    /// What may be dropped.
    jobs: Jobs,
    /// What must be waited for.
    commits: Jobs,
    /// Nothing is sent before this moment.
    hold_until: Moment,
    proof: Proof,
    finishing: bool,
    published_at: Moment,
    logged_at: Moment,
    unsaved: bool,
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
    Done(Done),
    Woken,
}

/// Runs the loop of one source until it ends.
pub async fn drive<S: Source + 'static, W: World>(parts: Parts<S, W>) -> Ended {
    let now = parts.world.now();
    let mut driver = Driver {
        source: Rc::new(parts.source),
        drafts: parts.drafts,
        world: parts.world,
        shared: parts.shared,
        rules: parts.rules,
        concurrency: parts.concurrency,
        mode: parts.mode,
        stop: parts.stop,
        view: parts.view,
        machine: parts.machine,
        tally: parts.tally,
        waiting: 0,
        expected_documents: None,
        rate: Rate::default(),
        downloads: Downloads::new(parts.policies),
        jobs: Jobs::new(),
        commits: Jobs::new(),
        hold_until: now,
        proof: Proof::NotOwed,
        finishing: false,
        published_at: now,
        logged_at: now,
        unsaved: true,
        exit: None,
    };
    driver.run().await
}

impl<S: Source + 'static, W: World> Driver<S, W> {
    async fn run(&mut self) -> Ended {
        self.decide(Event::Started).await;
        if self.mode == Mode::Once {
            self.decide(Event::Asked).await;
        }
        self.watch_credential();
        while self.exit.is_none() {
            self.launch().await;
            match self.wait().await {
                Fact::Stop => self.exit = Some(Exit::Stopped),
                Fact::Done(done) => self.take_in(done).await,
                Fact::Woken => {}
            }
            self.check_deadline().await;
            self.publish().await;
        }
        self.wind_down().await;
        Ended {
            exit: self.exit.unwrap_or(Exit::Stopped),
            machine: self.machine.clone(),
            tally: self.tally,
        }
    }

    /// Waits for an answer, a deadline, or the request to stop.
    async fn wait(&mut self) -> Fact {
        let wake = self.wakes_at();
        tokio::select! {
            biased;
            () = stopped(&mut self.stop) => Fact::Stop,
            Some(done) = self.commits.next(), if !self.commits.is_empty() => Fact::Done(done),
            Some(done) = self.jobs.next(), if !self.jobs.is_empty() => Fact::Done(done),
            () = self.world.sleep_until(wake) => Fact::Woken,
        }
    }

    fn wakes_at(&self) -> Moment {
        let publish = self.unsaved.then(|| self.published_at.after(PUBLISH_INTERVAL));
        let download = if self.is_downloading() {
            Some(self.hold_until).filter(|until| *until > self.world.now()).or_else(|| {
                // What is due is not asked for before the source has proved itself.
                self.downloads.refills_at().filter(|_| self.proof == Proof::NotOwed)
            })
        } else {
            None
        };
        let wakes = [publish, download, self.downloads.group_closes_at()];
        wakes.into_iter().flatten().fold(self.machine.deadline(&self.rules), Moment::min)
    }

    fn is_downloading(&self) -> bool {
        self.machine.state == State::Working(Work::Downloading)
    }

    async fn check_deadline(&mut self) {
        if self.exit.is_none() && self.machine.deadline(&self.rules) <= self.world.now() {
            self.decide(Event::Due).await;
        }
    }

    /// Tells the machine a fact, saves what it became, and carries out what it wants.
    async fn decide(&mut self, event: Event) {
        let now = self.world.now();
        let mut step = self.machine.step(&self.rules, &event, now);
        if self.is_worth_saving(&step.machine) {
            self.log_transition(&step.machine);
            if let Err(failure) = self.save(&step.machine).await {
                error!(cause = %failure.cause, "cannot save the state: {failure}");
                self.unsaved = true;
                // What is not saved must not begin; what waits may go on waiting.
                if let State::Working(_) = step.machine.state {
                    let failed =
                        Event::Failed { scope: Scope::Session, failure, draw: self.world.draw() };
                    step = step.machine.step(&self.rules, &failed, now);
                }
            }
        } else {
            self.unsaved |= step.machine != self.machine;
        }
        self.machine = step.machine;
        for effect in step.effects {
            self.perform(effect);
        }
        self.give_up_if_asked_once();
    }

    fn is_worth_saving(&self, next: &Machine) -> bool {
        let is_look = next.state == State::Working(Work::Looking);
        self.machine.status() != next.status()
            || (self.machine.state != next.state && !is_look)
            || self.machine.session != next.session
            || self.machine.error_count != next.error_count
            || self.machine.restart_count != next.restart_count
    }

    async fn save(&mut self, machine: &Machine) -> Result<(), Failure> {
        let (before, after) = (self.machine.status(), machine.clone());
        let (progress, now) = (self.progress(), self.world.now());
        let until = match machine.state {
            State::Completed => None,
            // A look that is cut short is begun anew at once.
            State::Working(Work::Looking) => Some(now),
            State::Idle { .. }
            | State::Working(_)
            | State::Error { .. }
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => Some(machine.deadline(&self.rules)),
        };
        let saved =
            self.shared.with(move |store| store.save(before, &after, until, &progress, now)).await;
        if saved.is_ok() {
            self.unsaved = false;
            self.published_at = now;
        }
        self.show(machine);
        saved
    }

    /// Writes progress down now and then, between transitions.
    async fn publish(&mut self) {
        if !self.unsaved || self.world.now() < self.published_at.after(PUBLISH_INTERVAL) {
            return;
        }
        let machine = self.machine.clone();
        self.published_at = self.world.now();
        if let Err(failure) = self.save(&machine).await {
            warn!(cause = %failure.cause, "cannot save progress: {failure}");
        }
        let now = self.world.now();
        if self.is_downloading() && self.logged_at.after(LOG_INTERVAL) <= now {
            self.logged_at = now;
            info!(done = self.tally.settled(), total = self.tally.listed, "download progress");
        }
    }

    fn show(&self, machine: &Machine) {
        let view = View::new(machine, &self.rules, &self.progress());
        self.view.send_replace(view);
    }

    fn progress(&self) -> Progress {
        Progress {
            tally: self.tally,
            waiting: self.waiting,
            expected_documents: self.expected_documents,
            rate_per_second: self.rate.per_second(self.world.now()),
        }
    }

    fn perform(&mut self, effect: Effect) {
        let now = self.world.now();
        match effect {
            Effect::Look => self.jobs.push(jobs::look(&self.source, &self.shared, self.hold_until)),
            Effect::Begin { session, .. } => {
                self.rate.forget();
                self.tally = Tally::default();
                info!(%session, "started execution session");
            }
            Effect::ListAgain => info!("listing everything again"),
            Effect::Collect => self.collect(),
            // What may be fetched is fetched as long as the state allows it.
            Effect::Download => {}
            Effect::Prove => {
                self.downloads.half_open();
                self.proof = Proof::Owed;
            }
            Effect::Hold { until } => {
                self.hold_until = self.hold_until.max(until);
                info!(%until, "holding requests, as the server asked");
            }
            Effect::Pause => {
                self.downloads.drop_queue(now);
                self.watch_credential();
            }
            Effect::Renew => {
                self.drop_jobs();
                self.jobs.push(jobs::renew(&self.source));
            }
            Effect::Rebuild => {
                warn!("no progress: beginning the stage anew");
                self.drop_jobs();
            }
            Effect::Finish => self.log_completed(),
            Effect::Rest => {
                debug!("nothing new");
                if self.mode != Mode::Keep {
                    self.exit = Some(Exit::NothingNew);
                }
            }
            Effect::Alert { message } => error!("a person is needed: {message}"),
            Effect::Restart { cause } => {
                info!(why = cause.reason(), "scheduling restart");
                self.exit = Some(Exit::Restart(cause));
            }
        }
    }

    fn collect(&mut self) {
        let Some(session) = &self.machine.session else { return };
        self.jobs.push(jobs::collect(
            &self.source,
            &self.shared,
            session,
            self.machine.relisted,
            self.hold_until,
        ));
    }

    fn commit(&mut self, group: Group, now: Moment) {
        let next_look = self.downloads.next_look(now);
        self.commits.push(jobs::commit(&self.shared, group, next_look, now));
    }

    fn drop_jobs(&mut self) {
        self.jobs.clear();
        self.downloads.drop_in_flight();
        self.finishing = false;
        if self.proof == Proof::Asked {
            self.proof = Proof::Owed;
        }
    }

    /// While the credential is refused, looks now and then whether there is another.
    fn watch_credential(&mut self) {
        if let State::AuthFailed { .. } = self.machine.state {
            self.jobs.push(jobs::watch_credential(&self.source, &self.world));
        }
    }

    /// Starts what the state allows.
    async fn launch(&mut self) {
        let now = self.world.now();
        if self.is_downloading() && self.hold_until <= now {
            self.launch_downloads(now).await;
        }
        if let Some(group) = self.downloads.take_group(now) {
            self.commit(group, now);
        }
    }

    async fn launch_downloads(&mut self, now: Moment) {
        match self.proof {
            Proof::Owed => {
                self.proof = Proof::Asked;
                self.jobs.push(jobs::prove(&self.source));
                return;
            }
            Proof::Asked => return,
            Proof::NotOwed => {}
        }
        if let Some(skip) = self.downloads.wants_more(now) {
            self.jobs.push(jobs::refill(&self.shared, skip, now));
        }
        while let Some(errand) = self.downloads.take(self.concurrency) {
            self.jobs.push(jobs::fetch(&self.source, &self.shared, errand, self.drafts.draft()));
        }
        match self.downloads.lull() {
            Some(Lull::AllSettled) if !self.finishing => {
                self.finishing = true;
                if let Some(session) = &self.machine.session {
                    self.jobs.push(jobs::finish(&self.shared, &session.id, now));
                }
            }
            Some(Lull::Resting(until)) => self.decide(Event::Resting { until }).await,
            Some(Lull::AllSettled) | None => {}
        }
    }

    async fn take_in(&mut self, done: Done) {
        match done {
            Done::Looked(Ok(News::Something)) => self.decide(Event::FoundNews).await,
            Done::Looked(Ok(News::Nothing)) => self.decide(Event::FoundNothing).await,
            Done::Paged(Ok(page)) => {
                self.tally = page.tally;
                self.expected_documents = page.total.or(self.expected_documents);
                self.decide(Event::Progressed).await;
                if page.listed_all {
                    self.decide(Event::Listed).await;
                } else {
                    self.collect();
                }
            }
            Done::Looked(Err(failure)) | Done::Paged(Err(failure)) => {
                self.fail(Scope::Listing, failure).await;
            }
            Done::Proved(Ok(())) => self.proof = Proof::NotOwed,
            Done::Refilled(Ok(batch)) => {
                let now = self.world.now();
                self.waiting = batch.waiting;
                self.downloads.admit(batch.work, batch.more, batch.next_due, now);
            }
            Done::Fetched { errand, answer } => {
                let (now, draw) = (self.world.now(), self.world.draw());
                let item = errand.item_id.clone();
                let failed = answer.as_ref().err().cloned();
                let escalated = self.downloads.answered(errand, answer, now, draw);
                match (escalated, failed) {
                    (Some(failure), _) => self.fail(Scope::Session, failure).await,
                    (None, Some(failure)) => info!(
                        item = %item, cause = %failure.cause,
                        r#type = failure.cause.kind().name(), "recorded error: {failure}"
                    ),
                    (None, None) => {}
                }
            }
            Done::Committed { items, retry_at, result } => {
                self.committed(&items, retry_at, result).await;
            }
            Done::Finished(Ok(tally)) => {
                self.finishing = false;
                self.tally = tally;
                self.decide(Event::Settled).await;
            }
            Done::Renewed(Ok(Renewal::Changed)) => self.decide(Event::CredentialChanged).await,
            Done::Renewed(Ok(Renewal::Same)) => self.decide(Event::CredentialSame).await,
            Done::Renewed(Err(failure)) if failure.cause == Cause::Unauthorized => {
                self.decide(Event::CredentialSame).await;
            }
            Done::Proved(Err(failure))
            | Done::Refilled(Err(failure))
            | Done::Finished(Err(failure))
            | Done::Renewed(Err(failure)) => {
                self.drop_jobs();
                self.fail(Scope::Session, failure).await;
            }
        }
    }

    async fn committed(
        &mut self,
        items: &[crate::ledger::ItemNo],
        retry_at: Option<Moment>,
        result: Result<Tally, Failure>,
    ) {
        self.downloads.committed(items, retry_at);
        match result {
            Ok(tally) => {
                self.tally = tally;
                self.rate.note(tally.settled(), self.world.now());
                self.decide(Event::Progressed).await;
            }
            Err(failure) => {
                // Nothing of the group is durable: whatever hangs on it begins anew.
                self.drop_jobs();
                self.fail(Scope::Session, failure).await;
            }
        }
    }

    async fn fail(&mut self, scope: Scope, failure: Failure) {
        let draw: Draw = self.world.draw();
        let (cause, kind) = (failure.cause, failure.cause.kind().name());
        if let State::Working(_) = self.machine.state {
            warn!(%cause, r#type = kind, "recorded error: {failure}");
        } else {
            debug!(%cause, r#type = kind, "recorded error, too late to matter: {failure}");
        }
        self.decide(Event::Failed { scope, failure, draw }).await;
    }

    /// Asked for one session by a person, the worker does not sit out what needs a person.
    fn give_up_if_asked_once(&mut self) {
        if self.mode != Mode::Once || self.exit.is_some() {
            return;
        }
        let permanent = self.machine.last_error.as_ref().is_some_and(|error| {
            error.cause.kind() == Kind::Permanent || error.cause == Cause::Challenge
        });
        let hopeless = match self.machine.state {
            State::AuthFailed { .. } | State::Error { then: Then::Restart, .. } => true,
            State::Error { then: Then::Resume, .. } => permanent,
            State::Idle { .. }
            | State::Working(_)
            | State::Completed
            | State::RateLimited { .. } => false,
        };
        if hopeless {
            self.exit = Some(Exit::GaveUp);
        }
    }

    /// Lets what is in flight end, within a limit, and makes it durable.
    async fn wind_down(&mut self) {
        let limit = self.world.now().after(STOP_LIMIT);
        self.downloads.drop_queue(self.world.now());
        while self.downloads.in_flight() > 0 && self.world.now() < limit {
            tokio::select! {
                biased;
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.keep(done),
                () = self.world.sleep_until(limit) => break,
            }
        }
        self.jobs.clear();
        loop {
            while let Some(done) = self.commits.next().await {
                self.keep(done);
            }
            let Some(group) = self.downloads.take_last_group() else { break };
            self.commit(group, self.world.now());
        }
        self.shared.with(Store::leave).await;
        let machine = self.machine.clone();
        if let Err(failure) = self.save(&machine).await {
            error!(cause = %failure.cause, "cannot save the state while leaving: {failure}");
        }
    }

    /// Takes in the last answers, when no decision hangs on them any more.
    fn keep(&mut self, done: Done) {
        match done {
            Done::Fetched { errand, answer } => {
                let (now, draw) = (self.world.now(), self.world.draw());
                if let Some(failure) = self.downloads.answered(errand, answer, now, draw) {
                    warn!(cause = %failure.cause, "recorded error while leaving: {failure}");
                }
            }
            Done::Committed { items, retry_at, result } => {
                self.downloads.committed(&items, retry_at);
                match result {
                    Ok(tally) => self.tally = tally,
                    Err(failure) => error!(cause = %failure.cause, "not stored: {failure}"),
                }
            }
            Done::Looked(_)
            | Done::Paged(_)
            | Done::Proved(_)
            | Done::Refilled(_)
            | Done::Finished(_)
            | Done::Renewed(_) => {}
        }
    }

    fn log_transition(&self, next: &Machine) {
        if next.status() == self.machine.status() {
            return;
        }
        let until = next.deadline(&self.rules);
        let why = next.reason.as_str();
        match next.status() {
            Status::RateLimited => info!(%until, why, "rate limited"),
            Status::Error => info!(%until, why, "scheduling retry"),
            Status::AuthFailed => warn!(%until, why, "authentication failed"),
            Status::Downloading => info!(total = self.tally.listed, why, "started downloading"),
            Status::Idle | Status::Collecting | Status::Completed => {
                info!(state = next.status().name(), why, "entered state");
            }
        }
    }

    fn log_completed(&mut self) {
        let tally = self.tally;
        info!(
            listed = tally.listed,
            stored = tally.stored,
            gone = tally.gone,
            quarantined = tally.quarantined,
            "execution completed"
        );
        if self.mode != Mode::Keep {
            self.exit = Some(Exit::Completed);
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // A closed channel means that nobody is left who could ask.
    if stop.wait_for(|stop| *stop == Stop::Asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}
