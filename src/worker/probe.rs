//! Probes a source: checks that it is reachable and accepts the credential, over the same transport
//! as the work.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{EnvVars, Settings, SourceName, SourceSettings as Configured};
use crate::disk::{LockedFile, MemoryDisk};
use crate::engine::{AccountId, Cause, Failure};
use crate::source::{MetricsHandle, ResponseRecorder, Source};
use crate::worker::env::RealEnv;
use crate::worker::proxy_pool::ProxyPoolProvider;
use crate::worker::rate_limit::RateLimiters;
use crate::worker::retry_policies::RetryPolicies;
use crate::worker::source_run::{LastCredential, SourceAccount, SourceDeps, build_jmap_source};

/// Discovers the service and reads its current cursor: two requests, which change nothing.
/// `account` is the account that the ledger belongs to, if known; another one is a failure.
///
/// # Errors
/// The failure of the source, or a timeout if it took longer than `limit`.
pub async fn probe(
    settings: &Settings,
    (name, source): (&SourceName, &Configured),
    account: Option<AccountId>,
    environment: &EnvVars,
    limit: Duration,
) -> Result<(), Failure> {
    let outlet = ProxyPoolProvider::default();
    let egress = outlet.transport(&settings.proxy, environment)?;
    // The probe must not change the persisted state of the rate limiters.
    let quotas = LockedFile::without_lock(Arc::new(MemoryDisk::default()), PathBuf::from("/quota"));
    let gates = RateLimiters::new(Rc::new(RealEnv), quotas);
    let secret = LastCredential::default();
    let (meter, recorder) = (MetricsHandle::default(), ResponseRecorder::default());
    let access = SourceDeps {
        environment,
        secret: &secret,
        rate_limiters: &gates,
        metrics: &meter,
        recorder: &recorder,
    };
    let identity = SourceAccount { name: name.as_str(), account };
    let client = build_jmap_source(
        identity,
        access,
        settings,
        source,
        &RetryPolicies::new(settings),
        egress,
    );
    let client = client.map_err(|refusal| Failure::new(Cause::Unknown, refusal.to_string()))?;
    match tokio::time::timeout(limit, client.current_cursor()).await {
        Ok(pinned) => pinned.map(drop),
        Err(_) => {
            let why = format!("no answer within {} s", limit.as_secs());
            Err(Failure::new(Cause::Timeout, why))
        }
    }
}
