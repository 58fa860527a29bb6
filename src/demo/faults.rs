//! What goes wrong, and when: by how many messages were served, so that every run meets all of it.
//!
//! Three lists, each in the order of progress. A *closure* refuses every request for some seconds, or so many of them; the
//! token *expires* once; a *mishap* befalls one download. Nothing here waits or reads the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::mailbox::MessageNumber;
use super::rng::{RngStream, random_below, seeded_rng};

/// How much goes wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum FaultLevel {
    /// Nothing.
    #[default]
    None,
    /// What a good service does on an ordinary day.
    Some,
    /// Everything, within three quarters of a minute.
    Storm,
}

/// What a request gets in place of its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FaultReply {
    /// 429.
    RateLimited { retry_after: Option<Duration> },
    /// 503.
    Unavailable { retry_after: Option<Duration> },
    /// The connection ends without an answer.
    Drop,
    /// A login page, with status 200.
    Html,
    /// 500, whenever this message is asked for.
    ServerError,
}

/// What happens to one download.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DownloadFault {
    Reply(FaultReply),
    /// The message is destroyed just before it is asked for.
    DestroyMessage,
    /// The answer comes late.
    Delay(Duration),
    /// The body comes drop by drop.
    SlowBody,
    /// The connection ends in mid-body.
    TruncatedBody,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DemoOutage {
    /// 429 with the seconds that remain.
    AnnouncedRateLimit(Duration),
    /// 429 that says nothing.
    SilentRateLimit(Duration),
    /// 503 and dropped connections in turn, until it is left alone.
    Unavailable,
}

#[derive(Debug)]
struct ActiveOutage {
    kind: DemoOutage,
    until: Instant,
    /// Requests refused while no answer was under way.
    refused_requests: u32,
}

/// What is still to go wrong, beside the number of served messages at which it does.
#[derive(Debug)]
pub(super) struct FaultPlan {
    outages: VecDeque<(u32, DemoOutage)>,
    active_outage: Option<ActiveOutage>,
    token_expiry: Option<u32>,
    download_faults: VecDeque<(u32, DownloadFault)>,
    /// By the number of requests to the API.
    api_faults: VecDeque<(u32, FaultReply)>,
    api_requests: u32,
    failing_message: Option<MessageNumber>,
    /// Requests that are still to be refused since a person wants it so.
    injected_failures: u32,
}

/// Requests that an outage refuses at least, while no other answer is under way: until three downloads have
/// failed, and a known-good document too, six downloads may have used their two attempts, and the known-good
/// one its own.
const OUTAGE_REFUSALS_MIN: u32 = 14;

/// Requests that it refuses at most: a client may never leave it alone.
const OUTAGE_REFUSALS_MAX: u32 = 40;

/// An outage is over once it was left alone for so long, as an open breaker does for a second. Quick retries
/// come sooner.
const OUTAGE_QUIET_PERIOD: Duration = Duration::from_millis(700);
const UNAVAILABLE: FaultReply = FaultReply::Unavailable { retry_after: None };
const DELAY_MIN_MS: u64 = 100;
const DELAY_MAX_MS: u64 = 800;

impl FaultPlan {
    /// Lays out what befalls a mailbox of so many messages.
    pub(super) fn new(faults: FaultLevel, seed: u64, messages: u32) -> Self {
        let mut plan = Self {
            outages: VecDeque::new(),
            active_outage: None,
            token_expiry: None,
            download_faults: VecDeque::new(),
            api_faults: VecDeque::new(),
            api_requests: 0,
            failing_message: None,
            injected_failures: 0,
        };
        match faults {
            FaultLevel::None => {}
            FaultLevel::Some => plan.plan_some(seed, messages),
            FaultLevel::Storm => plan.plan_storm(seed, messages),
        }
        plan.download_faults.make_contiguous().sort_by_key(|(at, _)| *at);
        plan
    }

    fn plan_some(&mut self, seed: u64, messages: u32) {
        let at = |percent| percent_of(messages, percent);
        self.outages.extend([(at(30), DemoOutage::AnnouncedRateLimit(Duration::from_secs(2)))]);
        self.download_faults.extend([(at(60), DownloadFault::DestroyMessage)]);
        self.api_faults.extend([(3, FaultReply::Drop)]);
        self.spread_download_faults(seed, messages, (messages / 10).clamp(1, 200));
    }

    fn plan_storm(&mut self, seed: u64, messages: u32) {
        let at = |percent| percent_of(messages, percent);
        // Throttles come late: a client that learns from them is slow from then on.
        self.outages.extend([
            (at(20), DemoOutage::Unavailable),
            (at(78), DemoOutage::AnnouncedRateLimit(Duration::from_secs(2))),
            (at(84), DemoOutage::AnnouncedRateLimit(Duration::from_secs(6))),
            (at(88), DemoOutage::SilentRateLimit(Duration::from_secs(1))),
        ]);
        self.token_expiry = Some(at(45));
        self.download_faults.extend([
            (at(5), DownloadFault::DestroyMessage),
            (at(12), DownloadFault::Reply(FaultReply::Html)),
            (at(50), DownloadFault::DestroyMessage),
            (
                at(86),
                DownloadFault::Reply(FaultReply::Unavailable {
                    retry_after: Some(Duration::from_secs(1)),
                }),
            ),
            (at(65), DownloadFault::Reply(FaultReply::Html)),
            (at(70), DownloadFault::DestroyMessage),
        ]);
        self.api_faults.extend([(2, UNAVAILABLE), (5, FaultReply::Drop)]);
        self.spread_download_faults(seed, messages, (messages / 24).clamp(1, 50));
        // Late, so that most is stored when it is found; not a multiple of anything.
        self.failing_message = (messages != 0).then(|| {
            MessageNumber(
                random_below(seed, RngStream::Fault, 1, messages.div_ceil(2)) + messages / 4,
            )
        });
    }

    /// Spreads the everyday mishaps evenly over nine tenths of the way, each kind as often as the others.
    fn spread_download_faults(&mut self, seed: u64, messages: u32, every: u32) {
        let mut chance = seeded_rng(seed, RngStream::Fault, 0);
        let mut round = Vec::new();
        for served in (every..percent_of(messages, 90)).step_by(every as usize) {
            if round.is_empty() {
                let late = Duration::from_millis(chance.u64(DELAY_MIN_MS..=DELAY_MAX_MS));
                round = vec![
                    DownloadFault::Reply(FaultReply::Drop),
                    DownloadFault::Reply(UNAVAILABLE),
                    DownloadFault::TruncatedBody,
                    DownloadFault::Delay(late),
                    DownloadFault::SlowBody,
                ];
                chance.shuffle(&mut round);
            }
            self.download_faults.extend(round.pop().map(|mishap| (served, mishap)));
        }
    }

    /// Has so many requests refused from now on, before anything else goes wrong; with none the service is open again.
    pub(super) fn inject_failures(&mut self, refusals: u32) {
        self.injected_failures = refusals;
    }

    /// Tells whether the service is closed to this request, whoever asks for what, while so many
    /// `answers` to others are under way.
    pub(super) fn outage_reply(
        &mut self,
        served: u32,
        answers: u32,
        now: Instant,
    ) -> Option<FaultReply> {
        if let Some(left) = self.injected_failures.checked_sub(1) {
            self.injected_failures = left;
            return Some(UNAVAILABLE);
        }
        if self.active_outage.is_none()
            && let Some(by) = take_due(&mut self.outages, served)
        {
            self.active_outage = Some(ActiveOutage {
                kind: by,
                until: now + by.min_duration(),
                refused_requests: 0,
            });
        }
        let closed = self.active_outage.as_mut()?;
        let is_due = closed.until <= now && closed.kind.refusals_min() <= closed.refused_requests;
        if is_due || closed.kind.refusals_max() <= closed.refused_requests {
            self.active_outage = None;
            return None;
        }
        if closed.kind == DemoOutage::Unavailable {
            closed.until = now + OUTAGE_QUIET_PERIOD;
        }
        // A success that comes in between breaks a row of failures.
        closed.refused_requests +=
            u32::from(answers == 0 || closed.kind != DemoOutage::Unavailable);
        Some(match closed.kind {
            DemoOutage::AnnouncedRateLimit(_) => {
                let left = closed.until.saturating_duration_since(now);
                FaultReply::RateLimited { retry_after: Some(left) }
            }
            DemoOutage::SilentRateLimit(_) => FaultReply::RateLimited { retry_after: None },
            DemoOutage::Unavailable if closed.refused_requests % 3 == 0 => FaultReply::Drop,
            DemoOutage::Unavailable => UNAVAILABLE,
        })
    }

    /// Tells, once, that the token expires now.
    pub(super) fn take_token_expiry(&mut self, served: u32) -> bool {
        self.token_expiry.take_if(|at| *at <= served).is_some()
    }

    /// Tells whether the API refuses its next request.
    pub(super) fn api_fault(&mut self) -> Option<FaultReply> {
        self.api_requests += 1;
        take_due(&mut self.api_faults, self.api_requests)
    }

    /// Tells what befalls the download of a message. Only one that is `alone` in its thread vanishes, so
    /// that a whole item is gone.
    pub(super) fn download_fault(
        &mut self,
        message: MessageNumber,
        served: u32,
        alone: bool,
    ) -> Option<DownloadFault> {
        if self.failing_message == Some(message) {
            return Some(DownloadFault::Reply(FaultReply::ServerError));
        }
        let place = self
            .download_faults
            .iter()
            .take_while(|(at, _)| *at <= served)
            .position(|(_, mishap)| *mishap != DownloadFault::DestroyMessage || alone)?;
        self.download_faults.remove(place).map(|(_, mishap)| mishap)
    }
}

impl DemoOutage {
    fn min_duration(self) -> Duration {
        match self {
            Self::AnnouncedRateLimit(length) | Self::SilentRateLimit(length) => length,
            Self::Unavailable => OUTAGE_QUIET_PERIOD,
        }
    }

    fn refusals_min(self) -> u32 {
        match self {
            Self::AnnouncedRateLimit(_) | Self::SilentRateLimit(_) => 1,
            Self::Unavailable => OUTAGE_REFUSALS_MIN,
        }
    }

    fn refusals_max(self) -> u32 {
        match self {
            Self::AnnouncedRateLimit(_) | Self::SilentRateLimit(_) => u32::MAX,
            Self::Unavailable => OUTAGE_REFUSALS_MAX,
        }
    }
}

fn take_due<T>(list: &mut VecDeque<(u32, T)>, progress: u32) -> Option<T> {
    if progress < list.front()?.0 {
        return None;
    }
    list.pop_front().map(|(_, due)| due)
}

fn percent_of(messages: u32, percent: u32) -> u32 {
    u32::try_from(u64::from(messages) * u64::from(percent) / 100).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn fault_name(mishap: DownloadFault) -> &'static str {
        match mishap {
            DownloadFault::Reply(FaultReply::RateLimited { retry_after: Some(_) }) => {
                "429 with a time"
            }
            DownloadFault::Reply(FaultReply::RateLimited { retry_after: None }) => "429",
            DownloadFault::Reply(FaultReply::Unavailable { retry_after: Some(_) }) => {
                "503 with a time"
            }
            DownloadFault::Reply(FaultReply::Unavailable { retry_after: None }) => "503",
            DownloadFault::Reply(FaultReply::Drop) => "drop",
            DownloadFault::Reply(FaultReply::Html) => "html",
            DownloadFault::Reply(FaultReply::ServerError) => "poison",
            DownloadFault::DestroyMessage => "vanish",
            DownloadFault::Delay(_) => "late",
            DownloadFault::SlowBody => "drip",
            DownloadFault::TruncatedBody => "cut",
        }
    }

    /// Serves all messages, one request each 100 ms, and counts what befell; the token's expiry too.
    fn count_faults(faults: FaultLevel, messages: u32) -> BTreeMap<&'static str, u32> {
        let mut plan = FaultPlan::new(faults, 3, messages);
        let (mut now, mut served, mut message) = (Instant::now(), 0, 0);
        let mut seen = BTreeMap::new();
        while message < messages {
            now += Duration::from_millis(100);
            if plan.take_token_expiry(served) {
                *seen.entry("expiry").or_default() += 1;
            }
            let mishap = match plan.outage_reply(served, 0, now) {
                Some(refusal) => Some(DownloadFault::Reply(refusal)),
                None => plan.download_fault(MessageNumber(message), served, message % 2 == 0),
            };
            if let Some(mishap) = mishap {
                *seen.entry(fault_name(mishap)).or_default() += 1;
            }
            match mishap {
                None | Some(DownloadFault::Delay(_) | DownloadFault::SlowBody) => {
                    message += 1;
                    served += 1;
                }
                Some(
                    DownloadFault::DestroyMessage | DownloadFault::Reply(FaultReply::ServerError),
                ) => message += 1,
                Some(DownloadFault::Reply(_) | DownloadFault::TruncatedBody) => {}
            }
        }
        seen
    }

    #[test]
    fn a_storm_injects_every_fault_into_any_mailbox() {
        for messages in [40, 320, 3_200, 160_000] {
            let seen = count_faults(FaultLevel::Storm, messages);
            assert_eq!(seen.len(), 12, "{messages}: {seen:?}");
            assert_eq!((seen["expiry"], seen["html"], seen["vanish"]), (1, 2, 3));
            assert!(OUTAGE_REFUSALS_MAX * 2 / 3 < seen["503"]);
        }
    }

    #[test]
    fn the_outage_of_a_small_mailbox_ends() {
        for messages in 0..40 {
            let refused: u32 = count_faults(FaultLevel::Storm, messages).values().sum();
            assert!(refused < 200, "{messages}: {refused}");
        }
    }

    #[test]
    fn some_faults_include_no_outage_and_no_token_expiry() {
        let seen = count_faults(FaultLevel::Some, 3_200);

        assert!(!seen.contains_key("expiry") && !seen.contains_key("html"));
        assert!(seen.contains_key("429 with a time") && seen.contains_key("cut"));
        assert!(count_faults(FaultLevel::None, 3_200).is_empty());
    }

    #[test]
    fn retry_after_counts_down_and_then_requests_succeed() {
        let start = Instant::now();
        let mut plan = FaultPlan::new(FaultLevel::Storm, 0, 100);
        plan.outages.retain(|(_, closure)| *closure != DemoOutage::Unavailable);
        let mut after =
            |seconds| match plan.outage_reply(78, 0, start + Duration::from_secs(seconds)) {
                Some(FaultReply::RateLimited { retry_after }) => {
                    retry_after.map(|wait| wait.as_secs())
                }
                _ => None,
            };

        assert_eq!([after(0), after(1), after(2), after(3)], [Some(2), Some(1), None, None]);
    }

    /// Requests refused in a row, one each so many milliseconds, while so many answers are under way.
    fn count_refusals(plan: &mut FaultPlan, now: &mut Instant, millis: u64, answers: u32) -> u32 {
        let refusals = std::iter::from_fn(|| {
            *now += Duration::from_millis(millis);
            plan.outage_reply(20, answers, *now)
        });
        u32::try_from(refusals.take(100).count()).unwrap()
    }

    #[test]
    fn an_outage_ends_after_enough_refusals_and_a_quiet_period() {
        let (mut plan, mut now) = (FaultPlan::new(FaultLevel::Storm, 0, 100), Instant::now());

        assert_eq!(
            count_refusals(&mut plan, &mut now, 1000, 1),
            100,
            "what is under way may still succeed"
        );
        assert_eq!(count_refusals(&mut plan, &mut now, 1000, 0), OUTAGE_REFUSALS_MIN);
    }

    #[test]
    fn an_outage_ends_for_a_client_that_never_pauses() {
        let (mut plan, mut now) = (FaultPlan::new(FaultLevel::Storm, 0, 100), Instant::now());

        assert_eq!(count_refusals(&mut plan, &mut now, 600, 0), OUTAGE_REFUSALS_MAX);
    }
}
