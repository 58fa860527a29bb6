//! Plan of the injected faults, each due at a number of served messages, so that any run meets them
//! all.
//!
//! An *outage* refuses all requests for some seconds, or until it has refused a number of them. A
//! *download fault* affects one download, an *API fault* one request to the API. The token expires
//! once, and one listing is disturbed between two of its pages. Nothing here waits or reads the
//! clock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::mailbox::MessageNumber;
use super::rng::{RngStream, random_below, seeded_rng};

/// Amount of injected faults.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FaultLevel {
    /// No faults.
    #[default]
    None,
    /// The faults of a reliable service on an ordinary day.
    Some,
    /// All kinds of faults within 45 seconds.
    Storm,
}

/// Fault that takes the place of the response to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ResponseFault {
    /// 429.
    RateLimited { retry_after: Option<Duration> },
    /// 503.
    Unavailable { retry_after: Option<Duration> },
    /// The connection ends without a response.
    Drop,
    /// A login page, with status 200.
    Html,
    /// 500, whenever this message is requested.
    ServerError,
}

/// Fault of one download.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DownloadFault {
    Response(ResponseFault),
    /// The message is destroyed just before its download.
    DestroyMessage,
    /// The response is delayed.
    Delay(Duration),
    /// The body is sent slowly, in small parts.
    SlowBody,
    /// The connection ends in the middle of the body.
    TruncatedBody,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DemoOutage {
    /// 429 whose Retry-After gives the remaining time.
    AnnouncedRateLimit(Duration),
    /// 429 without Retry-After.
    SilentRateLimit(Duration),
    /// 503, every third time a dropped connection, until [`OUTAGE_QUIET_PERIOD`] without requests.
    Unavailable,
}

#[derive(Debug)]
struct ActiveOutage {
    kind: DemoOutage,
    until: Instant,
    /// Refused requests; [`DemoOutage::Unavailable`] counts those while no response is in flight.
    refused_requests: u32,
}

/// Faults still to come, each with the number of served messages at which it is due.
#[derive(Debug)]
pub(super) struct FaultPlan {
    outages: VecDeque<(u32, DemoOutage)>,
    active_outage: Option<ActiveOutage>,
    token_expiry: Option<u32>,
    download_faults: VecDeque<(u32, DownloadFault)>,
    /// Due at a number of requests to the API.
    api_faults: VecDeque<(u32, ResponseFault)>,
    api_requests: u32,
    /// Request for a further page of a list at which the list is disturbed.
    listing_disturbance: Option<u32>,
    further_pages: u32,
    failing_message: Option<MessageNumber>,
    /// Requests still to be refused because of [`Self::inject_failures`].
    injected_failures: u32,
}

/// Minimum number of requests that an outage refuses while no other response is in flight. It must
/// last until three downloads and then a known-good document have failed. By then six downloads may
/// have used their two attempts each, and the known-good document its two: 6 × 2 + 2.
const OUTAGE_REFUSALS_MIN: u32 = 14;

/// Maximum number of requests that an outage refuses, because a client may never pause.
const OUTAGE_REFUSALS_MAX: u32 = 40;

/// Time without requests after which an outage ends. An open circuit breaker sends none for one
/// second; quick retries come sooner.
const OUTAGE_QUIET_PERIOD: Duration = Duration::from_millis(700);

/// Number of parts in which the first chunk of a slow body is sent.
pub(super) const SLOW_BODY_PARTS: u32 = 5;
/// Pause after each of these parts.
pub(super) const SLOW_BODY_PAUSE: Duration = Duration::from_millis(150);

const UNAVAILABLE: ResponseFault = ResponseFault::Unavailable { retry_after: None };
/// Share of the messages that are served before the token expires.
const TOKEN_EXPIRY_PERCENT: u32 = 45;
const DELAY_MIN_MS: u64 = 100;
const DELAY_MAX_MS: u64 = 800;

impl FaultPlan {
    /// Plans the faults for a mailbox of `messages` messages.
    pub(super) fn new(faults: FaultLevel, seed: u64, messages: u32) -> Self {
        let mut plan = Self {
            outages: VecDeque::new(),
            active_outage: None,
            token_expiry: None,
            download_faults: VecDeque::new(),
            api_faults: VecDeque::new(),
            api_requests: 0,
            listing_disturbance: None,
            further_pages: 0,
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
        self.api_faults.extend([(3, ResponseFault::Drop)]);
        self.listing_disturbance = Some(3);
        self.spread_download_faults(seed, messages, (messages / 10).clamp(1, 200));
    }

    fn plan_storm(&mut self, seed: u64, messages: u32) {
        let at = |percent| percent_of(messages, percent);
        // Rate limits come near the end, because a client that adapts to them is slow from then on.
        self.outages.extend([
            (at(20), DemoOutage::Unavailable),
            (at(78), DemoOutage::AnnouncedRateLimit(Duration::from_secs(2))),
            (at(84), DemoOutage::AnnouncedRateLimit(Duration::from_secs(6))),
            (at(88), DemoOutage::SilentRateLimit(Duration::from_secs(1))),
        ]);
        self.token_expiry = Some(at(TOKEN_EXPIRY_PERCENT));
        self.download_faults.extend([
            (at(5), DownloadFault::DestroyMessage),
            (at(12), DownloadFault::Response(ResponseFault::Html)),
            (at(50), DownloadFault::DestroyMessage),
            (
                at(86),
                DownloadFault::Response(ResponseFault::Unavailable {
                    retry_after: Some(Duration::from_secs(1)),
                }),
            ),
            (at(65), DownloadFault::Response(ResponseFault::Html)),
            (at(70), DownloadFault::DestroyMessage),
        ]);
        self.api_faults.extend([(2, UNAVAILABLE), (5, ResponseFault::Drop)]);
        self.listing_disturbance = Some(2);
        self.spread_download_faults(seed, messages, (messages / 24).clamp(1, 50));
        // In the middle half, so that much is stored when it is found; not a multiple of anything.
        self.failing_message = (messages != 0).then(|| {
            MessageNumber(
                random_below(seed, RngStream::Fault, 1, messages.div_ceil(2)) + messages / 4,
            )
        });
    }

    /// Spreads the ordinary download faults evenly over the first 90 % of the messages, each kind
    /// as often as the others.
    fn spread_download_faults(&mut self, seed: u64, messages: u32, interval: u32) {
        let mut rng = seeded_rng(seed, RngStream::Fault, 0);
        let mut batch = Vec::new();
        for served in (interval..percent_of(messages, 90)).step_by(interval as usize) {
            if batch.is_empty() {
                let delay = Duration::from_millis(rng.u64(DELAY_MIN_MS..=DELAY_MAX_MS));
                batch = vec![
                    DownloadFault::Response(ResponseFault::Drop),
                    DownloadFault::Response(UNAVAILABLE),
                    DownloadFault::TruncatedBody,
                    DownloadFault::Delay(delay),
                    DownloadFault::SlowBody,
                ];
                rng.shuffle(&mut batch);
            }
            self.download_faults.extend(batch.pop().map(|fault| (served, fault)));
        }
    }

    /// Plans that the token of a mailbox of `messages` messages expires, unless that is planned.
    pub(super) fn plan_token_expiry(&mut self, messages: u32) {
        self.token_expiry.get_or_insert_with(|| percent_of(messages, TOKEN_EXPIRY_PERCENT));
    }

    /// Refuses the next `count` requests before any other fault applies. Zero ends the refusals.
    pub(super) fn inject_failures(&mut self, count: u32) {
        self.injected_failures = count;
    }

    /// Returns the fault of a request of any kind if an outage refuses it. `served` is the number of
    /// messages served so far, `in_flight` that of the other responses in progress.
    pub(super) fn outage_fault(
        &mut self,
        served: u32,
        in_flight: u32,
        now: Instant,
    ) -> Option<ResponseFault> {
        if let Some(remaining) = self.injected_failures.checked_sub(1) {
            self.injected_failures = remaining;
            return Some(UNAVAILABLE);
        }
        if self.active_outage.is_none()
            && let Some(kind) = take_due(&mut self.outages, served)
        {
            self.active_outage =
                Some(ActiveOutage { kind, until: now + kind.min_duration(), refused_requests: 0 });
        }
        let outage = self.active_outage.as_mut()?;
        let is_over = outage.until <= now && outage.kind.refusals_min() <= outage.refused_requests;
        if is_over || outage.kind.refusals_max() <= outage.refused_requests {
            self.active_outage = None;
            return None;
        }
        if outage.kind == DemoOutage::Unavailable {
            outage.until = now + OUTAGE_QUIET_PERIOD;
        }
        // A response in flight may succeed, which ends the client's row of consecutive failures.
        outage.refused_requests +=
            u32::from(in_flight == 0 || outage.kind != DemoOutage::Unavailable);
        Some(match outage.kind {
            DemoOutage::AnnouncedRateLimit(_) => {
                let remaining = outage.until.saturating_duration_since(now);
                ResponseFault::RateLimited { retry_after: Some(remaining) }
            }
            DemoOutage::SilentRateLimit(_) => ResponseFault::RateLimited { retry_after: None },
            DemoOutage::Unavailable if outage.refused_requests % 3 == 0 => ResponseFault::Drop,
            DemoOutage::Unavailable => UNAVAILABLE,
        })
    }

    /// Returns true once, when the token is due to expire.
    pub(super) fn take_token_expiry(&mut self, served: u32) -> bool {
        self.token_expiry.take_if(|at| *at <= served).is_some()
    }

    /// Returns the fault of the next API request, if one is due.
    pub(super) fn api_fault(&mut self) -> Option<ResponseFault> {
        self.api_requests += 1;
        take_due(&mut self.api_faults, self.api_requests)
    }

    /// Returns true once, at the request for a further page at which the list is disturbed.
    pub(super) fn take_listing_disturbance(&mut self) -> bool {
        self.further_pages += 1;
        let further_pages = self.further_pages;
        self.listing_disturbance.take_if(|at| *at <= further_pages).is_some()
    }

    /// Returns the fault of a message's download, if one is due. Only a message without others in
    /// its thread is destroyed, so that a whole item disappears.
    pub(super) fn download_fault(
        &mut self,
        message: MessageNumber,
        served: u32,
        is_only_in_thread: bool,
    ) -> Option<DownloadFault> {
        if self.failing_message == Some(message) {
            return Some(DownloadFault::Response(ResponseFault::ServerError));
        }
        let index =
            self.download_faults.iter().take_while(|(at, _)| *at <= served).position(
                |(_, fault)| *fault != DownloadFault::DestroyMessage || is_only_in_thread,
            )?;
        self.download_faults.remove(index).map(|(_, fault)| fault)
    }
}

impl DemoOutage {
    fn min_duration(self) -> Duration {
        match self {
            Self::AnnouncedRateLimit(duration) | Self::SilentRateLimit(duration) => duration,
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

    fn fault_name(fault: DownloadFault) -> &'static str {
        match fault {
            DownloadFault::Response(ResponseFault::RateLimited { retry_after: Some(_) }) => {
                "429 with Retry-After"
            }
            DownloadFault::Response(ResponseFault::RateLimited { retry_after: None }) => "429",
            DownloadFault::Response(ResponseFault::Unavailable { retry_after: Some(_) }) => {
                "503 with Retry-After"
            }
            DownloadFault::Response(ResponseFault::Unavailable { retry_after: None }) => "503",
            DownloadFault::Response(ResponseFault::Drop) => "drop",
            DownloadFault::Response(ResponseFault::Html) => "html",
            DownloadFault::Response(ResponseFault::ServerError) => "500",
            DownloadFault::DestroyMessage => "destroyed",
            DownloadFault::Delay(_) => "delay",
            DownloadFault::SlowBody => "slow body",
            DownloadFault::TruncatedBody => "truncated body",
        }
    }

    /// Serves all messages, one request each 100 ms, and counts the faults, token expiry included.
    fn count_faults(faults: FaultLevel, messages: u32) -> BTreeMap<&'static str, u32> {
        let mut plan = FaultPlan::new(faults, 3, messages);
        let (mut now, mut served, mut message) = (Instant::now(), 0, 0);
        let mut seen = BTreeMap::new();
        while message < messages {
            now += Duration::from_millis(100);
            if plan.take_token_expiry(served) {
                *seen.entry("expiry").or_default() += 1;
            }
            let fault = match plan.outage_fault(served, 0, now) {
                Some(fault) => Some(DownloadFault::Response(fault)),
                None => plan.download_fault(MessageNumber(message), served, message % 2 == 0),
            };
            if let Some(fault) = fault {
                *seen.entry(fault_name(fault)).or_default() += 1;
            }
            match fault {
                None | Some(DownloadFault::Delay(_) | DownloadFault::SlowBody) => {
                    message += 1;
                    served += 1;
                }
                Some(
                    DownloadFault::DestroyMessage
                    | DownloadFault::Response(ResponseFault::ServerError),
                ) => message += 1,
                Some(DownloadFault::Response(_) | DownloadFault::TruncatedBody) => {}
            }
        }
        seen
    }

    #[test]
    fn a_storm_injects_every_fault_into_any_mailbox() {
        for messages in [40, 320, 3_200, 160_000] {
            let seen = count_faults(FaultLevel::Storm, messages);
            assert_eq!(seen.len(), 12, "{messages}: {seen:?}");
            assert_eq!((seen["expiry"], seen["html"], seen["destroyed"]), (1, 2, 3));
            assert!(OUTAGE_REFUSALS_MAX * 2 / 3 < seen["503"]);
        }
    }

    #[test]
    fn the_outage_of_a_small_mailbox_ends() {
        for messages in 0..40 {
            let faults: u32 = count_faults(FaultLevel::Storm, messages).values().sum();
            assert!(faults < 200, "{messages}: {faults}");
        }
    }

    #[test]
    fn some_faults_include_no_outage_and_no_token_expiry() {
        let seen = count_faults(FaultLevel::Some, 3_200);

        assert!(!seen.contains_key("expiry") && !seen.contains_key("html"));
        assert!(seen.contains_key("429 with Retry-After") && seen.contains_key("truncated body"));
        assert!(count_faults(FaultLevel::None, 3_200).is_empty());
    }

    #[test]
    fn retry_after_counts_down_and_then_requests_succeed() {
        let start = Instant::now();
        let mut plan = FaultPlan::new(FaultLevel::Storm, 0, 100);
        plan.outages.retain(|(_, outage)| *outage != DemoOutage::Unavailable);
        let mut retry_after_at =
            |seconds| match plan.outage_fault(78, 0, start + Duration::from_secs(seconds)) {
                Some(ResponseFault::RateLimited { retry_after }) => {
                    retry_after.map(|wait| wait.as_secs())
                }
                _ => None,
            };

        assert_eq!(
            [retry_after_at(0), retry_after_at(1), retry_after_at(2), retry_after_at(3)],
            [Some(2), Some(1), None, None]
        );
    }

    #[test]
    fn a_token_expires_once_also_if_that_is_planned_twice() {
        for level in [FaultLevel::Some, FaultLevel::Storm] {
            let mut plan = FaultPlan::new(level, 1, 100);
            plan.plan_token_expiry(100);

            let expiries: Vec<_> =
                (0..100).filter(|served| plan.take_token_expiry(*served)).collect();

            assert_eq!(expiries, [45], "{level:?}");
        }
    }

    #[test]
    fn one_listing_is_disturbed_after_its_first_pages() {
        let disturbed_pages = |level| {
            let mut plan = FaultPlan::new(level, 1, 100);
            (1..10).filter(|_| plan.take_listing_disturbance()).collect::<Vec<u32>>()
        };

        assert!(disturbed_pages(FaultLevel::None).is_empty());
        assert_eq!(disturbed_pages(FaultLevel::Some), [3]);
        assert_eq!(disturbed_pages(FaultLevel::Storm), [2]);
    }

    /// Counts the requests refused in a row, one each `millis` ms, with `in_flight` others.
    fn count_refusals(plan: &mut FaultPlan, now: &mut Instant, millis: u64, in_flight: u32) -> u32 {
        let refusals = std::iter::from_fn(|| {
            *now += Duration::from_millis(millis);
            plan.outage_fault(20, in_flight, *now)
        });
        u32::try_from(refusals.take(100).count()).unwrap()
    }

    #[test]
    fn an_outage_ends_after_enough_refusals_and_a_quiet_period() {
        let (mut plan, mut now) = (FaultPlan::new(FaultLevel::Storm, 0, 100), Instant::now());

        assert_eq!(
            count_refusals(&mut plan, &mut now, 1000, 1),
            100,
            "a response in flight may still succeed"
        );
        assert_eq!(count_refusals(&mut plan, &mut now, 1000, 0), OUTAGE_REFUSALS_MIN);
    }

    #[test]
    fn an_outage_ends_for_a_client_that_never_pauses() {
        let (mut plan, mut now) = (FaultPlan::new(FaultLevel::Storm, 0, 100), Instant::now());

        assert_eq!(count_refusals(&mut plan, &mut now, 600, 0), OUTAGE_REFUSALS_MAX);
    }
}
