//! Which policies are rehearsed, as they are typed.

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

/// The plain exponential back-off that others do.
const BACKOFF: SendStrategy = SendStrategy::Backoff {
    initial_delay: Duration::from_millis(500),
    max_delay: Duration::from_secs(60),
};

/// The most of a quota that may be left to others.
const RESERVE_MAX: f64 = 0.9;

/// One way to behave.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) struct NamedPolicy {
    /// What it is called in the table: what was typed, or the provider whose policy it is.
    pub(super) name: String,
    pub(super) strategy: SendStrategy,
    /// Requests side by side at most; where it says nothing, the scenario does.
    pub(super) workers: Option<u32>,
}

impl NamedPolicy {
    fn new(name: &str, strategy: SendStrategy) -> Self {
        Self { name: name.to_owned(), strategy, workers: None }
    }
}

/// Reads a policy that was typed.
///
/// # Errors
/// What can be typed instead.
pub(in crate::cli) fn parse_policy(text: &str) -> Result<NamedPolicy, String> {
    let (word, rest) = text.split_at(text.find([',', '=']).unwrap_or(text.len()));
    let mut quota = RateLimitPolicy::default();
    let options = match (word, rest.strip_prefix('=')) {
        ("backoff", None) if rest.is_empty() => {
            return Ok(NamedPolicy::new(text, BACKOFF));
        }
        ("follow", None) => rest,
        ("off", None) => {
            quota.mode = RateLimitMode::Off;
            rest
        }
        ("fixed", Some(rest)) => {
            let (rate, options) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            quota.mode = RateLimitMode::Fixed;
            quota.cap = Some(parse_rate(rate)?);
            options
        }
        ("fixed", None) => {
            return Err("a fixed policy names its rate, such as fixed=600/min".to_owned());
        }
        _ => return Err("the policies are follow, fixed=RATE, off and backoff".to_owned()),
    };
    for option in options.split(',').skip(1) {
        match option.split_once('=') {
            Some(("cap", rate)) if quota.mode == RateLimitMode::Adaptive => {
                quota.cap = Some(parse_rate(rate)?);
            }
            Some(("reserve", share)) if quota.mode == RateLimitMode::Adaptive => {
                quota.reserve = parse_reserve(share)?;
            }
            _ => {
                return Err(format!(
                    "`{option}` is no option of {word}; follow has cap=RATE and reserve=SHARE, \
                     the others have none"
                ));
            }
        }
    }
    Ok(NamedPolicy::new(text, SendStrategy::RateLimiter(quota)))
}

/// The policy that is rehearsed: what was typed, else what is configured, else to follow. With it, what
/// the configured provider calls its headers.
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
    let ground = load_context(common)?;
    let settings = &ground.loaded.settings;
    let used = settings.sources.values().map(|source| &source.provider);
    let known: Vec<&String> = settings.providers.keys().chain(used).collect();
    if known.contains(&name) {
        return Ok(configured_policy(settings, name));
    }
    let mut known: Vec<&str> = known.into_iter().map(String::as_str).collect();
    known.sort_unstable();
    known.dedup();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let why = format!(
        "there is no provider {name:?} in {}; the providers there: {known}",
        ground.config_file.display()
    );
    Err(CliError::new(ProgramExit::Configuration, why))
}

/// What the configuration says for a provider.
fn configured_policy(settings: &Settings, name: &str) -> (NamedPolicy, HeaderNames) {
    let rules = rate_limit_config(settings, name);
    let workers = Some(rules.provider.concurrency);
    let strategy = SendStrategy::RateLimiter(rules.policy);
    (NamedPolicy { name: name.to_owned(), strategy, workers }, rules.provider.headers)
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    Rate::from_str(text).map_err(|error| error.to_string())
}

fn parse_reserve(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=RESERVE_MAX).contains(share));
    share.ok_or_else(|| format!("`{text}` is no reserve; write a share from 0.0 to {RESERVE_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_read_and_keeps_its_name() {
        let (minute, default) = (Duration::from_secs(60), RateLimitPolicy::default());
        let (cap, fixed) =
            (Rate::from_units(500.0, minute), Some(Rate::from_units(5000.0, minute * 60)));
        let quota = |policy| SendStrategy::RateLimiter(policy);
        for (typed, strategy) in [
            ("follow", quota(default.clone())),
            (
                "follow,cap=500/min,reserve=0.1",
                quota(RateLimitPolicy { cap: Some(cap), reserve: 0.1, ..default.clone() }),
            ),
            (
                "fixed=5000/h",
                quota(RateLimitPolicy {
                    mode: RateLimitMode::Fixed,
                    cap: fixed,
                    ..default.clone()
                }),
            ),
            ("off", quota(RateLimitPolicy { mode: RateLimitMode::Off, ..default })),
            ("backoff", BACKOFF),
        ] {
            assert_eq!(parse_policy(typed), Ok(NamedPolicy::new(typed, strategy)));
        }
    }

    #[test]
    fn an_unknown_policy_lists_the_known_ones() {
        let told = [
            "",
            "folow",
            "fixed",
            "fixed=",
            "backoff,cap=1/s",
            "off=1",
            "follow,cap",
            "follow,reserve=1",
        ]
        .map(|typed| parse_policy(typed).expect_err(typed));

        insta::assert_snapshot!(told.join("\n"), @r#"
            the policies are follow, fixed=RATE, off and backoff
            the policies are follow, fixed=RATE, off and backoff
            a fixed policy names its rate, such as fixed=600/min
            `` is not a rate: write it as `600/min`, `10/s`, `5000/h` or `100/d`
            the policies are follow, fixed=RATE, off and backoff
            the policies are follow, fixed=RATE, off and backoff
            `cap` is no option of follow; follow has cap=RATE and reserve=SHARE, the others have none
            `1` is no reserve; write a share from 0.0 to 0.9
            "#);
    }
}
