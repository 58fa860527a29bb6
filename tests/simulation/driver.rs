//! Driver of a case: starts one worker, kills it, and starts it again until the case is over.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cynosure::archive::DocumentFormat;
use cynosure::disk::{
    Disk, DiskFault, FaultDuration, LockedFile, MemoryDisk, RetryingDisk, ensure_folder,
};
use cynosure::env::Env;
use cynosure::ledger::SqliteLedger;
use cynosure::limiter::{LimiterConfig, RateLimiters};
use cynosure::retry::{BackoffConfig, RetryPolicy, RetryRegistry};
use cynosure::source::{DynSource, MetricsHandle};
use cynosure::state::ExecutionState;
use cynosure::worker::{
    ArchiveConfig, Breakers, BreakersFile, Dependencies, EventLoopConfig, Heartbeat, LoopExit,
    LoopPolicy, LoopResult, Observers, OpenedStore, RunMode, SourceBreakers, SourceInfo,
    SourceProgress, StartError, StartMode, StopSignal, Store, StoreHandle, Tracer, run_event_loop,
};
use cynosure_engine::breaker::BreakerPolicy;
use cynosure_engine::{LedgerId, MachineConfig, RestartCause, Status};
use rusqlite::{Connection, OpenFlags};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::fault_schedule::run_random_faults;
use crate::log_capture::LogCapture;
use crate::reference_model;
use crate::server::{ServerCondition, SimServer, SimSource};
use crate::test_config::{item_retry_policy, limiter_config, machine_config};
use crate::virtual_env::{KillPoint, SimEnv};
use crate::virtual_timer::retry_policy;

const STATE_DIR: &str = "/state/sim";
const STATE_FILE: &str = "/state/sim/execution_state.json";
const LIMITER_FILE: &str = "/state/quota.json";
const ARCHIVE: &str = "/downloads";
const STAGING: &str = "/downloads/.cynosure/sim";
const MARKER: &str = "/downloads/.cynosure/sim/owner.json";

/// Longest recovery of the worker after the last fault. It includes the daily recheck of
/// quarantined items, a day more because the clock may have been set back, and a margin.
const RECOVERY_MAX: Duration = Duration::from_secs(5 * 86_400);

/// Maximum number of concurrent downloads.
pub(crate) const CONCURRENT_DOWNLOADS: usize = 8;

/// Interval at which the recovery is checked.
const RECOVERY_POLL_INTERVAL: Duration = Duration::from_secs(3 * 3600);

/// Number of the next in-memory database, so that each has its own name.
static NEXT_DATABASE: AtomicU64 = AtomicU64::new(0);

/// Simulation case: seed, faults, and the point at which the process is killed.
#[derive(Clone, Debug)]
pub(crate) struct SimulationCase {
    seed: u64,
    scenario: FaultScenario,
    /// Kill of the first process in a case of one session; later processes are not killed.
    first_kill: Option<(KillPoint, KillMode)>,
    /// Disk call that fails once, and its error.
    disk_fault: Option<(u64, Errno)>,
    /// Maximum duration of a blocking job.
    disk_latency_max: Duration,
}

#[derive(Clone, Copy, Debug)]
enum FaultScenario {
    /// One session on a healthy server.
    NoFaults,
    /// Days of random faults; the process is killed at random points.
    RandomFaults { days: u64 },
    /// The server is down for `duration`.
    Outage { duration: Duration },
    /// The server throttles, and the process is killed during its waits.
    Throttled,
}

/// Kind of a crash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KillMode {
    /// SIGKILL: everything that was written is kept.
    Sigkill,
    /// Power cut: writes that were not synced are lost.
    PowerCut,
}

/// Statistics of a case.
#[derive(Debug, Default)]
pub(crate) struct CaseReport {
    pub(crate) days: u64,
    pub(crate) steps: u64,
    pub(crate) disk_calls: u64,
    pub(crate) kills: u64,
    pub(crate) requests_in_outage: u64,
    pub(crate) requests_while_blocked: u64,
    pub(crate) throttled: u64,
    /// Quick retries of calls to the disk and the ledger.
    pub(crate) storage_retries: u64,
    pub(crate) page_retries: u64,
    pub(crate) clock_steps: u64,
    /// Most batches that were in flight at a crash.
    pub(crate) batches_at_crash: usize,
    /// Statuses in the recorded transitions.
    pub(crate) statuses: BTreeSet<String>,
}

impl SimulationCase {
    fn new(seed: u64, scenario: FaultScenario) -> Self {
        Self {
            seed,
            scenario,
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

    pub(crate) fn with_outage(seed: u64, duration: Duration) -> Self {
        Self::new(seed, FaultScenario::Outage { duration })
    }

    pub(crate) fn throttled_and_killed(seed: u64) -> Self {
        Self::new(seed, FaultScenario::Throttled)
    }

    /// Uses a disk so slow that one batch is written while another is published and recorded.
    pub(crate) fn with_slow_disk(mut self) -> Self {
        self.disk_latency_max = Duration::from_millis(800);
        self
    }

    pub(crate) fn killed_at_step(mut self, step: u64, mode: KillMode) -> Self {
        self.first_kill = Some((KillPoint::Step(step), mode));
        self
    }

    pub(crate) fn killed_at_disk_call(mut self, call: u64, mode: KillMode) -> Self {
        self.first_kill = Some((KillPoint::DiskCall(call), mode));
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
        let log = LogCapture::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tracing::subscriber::with_default(log.clone(), || {
                run_in_virtual_time(async { Box::pin(Harness::new(self).run_case()).await })
            })
        }));
        let report = result.unwrap_or_else(|_| panic!("failed case: {case}"));
        assert!(has_faults || log.errors().is_empty(), "{case}: {:?}", log.errors());
        let stuck_reports = log.no_progress_count() as u64;
        assert!(
            stuck_reports <= report.clock_steps,
            "{case} was reported as stuck {stuck_reports} times"
        );
        assert!(
            report.clock_steps > 0 || report.requests_while_blocked <= report.kills,
            "{case} sent requests while blocked: {report:?}"
        );
        report
    }
}

/// Runs a hand-written scenario.
pub(crate) fn run_scenario(scenario: impl AsyncFnOnce(&mut Harness)) {
    run_in_virtual_time(async {
        scenario(&mut Harness::new(SimulationCase::without_faults(5))).await;
    });
}

fn run_in_virtual_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, future)
}

/// Environment, disk, server, database and configuration of a case.
pub(crate) struct Harness {
    case: SimulationCase,
    pub(crate) env: SimEnv,
    pub(crate) disk: MemoryDisk,
    pub(crate) server: Rc<RefCell<SimServer>>,
    /// Breakers shared with another source; if `None`, each process creates its own.
    pub(crate) shared_breakers: Option<SourceBreakers>,
    /// Rate limiters shared with another source; if `None`, each process creates its own.
    pub(crate) shared_rate_limiters: Option<Rc<RateLimiters<SimEnv>>>,
    database: String,
    /// Keeps the in-memory database alive while no worker has it open.
    keep_alive_connection: Connection,
    pub(crate) machine_config: MachineConfig,
    pub(crate) limiter_config: LimiterConfig,
    /// Interval of the reconciliations, which list everything again; `None` disables them.
    pub(crate) reconcile_interval: Option<Duration>,
    /// Backoff of the quick retries of a document request.
    pub(crate) request_retry: BackoffConfig,
    expects_consistent_state: bool,
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
        let keep_alive_connection = connect(&database);
        let env = SimEnv::new(case.seed, disk.clone());
        env.set_disk_latency(case.disk_latency_max);
        let server = Rc::new(RefCell::new(SimServer::new()));
        server.borrow_mut().deliver(60, &env);
        Self {
            case,
            env,
            disk,
            server,
            shared_breakers: None,
            shared_rate_limiters: None,
            database,
            keep_alive_connection,
            machine_config: machine_config(),
            limiter_config: limiter_config(),
            reconcile_interval: None,
            request_retry: BackoffConfig { max_attempts: 1, ..BackoffConfig::FAST },
            expects_consistent_state: true,
            retries: RetryRegistry::default(),
            report: CaseReport::default(),
        }
    }

    async fn run_case(mut self) -> CaseReport {
        match self.case.scenario {
            FaultScenario::NoFaults => self.run_one_session().await,
            FaultScenario::RandomFaults { days } => {
                let faults = run_random_faults(
                    Rc::clone(&self.server),
                    self.env.clone(),
                    self.disk.clone(),
                    days,
                );
                self.run_until_recovered(faults).await;
            }
            FaultScenario::Outage { duration } => {
                let (server, database) = (Rc::clone(&self.server), connect(&self.database));
                let outage_requests = Rc::new(RefCell::new(0));
                let recorded_requests = Rc::clone(&outage_requests);
                self.run_until_recovered(async move {
                    SimServer::wait_until_served(&server, 10).await;
                    let before = server.borrow().requests;
                    server.borrow_mut().condition = ServerCondition::Down;
                    sleep(duration).await;
                    *recorded_requests.borrow_mut() = server.borrow().requests - before;
                    reference_model::check_no_item_blamed(&database);
                    server.borrow_mut().repair_all();
                })
                .await;
                self.report.requests_in_outage = *outage_requests.borrow();
            }
            FaultScenario::Throttled => {
                let (server, env) = (Rc::clone(&self.server), self.env.clone());
                self.run_until_recovered(async move {
                    server.borrow_mut().condition =
                        ServerCondition::RateLimited { requests: 10, window_seconds: 60 };
                    for _ in 0..10 {
                        sleep(Duration::from_secs(25)).await;
                        env.kill_now();
                    }
                    server.borrow_mut().repair_all();
                })
                .await;
            }
        }
        self.finish_and_report()
    }

    /// Runs the process, again after each crash, until one session is completed.
    async fn run_one_session(&mut self) {
        let mut kill = self.case.first_kill;
        loop {
            self.env.start_process(kill.map(|(point, _)| point));
            if let Some((at, errno)) = self.case.disk_fault.take() {
                self.disk.set_fault(DiskFault {
                    at_operation: at,
                    duration: FaultDuration::Once,
                    errno,
                });
                self.server.borrow_mut().disk_faults += 1;
            }
            let result = self.run_process(RunMode::Once).await;
            match result {
                Some(result)
                    if matches!(result.exit, LoopExit::Completed | LoopExit::NothingToDo) =>
                {
                    return;
                }
                Some(result) => assert!(
                    matches!(result.exit, LoopExit::Restart(_) | LoopExit::GaveUp),
                    "unexpected exit: {result:?}"
                ),
                None => self.crash(kill.map_or(KillMode::Sigkill, |(_, mode)| mode)),
            }
            kill = None;
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// Runs the process during `faults`, then until it has recovered or [`RECOVERY_MAX`] is over.
    async fn run_until_recovered(&mut self, faults: impl Future<Output = ()>) {
        let (server, database) = (Rc::clone(&self.server), self.database.clone());
        let mut until_recovered = std::pin::pin!(async move {
            faults.await;
            let mut recovery_time = Duration::ZERO;
            while recovery_time < RECOVERY_MAX
                && !reference_model::has_recovered(&reader(&database), &server)
            {
                sleep(RECOVERY_POLL_INTERVAL).await;
                recovery_time += RECOVERY_POLL_INTERVAL;
            }
        });
        let mut will_be_killed = matches!(self.case.scenario, FaultScenario::RandomFaults { .. });
        loop {
            let kill_point = will_be_killed.then(|| match self.env.random_below(3) {
                0 => KillPoint::DiskCall(self.env.random_below(600)),
                _ => KillPoint::Step(self.env.random_below(3000)),
            });
            will_be_killed = matches!(self.case.scenario, FaultScenario::RandomFaults { .. })
                && self.server.borrow().condition != ServerCondition::HealthyForGood;
            self.env.start_process(kill_point);
            if self.disk_is_full() && !matches!(kill_point, Some(KillPoint::DiskCall(_))) {
                self.fill_disk();
            }
            let result = tokio::select! {
                biased;
                () = &mut until_recovered => return,
                result = self.run_process(RunMode::Continuous) => result,
            };
            if result.is_none() {
                let mode =
                    if self.env.chance_one_in(2) { KillMode::Sigkill } else { KillMode::PowerCut };
                self.crash(mode);
            }
            tokio::select! {
                biased;
                () = &mut until_recovered => return,
                () = sleep(Duration::from_secs(10)) => {}
            }
        }
    }

    /// Runs the process once; returns `None` if it was killed or could not start.
    pub(crate) async fn run_process(&self, mode: RunMode) -> Option<LoopResult> {
        let (_stop, stopping) = watch::channel(StopSignal::Running);
        self.run_process_until(mode, stopping).await
    }

    /// Runs the process once, until `stop` requests a shutdown; returns `None` like `run_process`.
    pub(crate) async fn run_process_until(
        &self,
        mode: RunMode,
        stop: watch::Receiver<StopSignal>,
    ) -> Option<LoopResult> {
        let booted_at = self.env.time().booted_at;
        let opened = match self.open_store() {
            Ok(opened) => opened,
            // The process was killed during its start, because its disk calls failed.
            Err(_) if self.env.is_being_killed() => return None,
            Err(error) => {
                let had_disk_fault = self.server.borrow().disk_faults > 0;
                assert!(had_disk_fault, "the process cannot start: {error}");
                sleep(Duration::from_secs(60)).await;
                return None;
            }
        };
        let OpenedStore { mut store, counts, account, warnings, .. } = opened;
        if let Some(interval) = self.reconcile_interval {
            store.set_reconcile_interval(interval);
        }
        if self.expects_consistent_state {
            let is_consistent = !warnings.iter().any(|warning| warning.contains("did not agree"));
            assert!(is_consistent, "a crash made state and ledger disagree: {warnings:?}");
        }
        let (source_progress, _progress_receiver) = watch::channel(SourceProgress::unknown());
        let breakers = self.shared_breakers.clone();
        let breakers =
            breakers.unwrap_or_else(|| SourceBreakers::new(&self.new_breakers(), "example", "sim"));
        let env = Rc::new(self.env.clone());
        let limiters =
            self.shared_rate_limiters.clone().unwrap_or_else(|| self.new_rate_limiters());
        let limiter = limiters.handle_for("sim", "me@example.com", self.limiter_config.clone());
        let request_retry = self.request_policy();
        let metrics = MetricsHandle::new(opened.metrics);
        let source = SimSource::new(&self.server, &self.env, account, limiter, request_retry);
        let config = EventLoopConfig {
            observers: Observers::new(breakers.clone(), metrics, Tracer::default(), None),
            deps: Dependencies {
                source: Rc::new(DynSource::new(source)),
                store: StoreHandle::new(Rc::clone(&env), store),
                env,
                breakers,
                heartbeat: Heartbeat::noop(),
            },
            policy: self.loop_policy(mode),
            item_policy: item_retry_policy(),
            machine: opened.machine,
            booted_at,
            counts,
            last_success_at: opened.last_success_at,
            is_new: opened.is_new,
            stop,
            source_progress,
        };
        let result = tokio::select! {
            biased;
            () = self.env.wait_until_killed() => {
                // A killed process does not save the state of its limiters.
                std::mem::forget(limiters);
                return None;
            }
            result = run_event_loop(config) => result,
        };
        if let LoopExit::Restart(cause) = result.exit {
            let saved = self.stored_status();
            assert_eq!(saved, Some(result.machine.status()), "{cause:?} is not recorded");
            let is_stuck = self.server.borrow().extra_latency > self.machine_config.stuck_threshold;
            assert_eq!(cause == RestartCause::Stuck, is_stuck, "{result:?}");
        }
        Some(result)
    }

    fn loop_policy(&self, mode: RunMode) -> LoopPolicy {
        let (seed, retries) = (self.case.seed, &self.retries);
        LoopPolicy {
            machine_config: self.machine_config.clone(),
            listing_retry: retry_policy("collect", BackoffConfig::STRICT, seed, retries),
            concurrency: CONCURRENT_DOWNLOADS,
            mode,
            start_mode: StartMode::Resume,
        }
    }

    /// Creates the rate limiters of a new process.
    pub(crate) fn new_rate_limiters(&self) -> Rc<RateLimiters<SimEnv>> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let file = LockedFile::without_lock(disk, PathBuf::from(LIMITER_FILE));
        Rc::new(RateLimiters::new(Rc::new(self.env.clone()), file))
    }

    /// Creates the breakers of a new process.
    pub(crate) fn new_breakers(&self) -> Rc<Breakers> {
        let env = self.env.clone();
        Breakers::open(self.breakers_file(), BreakerPolicy::DEFAULT, move || env.now()).0
    }

    pub(crate) fn breakers_file(&self) -> BreakersFile {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        BreakersFile::without_lock(disk, Path::new("/state"))
    }

    /// Creates another source with a separate store and server, in the same virtual time.
    pub(crate) fn another_source() -> Self {
        Self::new(SimulationCase::without_faults(7))
    }

    /// Returns the status in the state file; `None` if there is no file.
    fn stored_status(&self) -> Option<Status> {
        self.stored_state().map(|state| state.status)
    }

    pub(crate) fn stored_state(&self) -> Option<ExecutionState> {
        let json = self.disk.files().remove(Path::new(STATE_FILE))?;
        Some(serde_json::from_slice(&json).expect("the state file is valid"))
    }

    fn open_store(&self) -> Result<OpenedStore, StartError> {
        let storage = retry_policy("storage", BackoffConfig::FAST, self.case.seed, &self.retries);
        let ledger = SqliteLedger::from_connection(connect(&self.database), Path::new("/ledger"))?;
        let ledger = Box::new(ledger.with_retry(storage.clone()));
        let info = SourceInfo {
            source: "sim".to_owned(),
            kind: "simulated",
            account: "me@example.com".to_owned(),
            provider: "example".to_owned(),
        };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let disk: Arc<dyn Disk> = Arc::new(RetryingDisk::new(disk, storage));
        let archive = ArchiveConfig { dir: ARCHIVE.into(), format: DocumentFormat::default() };
        let id = LedgerId::new(&*self.database);
        Store::open_with(disk, ledger, Path::new(STATE_DIR), &archive, info, &id, self.env.now())
    }

    /// Replaces the ledger with an empty one, as if it were damaged and moved aside, and deletes
    /// the archive's marker, as `reset` does, so that everything is fetched again. With a
    /// marker that records documents, the new ledger is rejected.
    pub(crate) fn delete_ledger(&mut self) {
        self.expects_consistent_state = false;
        self.database = new_database();
        self.keep_alive_connection = connect(&self.database);
        let Some(marker) = self.disk.files().remove(Path::new(MARKER)) else { return };
        if String::from_utf8_lossy(&marker).contains("\"holds_documents\": true") {
            let error = self.open_store().expect_err("the archive belongs to another ledger");
            assert!(matches!(error, StartError::StorageUnusable(_)), "{error}");
        }
        self.disk.remove_file(Path::new(MARKER)).unwrap();
    }

    pub(crate) fn delete_state_file(&mut self) {
        self.expects_consistent_state = false;
        self.disk.remove_file(Path::new(STATE_FILE)).unwrap();
    }

    /// Returns the single value of a query on the ledger.
    pub(crate) fn query_value<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.keep_alive_connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Clears account and last reconciliation, as in a ledger of a version that recorded neither.
    pub(crate) fn clear_account(&self) {
        let sql = "UPDATE source SET account = NULL, reconciled_at = NULL";
        self.keep_alive_connection.execute(sql, []).unwrap();
    }

    /// Makes the ledger's copy of the state unreadable, which is used if the state file is lost.
    pub(crate) fn corrupt_snapshot(&self) {
        // Before the first run there is no table.
        self.keep_alive_connection.execute("UPDATE source SET snapshot = 'junk'", []).ok();
    }

    /// Asserts that everything on the server is stored once.
    pub(crate) fn check_all_stored(&self) {
        let (reader, server) = (self.reader(), self.server.borrow());
        reference_model::check_stored_contents_exist(&self.disk, &reader, &server);
        reference_model::check_everything_settled(&reader, &server, 1);
    }

    fn request_policy(&self) -> RetryPolicy {
        retry_policy("request", self.request_retry, self.case.seed, &self.retries)
    }

    /// Returns the number that a query on the ledger yields.
    pub(crate) fn count(&self, sql: &str) -> u64 {
        let value = self.keep_alive_connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        // Before the first run there are no tables.
        value.unwrap_or_default().unsigned_abs()
    }

    /// Returns the number of batches with an intent file.
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

    fn crash(&mut self, mode: KillMode) {
        self.report.kills += 1;
        self.env.start_process(None);
        self.report.batches_at_crash = self.report.batches_at_crash.max(self.batches_in_flight());
        if mode == KillMode::PowerCut {
            self.disk.power_cut(self.env.random_below(4));
        }
        let reader = self.reader();
        reference_model::check_stored_contents_exist(&self.disk, &reader, &self.server.borrow());
        reference_model::check_session_totals(&self.keep_alive_connection);
        // Panics if the state file is damaged.
        self.stored_status();
    }

    pub(crate) fn reader(&self) -> SqliteLedger {
        reader(&self.database)
    }

    fn retries_of(&self, name: &str) -> u64 {
        self.retries.snapshot().get(name).map_or(0, |statistics| statistics.retries)
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

fn reader(database: &str) -> SqliteLedger {
    let path = Path::new("/ledger");
    SqliteLedger::from_connection(connect(database), path).unwrap()
}

fn new_database() -> String {
    let number = NEXT_DATABASE.fetch_add(1, Ordering::Relaxed);
    format!("file:simulation-{number}?mode=memory&cache=shared")
}

fn connect(database: &str) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(database, flags).unwrap()
}
