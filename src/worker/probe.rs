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
use crate::source::{MetricsHandle, ResponseRecorder, Source};
use crate::worker::last_credential::LastCredential;
use crate::worker::proxy_pool::ProxyPoolProvider;
use crate::worker::retry_policies::RetryPolicies;
use crate::worker::source_credential::CredentialContext;
use crate::worker::source_run::{SourceAccount, SourceDeps, build_source};

/// Discovers the service and reads its current cursor: two requests, which change nothing.
/// `account` is the account that the ledger belongs to, if known; another one is a failure.
/// `source_state_dir` is the state folder of the source, with the tokens of a sign-in.
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
) -> Result<(), Failure> {
    let proxy_pools = ProxyPoolProvider::default();
    let proxy_mode = proxy_pools.proxy_mode(&settings.proxy, environment)?;
    // The probe must not change the persisted state of the rate limiters.
    let limiters_file =
        LockedFile::without_lock(Arc::new(MemoryDisk::default()), PathBuf::from("/quota"));
    let rate_limiters = RateLimiters::new(Rc::new(RealEnv), limiters_file);
    let credential = CredentialContext {
        environment: environment.clone(),
        last_credential: LastCredential::default(),
        source_state_dir: source_state_dir.to_owned(),
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
    match tokio::time::timeout(limit, client.current_cursor()).await {
        Ok(result) => result.map(drop),
        Err(_) => {
            let message = format!("no response within {} s", limit.as_secs());
            Err(Failure::new(Cause::Timeout, message))
        }
    }
}
