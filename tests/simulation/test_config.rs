//! Settings of the simulated worker: the defaults of `config.toml`, except a poll every half hour.

use std::time::Duration;

use cynosure::config::{EnvVars, Settings, load_defaults};
use cynosure::limiter::LimiterConfig;
use cynosure::worker;
use cynosure_engine::{Backoff, ItemRetryPolicy, MachineConfig};

pub(crate) fn machine_config() -> MachineConfig {
    let seconds = Duration::from_secs;
    MachineConfig {
        backoff: Backoff {
            transient: seconds(60),
            rate_limit: seconds(600),
            proxy: seconds(300),
            challenge: seconds(900),
            source_down: seconds(3600),
            unknown: seconds(300),
            multiplier: 2.0,
            max_delay: seconds(3600),
            jitter: 0.3,
            max_doublings: 5,
        },
        max_retries: 3,
        max_consecutive_errors: 5,
        rate_limit_duration: seconds(300),
        stuck_threshold: seconds(1800),
        max_execution_time: seconds(86_400),
        restart_delay_success: seconds(0),
        restart_delay_auth: seconds(300),
        restart_delay_errors: seconds(600),
        recovery_timeout: seconds(60),
        poll_interval: seconds(1800),
    }
}

pub(crate) fn limiter_config() -> LimiterConfig {
    worker::limiter_config(&settings(), "sim")
}

pub(crate) fn item_retry_policy() -> ItemRetryPolicy {
    settings().item
}

fn settings() -> Settings {
    load_defaults(&EnvVars::default()).unwrap().settings
}
