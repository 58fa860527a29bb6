//! One run of a source, from opening its store to the next restart.

use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::{AccountId, LedgerId, State, StateMachine, Timestamp};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::config::{Settings, SourceSettings};
use crate::env::{Env, RealEnv};
use crate::limiter::RateLimiters;
use crate::source::http::{HttpOptions, ProxyMode, QuotaRules, RequestLimits};
use crate::source::{DynSource, MetricsHandle, ResponseRecorder};
use crate::source_kinds::{self, SourceParts};
use crate::systemd::RestartBudgetFile;
use crate::worker::archive_binding::{ArchiveConfig, document_format};
use crate::worker::breakers::SourceBreakers;
use crate::worker::credential_context::CredentialContext;
use crate::worker::event_loop::{
    Dependencies, EventLoopConfig, LoopPolicy, LoopResult, Observers, StartMode, StopSignal,
    run_event_loop,
};
use crate::worker::limiter_config::limiter_config;
use crate::worker::retry_policies::RetryPolicies;
use crate::worker::source_context::{SourceContext, Supervision};
use crate::worker::source_credential::{
    check_source_credential, is_credential_replaced, source_credential,
};
use crate::worker::source_progress::SourceProgress;
use crate::worker::start_error::StartError;
use crate::worker::state_mapping::SourceInfo;
use crate::worker::store::{OpenedStore, Store};
use crate::worker::tasks::StoreHandle;

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

/// Opens the store, builds the source, and runs the event loop once.
pub(super) async fn run_once(
    context: &SourceContext,
    settings: &Settings,
    source: &SourceSettings,
    start_reason: StartReason,
    stop: &watch::Receiver<StopSignal>,
    source_progress: &watch::Sender<SourceProgress>,
) -> Result<LoopResult, StartError> {
    let env = Rc::new(RealEnv);
    // Read before any other time, so that a later clock step is detected.
    let booted_at = env.time().booted_at;
    context.heartbeat.beat_within(OPEN_TIME_MAX, "opening the store");
    let info = source_info(context, source);
    let dir = context.source_state_dir();
    let archive =
        ArchiveConfig { dir: settings.archive.dir.clone(), format: document_format(source) };
    let now = env.now();
    let retry_policies = RetryPolicies::new(settings);
    let (storage, new_id) = (retry_policies.storage.clone(), new_ledger_id(&*env));
    let open = move || Store::open(&dir, &archive, info, &storage, &new_id, now);
    let opened = env.spawn_blocking(open).await?;
    let OpenedStore { mut store, mut machine, account, warnings, .. } = opened;
    store.set_reconcile_interval(source.reconcile_interval);
    warnings.iter().for_each(|warning| warn!(%warning, "the store was opened with a warning"));
    context.announce_opened_version();
    if start_reason == StartReason::ProcessStart {
        if opened.is_new && opened.counts.listed == 0 {
            check_credential(context, source).await?;
        }
        if let Some(at) = last_external_restart(context).await {
            machine.restarts.record_external(at);
        }
    }
    let start_mode = start_mode(context, source, start_reason, &machine).await;
    let proxy_mode = read_proxy_mode(context, settings).await?;
    let (metrics, proxies) = (MetricsHandle::new(opened.metrics), proxy_mode.pool_health());
    let credential = credential_context(context);
    let deps = SourceDeps::from_context(context, &credential, &metrics);
    let identity = SourceAccount { name: context.name.as_str(), account };
    let client = build_source(identity, deps, settings, source, &retry_policies, proxy_mode)?;
    context.process.breakers.set_policy(settings.breaker);
    let breakers =
        SourceBreakers::new(&context.process.breakers, &source.provider, context.name.as_str());
    let observers = Observers::new(breakers.clone(), metrics, context.tracer.clone(), proxies);
    let config = EventLoopConfig {
        deps: Dependencies {
            source: Rc::new(client),
            env: Rc::clone(&env),
            store: StoreHandle::new(env, store),
            breakers,
            heartbeat: context.heartbeat.clone(),
        },
        policy: loop_policy(context, settings, source, &retry_policies, start_mode),
        item_policy: settings.item.clone(),
        observers,
        machine,
        booted_at,
        counts: opened.counts,
        last_success_at: opened.last_success_at,
        is_new: opened.is_new,
        stop: stop.clone(),
        source_progress: source_progress.clone(),
    };
    let mut result = run_event_loop(config).await;
    result.is_client_refused = credential.last_credential.is_client_refused();
    for (policy, statistics) in retry_policies.registry.snapshot() {
        debug!(policy, ?statistics, "retry statistics");
    }
    Ok(result)
}

fn loop_policy(
    context: &SourceContext,
    settings: &Settings,
    source: &SourceSettings,
    retry_policies: &RetryPolicies,
    start_mode: StartMode,
) -> LoopPolicy {
    let provider = settings.provider_or_default(&source.provider);
    LoopPolicy {
        machine_config: settings.machine_config(source),
        listing_retry: retry_policies.listing.clone(),
        concurrency: source_kinds::fetch_concurrency(source, &provider),
        mode: context.process.mode,
        start_mode,
    }
}

/// Returns the description of a source that is shown with its state.
pub(super) fn source_info(context: &SourceContext, source: &SourceSettings) -> SourceInfo {
    SourceInfo {
        source: context.name.to_string(),
        kind: source.kind.name(),
        account: source.account.clone(),
        provider: source.provider.clone(),
    }
}

/// Returns a random id for a ledger that has none.
#[must_use]
pub fn new_ledger_id(env: &impl Env) -> LedgerId {
    LedgerId::from_samples([
        env.random_sample(),
        env.random_sample(),
        env.random_sample(),
        env.random_sample(),
    ])
}

fn credential_context(context: &SourceContext) -> CredentialContext {
    CredentialContext {
        source: context.name.to_string(),
        environment: context.process.environment.clone(),
        last_credential: context.last_credential.clone(),
        source_state_dir: context.source_state_dir(),
        refreshes: context.process.refreshes.clone(),
    }
}

/// Returns the configured proxy mode. Reads the proxies' credentials on a blocking thread.
async fn read_proxy_mode(
    context: &SourceContext,
    settings: &Settings,
) -> Result<ProxyMode, StartError> {
    let (proxy_pools, proxy) = (context.process.proxy_pools.clone(), settings.proxy.clone());
    let environment = context.process.environment.clone();
    let result = RealEnv.spawn_blocking(move || proxy_pools.proxy_mode(&proxy, &environment)).await;
    result.map_err(StartError::Failed)
}

/// Returns the time at which the watchdog or the monitor last requested a restart of the unit. A
/// stuck worker could not record it itself.
async fn last_external_restart(context: &SourceContext) -> Option<Timestamp> {
    let (unit, file) =
        (context.process.unit.clone()?, RestartBudgetFile::new(&context.process.state_dir));
    // An unreadable file is reported when the next restart is counted.
    let counts = RealEnv.spawn_blocking(move || file.read_or_default()).await.unwrap_or_default();
    counts.get(&unit)?.last_restart_ms.map(Timestamp)
}

/// Rejects an unusable credential as a configuration error, if the source is alone in the process.
/// Called for a source that has never worked: its user has just set it up and sees the error. A
/// source that has worked waits for another credential instead, as it does when a server rejects
/// it.
async fn check_credential(
    context: &SourceContext,
    source: &SourceSettings,
) -> Result<(), StartError> {
    if context.process.supervision == Supervision::SharedProcess {
        return Ok(());
    }
    let (auth, credential) = (source.auth.clone(), credential_context(context));
    let check = move || check_source_credential(&auth, &credential);
    let result = RealEnv.spawn_blocking(check).await;
    result.map_err(|error| StartError::Configuration(format!("source {}: {error}", context.name)))
}

/// Returns the mode in which a run starts. A reload ends the wait after an error or a rejected
/// credential if it changed what caused it; a wait that the server asked for is not shortened.
async fn start_mode(
    context: &SourceContext,
    source: &SourceSettings,
    start_reason: StartReason,
    machine: &StateMachine,
) -> StartMode {
    let StartReason::ConfigReload(diff) = start_reason else { return StartMode::Resume };
    let has_cause_changed = match machine.state {
        State::AuthFailed { .. } => {
            let (auth, credential) = (source.auth.clone(), credential_context(context));
            RealEnv.spawn_blocking(move || is_credential_replaced(&auth, &credential)).await
                || diff == ReloadDiff::SettingsChanged
        }
        State::Error { .. } => diff == ReloadDiff::SettingsChanged,
        State::Idle { .. } | State::Working(_) | State::Completed | State::RateLimited { .. } => {
            false
        }
    };
    if !has_cause_changed {
        return StartMode::Resume;
    }
    info!(
        state = machine.status().name(),
        "retrying now: the configuration or the credential has changed"
    );
    StartMode::RunNow
}

/// Dependencies of a source that are not part of its configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceDeps<'a> {
    pub(super) credential: &'a CredentialContext,
    pub(super) rate_limiters: &'a RateLimiters<RealEnv>,
    pub(super) metrics: &'a MetricsHandle,
    pub(super) recorder: &'a ResponseRecorder,
}

impl<'a> SourceDeps<'a> {
    fn from_context(
        context: &'a SourceContext,
        credential: &'a CredentialContext,
        metrics: &'a MetricsHandle,
    ) -> Self {
        Self {
            credential,
            rate_limiters: &context.process.rate_limiters,
            metrics,
            recorder: &context.process.recorder,
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

/// Builds the source. Nothing is sent or read before the first request.
pub(super) fn build_source(
    identity: SourceAccount<'_>,
    deps: SourceDeps<'_>,
    settings: &Settings,
    source: &SourceSettings,
    retry_policies: &RetryPolicies,
    proxy_mode: ProxyMode,
) -> Result<DynSource, StartError> {
    let (request, provider) = (&settings.request, settings.provider_or_default(&source.provider));
    let limiter_config = limiter_config(settings, &source.provider);
    let parts = SourceParts {
        name: identity.name.to_owned(),
        account: identity.account,
        credential: source_credential(&source.auth, deps.credential.clone()),
        limiter: deps.rate_limiters.handle_for(&source.provider, &source.account, limiter_config),
        concurrency: provider.concurrency,
        connections: provider.connections,
        http: HttpOptions {
            allowed_origins: Vec::new(),
            limits: RequestLimits {
                retry_policy: retry_policies.request.clone(),
                connect_timeout: request.connect_timeout,
                idle_timeout: request.idle_timeout,
                total_timeout: request.total_timeout,
                min_rate: request.min_rate,
                max_response: request.max_response,
                max_document: request.max_document,
            },
            proxy_mode,
            error_rules: settings.error_rules(&source.provider).to_vec(),
            metrics: deps.metrics.clone(),
            recorder: deps.recorder.with_header_names(&provider.headers),
            quota_rules: QuotaRules { header_names: provider.headers, routes: provider.routes },
        },
    };
    source_kinds::build_source(source, parts).map_err(StartError::Failed)
}
