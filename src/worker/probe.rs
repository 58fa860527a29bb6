//! Probes a source: checks that it is reachable and accepts the credential, over the same transport
//! as the work.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cynosure_engine::{AccountId, Cause, Failure};

use crate::config::{EnvVars, Settings, SourceName, SourceSettings};
use crate::disk::{LockedFile, MemoryDisk};
use crate::env::RealEnv;
use crate::limiter::RateLimiters;
use crate::oauth::RefreshesInFlight;
use crate::source::{MetricsHandle, ResponseRecorder, Source};
use crate::worker::credential_context::CredentialContext;
use crate::worker::last_credential::LastCredential;
use crate::worker::proxy_pool::ProxyPoolProvider;
use crate::worker::retry_policies::RetryPolicies;
use crate::worker::source_run::{SourceAccount, SourceDeps, build_source};

/// Failure of a probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeFailure {
    pub failure: Failure,
    /// True if the sign-in server has refused the client rather than the account: only a correction
    /// of the configuration helps.
    pub is_client_refused: bool,
}

/// Discovers the service and reads its current cursor: two requests, which change nothing.
/// `account` is the account that the ledger belongs to, if known; another one is a failure.
/// `source_state_dir` is the state folder of the source, with the tokens of a sign-in. A refresh of
/// a token that the limit interrupts is waited for.
///
/// # Errors
/// The failure of the source, or a timeout if it took longer than `limit`.
pub async fn probe(
    settings: &Settings,
    (name, source): (&SourceName, &SourceSettings),
    account: Option<AccountId>,
    environment: &EnvVars,
    source_state_dir: &Path,
    limit: Duration,
) -> Result<(), ProbeFailure> {
    let proxy_pools = ProxyPoolProvider::default();
    let proxy_mode = proxy_pools.proxy_mode(&settings.proxy, environment)?;
    // The probe must not change the persisted state of the rate limiters.
    let limiters_file =
        LockedFile::without_lock(Arc::new(MemoryDisk::default()), PathBuf::from("/quota"));
    let rate_limiters = RateLimiters::new(Rc::new(RealEnv), limiters_file);
    let refreshes = RefreshesInFlight::default();
    let last_credential = LastCredential::default();
    let credential = CredentialContext {
        source: name.to_string(),
        environment: environment.clone(),
        last_credential: last_credential.clone(),
        source_state_dir: source_state_dir.to_owned(),
        refreshes: refreshes.clone(),
    };
    let (metrics, recorder) = (MetricsHandle::default(), ResponseRecorder::default());
    let deps = SourceDeps {
        credential: &credential,
        rate_limiters: &rate_limiters,
        metrics: &metrics,
        recorder: &recorder,
    };
    let identity = SourceAccount { name: name.as_str(), account };
    let retry_policies = RetryPolicies::new(settings);
    let client = build_source(identity, deps, settings, source, &retry_policies, proxy_mode);
    let client = client.map_err(|error| Failure::new(Cause::Unknown, error.to_string()))?;
    let result = tokio::time::timeout(limit, client.current_cursor()).await;
    refreshes.wait().await;
    let result = result.unwrap_or_else(|_elapsed| {
        let message = format!("no response within {} s", limit.as_secs());
        Err(Failure::new(Cause::Timeout, message))
    });
    let is_client_refused = last_credential.is_client_refused();
    result.map(drop).map_err(|failure| ProbeFailure { failure, is_client_refused })
}

impl From<Failure> for ProbeFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, is_client_refused: false }
    }
}
