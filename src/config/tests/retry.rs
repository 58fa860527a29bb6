//! The named policies of quick retries.

use super::*;
use crate::retry::{BackoffConfig, Jitter};

fn load_retry(text: &str) -> RetrySettings {
    load_text(text).expect("it is valid").settings.retry
}

#[test]
fn each_policy_has_a_preset_of_its_own() {
    let retry = load_retry("");

    let policies = [retry.request, retry.storage, retry.collect, retry.bus];
    assert_eq!(
        policies,
        [BackoffConfig::FAST, BackoffConfig::FAST, BackoffConfig::STRICT, BackoffConfig::FAST]
    );
}

#[test]
fn a_policy_is_its_preset_with_overrides() {
    let text = "[retry.storage]\npreset = \"moderate\"\nmultiplier = 3\nbackoff_factor = 0.5\njitter = \"full\"\n\
                [retry.collect]\njitter = 0.1\n[retry.bus]\njitter = \"none\"\nmax_attempts = 1\n";
    let retry = load_retry(text);

    let storage = BackoffConfig {
        multiplier: 3.0,
        backoff_factor: 0.5,
        jitter: Jitter::Full,
        ..BackoffConfig::MODERATE
    };
    assert_eq!(retry.storage, storage);
    assert_eq!(
        retry.collect,
        BackoffConfig { jitter: Jitter::Proportional(0.1), ..BackoffConfig::STRICT }
    );
    assert_eq!(
        retry.bus,
        BackoffConfig { jitter: Jitter::None, max_attempts: 1, ..BackoffConfig::FAST }
    );
}

#[test]
fn request_retry_defaults_to_the_request_table() {
    let request_table = "[request]\nattempts = 7\ndelay = \"2s\"\nmax_delay = \"20s\"\n";
    let from_request = BackoffConfig {
        max_attempts: 7,
        base_delay: Duration::from_secs(2),
        max_delay: Duration::from_secs(20),
        ..BackoffConfig::FAST
    };

    assert_eq!(load_retry(request_table).request, from_request);
    let with_override = format!("{request_table}[retry.request]\nmax_attempts = 2\n");
    assert_eq!(
        load_retry(&with_override).request,
        BackoffConfig { max_attempts: 2, ..from_request }
    );
    let with_preset = format!("{request_table}[retry.request]\npreset = \"strict\"\n");
    assert_eq!(load_retry(&with_preset).request, BackoffConfig::STRICT);
}

#[test]
fn policy_errors_are_reported_with_a_remedy() {
    let text = r#"
[retry.storage]
preset = "quick"
max_attempts = 0
jitter = "some"
factor = 2

[retry.collect]
max_delay = "1s"
multiplier = 0.5
jitter = 1.5
backoff_factor = 0

[retry.requests]
"#;
    insta::assert_snapshot!(load_errors(text), @r#"
    config.toml:3:1: `retry.storage.preset` is the text "quick"; write "fast", "moderate" or "strict"
    config.toml:4:1: `retry.storage.max_attempts` is 0; write a whole number from 1 to 10000
    config.toml:5:1: `retry.storage.jitter` is the text "some"; write "none", "full" or a share from 0.0 to 1.0
    config.toml:6:1: unknown key `retry.storage.factor`; the keys here are backoff_factor, base_delay, jitter, max_attempts, max_delay, multiplier, preset
    config.toml:9:1: `retry.collect.base_delay` (2s) is longer than `retry.collect.max_delay` (1s); lower the one or raise the other
    config.toml:10:1: `retry.collect.multiplier` is 0.5; write a number from 1.0 to 10.0
    config.toml:11:1: `retry.collect.jitter` is 1.5; write "none", "full" or a share from 0.0 to 1.0
    config.toml:12:1: `retry.collect.backoff_factor` is 0; write a number from 0.01 to 100.0
    config.toml:14:8: unknown policy `retry.requests`; did you mean [retry.request]?
    9 mistakes in the configuration
    "#);
}

#[test]
fn the_policies_can_be_set_by_variables() {
    let folder = ConfigFolder::new("");
    let variables = [
        ("CYNOSURE_RETRY_STORAGE_PRESET", "strict"),
        ("CYNOSURE_RETRY_BUS_JITTER", "full"),
        ("CYNOSURE_RETRY_COLLECT_MAX_ATTEMPTS", "9"),
    ];
    let retry = folder.load_with_vars(variables).expect("it is valid").settings.retry;

    assert_eq!(retry.storage, BackoffConfig::STRICT);
    assert_eq!(retry.bus.jitter, Jitter::Full);
    assert_eq!(retry.collect.max_attempts, 9);
}

#[test]
fn a_policy_round_trips_through_config_show() {
    let text = "[request]\ndelay = \"1.25s\"\n[retry.storage]\npreset = \"moderate\"\njitter = \"none\"\n\
                [retry.bus]\nbackoff_factor = 1.5\n";
    let loaded = load_text(text).expect("it is valid");

    let again = load_text(&loaded.to_toml()).expect("what is shown is valid");

    assert_eq!(again.settings.retry, loaded.settings.retry);
}
