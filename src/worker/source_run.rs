//! One run of a source, from opening its store to the next restart.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info, warn};
use url::{Origin, Url};

use crate::config::{self, CredentialRef, EnvVars, Secret, Settings, SourceAuth, SourceSettings};
use crate::engine::{AccountId, LedgerId, State, StateMachine, Timestamp};
use crate::source::credential::Credential;
use crate::source::http::{ProxyMode, RequestLimits};
use crate::source::jmap::{self, JmapSource};
use crate::source::{MetricsHandle, ResponseRecorder};
use crate::systemd::RestartBudgetFile;
use crate::worker::breakers::SourceBreakers;
use crate::worker::env::{Env, RealEnv};
use crate::worker::event_loop::{
    EventLoopConfig, LoopResult, StartMode, StopSignal, run_event_loop,
};
use crate::worker::policies::{
    breaker_policy, download_policies, machine_rules, rate_limit_config,
};
use crate::worker::rate_limit::RateLimiters;
use crate::worker::retry_policies::RetryPolicies;
use crate::worker::source_progress::SourceProgress;
use crate::worker::start_error::StartError;
use crate::worker::store::{OpenedStore, SourceInfo, Store};
use crate::worker::supervisor::{SourceContext, Supervision};
use crate::worker::tasks::StoreHandle;

/// Documents per page of a listing: the minimum that RFC 8620 requires for `maxObjectsInGet`.
const PAGE_SIZE_MAX: u32 = 500;

/// Longest time for reconciling ledger and archive: ten million rows on a slow disk.
const OPEN_TIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Reason for which a run of a source starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StartReason {
    /// The process has started.
    ProcessStart,
    /// The source is restarted in place.
    Restart,
    /// The user has reloaded the configuration.
    ConfigReload(ReloadDiff),
}

/// Changes that a reload of the configuration has brought, except of the credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReloadDiff {
    SettingsChanged,
    Unchanged,
}

impl ReloadDiff {
    pub(super) fn between(before: &Settings, after: &Settings) -> Self {
        if before == after { Self::Unchanged } else { Self::SettingsChanged }
    }
}

/// Credential that a source last read, kept to detect a replacement.
#[derive(Clone, Debug, Default)]
pub struct LastCredential(Arc<Mutex<Option<Secret>>>);

impl LastCredential {
    fn read(
        &self,
        place: &CredentialRef,
        environment: &EnvVars,
    ) -> Result<Secret, config::CredentialError> {
        let secret = place.read(environment)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret.clone());
        Ok(secret)
    }

    /// Returns true if a credential is at `place` and differs from the one last read.
    fn is_replaced(&self, place: &CredentialRef, environment: &EnvVars) -> bool {
        let Ok(secret) = place.read(environment) else { return false };
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_none_or(|last| !config::secrets_equal(last, &secret))
    }
}

/// Opens the store, builds the source, and runs the event loop once.
pub(super) async fn run_once(
    task: &SourceContext,
    settings: &Settings,
    source: &SourceSettings,
    birth: StartReason,
    stop: &watch::Receiver<StopSignal>,
    view: &watch::Sender<SourceProgress>,
) -> Result<LoopResult, StartError> {
    let world = Rc::new(RealEnv);
    // Read before any other time, so that a later clock step is detected.
    let booted = world.time().booted_at;
    task.heartbeat.beat_within(OPEN_TIME_MAX, "opening");
    let facts = source_info(task, source);
    let dir = task.state_dir.join(task.name.as_str());
    let (archive_dir, now) = (settings.archive.dir.clone(), world.now());
    let retries = RetryPolicies::new(settings);
    let (storage, new_id) = (retries.storage.clone(), new_ledger_id(&*world));
    let open = move || Store::open(&dir, &archive_dir, facts, &storage, &new_id, now);
    let opened = world.spawn_blocking(open).await?;
    let OpenedStore {
        mut store,
        mut machine,
        counts: tally,
        account,
        last_success_at: succeeded_at,
        is_new,
        metrics: figures,
        warnings: notes,
    } = opened;
    store.set_reconcile_interval(source.reconcile_interval);
    notes.iter().for_each(|note| warn!("{note}"));
    task.opened_version.send_replace(task.config_versions.borrow().number);
    if birth == StartReason::ProcessStart {
        if is_new && tally.listed == 0 {
            check_credential(task, source).await?;
        }
        if let Some(at) = last_external_restart(task).await {
            machine.record_external_restart(at);
        }
    }
    let opening = start_mode(task, source, birth, &machine).await;
    let egress = open_transport(task, settings).await?;
    let (meter, proxies) = (MetricsHandle::new(figures), egress.pool_health());
    let access = SourceDeps::from_context(task, &meter);
    let identity = SourceAccount { name: task.name.as_str(), account };
    let client = build_jmap_source(identity, access, settings, source, &retries, egress)?;
    task.breakers.set_policy(breaker_policy(settings));
    let concurrency =
        usize::try_from(settings.provider_or_default(&source.provider).concurrency).unwrap_or(1);
    let parts = EventLoopConfig {
        source: client,
        env: Rc::clone(&world),
        store: StoreHandle::new(world, store),
        machine,
        booted_at: booted,
        counts: tally,
        last_success_at: succeeded_at,
        is_new,
        rules: machine_rules(settings, source),
        policies: download_policies(settings),
        listing_retry: retries.listing.clone(),
        metrics: meter,
        tracer: task.tracer.clone(),
        proxies,
        breakers: SourceBreakers::new(&task.breakers, &source.provider, task.name.as_str()),
        concurrency,
        mode: task.mode,
        stop: stop.clone(),
        source_progress: view.clone(),
        heartbeat: task.heartbeat.clone(),
        start_mode: opening,
    };
    let ended = run_event_loop(parts).await;
    for (policy, counted) in retries.registry.snapshot() {
        debug!(policy, ?counted, "retry statistics");
    }
    Ok(ended)
}

/// Returns the description of a source that is shown with its state.
pub(super) fn source_info(task: &SourceContext, source: &SourceSettings) -> SourceInfo {
    SourceInfo {
        source: task.name.to_string(),
        kind: "jmap",
        account: source.account.clone(),
        provider: source.provider.clone(),
    }
}

/// Returns a random id for a ledger that has none.
#[must_use]
pub fn new_ledger_id(world: &impl Env) -> LedgerId {
    LedgerId::from_samples([
        world.random_sample(),
        world.random_sample(),
        world.random_sample(),
        world.random_sample(),
    ])
}

/// Returns the transport: the proxies of the configuration, or a direct connection if it has none.
async fn open_transport(
    task: &SourceContext,
    settings: &Settings,
) -> Result<ProxyMode, StartError> {
    let (outlet, proxy) = (task.proxy_pools.clone(), settings.proxy.clone());
    let environment = task.environment.clone();
    let opened = RealEnv.spawn_blocking(move || outlet.transport(&proxy, &environment)).await;
    opened.map_err(StartError::Failed)
}

/// Returns the time at which the watchdog or the monitor last requested a restart of the unit. A
/// stuck worker could not record it itself.
async fn last_external_restart(task: &SourceContext) -> Option<Timestamp> {
    let (unit, file) = (task.unit.clone()?, RestartBudgetFile::new(&task.state_dir));
    // An unreadable file is reported when the next restart is counted.
    let counts = RealEnv.spawn_blocking(move || file.read_or_default()).await.unwrap_or_default();
    counts.get(&unit)?.last_restart_ms.map(Timestamp)
}

/// Rejects an unusable credential as a configuration error, if the source is alone in the process.
/// Called for a source that has never worked: its user has just set it up and sees the error. A
/// source that has worked waits for another credential instead, as it does when a server rejects
/// it.
async fn check_credential(task: &SourceContext, source: &SourceSettings) -> Result<(), StartError> {
    if task.supervision == Supervision::SharedProcess {
        return Ok(());
    }
    let (place, environment) = (source.auth.credential_ref().clone(), task.environment.clone());
    match RealEnv.spawn_blocking(move || place.read(&environment)).await {
        Err(error) if error.is_permanent() => {
            Err(StartError::Configuration(format!("source {}: {error}", task.name)))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns the mode in which a run starts. A reload ends the wait after an error or a rejected
/// credential if it changed what caused it; a wait that the server asked for is not shortened.
async fn start_mode(
    task: &SourceContext,
    source: &SourceSettings,
    birth: StartReason,
    machine: &StateMachine,
) -> StartMode {
    let StartReason::ConfigReload(changed) = birth else { return StartMode::Resume };
    let is_mended = match machine.state {
        State::AuthFailed { .. } => {
            let (secret, place) =
                (task.last_credential.clone(), source.auth.credential_ref().clone());
            let environment = task.environment.clone();
            RealEnv.spawn_blocking(move || secret.is_replaced(&place, &environment)).await
                || changed == ReloadDiff::SettingsChanged
        }
        State::Error { .. } => changed == ReloadDiff::SettingsChanged,
        State::Idle { .. } | State::Working(_) | State::Completed | State::RateLimited { .. } => {
            false
        }
    };
    if !is_mended {
        return StartMode::Resume;
    }
    info!(state = machine.status().name(), "trying again, with what was read");
    StartMode::RunNow
}

/// Dependencies of a source that are not part of its configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceDeps<'a> {
    pub(super) environment: &'a EnvVars,
    pub(super) secret: &'a LastCredential,
    pub(super) rate_limiters: &'a RateLimiters<RealEnv>,
    pub(super) metrics: &'a MetricsHandle,
    pub(super) recorder: &'a ResponseRecorder,
}

impl<'a> SourceDeps<'a> {
    fn from_context(task: &'a SourceContext, meter: &'a MetricsHandle) -> Self {
        Self {
            environment: &task.environment,
            secret: &task.last_credential,
            rate_limiters: &task.rate_limiters,
            metrics: meter,
            recorder: &task.recorder,
        }
    }
}

/// Name and account of a source.
#[derive(Clone, Debug)]
pub(super) struct SourceAccount<'a> {
    pub(super) name: &'a str,
    /// Account that the ledger belongs to, if known.
    pub(super) account: Option<AccountId>,
}

pub(super) fn build_jmap_source(
    identity: SourceAccount<'_>,
    access: SourceDeps<'_>,
    settings: &Settings,
    source: &SourceSettings,
    retries: &RetryPolicies,
    egress: ProxyMode,
) -> Result<JmapSource, StartError> {
    let (request, provider) = (&settings.request, settings.provider_or_default(&source.provider));
    let (auth, secret) = match &source.auth {
        SourceAuth::Basic { username, password } => {
            (jmap::AuthScheme::Basic { username: username.clone() }, password.clone())
        }
        SourceAuth::Bearer { token } => (jmap::AuthScheme::Bearer, token.clone()),
    };
    let options = jmap::JmapOptions {
        name: identity.name.to_owned(),
        account: identity.account,
        url: source.url.clone(),
        allowed_origins: allowed_origins(source),
        auth,
        mailboxes: source.mailboxes.clone(),
        since: source.since,
        page_size_max: PAGE_SIZE_MAX,
        concurrency: provider.concurrency,
        request_limits: RequestLimits {
            retry_policy: retries.request.clone(),
            connect_timeout: request.connect_timeout,
            idle_timeout: request.idle_timeout,
            total_timeout: request.total_timeout,
            min_rate: request.min_rate,
            max_response: request.max_response,
            max_document: request.max_document,
        },
        error_rules: settings.error_rules(&source.provider).to_vec(),
        proxy_mode: egress,
        metrics: access.metrics.clone(),
        recorder: access.recorder.with_header_names(&provider.headers),
    };
    let (last, environment) = (access.secret.clone(), access.environment.clone());
    let credential = Credential::new(move || {
        let (last, secret) = (last.clone(), secret.clone());
        let environment = environment.clone();
        Box::pin(async move {
            let read = move || last.read(&secret, &environment).map_err(|error| error.to_string());
            RealEnv.spawn_blocking(read).await
        })
    });
    let rules = rate_limit_config(settings, &source.provider);
    let gate = access.rate_limiters.handle_for(&source.provider, &source.account, rules);
    JmapSource::new(options, credential, gate).map_err(StartError::Failed)
}

fn allowed_origins(source: &SourceSettings) -> Vec<Origin> {
    let urls =
        source.allowed_hosts.iter().filter_map(|host| Url::parse(&format!("https://{host}")).ok());
    urls.map(|url| url.origin()).collect()
}
