//! Proxy pool of all sources, built from the configuration; the health of the proxies is kept.

use std::sync::{Arc, Mutex, PoisonError};

use cynosure_engine::{Cause, Failure, ProxyPolicy};

use crate::config::{self, EnvVars, PoolProxy};
use crate::source::http::{Proxy, ProxyMode, ProxyPoolHealth};

/// Provides the proxy mode, and keeps the health of the proxies for as long as their configuration
/// is unchanged. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ProxyPoolProvider {
    cached: Arc<Mutex<Option<CachedPool>>>,
}

/// Configuration of a proxy pool and the health of its proxies.
type CachedPool = (config::ProxySettings, Arc<ProxyPoolHealth>);

impl ProxyPoolProvider {
    /// Returns the proxy mode: direct, or a pool whose credentials are read here.
    /// Blocks.
    ///
    /// # Errors
    /// [`Cause::Proxy`] if a credential cannot be read; without it no request is sent.
    pub(super) fn proxy_mode(
        &self,
        settings: &config::ProxySettings,
        environment: &EnvVars,
    ) -> Result<ProxyMode, Failure> {
        if settings.pool.is_empty() {
            return Ok(ProxyMode::Direct);
        }
        let proxies = settings.pool.iter().map(|proxy| with_credentials(proxy, environment));
        Ok(ProxyMode::Pool {
            proxies: proxies.collect::<Result<_, _>>()?,
            health: self.health_for(settings),
        })
    }

    fn health_for(&self, settings: &config::ProxySettings) -> Arc<ProxyPoolHealth> {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((pool_settings, health)) = &*cached
            && pool_settings == settings
        {
            return Arc::clone(health);
        }
        let policy = ProxyPolicy {
            failure_threshold: settings.failure_threshold,
            cooldown: settings.cooldown,
            max_cooldown: settings.max_cooldown,
        };
        let urls: Vec<_> = settings.pool.iter().map(|proxy| proxy.url.clone()).collect();
        let health = Arc::new(ProxyPoolHealth::new(policy, &urls));
        *cached = Some((settings.clone(), Arc::clone(&health)));
        health
    }
}

fn with_credentials(proxy: &PoolProxy, environment: &EnvVars) -> Result<Proxy, Failure> {
    let login = match &proxy.login {
        None => None,
        Some((username, password)) => {
            let secret = password.read(environment).map_err(|error| {
                Failure::new(Cause::Proxy, format!("cannot read the password of a proxy: {error}"))
            })?;
            Some((username.clone(), secret))
        }
    };
    Ok(Proxy { url: proxy.url.clone(), login })
}
