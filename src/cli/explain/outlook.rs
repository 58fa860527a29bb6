//! What follows from a judgement: in words, and how long it takes.

use std::time::Duration;

use serde_json::{Value, json};

use super::asked::{Asked, Basis};
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
const SOONEST: RandomSample = RandomSample(0);
const LATEST: RandomSample = RandomSample(u32::MAX);

/// How many further waits are told beside the first.
const FURTHER: u32 = 2;

/// What a reply means for requests of some scopes.
#[derive(Debug)]
pub(super) struct Outlook {
    pub scopes: Vec<RequestScope>,
    pub verdict: ErrorAction,
    /// What will happen, in words.
    pub means: String,
    pub delay: Option<Delay>,
}

/// How long until something is tried again.
#[derive(Debug, PartialEq)]
pub(super) struct Delay {
    pub shortest: Duration,
    pub longest: Duration,
    /// How it was computed.
    pub because: Vec<String>,
    /// The waits after it, if nothing changes.
    pub then: Vec<(Duration, Duration)>,
}

impl Outlook {
    /// Whether it says the same of other scopes.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.verdict, &self.means, &self.delay) == (other.verdict, &other.means, &other.delay)
    }
}

impl Delay {
    pub(super) fn json(&self) -> Value {
        let seconds = |(shortest, longest): &(Duration, Duration)| json!({ "shortest_seconds": shortest.as_secs_f64(), "longest_seconds": longest.as_secs_f64() });
        json!({
            "shortest_seconds": self.shortest.as_secs_f64(),
            "longest_seconds": self.longest.as_secs_f64(),
            "because": self.because,
            "then": self.then.iter().map(seconds).collect::<Vec<_>>(),
        })
    }
}

/// Works out what follows for a request of one scope.
pub(super) fn outlook(
    judgement: &Classification<'_>,
    scope: RequestScope,
    asked: &Asked,
    basis: &Basis,
    signals: &RateLimitHeaders,
) -> Outlook {
    let verdict = judgement.cause.action(scope);
    let delay = match verdict {
        ErrorAction::WaitForRateLimit => hold(judgement, asked, basis, signals),
        ErrorAction::Quarantine => Some(rest(judgement.cause, asked, basis)),
        ErrorAction::MarkGone => None,
        ErrorAction::RefreshCredential => Some(certain(
            basis.settings.restart.restart_delay_auth,
            "restart.restart_delay_auth, unless the credential changes sooner".to_owned(),
        )),
        ErrorAction::Retry | ErrorAction::RetryAsChallenge | ErrorAction::RetryConservatively
            if scope == RequestScope::Item =>
        {
            Some(retry(judgement, asked, basis))
        }
        ErrorAction::Retry
        | ErrorAction::RetryAsChallenge
        | ErrorAction::RetryConservatively
        | ErrorAction::RetryMuchLater
        | ErrorAction::SwitchProxy
        | ErrorAction::FullResync
        | ErrorAction::RestartListing
        | ErrorAction::WaitForNetwork
        | ErrorAction::WaitForStorage => Some(session_retry(judgement, basis)),
    };
    let means = quick_tries(judgement, basis) + &means(verdict, judgement, scope, asked, basis);
    Outlook { scopes: vec![scope], verdict, means, delay }
}

/// What comes before the verdict, where a second try may do.
fn quick_tries(judgement: &Classification<'_>, basis: &Basis) -> String {
    let failure = Failure::new(judgement.cause, "").with_retry_after(judgement.retry_after);
    match basis.settings.retry.request.max_attempts {
        tries if tries > 1 && failure.is_transient() => format!("after {tries} quick tries, "),
        _ => String::new(),
    }
}

fn means(
    verdict: ErrorAction,
    judgement: &Classification<'_>,
    scope: RequestScope,
    asked: &Asked,
    basis: &Basis,
) -> String {
    let retries = basis.settings.restart.max_retries;
    let again = format!("the session waits and tries again, {retries} times, then starts anew");
    let attempts = basis.item.max_attempts;
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
pub(super) fn hold(
    judgement: &Classification<'_>,
    asked: &Asked,
    basis: &Basis,
    signals: &RateLimitHeaders,
) -> Option<Delay> {
    let signals = RateLimitHeaders { retry_after: judgement.retry_after, ..signals.clone() };
    let held = |draw| {
        let mut quota = RateLimiter::new(basis.quota.clone(), asked.at);
        let SendDecision::Admitted(ticket) = quota.admit(1, asked.at) else { return None };
        let reply =
            RateLimitReply { outcome: judgement.cause.rate_limit_signal(), headers: &signals };
        quota.record_reply(ticket, &reply, asked.at, draw)
    };
    let (soonest, latest) = (held(SOONEST)?, held(LATEST)?);
    Some(Delay {
        shortest: soonest.until.since(asked.at),
        longest: latest.until.since(asked.at),
        because: hold_words(&soonest, judgement, &signals, asked.at, basis),
        then: Vec::new(),
    })
}

fn hold_words(
    hold: &Block,
    judgement: &Classification<'_>,
    signals: &RateLimitHeaders,
    at: Timestamp,
    basis: &Basis,
) -> Vec<String> {
    let late = late();
    let max = format_duration(basis.quota.max_wait);
    let mut lines = Vec::new();
    match &hold.reason {
        BlockReason::RetryAfter(told) => {
            lines.push(format!("{}, {late}", told_words(*told, judgement)));
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
        BlockReason::NoTimeGiven { .. } => lines.extend(unexplained_words(signals, &basis.quota)),
    }
    lines
}

/// Why a wait is as long as it is where the server names none that could be kept.
fn unexplained_words(signals: &RateLimitHeaders, quota: &RateLimitPolicy) -> [String; 2] {
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
fn told_words(told: Duration, judgement: &Classification<'_>) -> String {
    let whose =
        if judgement.facts.retry_after == Some(told) { "the server's word" } else { "your rule" };
    format!("{whose}, {}", format_duration(told))
}

/// What is added to a server's word.
fn late() -> String {
    format!(
        "+ {} margin, + up to {} by chance",
        format_duration(RETRY_AFTER_MARGIN),
        format_duration(RETRY_AFTER_JITTER)
    )
}

/// How long a quarantined item rests.
fn rest(cause: Cause, asked: &Asked, basis: &Basis) -> Delay {
    let recheck = basis.item.recheck;
    let rest = |times: u32| {
        let times = asked.quarantines.saturating_add(times);
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
    let then = (1..=FURTHER).map(|times| (rest(times), rest(times))).collect();
    Delay { then, ..certain(rest(0), because) }
}

/// When an item is tried again; its rest, if this was its last attempt.
fn retry(judgement: &Classification<'_>, asked: &Asked, basis: &Basis) -> Delay {
    let before = asked.attempt.saturating_sub(1);
    let range = |attempts: u32| {
        // What the server told holds for the next attempt only.
        let told = judgement.retry_after.filter(|_| attempts == before);
        let failure = Failure::new(judgement.cause, "").with_retry_after(told);
        let trial = ItemFailureCounts { failed_attempts: attempts, ..ItemFailureCounts::default() };
        let wait = |draw| match basis.item.on_failure(&failure, trial, asked.at, draw) {
            ItemDecision::Retry { at, .. } => Some(at.since(asked.at)),
            ItemDecision::Gone | ItemDecision::Quarantine | ItemDecision::NotCharged => None,
        };
        wait(SOONEST).zip(wait(LATEST))
    };
    let Some((shortest, longest)) = range(before) else {
        return rest(judgement.cause, asked, basis);
    };
    let mut because = vec![format!(
        "item.retry_delay, {} × 2^{before}, at most {}, its upper half by chance",
        format_duration(basis.item.retry_delay),
        format_duration(basis.item.max_retry_delay),
    )];
    let told = judgement.retry_after;
    because.extend(told.map(|told| format!("never sooner than {}", told_words(told, judgement))));
    let then = (before + 1..=before + FURTHER).map_while(range).collect();
    Delay { shortest, longest, because, then }
}

/// When a session is tried again.
fn session_retry(judgement: &Classification<'_>, basis: &Basis) -> Delay {
    let backoff = &basis.backoff;
    let range = |attempt| {
        let told = judgement.retry_after.filter(|_| attempt == 1);
        let delay = |draw| backoff.delay(judgement.cause, attempt, told, draw);
        (delay(SOONEST), delay(LATEST))
    };
    let base = format_duration(backoff.base_delay(judgement.cause));
    let mut because = vec![format!(
        "{base} × {}^0, ± {:.0} % of {base} by chance, at most {}",
        backoff.multiplier,
        backoff.jitter * 100.0,
        format_duration(backoff.max_delay),
    )];
    let told = judgement.retry_after;
    because.extend(
        told.map(|told| format!("never sooner than {}, {}", told_words(told, judgement), late())),
    );
    let (shortest, longest) = range(1);
    Delay { shortest, longest, because, then: (2..=1 + FURTHER).map(range).collect() }
}

fn certain(delay: Duration, because: String) -> Delay {
    Delay { shortest: delay, longest: delay, because: vec![because], then: Vec::new() }
}
