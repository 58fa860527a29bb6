//! Metrics of a proxy pool.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ProxyHealth, ProxyState, Timestamp};

/// Counts of proxies by state. Each proxy is in exactly one of the first three.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct ProxyMetrics {
    /// Alive, and the last request did not fail.
    pub healthy: u32,
    /// Alive, but the last request failed.
    #[serde(rename = "doubted")]
    pub failing: u32,
    /// In cooldown, due for a probe, or being probed.
    pub dead: u32,
    /// Dead proxies whose cooldown is not over.
    #[serde(rename = "cooling")]
    pub cooling_down: u32,
    /// Mean time from sending a request to the head of its response, over the alive proxies that
    /// were used.
    pub mean_latency_millis: Option<u64>,
}

impl ProxyMetrics {
    #[must_use]
    pub fn from_proxies<'a>(
        proxies: impl Iterator<Item = &'a ProxyHealth>,
        now: Timestamp,
    ) -> Self {
        let mut metrics = Self::default();
        let (mut sum, mut measured) = (Duration::ZERO, 0);
        for proxy in proxies {
            match proxy.state {
                ProxyState::Dead { until } => {
                    metrics.dead += 1;
                    metrics.cooling_down += u32::from(until > now);
                }
                ProxyState::Probing { .. } => metrics.dead += 1,
                ProxyState::Alive if proxy.consecutive_failures > 0 => metrics.failing += 1,
                ProxyState::Alive => metrics.healthy += 1,
            }
            if let (ProxyState::Alive, Some(latency)) = (proxy.state, proxy.latency) {
                (sum, measured) = (sum.saturating_add(latency), measured + 1);
            }
        }
        let mean = sum.checked_div(measured);
        metrics.mean_latency_millis = mean.and_then(|mean| u64::try_from(mean.as_millis()).ok());
        metrics
    }

    #[must_use]
    pub fn total(&self) -> u32 {
        self.healthy.saturating_add(self.failing).saturating_add(self.dead)
    }
}
