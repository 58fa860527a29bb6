//! The lives of one worker: started, killed, started again, until the case is over.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cynosure::disk::{
    Disk, DiskFault, FaultDuration, LockedFile, MemoryDisk, RetryingDisk, ensure_folder,
};
use cynosure::engine::breaker::BreakerPolicy;
use cynosure::engine::{LedgerId, MachineConfig, RestartCause, Status};
use cynosure::ledger::Ledger;
use cynosure::retry::{BackoffConfig, RetryPolicy, RetryRegistry};
use cynosure::source::MetricsHandle;
use cynosure::state::ExecutionState;
use cynosure::worker::{
    Breakers, BreakersFile, Env, EventLoopConfig, Heartbeat, LoopExit, LoopResult, OpenedStore,
    RateLimitConfig, RateLimiters, RunMode, SourceBreakers, SourceInfo, SourceProgress, StartError,
    StartMode, StopSignal, Store, StoreHandle, Tracer, run_event_loop,
};
use rusqlite::{Connection, OpenFlags};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::ears::Ears;
use crate::pauses::policy;
use crate::rules::{gate_rules, policies, rules};
use crate::server::{Mood, Server, SimSource};
use crate::truth;
use crate::weather::weather;
use crate::world::{Fuse, SimWorld};

const STATE_DIR: &str = "/state/sim";
const STATE_FILE: &str = "/state/sim/execution_state.json";
const QUOTA_FILE: &str = "/state/quota.json";
const ARCHIVE: &str = "/downloads";
const STAGING: &str = "/downloads/.cynosure/sim";
const MARKER: &str = "/downloads/.cynosure/sim/owner.json";

/// How long the worker gets at most, once everything is well, to make up for all that went wrong:
/// the daily second look at what is quarantined, a day later for a clock that was set back,
/// and then some.
const RECOVERY_MAX: Duration = Duration::from_secs(5 * 86_400);

/// Documents that are fetched at once.
pub(crate) const DOWNLOADS_AT_ONCE: usize = 8;

/// How often it is looked whether it has.
const RECOVERY_LOOK: Duration = Duration::from_secs(3 * 3600);

/// Tells databases in memory apart.
static CASE_NUMBER: AtomicU64 = AtomicU64::new(0);

/// One case: what happens, and when the process is killed.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    seed: u64,
    plot: Plot,
    /// The first life's end; later ones end well.
    first: Option<(Fuse, Ending)>,
    /// The call to the disk that fails, and how.
    fails: Option<(u64, Errno)>,
    /// How long a job on the disk takes, at most.
    disk_takes_max: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Plot {
    /// One session on a server that is well.
    Calm,
    /// Days of everything, killed now and then.
    Weather { days: u64 },
    /// The server is down for a while.
    Outage { lasts: Duration },
    /// The server throttles, and the process is killed while it waits.
    Throttled,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// By SIGKILL: what was written is there.
    Killed,
    /// With the power: what was not synced is gone.
    PowerCut,
}

/// What a case was like.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) days: u64,
    pub(crate) steps: u64,
    pub(crate) disk_calls: u64,
    pub(crate) kills: u64,
    pub(crate) requests_in_outage: u64,
    pub(crate) requests_while_closed: u64,
    pub(crate) throttled: u64,
    /// Quick retries of calls on the disk and the ledger, and of pages.
    pub(crate) storage_retries: u64,
    pub(crate) page_retries: u64,
    pub(crate) clock_steps: u64,
    /// Groups that a crash found under way, at most.
    pub(crate) groups_at_crash: usize,
    /// The statuses that were passed through.
    pub(crate) statuses: BTreeSet<String>,
}

impl Case {
    fn of(seed: u64, plot: Plot) -> Self {
        Self { seed, plot, first: None, fails: None, disk_takes_max: Duration::ZERO }
    }

    pub(crate) fn calm(seed: u64) -> Self {
        Self::of(seed, Plot::Calm)
    }

    pub(crate) fn weather(seed: u64, days: u64) -> Self {
        Self::of(seed, Plot::Weather { days })
    }

    pub(crate) fn outage(seed: u64, lasts: Duration) -> Self {
        Self::of(seed, Plot::Outage { lasts })
    }

    pub(crate) fn throttled_and_killed(seed: u64) -> Self {
        Self::of(seed, Plot::Throttled)
    }

    /// On a disk so slow that one group is written while another is placed and recorded.
    pub(crate) fn on_a_slow_disk(mut self) -> Self {
        self.disk_takes_max = Duration::from_millis(800);
        self
    }

    pub(crate) fn killed_at_step(mut self, step: u64, ending: Ending) -> Self {
        self.first = Some((Fuse::Step(step), ending));
        self
    }

    pub(crate) fn killed_at_disk_call(mut self, call: u64, ending: Ending) -> Self {
        self.first = Some((Fuse::DiskCall(call), ending));
        self
    }

    pub(crate) fn disk_fails_once(mut self, call: u64, errno: Errno) -> Self {
        self.fails = Some((call, errno));
        self
    }

    pub(crate) fn run(self) -> Report {
        let case = format!("{self:?}");
        let has_faults = self.fails.is_some()
            || !matches!((self.plot, self.first), (Plot::Calm, None | Some((Fuse::Step(_), _))));
        let ears = Ears::default();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tracing::subscriber::with_default(ears.clone(), || {
                in_virtual_time(async { Stage::new(self).play().await })
            })
        }));
        let report = outcome.unwrap_or_else(|_| panic!("the case that failed is {case}"));
        assert!(has_faults || ears.errors().is_empty(), "{case}: {:?}", ears.errors());
        let rebuilds = ears.rebuilds() as u64;
        assert!(rebuilds <= report.clock_steps, "{case} was called stuck {rebuilds} times");
        assert!(
            report.clock_steps > 0 || report.requests_while_closed <= report.kills,
            "{case} asked too early: {report:?}"
        );
        report
    }
}

/// Plays a scene that is not made of chance.
pub(crate) fn play(scene: impl AsyncFnOnce(&mut Stage)) {
    in_virtual_time(async { scene(&mut Stage::new(Case::calm(5))).await });
}

fn in_virtual_time<T>(play: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, play)
}

/// Everything there is in a case.
pub(crate) struct Stage {
    case: Case,
    pub(crate) world: SimWorld,
    pub(crate) disk: MemoryDisk,
    pub(crate) server: Rc<RefCell<Server>>,
    /// Breakers that are shared with another source; else each life has its own.
    pub(crate) circuits: Option<SourceBreakers>,
    /// Gates that are shared with another source; else each life has its own.
    pub(crate) gates: Option<Rc<RateLimiters<SimWorld>>>,
    database: String,
    /// Keeps the database alive while no worker has it open.
    anchor: Connection,
    pub(crate) rules: MachineConfig,
    pub(crate) gate_rules: RateLimitConfig,
    /// How often everything is listed once more; never by itself.
    pub(crate) reconcile_interval: Option<Duration>,
    /// How a document is asked for again at once.
    pub(crate) request: BackoffConfig,
    has_lost_nothing: bool,
    retries: RetryRegistry,
    report: Report,
}

impl Stage {
    fn new(case: Case) -> Self {
        let disk = MemoryDisk::default();
        for dir in [STATE_DIR, ARCHIVE] {
            ensure_folder(&disk, Path::new(dir)).unwrap();
        }
        disk.sync_dir(Path::new("/")).unwrap();
        let database = new_database();
        let anchor = connect(&database);
        let world = SimWorld::new(case.seed, disk.clone());
        world.slow_disk_down(case.disk_takes_max);
        let server = Rc::new(RefCell::new(Server::new()));
        server.borrow_mut().deliver(60, &world);
        Self {
            case,
            world,
            disk,
            server,
            circuits: None,
            gates: None,
            database,
            anchor,
            rules: rules(),
            gate_rules: gate_rules(),
            reconcile_interval: None,
            request: BackoffConfig { max_attempts: 1, ..BackoffConfig::FAST },
            has_lost_nothing: true,
            retries: RetryRegistry::default(),
            report: Report::default(),
        }
    }

    async fn play(mut self) -> Report {
        match self.case.plot {
            Plot::Calm => self.one_session().await,
            Plot::Weather { days } => {
                let weather =
                    weather(Rc::clone(&self.server), self.world.clone(), self.disk.clone(), days);
                self.until_recovered(weather).await;
            }
            Plot::Outage { lasts } => {
                let (server, database) = (Rc::clone(&self.server), connect(&self.database));
                let counted = Rc::new(RefCell::new(0));
                let told = Rc::clone(&counted);
                self.until_recovered(async move {
                    Server::until_served(&server, 10).await;
                    let before = server.borrow().requests;
                    server.borrow_mut().mood = Mood::Down;
                    sleep(lasts).await;
                    *told.borrow_mut() = server.borrow().requests - before;
                    truth::no_item_is_blamed(&database);
                    server.borrow_mut().heal();
                })
                .await;
                self.report.requests_in_outage = *counted.borrow();
            }
            Plot::Throttled => {
                let (server, world) = (Rc::clone(&self.server), self.world.clone());
                self.until_recovered(async move {
                    server.borrow_mut().mood = Mood::Throttling { requests: 10, window: 60 };
                    for _ in 0..10 {
                        sleep(Duration::from_secs(25)).await;
                        world.kill_now();
                    }
                    server.borrow_mut().heal();
                })
                .await;
            }
        }
        self.finish()
    }

    /// Lives until one session is over.
    async fn one_session(&mut self) {
        let mut fuse = self.case.first;
        loop {
            self.world.revive(fuse.map(|(fuse, _)| fuse));
            if let Some((at, errno)) = self.case.fails.take() {
                self.disk.set_fault(DiskFault {
                    at_operation: at,
                    duration: FaultDuration::Once,
                    errno,
                });
                self.server.borrow_mut().disk_faults += 1;
            }
            let ended = self.live(RunMode::Once).await;
            match ended {
                Some(ended)
                    if matches!(ended.exit, LoopExit::Completed | LoopExit::NothingToDo) =>
                {
                    return;
                }
                Some(ended) => assert!(
                    matches!(ended.exit, LoopExit::Restart(_) | LoopExit::GaveUp),
                    "an end for no reason: {ended:?}"
                ),
                None => self.crash(fuse.map_or(Ending::Killed, |(_, ending)| ending)),
            }
            fuse = None;
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// Lives through a plot, then until there was time to make up for it.
    async fn until_recovered(&mut self, plot: impl Future<Output = ()>) {
        let (server, database) = (Rc::clone(&self.server), self.database.clone());
        let mut plot = std::pin::pin!(async move {
            plot.await;
            let mut recovering = Duration::ZERO;
            while recovering < RECOVERY_MAX && !truth::all_is_well(&reader(&database), &server) {
                sleep(RECOVERY_LOOK).await;
                recovering += RECOVERY_LOOK;
            }
        });
        let mut killing = matches!(self.case.plot, Plot::Weather { .. });
        loop {
            let fuse = killing.then(|| match self.world.below(3) {
                0 => Fuse::DiskCall(self.world.below(600)),
                _ => Fuse::Step(self.world.below(3000)),
            });
            killing = matches!(self.case.plot, Plot::Weather { .. })
                && self.server.borrow().mood != Mood::Healed;
            self.world.revive(fuse);
            if self.disk_is_full() && !matches!(fuse, Some(Fuse::DiskCall(_))) {
                self.fill_disk();
            }
            let ended = tokio::select! {
                biased;
                () = &mut plot => return,
                ended = self.live(RunMode::Continuous) => ended,
            };
            if ended.is_none() {
                let ending = if self.world.one_in(2) { Ending::Killed } else { Ending::PowerCut };
                self.crash(ending);
            }
            tokio::select! {
                biased;
                () = &mut plot => return,
                () = sleep(Duration::from_secs(10)) => {}
            }
        }
    }

    /// One life of the process; `None` if it was killed.
    pub(crate) async fn live(&self, mode: RunMode) -> Option<LoopResult> {
        let (_stop, stopping) = watch::channel(StopSignal::Running);
        self.live_until(mode, stopping).await
    }

    /// One life of the process, in which it may be asked to stop.
    pub(crate) async fn live_until(
        &self,
        mode: RunMode,
        stop: watch::Receiver<StopSignal>,
    ) -> Option<LoopResult> {
        let booted = self.world.time().booted_at;
        let opened = match self.open() {
            Ok(opened) => opened,
            // Killed, or without a disk, before it had begun.
            Err(_) if self.world.is_doomed() => return None,
            Err(refusal) => {
                let has_cause = self.server.borrow().disk_faults > 0;
                assert!(has_cause, "refused to begin: {refusal}");
                sleep(Duration::from_secs(60)).await;
                return None;
            }
        };
        let OpenedStore { mut store, counts, account, warnings, .. } = opened;
        if let Some(interval) = self.reconcile_interval {
            store.set_reconcile_interval(interval);
        }
        if self.has_lost_nothing {
            let agree = !warnings.iter().any(|note| note.contains("did not agree"));
            assert!(agree, "no crash comes between state and ledger: {warnings:?}");
        }
        let (view, _views) = watch::channel(SourceProgress::unknown());
        let circuits = self.circuits.clone();
        let circuits =
            circuits.unwrap_or_else(|| SourceBreakers::new(&self.breakers(), "example", "sim"));
        let world = Rc::new(self.world.clone());
        let gates = self.gates.clone().unwrap_or_else(|| self.gates());
        let gate = gates.handle_for("sim", "me@example.com", self.gate_rules.clone());
        let parts = EventLoopConfig {
            source: SimSource::new(&self.server, &self.world, account, gate, self.request_policy()),
            store: StoreHandle::new(Rc::clone(&world), store),
            env: world,
            machine: opened.machine,
            booted_at: booted,
            counts,
            last_success_at: opened.last_success_at,
            is_new: opened.is_new,
            rules: self.rules.clone(),
            policies: policies(),
            listing_retry: policy("collect", BackoffConfig::STRICT, self.case.seed, &self.retries),
            metrics: MetricsHandle::new(opened.metrics),
            tracer: Tracer::default(),
            proxies: None,
            breakers: circuits,
            concurrency: DOWNLOADS_AT_ONCE,
            mode,
            stop,
            source_progress: view,
            heartbeat: Heartbeat::noop(),
            start_mode: StartMode::Resume,
        };
        let ended = tokio::select! {
            biased;
            () = self.world.killed() => {
                // Who is killed writes no more.
                std::mem::forget(gates);
                return None;
            }
            ended = run_event_loop(parts) => ended,
        };
        if let LoopExit::Restart(cause) = ended.exit {
            let saved = self.saved_status();
            assert_eq!(saved, Some(ended.machine.status()), "{cause:?} would happen again");
            let hangs = self.server.borrow().slowness > self.rules.stuck_threshold;
            assert_eq!(cause == RestartCause::Stuck, hangs, "{ended:?}");
        }
        Some(ended)
    }

    /// The gates of a process that has just started.
    pub(crate) fn gates(&self) -> Rc<RateLimiters<SimWorld>> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let quotas = LockedFile::without_lock(disk, PathBuf::from(QUOTA_FILE));
        Rc::new(RateLimiters::new(Rc::new(self.world.clone()), quotas))
    }

    /// The breakers of a process that has just started.
    pub(crate) fn breakers(&self) -> Rc<Breakers> {
        let world = self.world.clone();
        Breakers::open(self.breakers_file(), BreakerPolicy::DEFAULT, move || world.now()).0
    }

    pub(crate) fn breakers_file(&self) -> BreakersFile {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        BreakersFile::without_lock(disk, Path::new("/state"))
    }

    /// Another source with a store and a server of its own, in the same time.
    pub(crate) fn another() -> Self {
        Self::new(Case::calm(7))
    }

    /// What the state file says; `None` before there is one.
    fn saved_status(&self) -> Option<Status> {
        self.saved().map(|state| state.status)
    }

    pub(crate) fn saved(&self) -> Option<ExecutionState> {
        let json = self.disk.files().remove(Path::new(STATE_FILE))?;
        Some(serde_json::from_slice(&json).expect("it is whole"))
    }

    fn open(&self) -> Result<OpenedStore, StartError> {
        let storage = policy("storage", BackoffConfig::FAST, self.case.seed, &self.retries);
        let ledger = Ledger::from_connection(connect(&self.database), Path::new("/ledger"))?;
        let ledger = ledger.with_retry(storage.clone());
        let facts = SourceInfo {
            source: "sim".to_owned(),
            kind: "simulated",
            account: "me@example.com".to_owned(),
            provider: "example".to_owned(),
        };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let disk: Arc<dyn Disk> = Arc::new(RetryingDisk::new(disk, storage));
        let (dir, archive) = (Path::new(STATE_DIR), Path::new(ARCHIVE));
        let id = LedgerId::new(&*self.database);
        Store::open_with(disk, ledger, dir, archive, facts, &id, self.world.now())
    }

    /// Loses the ledger, as when it was damaged and moved aside, and has all fetched again, as
    /// `reset` does. Without it, an archive that holds documents is refused.
    pub(crate) fn lose_ledger(&mut self) {
        self.has_lost_nothing = false;
        self.database = new_database();
        self.anchor = connect(&self.database);
        let Some(marker) = self.disk.files().remove(Path::new(MARKER)) else { return };
        if String::from_utf8_lossy(&marker).contains("\"holds_documents\": true") {
            let refused = self.open().expect_err("the archive is of another ledger");
            assert!(matches!(refused, StartError::StorageUnusable(_)), "{refused}");
        }
        self.disk.remove_file(Path::new(MARKER)).unwrap();
    }

    pub(crate) fn lose_state_file(&mut self) {
        self.has_lost_nothing = false;
        self.disk.remove_file(Path::new(STATE_FILE)).unwrap();
    }

    /// What the ledger says of sessions and of the last listing of everything.
    pub(crate) fn asked<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.anchor.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Leaves the ledger as one that was written before accounts were noted.
    pub(crate) fn forget_account(&self) {
        let sql = "UPDATE source SET account = NULL, reconciled_at = NULL";
        self.anchor.execute(sql, []).unwrap();
    }

    /// Loses the state that the ledger keeps for when the file is lost.
    pub(crate) fn lose_snapshot(&self) {
        // Before its first life there is nothing to lose.
        self.anchor.execute("UPDATE source SET snapshot = 'junk'", []).ok();
    }

    /// Everything that the server holds is stored, once.
    pub(crate) fn check(&self) {
        let (reader, server) = (self.reader(), self.server.borrow());
        truth::nothing_stored_is_missing(&self.disk, &reader, &server);
        truth::everything_is_settled(&reader, &server, 1);
    }

    fn request_policy(&self) -> RetryPolicy {
        policy("request", self.request, self.case.seed, &self.retries)
    }

    /// The number that a statement finds in the ledger.
    pub(crate) fn count(&self, sql: &str) -> u64 {
        let found = self.anchor.query_row(sql, [], |row| row.get::<_, i64>(0));
        // Before the first life there are no tables.
        found.unwrap_or_default().unsigned_abs()
    }

    /// Groups that have a list of what is intended.
    fn groups_under_way(&self) -> usize {
        let files = self.disk.files().into_keys();
        let names = files.filter_map(|path| Some(path.strip_prefix(STAGING).ok()?.to_owned()));
        names.filter(|name| name.to_string_lossy().starts_with("intent")).count()
    }

    fn fill_disk(&self) {
        let at = self.disk.operation_count();
        self.disk.set_fault(DiskFault {
            at_operation: at,
            duration: FaultDuration::Permanent,
            errno: Errno::NOSPC,
        });
    }

    fn disk_is_full(&self) -> bool {
        self.server.borrow().disk_is_full
    }

    fn crash(&mut self, ending: Ending) {
        self.report.kills += 1;
        self.world.revive(None);
        self.report.groups_at_crash = self.report.groups_at_crash.max(self.groups_under_way());
        if ending == Ending::PowerCut {
            self.disk.power_cut(self.world.below(4));
        }
        let reader = self.reader();
        truth::nothing_stored_is_missing(&self.disk, &reader, &self.server.borrow());
        truth::the_accounts_are_even(&self.anchor);
        self.saved_status();
    }

    pub(crate) fn reader(&self) -> Ledger {
        reader(&self.database)
    }

    fn retries_of(&self, name: &str) -> u64 {
        self.retries.snapshot().get(name).map_or(0, |counted| counted.retries)
    }

    fn finish(mut self) -> Report {
        self.disk.clear_fault();
        let (reader, server) = (self.reader(), self.server.borrow());
        truth::nothing_stored_is_missing(&self.disk, &reader, &server);
        truth::everything_is_settled(&reader, &server, self.report.kills);
        truth::the_accounts_are_even(&self.anchor);
        self.report.statuses = truth::the_history_is_possible(&reader);
        self.report.days = self.world.days();
        self.report.steps = self.world.steps();
        self.report.clock_steps = self.world.clock_steps();
        self.report.disk_calls = self.disk.operation_count();
        self.report.requests_while_closed = server.requests_while_closed;
        self.report.throttled = server.throttled;
        self.report.storage_retries = self.retries_of("storage");
        self.report.page_retries = self.retries_of("collect");
        drop((reader, server));
        self.anchor.close().unwrap();
        self.report
    }
}

fn reader(database: &str) -> Ledger {
    Ledger::from_connection(connect(database), Path::new("/ledger")).unwrap()
}

fn new_database() -> String {
    let number = CASE_NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("file:simulation-{number}?mode=memory&cache=shared")
}

fn connect(database: &str) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(database, flags).unwrap()
}
