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

use crate::fault_schedule::run_random_faults;
use crate::log_capture::LogCapture;
use crate::reference_model;
use crate::server::{ServerCondition, SimServer, SimSource};
use crate::test_config::{machine_config, policies, rate_limit_config};
use crate::virtual_env::{KillPoint, SimEnv};
use crate::virtual_timer::retry_policy;

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
pub(crate) const CONCURRENT_DOWNLOADS: usize = 8;

/// How often it is looked whether it has.
const RECOVERY_POLL_INTERVAL: Duration = Duration::from_secs(3 * 3600);

/// Tells databases in memory apart.
static CASE_NUMBER: AtomicU64 = AtomicU64::new(0);

/// One case: what happens, and when the process is killed.
#[derive(Clone, Debug)]
pub(crate) struct SimulationCase {
    seed: u64,
    scenario: FaultScenario,
    /// The first life's end; later ones end well.
    first_kill: Option<(KillPoint, KillMode)>,
    /// The call to the disk that fails, and how.
    disk_fault: Option<(u64, Errno)>,
    /// How long a job on the disk takes, at most.
    disk_latency_max: Duration,
}

#[derive(Clone, Copy, Debug)]
enum FaultScenario {
    /// One session on a server that is well.
    NoFaults,
    /// Days of everything, killed now and then.
    RandomFaults { days: u64 },
    /// The server is down for a while.
    Outage { duration: Duration },
    /// The server throttles, and the process is killed while it waits.
    Throttled,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KillMode {
    /// By SIGKILL: what was written is there.
    Sigkill,
    /// With the power: what was not synced is gone.
    PowerCut,
}

/// What a case was like.
#[derive(Debug, Default)]
pub(crate) struct CaseReport {
    pub(crate) days: u64,
    pub(crate) steps: u64,
    pub(crate) disk_calls: u64,
    pub(crate) kills: u64,
    pub(crate) requests_in_outage: u64,
    pub(crate) requests_while_blocked: u64,
    pub(crate) throttled: u64,
    /// Quick retries of calls on the disk and the ledger, and of pages.
    pub(crate) storage_retries: u64,
    pub(crate) page_retries: u64,
    pub(crate) clock_steps: u64,
    /// Groups that a crash found under way, at most.
    pub(crate) batches_at_crash: usize,
    /// The statuses that were passed through.
    pub(crate) statuses: BTreeSet<String>,
}

impl SimulationCase {
    fn new(seed: u64, plot: FaultScenario) -> Self {
        Self {
            seed,
            scenario: plot,
            first_kill: None,
            disk_fault: None,
            disk_latency_max: Duration::ZERO,
        }
    }

    pub(crate) fn without_faults(seed: u64) -> Self {
        Self::new(seed, FaultScenario::NoFaults)
    }

    pub(crate) fn with_random_faults(seed: u64, days: u64) -> Self {
        Self::new(seed, FaultScenario::RandomFaults { days })
    }

    pub(crate) fn with_outage(seed: u64, lasts: Duration) -> Self {
        Self::new(seed, FaultScenario::Outage { duration: lasts })
    }

    pub(crate) fn throttled_and_killed(seed: u64) -> Self {
        Self::new(seed, FaultScenario::Throttled)
    }

    /// On a disk so slow that one group is written while another is placed and recorded.
    pub(crate) fn with_slow_disk(mut self) -> Self {
        self.disk_latency_max = Duration::from_millis(800);
        self
    }

    pub(crate) fn killed_at_step(mut self, step: u64, ending: KillMode) -> Self {
        self.first_kill = Some((KillPoint::Step(step), ending));
        self
    }

    pub(crate) fn killed_at_disk_call(mut self, call: u64, ending: KillMode) -> Self {
        self.first_kill = Some((KillPoint::DiskCall(call), ending));
        self
    }

    pub(crate) fn disk_fails_once(mut self, call: u64, errno: Errno) -> Self {
        self.disk_fault = Some((call, errno));
        self
    }

    pub(crate) fn run(self) -> CaseReport {
        let case = format!("{self:?}");
        let has_faults = self.disk_fault.is_some()
            || !matches!(
                (self.scenario, self.first_kill),
                (FaultScenario::NoFaults, None | Some((KillPoint::Step(_), _)))
            );
        let ears = LogCapture::default();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tracing::subscriber::with_default(ears.clone(), || {
                run_in_virtual_time(async { Harness::new(self).run_case().await })
            })
        }));
        let report = outcome.unwrap_or_else(|_| panic!("the case that failed is {case}"));
        assert!(has_faults || ears.errors().is_empty(), "{case}: {:?}", ears.errors());
        let rebuilds = ears.no_progress_count() as u64;
        assert!(rebuilds <= report.clock_steps, "{case} was called stuck {rebuilds} times");
        assert!(
            report.clock_steps > 0 || report.requests_while_blocked <= report.kills,
            "{case} asked too early: {report:?}"
        );
        report
    }
}

/// Plays a scene that is not made of chance.
pub(crate) fn run_scenario(scene: impl AsyncFnOnce(&mut Harness)) {
    run_in_virtual_time(async {
        scene(&mut Harness::new(SimulationCase::without_faults(5))).await
    });
}

fn run_in_virtual_time<T>(play: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, play)
}

/// Everything there is in a case.
pub(crate) struct Harness {
    case: SimulationCase,
    pub(crate) env: SimEnv,
    pub(crate) disk: MemoryDisk,
    pub(crate) server: Rc<RefCell<SimServer>>,
    /// Breakers that are shared with another source; else each life has its own.
    pub(crate) breakers_of_source: Option<SourceBreakers>,
    /// Gates that are shared with another source; else each life has its own.
    pub(crate) rate_limiters: Option<Rc<RateLimiters<SimEnv>>>,
    database: String,
    /// Keeps the database alive while no worker has it open.
    keep_alive_connection: Connection,
    pub(crate) machine_config: MachineConfig,
    pub(crate) rate_limit_config: RateLimitConfig,
    /// How often everything is listed once more; never by itself.
    pub(crate) reconcile_interval: Option<Duration>,
    /// How a document is asked for again at once.
    pub(crate) request_retry: BackoffConfig,
    may_not_refetch: bool,
    retries: RetryRegistry,
    report: CaseReport,
}

impl Harness {
    fn new(case: SimulationCase) -> Self {
        let disk = MemoryDisk::default();
        for dir in [STATE_DIR, ARCHIVE] {
            ensure_folder(&disk, Path::new(dir)).unwrap();
        }
        disk.sync_dir(Path::new("/")).unwrap();
        let database = new_database();
        let anchor = connect(&database);
        let world = SimEnv::new(case.seed, disk.clone());
        world.set_disk_latency(case.disk_latency_max);
        let server = Rc::new(RefCell::new(SimServer::new()));
        server.borrow_mut().deliver(60, &world);
        Self {
            case,
            env: world,
            disk,
            server,
            breakers_of_source: None,
            rate_limiters: None,
            database,
            keep_alive_connection: anchor,
            machine_config: machine_config(),
            rate_limit_config: rate_limit_config(),
            reconcile_interval: None,
            request_retry: BackoffConfig { max_attempts: 1, ..BackoffConfig::FAST },
            may_not_refetch: true,
            retries: RetryRegistry::default(),
            report: CaseReport::default(),
        }
    }

    async fn run_case(mut self) -> CaseReport {
        match self.case.scenario {
            FaultScenario::NoFaults => self.run_one_session().await,
            FaultScenario::RandomFaults { days } => {
                let weather = run_random_faults(
                    Rc::clone(&self.server),
                    self.env.clone(),
                    self.disk.clone(),
                    days,
                );
                self.run_until_recovered(weather).await;
            }
            FaultScenario::Outage { duration: lasts } => {
                let (server, database) = (Rc::clone(&self.server), connect(&self.database));
                let counted = Rc::new(RefCell::new(0));
                let told = Rc::clone(&counted);
                self.run_until_recovered(async move {
                    SimServer::wait_until_served(&server, 10).await;
                    let before = server.borrow().requests;
                    server.borrow_mut().condition = ServerCondition::Down;
                    sleep(lasts).await;
                    *told.borrow_mut() = server.borrow().requests - before;
                    reference_model::check_no_item_blamed(&database);
                    server.borrow_mut().repair_all();
                })
                .await;
                self.report.requests_in_outage = *counted.borrow();
            }
            FaultScenario::Throttled => {
                let (server, world) = (Rc::clone(&self.server), self.env.clone());
                self.run_until_recovered(async move {
                    server.borrow_mut().condition =
                        ServerCondition::RateLimited { requests: 10, window: 60 };
                    for _ in 0..10 {
                        sleep(Duration::from_secs(25)).await;
                        world.kill_now();
                    }
                    server.borrow_mut().repair_all();
                })
                .await;
            }
        }
        self.finish_and_report()
    }

    /// Lives until one session is over.
    async fn run_one_session(&mut self) {
        let mut fuse = self.case.first_kill;
        loop {
            self.env.start_process(fuse.map(|(fuse, _)| fuse));
            if let Some((at, errno)) = self.case.disk_fault.take() {
                self.disk.set_fault(DiskFault {
                    at_operation: at,
                    duration: FaultDuration::Once,
                    errno,
                });
                self.server.borrow_mut().disk_faults += 1;
            }
            let ended = self.run_process(RunMode::Once).await;
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
                None => self.crash(fuse.map_or(KillMode::Sigkill, |(_, ending)| ending)),
            }
            fuse = None;
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// Lives through a plot, then until there was time to make up for it.
    async fn run_until_recovered(&mut self, plot: impl Future<Output = ()>) {
        let (server, database) = (Rc::clone(&self.server), self.database.clone());
        let mut plot = std::pin::pin!(async move {
            plot.await;
            let mut recovering = Duration::ZERO;
            while recovering < RECOVERY_MAX
                && !reference_model::has_recovered(&reader(&database), &server)
            {
                sleep(RECOVERY_POLL_INTERVAL).await;
                recovering += RECOVERY_POLL_INTERVAL;
            }
        });
        let mut killing = matches!(self.case.scenario, FaultScenario::RandomFaults { .. });
        loop {
            let fuse = killing.then(|| match self.env.random_below(3) {
                0 => KillPoint::DiskCall(self.env.random_below(600)),
                _ => KillPoint::Step(self.env.random_below(3000)),
            });
            killing = matches!(self.case.scenario, FaultScenario::RandomFaults { .. })
                && self.server.borrow().condition != ServerCondition::HealthyForGood;
            self.env.start_process(fuse);
            if self.disk_is_full() && !matches!(fuse, Some(KillPoint::DiskCall(_))) {
                self.fill_disk();
            }
            let ended = tokio::select! {
                biased;
                () = &mut plot => return,
                ended = self.run_process(RunMode::Continuous) => ended,
            };
            if ended.is_none() {
                let ending =
                    if self.env.chance_one_in(2) { KillMode::Sigkill } else { KillMode::PowerCut };
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
    pub(crate) async fn run_process(&self, mode: RunMode) -> Option<LoopResult> {
        let (_stop, stopping) = watch::channel(StopSignal::Running);
        self.run_process_until(mode, stopping).await
    }

    /// One life of the process, in which it may be asked to stop.
    pub(crate) async fn run_process_until(
        &self,
        mode: RunMode,
        stop: watch::Receiver<StopSignal>,
    ) -> Option<LoopResult> {
        let booted = self.env.time().booted_at;
        let opened = match self.open() {
            Ok(opened) => opened,
            // Killed, or without a disk, before it had begun.
            Err(_) if self.env.is_being_killed() => return None,
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
        if self.may_not_refetch {
            let agree = !warnings.iter().any(|note| note.contains("did not agree"));
            assert!(agree, "no crash comes between state and ledger: {warnings:?}");
        }
        let (view, _views) = watch::channel(SourceProgress::unknown());
        let circuits = self.breakers_of_source.clone();
        let circuits =
            circuits.unwrap_or_else(|| SourceBreakers::new(&self.new_breakers(), "example", "sim"));
        let world = Rc::new(self.env.clone());
        let gates = self.rate_limiters.clone().unwrap_or_else(|| self.new_rate_limiters());
        let gate = gates.handle_for("sim", "me@example.com", self.rate_limit_config.clone());
        let parts = EventLoopConfig {
            source: SimSource::new(&self.server, &self.env, account, gate, self.request_policy()),
            store: StoreHandle::new(Rc::clone(&world), store),
            env: world,
            machine: opened.machine,
            booted_at: booted,
            counts,
            last_success_at: opened.last_success_at,
            is_new: opened.is_new,
            rules: self.machine_config.clone(),
            policies: policies(),
            listing_retry: retry_policy(
                "collect",
                BackoffConfig::STRICT,
                self.case.seed,
                &self.retries,
            ),
            metrics: MetricsHandle::new(opened.metrics),
            tracer: Tracer::default(),
            proxies: None,
            breakers: circuits,
            concurrency: CONCURRENT_DOWNLOADS,
            mode,
            stop,
            source_progress: view,
            heartbeat: Heartbeat::noop(),
            start_mode: StartMode::Resume,
        };
        let ended = tokio::select! {
            biased;
            () = self.env.wait_until_killed() => {
                // Who is killed writes no more.
                std::mem::forget(gates);
                return None;
            }
            ended = run_event_loop(parts) => ended,
        };
        if let LoopExit::Restart(cause) = ended.exit {
            let saved = self.stored_status();
            assert_eq!(saved, Some(ended.machine.status()), "{cause:?} would happen again");
            let hangs = self.server.borrow().extra_latency > self.machine_config.stuck_threshold;
            assert_eq!(cause == RestartCause::Stuck, hangs, "{ended:?}");
        }
        Some(ended)
    }

    /// The gates of a process that has just started.
    pub(crate) fn new_rate_limiters(&self) -> Rc<RateLimiters<SimEnv>> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let quotas = LockedFile::without_lock(disk, PathBuf::from(QUOTA_FILE));
        Rc::new(RateLimiters::new(Rc::new(self.env.clone()), quotas))
    }

    /// The breakers of a process that has just started.
    pub(crate) fn new_breakers(&self) -> Rc<Breakers> {
        let world = self.env.clone();
        Breakers::open(self.breakers_file(), BreakerPolicy::DEFAULT, move || world.now()).0
    }

    pub(crate) fn breakers_file(&self) -> BreakersFile {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        BreakersFile::without_lock(disk, Path::new("/state"))
    }

    /// Another source with a store and a server of its own, in the same time.
    pub(crate) fn another_source() -> Self {
        Self::new(SimulationCase::without_faults(7))
    }

    /// What the state file says; `None` before there is one.
    fn stored_status(&self) -> Option<Status> {
        self.stored_state().map(|state| state.status)
    }

    pub(crate) fn stored_state(&self) -> Option<ExecutionState> {
        let json = self.disk.files().remove(Path::new(STATE_FILE))?;
        Some(serde_json::from_slice(&json).expect("it is whole"))
    }

    fn open(&self) -> Result<OpenedStore, StartError> {
        let storage = retry_policy("storage", BackoffConfig::FAST, self.case.seed, &self.retries);
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
        Store::open_with(disk, ledger, dir, archive, facts, &id, self.env.now())
    }

    /// Loses the ledger, as when it was damaged and moved aside, and has all fetched again, as
    /// `reset` does. Without it, an archive that holds documents is refused.
    pub(crate) fn delete_ledger(&mut self) {
        self.may_not_refetch = false;
        self.database = new_database();
        self.keep_alive_connection = connect(&self.database);
        let Some(marker) = self.disk.files().remove(Path::new(MARKER)) else { return };
        if String::from_utf8_lossy(&marker).contains("\"holds_documents\": true") {
            let refused = self.open().expect_err("the archive is of another ledger");
            assert!(matches!(refused, StartError::StorageUnusable(_)), "{refused}");
        }
        self.disk.remove_file(Path::new(MARKER)).unwrap();
    }

    pub(crate) fn delete_state_file(&mut self) {
        self.may_not_refetch = false;
        self.disk.remove_file(Path::new(STATE_FILE)).unwrap();
    }

    /// What the ledger says of sessions and of the last listing of everything.
    pub(crate) fn session_and_reconcile_times<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.keep_alive_connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Leaves the ledger as one that was written before accounts were noted.
    pub(crate) fn clear_account(&self) {
        let sql = "UPDATE source SET account = NULL, reconciled_at = NULL";
        self.keep_alive_connection.execute(sql, []).unwrap();
    }

    /// Loses the state that the ledger keeps for when the file is lost.
    pub(crate) fn delete_snapshot(&self) {
        // Before its first life there is nothing to lose.
        self.keep_alive_connection.execute("UPDATE source SET snapshot = 'junk'", []).ok();
    }

    /// Everything that the server holds is stored, once.
    pub(crate) fn check_all_stored(&self) {
        let (reader, server) = (self.reader(), self.server.borrow());
        reference_model::check_stored_contents_exist(&self.disk, &reader, &server);
        reference_model::check_everything_settled(&reader, &server, 1);
    }

    fn request_policy(&self) -> RetryPolicy {
        retry_policy("request", self.request_retry, self.case.seed, &self.retries)
    }

    /// The number that a statement finds in the ledger.
    pub(crate) fn count(&self, sql: &str) -> u64 {
        let found = self.keep_alive_connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        // Before the first life there are no tables.
        found.unwrap_or_default().unsigned_abs()
    }

    /// Groups that have a list of what is intended.
    fn batches_in_flight(&self) -> usize {
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

    fn crash(&mut self, ending: KillMode) {
        self.report.kills += 1;
        self.env.start_process(None);
        self.report.batches_at_crash = self.report.batches_at_crash.max(self.batches_in_flight());
        if ending == KillMode::PowerCut {
            self.disk.power_cut(self.env.random_below(4));
        }
        let reader = self.reader();
        reference_model::check_stored_contents_exist(&self.disk, &reader, &self.server.borrow());
        reference_model::check_session_totals(&self.keep_alive_connection);
        self.stored_status();
    }

    pub(crate) fn reader(&self) -> Ledger {
        reader(&self.database)
    }

    fn retries_of(&self, name: &str) -> u64 {
        self.retries.snapshot().get(name).map_or(0, |counted| counted.retries)
    }

    fn finish_and_report(mut self) -> CaseReport {
        self.disk.clear_fault();
        let (reader, server) = (self.reader(), self.server.borrow());
        reference_model::check_stored_contents_exist(&self.disk, &reader, &server);
        reference_model::check_everything_settled(&reader, &server, self.report.kills);
        reference_model::check_session_totals(&self.keep_alive_connection);
        self.report.statuses = reference_model::check_transitions(&reader);
        self.report.days = self.env.days();
        self.report.steps = self.env.steps();
        self.report.clock_steps = self.env.clock_steps();
        self.report.disk_calls = self.disk.operation_count();
        self.report.requests_while_blocked = server.requests_while_blocked;
        self.report.throttled = server.rate_limited_requests;
        self.report.storage_retries = self.retries_of("storage");
        self.report.page_retries = self.retries_of("collect");
        drop((reader, server));
        self.keep_alive_connection.close().unwrap();
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
