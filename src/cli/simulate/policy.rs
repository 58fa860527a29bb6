//! Policies to simulate: parsed from arguments, or read from the configuration.

use std::str::FromStr;
use std::time::Duration;

use crate::cli::args::{CommonArgs, SimulateArgs};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::sources::load_context;
use crate::config::Settings;
use crate::engine::rate_limit::{HeaderNames, Rate, RateLimitMode, RateLimitPolicy};
use crate::simulate::SendStrategy;
use crate::worker::rate_limit_config;

/// Plain exponential backoff, as in most other clients.
const BACKOFF: SendStrategy = SendStrategy::Backoff {
    initial_delay: Duration::from_millis(500),
    max_delay: Duration::from_secs(60),
};

/// Largest share of a quota that can be left to other clients.
const RESERVE_MAX: f64 = 0.9;

/// Policy to simulate, with its name.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct NamedPolicy {
    /// Name in the table: the argument as given, or the provider of the policy.
    pub(super) name: String,
    pub(super) strategy: SendStrategy,
    /// Maximum number of requests in flight. `None`: the scenario sets it.
    pub(super) workers: Option<u32>,
}

impl NamedPolicy {
    fn new(name: &str, strategy: SendStrategy) -> Self {
        Self { name: name.to_owned(), strategy, workers: None }
    }
}

/// Parses a policy argument.
///
/// # Errors
/// An invalid policy; the message contains the valid ones.
pub(in crate::cli) fn parse_policy(text: &str) -> Result<NamedPolicy, String> {
    let (kind, rest) = text.split_at(text.find([',', '=']).unwrap_or(text.len()));
    let mut policy = RateLimitPolicy::default();
    let options = match (kind, rest.strip_prefix('=')) {
        ("backoff", None) if rest.is_empty() => {
            return Ok(NamedPolicy::new(text, BACKOFF));
        }
        ("follow", None) => rest,
        ("off", None) => {
            policy.mode = RateLimitMode::Off;
            rest
        }
        ("fixed", Some(rest)) => {
            let (rate, options) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            policy.mode = RateLimitMode::Fixed;
            policy.cap = Some(parse_rate(rate)?);
            options
        }
        ("fixed", None) => {
            return Err("a fixed policy needs a rate, such as fixed=600/min".to_owned());
        }
        _ => return Err("the policies are follow, fixed=RATE, off and backoff".to_owned()),
    };
    for option in options.split(',').skip(1) {
        match option.split_once('=') {
            Some(("cap", rate)) if policy.mode == RateLimitMode::Adaptive => {
                policy.cap = Some(parse_rate(rate)?);
            }
            Some(("reserve", share)) if policy.mode == RateLimitMode::Adaptive => {
                policy.reserve = parse_reserve(share)?;
            }
            _ => {
                return Err(format!(
                    "`{option}` is not an option of {kind}; follow has cap=RATE and reserve=SHARE, \
                     the others have none"
                ));
            }
        }
    }
    Ok(NamedPolicy::new(text, SendStrategy::RateLimiter(policy)))
}

/// Selects the policy to simulate: the argument, else that of the configured provider, else
/// `follow`. Returns it with the header names of the provider.
pub(super) fn select_policy(
    common: &CommonArgs,
    args: &SimulateArgs,
) -> Result<(NamedPolicy, HeaderNames), CliError> {
    if let Some(policy) = &args.policy {
        return Ok((policy.clone(), HeaderNames::default()));
    }
    let Some(name) = &args.provider else {
        let follow =
            NamedPolicy::new("follow", SendStrategy::RateLimiter(RateLimitPolicy::default()));
        return Ok((follow, HeaderNames::default()));
    };
    let context = load_context(common)?;
    let settings = &context.loaded.settings;
    let source_providers = settings.sources.values().map(|source| &source.provider);
    let known: Vec<&String> = settings.providers.keys().chain(source_providers).collect();
    if known.contains(&name) {
        return Ok(configured_policy(settings, name));
    }
    let mut known: Vec<&str> = known.into_iter().map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!(
        "there is no provider {name:?} in {}; known providers: {known}",
        context.config_file.display()
    );
    Err(CliError::new(ProgramExit::Configuration, message))
}

/// Returns the policy and the header names of a provider in the configuration.
fn configured_policy(settings: &Settings, name: &str) -> (NamedPolicy, HeaderNames) {
    let config = rate_limit_config(settings, name);
    let workers = Some(config.provider.concurrency);
    let strategy = SendStrategy::RateLimiter(config.policy);
    (NamedPolicy { name: name.to_owned(), strategy, workers }, config.provider.headers)
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    Rate::from_str(text).map_err(|error| error.to_string())
}

fn parse_reserve(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=RESERVE_MAX).contains(share));
    share.ok_or_else(|| {
        format!("`{text}` is not a valid reserve; write a share from 0.0 to {RESERVE_MAX}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_read_and_keeps_its_name() {
        let (minute, default) = (Duration::from_secs(60), RateLimitPolicy::default());
        let (cap, fixed_rate) =
            (Rate::from_units(500.0, minute), Some(Rate::from_units(5000.0, minute * 60)));
        let limiter = SendStrategy::RateLimiter;
        for (text, strategy) in [
            ("follow", limiter(default.clone())),
            (
                "follow,cap=500/min,reserve=0.1",
                limiter(RateLimitPolicy { cap: Some(cap), reserve: 0.1, ..default.clone() }),
            ),
            (
                "fixed=5000/h",
                limiter(RateLimitPolicy {
                    mode: RateLimitMode::Fixed,
                    cap: fixed_rate,
                    ..default.clone()
                }),
            ),
            ("off", limiter(RateLimitPolicy { mode: RateLimitMode::Off, ..default })),
            ("backoff", BACKOFF),
        ] {
            assert_eq!(parse_policy(text), Ok(NamedPolicy::new(text, strategy)));
        }
    }

    #[test]
    fn an_unknown_policy_lists_the_known_ones() {
        let errors = [
            "",
            "folow",
            "fixed",
            "fixed=",
            "backoff,cap=1/s",
            "off=1",
            "follow,cap",
            "follow,reserve=1",
        ]
        .map(|text| parse_policy(text).expect_err(text));

        insta::assert_snapshot!(errors.join("\n"), @r#"
            the policies are follow, fixed=RATE, off and backoff
            the policies are follow, fixed=RATE, off and backoff
            a fixed policy needs a rate, such as fixed=600/min
            `` is not a rate: write it as `600/min`, `10/s`, `5000/h` or `100/d`
            the policies are follow, fixed=RATE, off and backoff
            the policies are follow, fixed=RATE, off and backoff
            `cap` is not an option of follow; follow has cap=RATE and reserve=SHARE, the others have none
            `1` is not a valid reserve; write a share from 0.0 to 0.9
            "#);
    }
}
