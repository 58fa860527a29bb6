//! Configuration of the rate limiter of a provider.

use cynosure_engine::rate_limit::{Rate, RateLimitPolicy};

use crate::config::{RateLimitScope, Settings};
use crate::limiter::LimiterConfig;
use crate::source_kinds::{request_concurrency, slow_start_rate};

/// Returns the configuration of the rate limiter of a provider, which all its sources share.
#[must_use]
pub fn limiter_config(settings: &Settings, provider: &str) -> LimiterConfig {
    let policy = settings.rate_limit_policy(provider);
    let sources = settings.sources.values().filter(|source| source.provider == provider);
    let provider = settings.provider_or_default(provider);
    let concurrency = sources.clone().map(|source| request_concurrency(source, &provider)).max();
    let slow_start_rate = sources.map(slow_start_rate).reduce(Rate::min);
    LimiterConfig {
        policy: RateLimitPolicy {
            slow_start_rate: slow_start_rate.unwrap_or(policy.slow_start_rate),
            ..policy
        },
        concurrency: concurrency.unwrap_or(provider.concurrency),
        is_per_account: provider.rate_limit_scope == RateLimitScope::Account,
        route_budgets: (provider.routes.into_iter())
            .filter_map(|route| Some((route.path, route.budget?)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EnvVars, load};

    #[test]
    fn a_connection_has_two_commands_in_flight() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("config.toml");
        let text = r#"
            [source.mail]
            kind = "imap"
            account = "me@gmail.com"
            auth = { type = "oauth2", token = { env = "TOKEN" } }

            [provider.other]
            concurrency = 5
        "#;
        fs_err::write(&path, text).expect("the folder is writable");
        let settings = load(&path, &EnvVars::default()).expect("it is valid").settings;

        let gmail = limiter_config(&settings, "gmail");
        assert_eq!(gmail.concurrency, 6);
        assert_eq!(gmail.policy.bytes_per_day, Some(2_500_000_000));
        let other = limiter_config(&settings, "other");
        assert!(other.policy.slow_start_rate < gmail.policy.slow_start_rate);
        assert!(gmail.is_per_account);
        let source = settings.find_source("mail").expect("there is such a source").1;
        let provider = settings.provider_or_default("gmail");
        assert_eq!(crate::source_kinds::fetch_concurrency(source, &provider), 3 * 128);
        assert_eq!(other.concurrency, 5);
    }
}
