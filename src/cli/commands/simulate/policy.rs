//! Policies to simulate, as arguments name them.

use std::str::FromStr;
use std::time::Duration;

use cynosure_engine::rate_limit::{Rate, RateLimitMode, RateLimitPolicy};
use cynosure_lab::simulate::SendStrategy;

/// Plain exponential backoff, as in most other clients.
const BACKOFF: SendStrategy = SendStrategy::Backoff {
    initial_delay: Duration::from_millis(500),
    max_delay: Duration::from_secs(60),
};

/// Largest share of a quota that can be left to other clients.
const RESERVE_MAX: f64 = 0.9;

/// Policy to simulate, with its name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedPolicy {
    /// Name in the table: the argument as given, or the provider of the policy.
    pub(super) name: String,
    pub(super) strategy: SendStrategy,
    /// Maximum number of requests in flight. `None`: the scenario sets it.
    pub(super) workers: Option<u32>,
}

impl NamedPolicy {
    pub(super) fn new(name: &str, strategy: SendStrategy) -> Self {
        Self { name: name.to_owned(), strategy, workers: None }
    }
}

/// Parses a policy argument.
///
/// # Errors
/// An invalid policy; the message contains the valid ones.
pub(crate) fn parse_policy(text: &str) -> Result<NamedPolicy, String> {
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
