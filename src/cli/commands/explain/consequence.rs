//! Consequences of a failure: the action as text, and the delay before the next attempt.

use std::time::Duration;

use cynosure_engine::rate_limit::{
    Block, BlockReason, LOCK_OUT_WAIT_MAX, RateLimitMode, RateLimitPolicy, RateLimitResponse,
    RateLimiter, ReportedLimits, SendDecision,
};
use cynosure_engine::{
    Cause, ErrorAction, ErrorCategory, Failure, ItemDecision, ItemFailureCounts,
    RETRY_AFTER_JITTER, RETRY_AFTER_MARGIN, RandomSample, RequestScope, format_duration,
};

use super::explained_failure::ExplainedFailure;
use super::input::ExplainPolicies;

/// Random sample that gives the shortest delay.
const LOWEST_SAMPLE: RandomSample = RandomSample(0);
/// Random sample that gives the longest delay.
const HIGHEST_SAMPLE: RandomSample = RandomSample(u32::MAX);

/// Number of further delays shown after the first.
const NEXT_DELAYS_MAX: u32 = 2;

/// Consequence of a response for requests of some scopes.
#[derive(Debug)]
pub(super) struct Consequence {
    pub scopes: Vec<RequestScope>,
    /// Name of the action.
    pub action: &'static str,
    /// Description of the action, as text.
    pub description: String,
    pub delay: Option<DelayRange>,
}

/// Time until the next attempt, with the range of its jitter.
#[derive(Debug, PartialEq)]
pub(super) struct DelayRange {
    pub shortest: Duration,
    pub longest: Duration,
    /// Parts of the computation, as text.
    pub reasons: Vec<String>,
    /// Shortest and longest of each delay after it, if the attempts keep failing.
    pub next_delays: Vec<(Duration, Duration)>,
}

impl Consequence {
    /// True if it differs from `other` in nothing but its scopes.
    fn has_same_effect(&self, other: &Self) -> bool {
        (self.action, &self.description, &self.delay)
            == (other.action, &other.description, &other.delay)
    }
}

/// Adds a consequence. If one has the same effect, it gets the scopes of the new one.
pub(super) fn add_consequence(consequences: &mut Vec<Consequence>, new: Consequence) {
    match consequences.iter_mut().find(|known| known.has_same_effect(&new)) {
        Some(known) => known.scopes.extend(new.scopes),
        None => consequences.push(new),
    }
}

/// Returns the scopes of all consequences.
pub(super) fn scopes_of(consequences: &[Consequence]) -> Vec<RequestScope> {
    consequences.iter().flat_map(|consequence| consequence.scopes.iter().copied()).collect()
}

/// Determines the consequence for a request of one scope.
pub(super) fn consequence(
    failure: &ExplainedFailure,
    scope: RequestScope,
    policies: &ExplainPolicies,
    limit_headers: &ReportedLimits,
) -> Consequence {
    let action = failure.cause.action(scope);
    let delay = match action {
        ErrorAction::WaitForRateLimit => block_delay(failure, policies, limit_headers),
        ErrorAction::Quarantine => Some(recheck_delay(failure, policies)),
        ErrorAction::MarkGone => None,
        ErrorAction::RefreshCredential => Some(fixed_delay(
            policies.settings.restart.restart_delay_auth,
            "restart.restart_delay_auth, unless the credential changes sooner".to_owned(),
        )),
        ErrorAction::Retry | ErrorAction::RetryAsChallenge | ErrorAction::RetryConservatively
            if scope == RequestScope::Item =>
        {
            Some(item_retry_delay(failure, policies))
        }
        ErrorAction::Retry
        | ErrorAction::RetryAsChallenge
        | ErrorAction::RetryConservatively
        | ErrorAction::RetryMuchLater
        | ErrorAction::SwitchProxy
        | ErrorAction::FullResync
        | ErrorAction::RestartListing
        | ErrorAction::WaitForNetwork
        | ErrorAction::WaitForStorage => Some(session_retry_delay(failure, policies)),
    };
    let description =
        quick_retry_note(failure, scope, policies) + &describe(action, failure, scope, policies);
    Consequence { scopes: vec![scope], action: action.name(), description, delay }
}

/// Returns the beginning of the description if quick retries precede the action, else nothing.
fn quick_retry_note(
    failure: &ExplainedFailure,
    scope: RequestScope,
    policies: &ExplainPolicies,
) -> String {
    let is_retried = failure.quickly_retried.contains(&scope)
        && Failure::new(failure.cause, "").with_retry_after(failure.retry_after).is_transient();
    match policies.settings.retry.request.max_attempts {
        tries if tries > 1 && is_retried => format!("after {tries} quick tries, "),
        _ => String::new(),
    }
}

fn describe(
    action: ErrorAction,
    failure: &ExplainedFailure,
    scope: RequestScope,
    policies: &ExplainPolicies,
) -> String {
    let retries = policies.settings.restart.max_retries;
    let retry = format!("the session waits and retries, up to {retries} times, then restarts");
    let item = describe_attempt(failure, policies);
    match action {
        ErrorAction::WaitForRateLimit => {
            format!(
                "no request is sent to the provider until the wait ends; it costs no attempt, \
                 except from the third {} of one item while other requests succeed",
                failure.refusal
            )
        }
        ErrorAction::RefreshCredential => {
            "the credential is reloaded; if it is refused again, an alert is sent and all requests \
             wait for another credential"
                .to_owned()
        }
        ErrorAction::Quarantine if failure.cause == Cause::Forbidden => {
            "quarantined at once; ten different items in a row count as a refused credential"
                .to_owned()
        }
        ErrorAction::Quarantine => "quarantined at once".to_owned(),
        ErrorAction::MarkGone => {
            "deleted at the source: the item is marked as gone, and is settled".to_owned()
        }
        ErrorAction::RetryMuchLater => {
            format!(
                "the source was not found at its address: manual intervention is required; {retry}"
            )
        }
        ErrorAction::RetryAsChallenge if scope == RequestScope::Item => {
            format!(
                "{item}; three such responses in a row fail the session, unless a stored document \
                 can still be fetched"
            )
        }
        ErrorAction::RetryAsChallenge => {
            format!(
                "the source may be blocking this client: manual intervention is required; {retry}"
            )
        }
        ErrorAction::Retry | ErrorAction::RetryConservatively if scope == RequestScope::Item => {
            let threshold = policies.settings.breaker.failure_threshold;
            format!(
                "{item}; {threshold} different items in a row fail the session, unless a stored \
                 document can still be fetched"
            )
        }
        ErrorAction::Retry | ErrorAction::RetryConservatively => retry,
        ErrorAction::SwitchProxy => {
            format!("the proxy failed: this costs no item an attempt; {retry}")
        }
        ErrorAction::FullResync => {
            "not a failure: everything is listed again; twice in a row is a failure".to_owned()
        }
        ErrorAction::RestartListing => format!("the listing is restarted: {retry}"),
        ErrorAction::WaitForNetwork => {
            "waits for the network of this machine; not a failure of the source or the item"
                .to_owned()
        }
        ErrorAction::WaitForStorage => {
            "waits for the disk of this machine, and an alert is sent".to_owned()
        }
    }
}

fn describe_attempt(failure: &ExplainedFailure, policies: &ExplainPolicies) -> String {
    let attempts = policies.settings.item.max_attempts;
    let attempt = failure.attempt.min(attempts);
    format!("attempt {attempt} of {attempts} failed; after the last it is quarantined")
}

/// Returns how long the rate limiter blocks all requests because of a response, whatever its
/// cause. The block is computed by a real [`RateLimiter`], as in the worker.
pub(super) fn block_delay(
    failure: &ExplainedFailure,
    policies: &ExplainPolicies,
    limit_headers: &ReportedLimits,
) -> Option<DelayRange> {
    let at = failure.at;
    let (retry_after, lock_out_wait) =
        if failure.is_lock_out { (None, failure.retry_after) } else { (failure.retry_after, None) };
    let limit_headers = ReportedLimits { retry_after, lock_out_wait, ..limit_headers.clone() };
    let block = |sample| {
        let mut limiter = RateLimiter::new(policies.rate_limit_policy.clone(), at);
        let SendDecision::Admitted(token) = limiter.admit(1, at) else { return None };
        let response = RateLimitResponse {
            outcome: failure.cause.rate_limit_signal(),
            reported: &limit_headers,
        };
        limiter.record_response(token, &response, at, sample)
    };
    let (soonest, latest) = (block(LOWEST_SAMPLE)?, block(HIGHEST_SAMPLE)?);
    Some(DelayRange {
        shortest: soonest.until.since(at),
        longest: latest.until.since(at),
        reasons: block_reasons(&soonest, failure, &limit_headers, policies),
        next_delays: Vec::new(),
    })
}

fn block_reasons(
    block: &Block,
    failure: &ExplainedFailure,
    limit_headers: &ReportedLimits,
    policies: &ExplainPolicies,
) -> Vec<String> {
    let margin = margin_text();
    let max = format_duration(policies.rate_limit_policy.max_wait);
    let mut lines = Vec::new();
    match &block.reason {
        BlockReason::RetryAfter(retry_after) => {
            lines.push(format!("{}, {margin}", retry_after_text(*retry_after, failure)));
            if block.exceeds_max_wait {
                lines.push(format!("longer than max_wait, {max}: manual intervention is required"));
            }
        }
        BlockReason::Exhausted { reset_at, .. } if block.exceeds_max_wait => {
            let until_reset = format_duration(reset_at.since(failure.at));
            lines.push(format!(
                "max_wait, {max}, instead of the {until_reset} to the reset, {margin}"
            ));
            lines.push(
                "then one request is sent as a probe, and manual intervention is required"
                    .to_owned(),
            );
        }
        BlockReason::Exhausted { reset_at, .. } => {
            lines.push(format!(
                "no requests remain until the reset in {}, {margin}",
                format_duration(reset_at.since(failure.at))
            ));
        }
        BlockReason::NoTimeGiven { .. } => match limit_headers.lock_out_wait {
            Some(first_wait) => lines.extend(lock_out_reasons(first_wait, failure)),
            None => {
                let policy = &policies.rate_limit_policy;
                lines.extend(default_block_reasons(failure, limit_headers, policy));
            }
        },
        BlockReason::DailyBytes { .. } => lines.push(block.to_string()),
    }
    lines
}

/// Explains the length of a block for which the server gave no usable time.
fn default_block_reasons(
    failure: &ExplainedFailure,
    limit_headers: &ReportedLimits,
    policy: &RateLimitPolicy,
) -> [String; 2] {
    let refusal = failure.refusal;
    let mut resets = limit_headers.limits.iter().filter_map(|limit| limit.reset);
    let is_too_far = resets.any(|reset| reset.is_too_far());
    let reason = if is_too_far { "the reset is too far away" } else { "no retry time is given" };
    let longest = format_duration(policy.max_wait.max(policy.initial_block.unwrap_or_default()));
    match (policy.initial_block, policy.mode) {
        (Some(_), _) => [
            format!("{reason}: restart.rate_limit_duration"),
            format!("doubles with each further {refusal}, up to {longest}"),
        ],
        (None, RateLimitMode::Adaptive) => [
            format!("{reason}: the first wait is short, since most limits end soon"),
            format!("each further {refusal} makes it longer, up to {longest}"),
        ],
        (None, RateLimitMode::Fixed | RateLimitMode::Off) => [
            format!("{reason}: the default wait"),
            format!("doubles with each further {refusal}, up to {longest}"),
        ],
    }
}

/// Explains the length of a block after a lock-out whose end the server does not name.
fn lock_out_reasons(first_wait: Duration, failure: &ExplainedFailure) -> [String; 2] {
    [
        format!("{}, {}", retry_after_text(first_wait, failure), margin_text()),
        format!(
            "doubles with each further {} before a message arrives, up to {}",
            failure.refusal,
            format_duration(LOCK_OUT_WAIT_MAX)
        ),
    ]
}

/// Returns the origin of a wait, and its length.
fn retry_after_text(retry_after: Duration, failure: &ExplainedFailure) -> String {
    format!("{}, {}", failure.wait_origin, format_duration(retry_after))
}

/// Returns the margin and the jitter added to a Retry-After, as text.
fn margin_text() -> String {
    format!(
        "+ {} margin, + up to {} jitter",
        format_duration(RETRY_AFTER_MARGIN),
        format_duration(RETRY_AFTER_JITTER)
    )
}

/// Returns the time until a quarantined item is rechecked.
fn recheck_delay(failure: &ExplainedFailure, policies: &ExplainPolicies) -> DelayRange {
    let recheck = policies.settings.item.recheck;
    let delay_after = |further_quarantines: u32| {
        let quarantines = failure.quarantine_count.saturating_add(further_quarantines);
        recheck.next_recheck_at(failure.cause, quarantines, failure.at).since(failure.at)
    };
    let reason = match failure.cause.category() {
        ErrorCategory::Permanent => format!(
            "item.recheck, {}, doubling up to item.max_recheck, {}",
            format_duration(recheck.interval),
            format_duration(recheck.max_interval)
        ),
        ErrorCategory::Temporary
        | ErrorCategory::Authentication
        | ErrorCategory::Local
        | ErrorCategory::Unknown => {
            format!("item.recheck, {}", format_duration(recheck.interval))
        }
    };
    let next_delays =
        (1..=NEXT_DELAYS_MAX).map(|count| (delay_after(count), delay_after(count))).collect();
    DelayRange { next_delays, ..fixed_delay(delay_after(0), reason) }
}

/// Returns the time until an item is retried, or rechecked if this was its last attempt.
fn item_retry_delay(failure: &ExplainedFailure, policies: &ExplainPolicies) -> DelayRange {
    let (at, failed_before) = (failure.at, failure.attempt.saturating_sub(1));
    let range = |attempts: u32| {
        // The server's Retry-After applies to the next attempt only.
        let retry_after = failure.retry_after.filter(|_| attempts == failed_before);
        let item_failure = Failure::new(failure.cause, "").with_retry_after(retry_after);
        let counts =
            ItemFailureCounts { failed_attempts: attempts, ..ItemFailureCounts::default() };
        let wait =
            |sample| match policies.settings.item.on_failure(&item_failure, counts, at, sample) {
                ItemDecision::Retry { at: retry_at, .. } => Some(retry_at.since(at)),
                ItemDecision::Gone | ItemDecision::Quarantine | ItemDecision::NotCharged => None,
            };
        wait(LOWEST_SAMPLE).zip(wait(HIGHEST_SAMPLE))
    };
    let Some((shortest, longest)) = range(failed_before) else {
        return recheck_delay(failure, policies);
    };
    let mut reasons = vec![format!(
        "item.retry_delay, {} × 2^{failed_before}, at most {}, jitter over the upper half",
        format_duration(policies.settings.item.retry_delay),
        format_duration(policies.settings.item.max_retry_delay),
    )];
    reasons.extend(failure.retry_after.map(|retry_after| {
        format!("never sooner than {}", retry_after_text(retry_after, failure))
    }));
    let next_delays =
        (failed_before + 1..=failed_before + NEXT_DELAYS_MAX).map_while(range).collect();
    DelayRange { shortest, longest, reasons, next_delays }
}

/// Returns the time until a session is retried.
fn session_retry_delay(failure: &ExplainedFailure, policies: &ExplainPolicies) -> DelayRange {
    let backoff = &policies.settings.backoff;
    let range = |attempt| {
        let retry_after = failure.retry_after.filter(|_| attempt == 1);
        let delay = |sample| backoff.delay(failure.cause, attempt, retry_after, sample);
        (delay(LOWEST_SAMPLE), delay(HIGHEST_SAMPLE))
    };
    let base = format_duration(backoff.base_delay(failure.cause));
    let mut reasons = vec![format!(
        "{base} × {}^0, jitter ± {:.0} % of {base}, at most {}",
        backoff.multiplier,
        backoff.jitter * 100.0,
        format_duration(backoff.max_delay),
    )];
    reasons.extend(failure.retry_after.map(|retry_after| {
        let text = retry_after_text(retry_after, failure);
        format!("never sooner than {text}, {}", margin_text())
    }));
    let (shortest, longest) = range(1);
    DelayRange {
        shortest,
        longest,
        reasons,
        next_delays: (2..=1 + NEXT_DELAYS_MAX).map(range).collect(),
    }
}

fn fixed_delay(delay: Duration, reason: String) -> DelayRange {
    DelayRange { shortest: delay, longest: delay, reasons: vec![reason], next_delays: Vec::new() }
}
