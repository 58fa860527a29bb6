//! What goes wrong, and when: by how many messages were served, so that every run meets all of it.
//!
//! Three lists, each in the order of progress. A *closure* refuses every request for some seconds, or so many of them; the
//! token *expires* once; a *mishap* befalls one download. Nothing here waits or reads the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::chance::{Draw, draw_below, stream};
use super::mailbox::MessageNo;

/// How much goes wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Faults {
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
pub(super) enum Refusal {
    /// 429.
    TooMany { retry_after: Option<Duration> },
    /// 503.
    Unavailable { retry_after: Option<Duration> },
    /// The connection ends without an answer.
    Drop,
    /// A login page, with status 200.
    Html,
    /// 500, whenever this message is asked for.
    Broken,
}

/// What happens to one download.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mishap {
    Refused(Refusal),
    /// The message is destroyed just before it is asked for.
    Vanish,
    /// The answer comes late.
    Late(Duration),
    /// The body comes drop by drop.
    Drip,
    /// The connection ends in mid-body.
    Cut,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Closure {
    /// 429 with the seconds that remain.
    Announced(Duration),
    /// 429 that says nothing.
    Unannounced(Duration),
    /// 503 and dropped connections in turn, until it is left alone.
    Outage,
}

#[derive(Debug)]
struct Closed {
    by: Closure,
    until: Instant,
    /// Requests refused while no answer was under way.
    refused: u32,
}

/// What is still to go wrong, beside the number of served messages at which it does.
#[derive(Debug)]
pub(super) struct Plan {
    closures: VecDeque<(u32, Closure)>,
    closed: Option<Closed>,
    expiry: Option<u32>,
    mishaps: VecDeque<(u32, Mishap)>,
    /// By the number of requests to the API.
    api_refusals: VecDeque<(u32, Refusal)>,
    api_requests: u32,
    poison: Option<MessageNo>,
    /// Requests that are still to be refused since a person wants it so.
    ordered: u32,
}

/// Requests that an outage refuses at least, while no other answer is under way: until three downloads have
/// failed, and a known-good document too, six downloads may have used their two attempts, and the known-good
/// one its own.
const OUTAGE_REFUSALS_MIN: u32 = 14;

/// Requests that it refuses at most: a client may never leave it alone.
const OUTAGE_REFUSALS_MAX: u32 = 40;

/// An outage is over once it was left alone for so long, as an open breaker does for a second. Quick retries
/// come sooner.
const OUTAGE_LULL: Duration = Duration::from_millis(700);
const UNAVAILABLE: Refusal = Refusal::Unavailable { retry_after: None };
const LATE_MIN_MS: u64 = 100;
const LATE_MAX_MS: u64 = 800;

impl Plan {
    /// Lays out what befalls a mailbox of so many messages.
    pub(super) fn new(faults: Faults, seed: u64, messages: u32) -> Self {
        let mut plan = Self {
            closures: VecDeque::new(),
            closed: None,
            expiry: None,
            mishaps: VecDeque::new(),
            api_refusals: VecDeque::new(),
            api_requests: 0,
            poison: None,
            ordered: 0,
        };
        match faults {
            Faults::None => {}
            Faults::Some => plan.lay_out_some(seed, messages),
            Faults::Storm => plan.lay_out_storm(seed, messages),
        }
        plan.mishaps.make_contiguous().sort_by_key(|(at, _)| *at);
        plan
    }

    fn lay_out_some(&mut self, seed: u64, messages: u32) {
        let at = |percent| percent_of(messages, percent);
        self.closures.extend([(at(30), Closure::Announced(Duration::from_secs(2)))]);
        self.mishaps.extend([(at(60), Mishap::Vanish)]);
        self.api_refusals.extend([(3, Refusal::Drop)]);
        self.spread_mishaps(seed, messages, (messages / 10).clamp(1, 200));
    }

    fn lay_out_storm(&mut self, seed: u64, messages: u32) {
        let at = |percent| percent_of(messages, percent);
        // Throttles come late: a client that learns from them is slow from then on.
        self.closures.extend([
            (at(20), Closure::Outage),
            (at(78), Closure::Announced(Duration::from_secs(2))),
            (at(84), Closure::Announced(Duration::from_secs(6))),
            (at(88), Closure::Unannounced(Duration::from_secs(1))),
        ]);
        self.expiry = Some(at(45));
        self.mishaps.extend([
            (at(5), Mishap::Vanish),
            (at(12), Mishap::Refused(Refusal::Html)),
            (at(50), Mishap::Vanish),
            (
                at(86),
                Mishap::Refused(Refusal::Unavailable { retry_after: Some(Duration::from_secs(1)) }),
            ),
            (at(65), Mishap::Refused(Refusal::Html)),
            (at(70), Mishap::Vanish),
        ]);
        self.api_refusals.extend([(2, UNAVAILABLE), (5, Refusal::Drop)]);
        self.spread_mishaps(seed, messages, (messages / 24).clamp(1, 50));
        // Late, so that most is stored when it is found; not a multiple of anything.
        self.poison = (messages != 0).then(|| {
            MessageNo(draw_below(seed, Draw::Fault, 1, messages.div_ceil(2)) + messages / 4)
        });
    }

    /// Spreads the everyday mishaps evenly over nine tenths of the way, each kind as often as the others.
    fn spread_mishaps(&mut self, seed: u64, messages: u32, every: u32) {
        let mut chance = stream(seed, Draw::Fault, 0);
        let mut round = Vec::new();
        for served in (every..percent_of(messages, 90)).step_by(every as usize) {
            if round.is_empty() {
                let late = Duration::from_millis(chance.u64(LATE_MIN_MS..=LATE_MAX_MS));
                round = vec![
                    Mishap::Refused(Refusal::Drop),
                    Mishap::Refused(UNAVAILABLE),
                    Mishap::Cut,
                    Mishap::Late(late),
                    Mishap::Drip,
                ];
                chance.shuffle(&mut round);
            }
            self.mishaps.extend(round.pop().map(|mishap| (served, mishap)));
        }
    }

    /// Has so many requests refused from now on, before anything else goes wrong; with none the service is open again.
    pub(super) fn order_outage(&mut self, refusals: u32) {
        self.ordered = refusals;
    }

    /// Tells whether the service is closed to this request, whoever asks for what, while so many
    /// `answers` to others are under way.
    pub(super) fn refuse(&mut self, served: u32, answers: u32, now: Instant) -> Option<Refusal> {
        if let Some(left) = self.ordered.checked_sub(1) {
            self.ordered = left;
            return Some(UNAVAILABLE);
        }
        if self.closed.is_none()
            && let Some(by) = take_due(&mut self.closures, served)
        {
            self.closed = Some(Closed { by, until: now + by.length(), refused: 0 });
        }
        let closed = self.closed.as_mut()?;
        let is_due = closed.until <= now && closed.by.refusals_min() <= closed.refused;
        if is_due || closed.by.refusals_max() <= closed.refused {
            self.closed = None;
            return None;
        }
        if closed.by == Closure::Outage {
            closed.until = now + OUTAGE_LULL;
        }
        // A success that comes in between breaks a row of failures.
        closed.refused += u32::from(answers == 0 || closed.by != Closure::Outage);
        Some(match closed.by {
            Closure::Announced(_) => {
                let left = closed.until.saturating_duration_since(now);
                Refusal::TooMany { retry_after: Some(left) }
            }
            Closure::Unannounced(_) => Refusal::TooMany { retry_after: None },
            Closure::Outage if closed.refused % 3 == 0 => Refusal::Drop,
            Closure::Outage => UNAVAILABLE,
        })
    }

    /// Tells, once, that the token expires now.
    pub(super) fn expires(&mut self, served: u32) -> bool {
        self.expiry.take_if(|at| *at <= served).is_some()
    }

    /// Tells whether the API refuses its next request.
    pub(super) fn refuse_api(&mut self) -> Option<Refusal> {
        self.api_requests += 1;
        take_due(&mut self.api_refusals, self.api_requests)
    }

    /// Tells what befalls the download of a message. Only one that is `alone` in its thread vanishes, so
    /// that a whole item is gone.
    pub(super) fn befall_download(
        &mut self,
        message: MessageNo,
        served: u32,
        alone: bool,
    ) -> Option<Mishap> {
        if self.poison == Some(message) {
            return Some(Mishap::Refused(Refusal::Broken));
        }
        let place = self
            .mishaps
            .iter()
            .take_while(|(at, _)| *at <= served)
            .position(|(_, mishap)| *mishap != Mishap::Vanish || alone)?;
        self.mishaps.remove(place).map(|(_, mishap)| mishap)
    }
}

impl Closure {
    fn length(self) -> Duration {
        match self {
            Self::Announced(length) | Self::Unannounced(length) => length,
            Self::Outage => OUTAGE_LULL,
        }
    }

    fn refusals_min(self) -> u32 {
        match self {
            Self::Announced(_) | Self::Unannounced(_) => 1,
            Self::Outage => OUTAGE_REFUSALS_MIN,
        }
    }

    fn refusals_max(self) -> u32 {
        match self {
            Self::Announced(_) | Self::Unannounced(_) => u32::MAX,
            Self::Outage => OUTAGE_REFUSALS_MAX,
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

    fn kind(mishap: Mishap) -> &'static str {
        match mishap {
            Mishap::Refused(Refusal::TooMany { retry_after: Some(_) }) => "429 with a time",
            Mishap::Refused(Refusal::TooMany { retry_after: None }) => "429",
            Mishap::Refused(Refusal::Unavailable { retry_after: Some(_) }) => "503 with a time",
            Mishap::Refused(Refusal::Unavailable { retry_after: None }) => "503",
            Mishap::Refused(Refusal::Drop) => "drop",
            Mishap::Refused(Refusal::Html) => "html",
            Mishap::Refused(Refusal::Broken) => "poison",
            Mishap::Vanish => "vanish",
            Mishap::Late(_) => "late",
            Mishap::Drip => "drip",
            Mishap::Cut => "cut",
        }
    }

    /// Serves all messages, one request each 100 ms, and counts what befell; the token's expiry too.
    fn weather(faults: Faults, messages: u32) -> BTreeMap<&'static str, u32> {
        let mut plan = Plan::new(faults, 3, messages);
        let (mut now, mut served, mut message) = (Instant::now(), 0, 0);
        let mut seen = BTreeMap::new();
        while message < messages {
            now += Duration::from_millis(100);
            if plan.expires(served) {
                *seen.entry("expiry").or_default() += 1;
            }
            let mishap = match plan.refuse(served, 0, now) {
                Some(refusal) => Some(Mishap::Refused(refusal)),
                None => plan.befall_download(MessageNo(message), served, message % 2 == 0),
            };
            if let Some(mishap) = mishap {
                *seen.entry(kind(mishap)).or_default() += 1;
            }
            match mishap {
                None | Some(Mishap::Late(_) | Mishap::Drip) => {
                    message += 1;
                    served += 1;
                }
                Some(Mishap::Vanish | Mishap::Refused(Refusal::Broken)) => message += 1,
                Some(Mishap::Refused(_) | Mishap::Cut) => {}
            }
        }
        seen
    }

    #[test]
    fn a_storm_brings_every_fault_to_mailboxes_of_any_size() {
        for messages in [40, 320, 3_200, 160_000] {
            let seen = weather(Faults::Storm, messages);
            assert_eq!(seen.len(), 12, "{messages}: {seen:?}");
            assert_eq!((seen["expiry"], seen["html"], seen["vanish"]), (1, 2, 3));
            assert!(OUTAGE_REFUSALS_MAX * 2 / 3 < seen["503"]);
        }
    }

    #[test]
    fn the_smallest_mailboxes_are_not_shut_for_ever() {
        for messages in 0..40 {
            let refused: u32 = weather(Faults::Storm, messages).values().sum();
            assert!(refused < 200, "{messages}: {refused}");
        }
    }

    #[test]
    fn an_ordinary_day_has_no_outage_and_no_expiry() {
        let seen = weather(Faults::Some, 3_200);

        assert!(!seen.contains_key("expiry") && !seen.contains_key("html"));
        assert!(seen.contains_key("429 with a time") && seen.contains_key("cut"));
        assert!(weather(Faults::None, 3_200).is_empty());
    }

    #[test]
    fn the_announced_time_shrinks_as_it_passes_and_then_the_service_is_open() {
        let start = Instant::now();
        let mut plan = Plan::new(Faults::Storm, 0, 100);
        plan.closures.retain(|(_, closure)| *closure != Closure::Outage);
        let mut after = |seconds| match plan.refuse(78, 0, start + Duration::from_secs(seconds)) {
            Some(Refusal::TooMany { retry_after }) => retry_after.map(|wait| wait.as_secs()),
            _ => None,
        };

        assert_eq!([after(0), after(1), after(2), after(3)], [Some(2), Some(1), None, None]);
    }

    /// Requests refused in a row, one each so many milliseconds, while so many answers are under way.
    fn refused(plan: &mut Plan, now: &mut Instant, millis: u64, answers: u32) -> u32 {
        let refusals = std::iter::from_fn(|| {
            *now += Duration::from_millis(millis);
            plan.refuse(20, answers, *now)
        });
        u32::try_from(refusals.take(100).count()).unwrap()
    }

    #[test]
    fn an_outage_ends_by_a_lull_after_enough_refusals() {
        let (mut plan, mut now) = (Plan::new(Faults::Storm, 0, 100), Instant::now());

        assert_eq!(
            refused(&mut plan, &mut now, 1000, 1),
            100,
            "what is under way may still succeed"
        );
        assert_eq!(refused(&mut plan, &mut now, 1000, 0), OUTAGE_REFUSALS_MIN);
    }

    #[test]
    fn an_outage_ends_for_a_client_that_never_leaves_it_alone() {
        let (mut plan, mut now) = (Plan::new(Faults::Storm, 0, 100), Instant::now());

        assert_eq!(refused(&mut plan, &mut now, 600, 0), OUTAGE_REFUSALS_MAX);
    }
}
