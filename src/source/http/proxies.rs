//! Connection mode of a client, and the health of the proxy pool that accounts share.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cynosure_engine::metrics::ProxyMetrics;
use cynosure_engine::{
    Failure, ProxyChange, ProxyHealth, ProxyIndex, ProxyPolicy, ProxyPool, Timestamp,
};
use secrecy::SecretString;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use url::Url;

/// One proxy: `http` or `socks5`, with host and port.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub url: Url,
    pub login: Option<(String, SecretString)>,
}

/// Connection mode of a client.
#[derive(Clone, Debug)]
pub enum ProxyMode {
    /// Direct, or through the environment's proxy variables; always direct to servers on this host.
    Direct,
    /// Through one of these proxies, regardless of the environment and of the server's location.
    Pool { proxies: Vec<Proxy>, health: Arc<ProxyPoolHealth> },
}

/// Health of a proxy pool, shared by all accounts that use it.
pub struct ProxyPoolHealth {
    names: Vec<String>,
    created_at: Instant,
    pool: Mutex<ProxyPool>,
}

impl ProxyMode {
    /// Returns the health of the proxy pool; `None` without a pool.
    #[must_use]
    pub fn pool_health(&self) -> Option<Arc<ProxyPoolHealth>> {
        match self {
            Self::Direct => None,
            Self::Pool { health, .. } => Some(Arc::clone(health)),
        }
    }
}

impl ProxyPoolHealth {
    /// Creates the health of a pool with these proxy URLs.
    #[must_use]
    pub fn new(policy: ProxyPolicy, urls: &[Url]) -> Self {
        Self {
            names: urls.iter().map(display_name).collect(),
            created_at: Instant::now(),
            pool: Mutex::new(ProxyPool::new(policy, urls.len())),
        }
    }

    /// Returns the health of each proxy with its name, in the configured order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(String, ProxyHealth)> {
        self.names.iter().cloned().zip(self.lock_pool().health().iter().copied()).collect()
    }

    /// Returns the number of proxies in each state.
    #[must_use]
    pub fn metrics(&self) -> ProxyMetrics {
        ProxyMetrics::from_proxies(self.lock_pool().health().iter(), self.elapsed())
    }

    pub(in crate::source) fn choose_proxy(
        &self,
        tried: &BTreeSet<ProxyIndex>,
    ) -> Option<(ProxyIndex, Timestamp)> {
        let now = self.elapsed();
        self.lock_pool().choose(tried, now).map(|index| (index, now))
    }

    pub(in crate::source) fn record_success(&self, index: ProxyIndex, sent_at: Timestamp) {
        let change = self.lock_pool().record_success(index, sent_at, self.elapsed());
        if let Some(ProxyChange::Recovered) = change {
            info!(proxy = self.proxy_name(index), "proxy recovered");
        }
    }

    pub(in crate::source) fn record_failure(
        &self,
        index: ProxyIndex,
        sent_at: Timestamp,
        failure: &Failure,
    ) {
        let (change, proxy) = (
            self.lock_pool().record_failure(index, sent_at, self.elapsed()),
            self.proxy_name(index),
        );
        match change {
            Some(ProxyChange::Dead { cooldown }) => {
                warn!(proxy, ?cooldown, error = %failure, "proxy dead");
            }
            Some(ProxyChange::StillDead { cooldown }) => {
                debug!(proxy, ?cooldown, error = %failure, "proxy still dead");
            }
            Some(ProxyChange::Recovered) | None => {}
        }
    }

    pub(in crate::source) fn proxy_name(&self, index: ProxyIndex) -> &str {
        self.names.get(index.0).map_or("", String::as_str)
    }

    /// Returns the time since the pool was created. The health does not outlive the process.
    fn elapsed(&self) -> Timestamp {
        Timestamp(0).after(self.created_at.elapsed())
    }

    fn lock_pool(&self) -> MutexGuard<'_, ProxyPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ProxyPoolHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyPoolHealth").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Returns the name of a proxy in logs: its URL without the login.
fn display_name(url: &Url) -> String {
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}
