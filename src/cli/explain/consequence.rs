//! What follows from a judgement: in words, and how long it takes.

use std::time::Duration;

use serde_json::{Value, json};

use super::input::{ExplainInput, ExplainPolicies};
use crate::engine::rate_limit::{
    Block, BlockReason, RateLimitHeaders, RateLimitMode, RateLimitPolicy, RateLimitReply,
    RateLimiter, SendDecision,
};
use crate::engine::{
    Cause, Classification, ErrorAction, ErrorCategory, Failure, ItemDecision, ItemFailureCounts,
    RETRY_AFTER_JITTER, RETRY_AFTER_MARGIN, RandomSample, RequestScope, Timestamp,
};
use crate::human::format_duration;

/// Chance at both its ends.
const LOWEST_SAMPLE: RandomSample = RandomSample(0);
const HIGHEST_SAMPLE: RandomSample = RandomSample(u32::MAX);

/// How many further waits are told beside the first.
const NEXT_DELAYS_MAX: u32 = 2;

/// What a reply means for requests of some scopes.
#[derive(Debug)]
pub(super) struct Consequence {
    pub scopes: Vec<RequestScope>,
    pub verdict: ErrorAction,
    /// What will happen, in words.
    pub description: String,
    pub delay: Option<DelayRange>,
}

/// How long until something is tried again.
#[derive(Debug, PartialEq)]
pub(super) struct DelayRange {
    pub shortest: Duration,
    pub longest: Duration,
    /// How it was computed.
    pub reasons: Vec<String>,
    /// The waits after it, if nothing changes.
    pub next_delays: Vec<(Duration, Duration)>,
}

impl Consequence {
    /// Whether it says the same of other scopes.
    pub(super) fn has_same_effect(&self, other: &Self) -> bool {
        (self.verdict, &self.description, &self.delay)
            == (other.verdict, &other.description, &other.delay)
    }
}

impl DelayRange {
    pub(super) fn to_json(&self) -> Value {
        let seconds = |(shortest, longest): &(Duration, Duration)| json!({ "shortest_seconds": shortest.as_secs_f64(), "longest_seconds": longest.as_secs_f64() });
        json!({
            "shortest_seconds": self.shortest.as_secs_f64(),
            "longest_seconds": self.longest.as_secs_f64(),
            "because": self.reasons,
            "then": self.next_delays.iter().map(seconds).collect::<Vec<_>>(),
        })
    }
}

/// Works out what follows for a request of one scope.
pub(super) fn consequence(
    judgement: &Classification<'_>,
    scope: RequestScope,
    asked: &ExplainInput,
    basis: &ExplainPolicies,
    signals: &RateLimitHeaders,
) -> Consequence {
    let verdict = judgement.cause.action(scope);
    let delay = match verdict {
        ErrorAction::WaitForRateLimit => block_delay(judgement, asked, basis, signals),
        ErrorAction::Quarantine => Some(recheck_delay(judgement.cause, asked, basis)),
        ErrorAction::MarkGone => None,
        ErrorAction::RefreshCredential => Some(fixed_delay(
            basis.settings.restart.restart_delay_auth,
            "restart.restart_delay_auth, unless the credential changes sooner".to_owned(),
        )),
        ErrorAction::Retry | ErrorAction::RetryAsChallenge | ErrorAction::RetryConservatively
            if scope == RequestScope::Item =>
        {
            Some(item_retry_delay(judgement, asked, basis))
        }
        ErrorAction::Retry
        | ErrorAction::RetryAsChallenge
        | ErrorAction::RetryConservatively
        | ErrorAction::RetryMuchLater
        | ErrorAction::SwitchProxy
        | ErrorAction::FullResync
        | ErrorAction::RestartListing
        | ErrorAction::WaitForNetwork
        | ErrorAction::WaitForStorage => Some(session_retry_delay(judgement, basis)),
    };
    let means =
        quick_retry_note(judgement, basis) + &describe(verdict, judgement, scope, asked, basis);
    Consequence { scopes: vec![scope], verdict, description: means, delay }
}

/// What comes before the verdict, where a second try may do.
fn quick_retry_note(judgement: &Classification<'_>, basis: &ExplainPolicies) -> String {
    let failure = Failure::new(judgement.cause, "").with_retry_after(judgement.retry_after);
    match basis.settings.retry.request.max_attempts {
        tries if tries > 1 && failure.is_transient() => format!("after {tries} quick tries, "),
        _ => String::new(),
    }
}

fn describe(
    verdict: ErrorAction,
    judgement: &Classification<'_>,
    scope: RequestScope,
    asked: &ExplainInput,
    basis: &ExplainPolicies,
) -> String {
    let retries = basis.settings.restart.max_retries;
    let again = format!("the session waits and tries again, {retries} times, then starts anew");
    let attempts = basis.item_policy.max_attempts;
    let attempt = asked.attempt.min(attempts);
    let item = format!("attempt {attempt} of {attempts} failed; after the last it is quarantined");
    match verdict {
        ErrorAction::WaitForRateLimit => {
            "nothing is sent to the provider until the wait is over; it costs no attempt until one \
             item alone was throttled three times"
                .to_owned()
        }
        ErrorAction::RefreshCredential => {
            "the credential is read again; refused again, all waits for another, and a person is told"
                .to_owned()
        }
        ErrorAction::Quarantine if judgement.cause == Cause::Forbidden => {
            "quarantined at once; ten different items in a row count as a refused credential"
                .to_owned()
        }
        ErrorAction::Quarantine => "quarantined at once".to_owned(),
        ErrorAction::MarkGone => "deleted at the source: it counts as gone, and is settled".to_owned(),
        ErrorAction::RetryMuchLater => {
            format!("the source is not where it was: a person is told; {again}")
        }
        ErrorAction::RetryAsChallenge if scope == RequestScope::Item => {
            format!("{item}; three such replies in a row fail the session, and a person is told, \
                     unless a stored document can still be fetched")
        }
        ErrorAction::RetryAsChallenge => format!("something keeps us out: a person is told; {again}"),
        ErrorAction::Retry | ErrorAction::RetryConservatively if scope == RequestScope::Item => {
            let row = basis.settings.breaker.failure_threshold;
            format!("{item}; {row} different items in a row fail the session, unless a stored document \
                     can still be fetched")
        }
        ErrorAction::Retry | ErrorAction::RetryConservatively => again,
        ErrorAction::SwitchProxy => format!("the way out is closed, no item is to blame; {again}"),
        ErrorAction::FullResync => {
            "not a failure: everything is listed once more; again at once, it is one".to_owned()
        }
        ErrorAction::RestartListing => format!("the listing is begun again: {again}"),
        ErrorAction::WaitForNetwork => "the network here is waited for; no one is to blame".to_owned(),
        ErrorAction::WaitForStorage => "the disk here is waited for, and a person is told".to_owned(),
    }
}

/// How long the gate stays closed because of a reply, whatever its cause. The quota decides
/// it, as in the worker.
pub(super) fn block_delay(
    judgement: &Classification<'_>,
    asked: &ExplainInput,
    basis: &ExplainPolicies,
    signals: &RateLimitHeaders,
) -> Option<DelayRange> {
    let signals = RateLimitHeaders { retry_after: judgement.retry_after, ..signals.clone() };
    let held = |draw| {
        let mut quota = RateLimiter::new(basis.rate_limit_policy.clone(), asked.at);
        let SendDecision::Admitted(ticket) = quota.admit(1, asked.at) else { return None };
        let reply =
            RateLimitReply { outcome: judgement.cause.rate_limit_signal(), headers: &signals };
        quota.record_reply(ticket, &reply, asked.at, draw)
    };
    let (soonest, latest) = (held(LOWEST_SAMPLE)?, held(HIGHEST_SAMPLE)?);
    Some(DelayRange {
        shortest: soonest.until.since(asked.at),
        longest: latest.until.since(asked.at),
        reasons: block_reasons(&soonest, judgement, &signals, asked.at, basis),
        next_delays: Vec::new(),
    })
}

fn block_reasons(
    hold: &Block,
    judgement: &Classification<'_>,
    signals: &RateLimitHeaders,
    at: Timestamp,
    basis: &ExplainPolicies,
) -> Vec<String> {
    let late = margin_text();
    let max = format_duration(basis.rate_limit_policy.max_wait);
    let mut lines = Vec::new();
    match &hold.reason {
        BlockReason::RetryAfter(told) => {
            lines.push(format!("{}, {late}", retry_after_text(*told, judgement)));
            if hold.exceeds_max_wait {
                lines.push(format!("longer than max_wait, {max}: a person is told"));
            }
        }
        BlockReason::Exhausted { reset_at: resets, .. } if hold.exceeds_max_wait => {
            let ahead = format_duration(resets.since(at));
            lines.push(format!("not the {ahead} to the reset, but max_wait, {max}, {late}"));
            lines.push("one request then tries, and a person is told".to_owned());
        }
        BlockReason::Exhausted { reset_at: resets, .. } => {
            lines.push(format!(
                "nothing remains until the reset in {}, {late}",
                format_duration(resets.since(at))
            ));
        }
        BlockReason::NoTimeGiven { .. } => {
            lines.extend(unexplained_block_reasons(signals, &basis.rate_limit_policy))
        }
    }
    lines
}

/// Why a wait is as long as it is where the server names none that could be kept.
fn unexplained_block_reasons(signals: &RateLimitHeaders, quota: &RateLimitPolicy) -> [String; 2] {
    let is_far = signals.limits.iter().any(|limit| limit.reset.is_some_and(|it| it.is_too_far()));
    let why = if is_far { "the reset is too far off to count" } else { "no time is told" };
    let longest = format_duration(quota.max_wait.max(quota.initial_block.unwrap_or_default()));
    match (quota.initial_block, quota.mode) {
        (Some(_), _) => [
            format!("{why}: restart.rate_limit_duration"),
            format!("doubling while it says so again, up to {longest}"),
        ],
        (None, RateLimitMode::Adaptive) => [
            format!("{why}: a first try soon, since most limits end soon"),
            format!("longer holds follow while it says so again, up to {longest}"),
        ],
        (None, RateLimitMode::Fixed | RateLimitMode::Off) => [
            format!("{why}: a first hold"),
            format!("doubling while it says so again, up to {longest}"),
        ],
    }
}

/// Whose word a wait is.
fn retry_after_text(told: Duration, judgement: &Classification<'_>) -> String {
    let whose =
        if judgement.facts.retry_after == Some(told) { "the server's word" } else { "your rule" };
    format!("{whose}, {}", format_duration(told))
}

/// What is added to a server's word.
fn margin_text() -> String {
    format!(
        "+ {} margin, + up to {} by chance",
        format_duration(RETRY_AFTER_MARGIN),
        format_duration(RETRY_AFTER_JITTER)
    )
}

/// How long a quarantined item rests.
fn recheck_delay(cause: Cause, asked: &ExplainInput, basis: &ExplainPolicies) -> DelayRange {
    let recheck = basis.item_policy.recheck;
    let rest = |times: u32| {
        let times = asked.quarantine_count.saturating_add(times);
        recheck.next_recheck_at(cause, times, asked.at).since(asked.at)
    };
    let because = match cause.category() {
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
    let then = (1..=NEXT_DELAYS_MAX).map(|times| (rest(times), rest(times))).collect();
    DelayRange { next_delays: then, ..fixed_delay(rest(0), because) }
}

/// When an item is tried again; its rest, if this was its last attempt.
fn item_retry_delay(
    judgement: &Classification<'_>,
    asked: &ExplainInput,
    basis: &ExplainPolicies,
) -> DelayRange {
    let before = asked.attempt.saturating_sub(1);
    let range = |attempts: u32| {
        // What the server told holds for the next attempt only.
        let told = judgement.retry_after.filter(|_| attempts == before);
        let failure = Failure::new(judgement.cause, "").with_retry_after(told);
        let trial = ItemFailureCounts { failed_attempts: attempts, ..ItemFailureCounts::default() };
        let wait = |draw| match basis.item_policy.on_failure(&failure, trial, asked.at, draw) {
            ItemDecision::Retry { at, .. } => Some(at.since(asked.at)),
            ItemDecision::Gone | ItemDecision::Quarantine | ItemDecision::NotCharged => None,
        };
        wait(LOWEST_SAMPLE).zip(wait(HIGHEST_SAMPLE))
    };
    let Some((shortest, longest)) = range(before) else {
        return recheck_delay(judgement.cause, asked, basis);
    };
    let mut because = vec![format!(
        "item.retry_delay, {} × 2^{before}, at most {}, its upper half by chance",
        format_duration(basis.item_policy.retry_delay),
        format_duration(basis.item_policy.max_retry_delay),
    )];
    let told = judgement.retry_after;
    because.extend(
        told.map(|told| format!("never sooner than {}", retry_after_text(told, judgement))),
    );
    let then = (before + 1..=before + NEXT_DELAYS_MAX).map_while(range).collect();
    DelayRange { shortest, longest, reasons: because, next_delays: then }
}

/// When a session is tried again.
fn session_retry_delay(judgement: &Classification<'_>, basis: &ExplainPolicies) -> DelayRange {
    let backoff = &basis.backoff;
    let range = |attempt| {
        let told = judgement.retry_after.filter(|_| attempt == 1);
        let delay = |draw| backoff.delay(judgement.cause, attempt, told, draw);
        (delay(LOWEST_SAMPLE), delay(HIGHEST_SAMPLE))
    };
    let base = format_duration(backoff.base_delay(judgement.cause));
    let mut because = vec![format!(
        "{base} × {}^0, ± {:.0} % of {base} by chance, at most {}",
        backoff.multiplier,
        backoff.jitter * 100.0,
        format_duration(backoff.max_delay),
    )];
    let told = judgement.retry_after;
    because.extend(told.map(|told| {
        format!("never sooner than {}, {}", retry_after_text(told, judgement), margin_text())
    }));
    let (shortest, longest) = range(1);
    DelayRange {
        shortest,
        longest,
        reasons: because,
        next_delays: (2..=1 + NEXT_DELAYS_MAX).map(range).collect(),
    }
}

fn fixed_delay(delay: Duration, because: String) -> DelayRange {
    DelayRange { shortest: delay, longest: delay, reasons: vec![because], next_delays: Vec::new() }
}
