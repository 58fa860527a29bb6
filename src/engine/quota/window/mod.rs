//! One limit that a server describes, followed from reply to reply.

mod credit;
mod doubt;
mod refill;
mod trickle;

use std::time::Duration;

use crate::engine::quota::signals::RESET_MAX;
use crate::engine::quota::used::Used;
use crate::engine::quota::{Limit, Rate, Reset, ResetMeaning};
use crate::engine::{ClockStep, Timestamp};

use self::credit::Credit;
use self::doubt::Doubt;
use self::refill::Refill;
use self::trickle::SHORT;

/// Resets come in whole seconds, and replies take their time.
const TOLERANCE: Duration = Duration::from_millis(1500);

/// How long a doubtful reset is watched before the first guess counts.
const DOUBT: Duration = Duration::from_secs(2);

/// How much faster than evenly a window that was left unused may be used up.
const CATCH_UP: f64 = 4.0;

/// If the one request after a reset finds nothing out, another goes after this.
const UNTESTED: Duration = Duration::from_secs(2);

/// So many units were used of which nothing came back, although the reset moved: then it does not name the next unit.
const BARREN: f64 = 5.0;

/// Replies in a row that contradict themselves before a limit is not believed.
const LIES_MAX: u32 = 2;

/// How a limit is renewed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Manner {
    /// Not seen for long enough. Followed as if it were a window.
    Unsettled,
    /// All at once: the reset stands still, then what remains jumps back.
    Window,
    /// Bit by bit, as sliding logs and buckets do.
    Trickle,
}

/// A limit, and what was seen of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tracked {
    /// As last read.
    pub(super) limit: Limit,
    pub(super) manner: Manner,
    /// Told, or seen from one roll-over to the next.
    window: Option<Duration>,
    /// When the request was sent whose reply was read last.
    newest: Timestamp,
    read_at: Timestamp,
    /// Units that may still be sent, by the last reply and what was sent since.
    left: f64,
    /// Units that a whole window leaves us; a request that needs more goes when all of them are there.
    full: f64,
    /// Units sent since the last reply was read.
    spent: f64,
    reset_at: Option<Timestamp>,
    /// The earliest of the resets that agree: by then a window should be used up, while the next
    /// is not counted on before the latest.
    reset_earliest: Timestamp,
    /// The reset that has passed, if no reply has said yet what came after it.
    untested: Option<Timestamp>,
    /// The reset first seen of those that stand still, and when.
    standing_since: Timestamp,
    /// How far away resets are told to be that move along with the clock, and since when.
    ahead: (Duration, Timestamp),
    /// The last two figures of a doubtful reset.
    doubt: Doubt,
    /// Units per second that come back, for a limit that trickles.
    refill: Refill,
    credit: Credit,
    used: Used,
    /// Units accepted since the start, as far as they are in `used`.
    accepted: f64,
    lies: u32,
}

/// What surrounds a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// When its request was sent.
    pub(super) sent: Timestamp,
    /// Units of other requests that are out.
    pub(super) in_flight: f64,
    /// Units accepted by the server since the start.
    pub(super) accepted: f64,
    pub(super) is_accepted: bool,
    /// The share of the quota left to others.
    pub(super) reserve: f64,
    pub(super) now: Timestamp,
}

impl Tracked {
    pub(super) fn new(limit: &Limit, context: &Context) -> Self {
        let mut tracked = Self {
            limit: limit.clone(),
            manner: Manner::Unsettled,
            window: limit.window,
            newest: context.sent,
            read_at: context.now,
            left: f64::INFINITY,
            full: f64::INFINITY,
            spent: 0.0,
            reset_at: None,
            reset_earliest: context.now,
            untested: None,
            standing_since: context.now,
            ahead: (Duration::ZERO, context.now),
            doubt: Doubt::new(limit.reset.map_or(0.0, |reset| reset.figure), context.now),
            refill: Refill::new(limit.remaining.unwrap_or(0.0), context),
            credit: Credit::new(context.now),
            used: Used::default(),
            accepted: 0.0,
            lies: 0,
        };
        tracked.read(limit, context);
        tracked
    }

    pub(super) fn is(&self, limit: &Limit) -> bool {
        self.limit.family == limit.family
            && self.limit.name == limit.name
            && self.limit.partition == limit.partition
    }

    /// Takes in what a later reply says. What is older than the newest changes nothing.
    pub(super) fn read(&mut self, limit: &Limit, context: &Context) {
        self.note_used(limit, context);
        if context.sent < self.newest {
            return;
        }
        self.newest = context.sent;
        self.read_at = context.now;
        self.spent = 0.0;
        self.window = limit.window.or(self.window);
        self.judge(limit, context);
        self.note_reset(limit, context);
        if let Some(quota) = limit.quota {
            self.full = quota * (1.0 - context.reserve);
        }
        if let Some(remaining) = limit.remaining {
            let reserved = limit.quota.unwrap_or(0.0) * context.reserve;
            self.left = remaining - reserved - context.in_flight;
            let trickles = self.manner != Manner::Window;
            self.refill.measure(remaining, limit.quota, trickles, context);
            if let Some(rate) = self.refill_rate() {
                self.credit.told(self.left, rate, self.full, context);
            }
        }
        self.limit.clone_from(limit);
    }

    /// The clock was set by so much: what was used is as old as it was.
    /// Nothing ran for a while: what came back meanwhile says little of how fast it comes.
    pub(super) fn rested(&mut self) {
        self.refill.rested();
    }

    pub(super) fn move_by(&mut self, step: ClockStep) {
        self.used.move_by(step);
    }

    /// Notes that units are sent.
    pub(super) fn spend(&mut self, units: f64) {
        self.left -= units;
        self.credit.spend(units);
        self.spent += units;
    }

    /// Returns the rate this limit allows at `now`; none if it does not say enough.
    pub(super) fn rate(&self, reserve: f64, now: Timestamp) -> Option<Rate> {
        if !self.counts_requests() || self.lies >= LIES_MAX {
            return None;
        }
        let quota = self.limit.quota.map(|quota| quota * (1.0 - reserve));
        let even = quota.zip(self.window).map(|(quota, window)| Rate::of(quota, window));
        if let Some(rate) = self.trickle(even, now) {
            return Some(rate);
        }
        let ahead = self.reset_at.filter(|at| *at > now).map(|_| self.reset_earliest.since(now));
        let (Some(ahead), false) = (ahead, self.left.is_infinite()) else { return even };
        if self.is_doubtful(now) {
            return even;
        }
        let rate = Rate::of((self.left + 0.5).max(0.01), ahead.max(Duration::from_millis(500)));
        Some(even.map_or(rate, |even| rate.min(even.times(CATCH_UP))))
    }

    /// Returns until when a request of `weight` must wait, since too little is left.
    pub(super) fn wait(&self, weight: f64, in_flight: u64, now: Timestamp) -> Option<Timestamp> {
        if !self.counts_requests() || self.lies >= LIES_MAX {
            return None;
        }
        let weight = weight.min(self.full);
        if self.trickles() {
            return self.wait_for_trickle(weight, in_flight, now);
        }
        let until = self.reset_at?.after(self.lateness());
        if self.left >= weight || now >= until {
            return None;
        }
        let settled = self.doubt.since.after(DOUBT);
        Some(if self.is_doubtful(now) { until.min(settled) } else { until })
    }

    /// Lets a window begin anew when its reset has passed without a word.
    ///
    /// Where it is not certain what begins then, one request of `weight` finds out.
    pub(super) fn roll(&mut self, weight: f64, now: Timestamp) {
        let Some(reset_at) = self.reset_at else { return };
        if self.trickles() || now < reset_at.after(self.lateness()) {
            return;
        }
        self.untested.get_or_insert(reset_at);
        let next = match self.window {
            Some(window) if self.full.is_finite() && self.manner == Manner::Window => {
                self.left = self.full;
                // A window may have passed unused; its end still lies on the same grid.
                let late = now.since(reset_at).as_millis();
                let passed = u32::try_from(late / window.as_millis().max(1)).unwrap_or(u32::MAX);
                reset_at.after(window.saturating_mul(passed.saturating_add(1)))
            }
            Some(_) | None => {
                self.left = weight;
                now.after(UNTESTED)
            }
        };
        self.reset_earliest = next;
        self.reset_at = Some(next);
    }

    /// Returns the reset if nothing remains, and it is far enough away to close the gate for.
    pub(super) fn exhausted_until(&self, now: Timestamp) -> Option<Timestamp> {
        // A reset whose unit is not known yet may be a thousand times too far away.
        let is_known = self.limit.reset.is_some_and(|reset| reset.is_certain)
            || self.doubt.settled.is_some()
            || self.window.is_some();
        let is_used_up = self.limit.remaining == Some(0.0) && self.lies < LIES_MAX && is_known;
        self.reset_at.filter(|at| is_used_up && *at > now)
    }

    /// A limit on bytes or tokens says nothing of how many requests may go.
    fn counts_requests(&self) -> bool {
        self.limit.unit.as_deref().is_none_or(|unit| {
            unit.eq_ignore_ascii_case("request") || unit.eq_ignore_ascii_case("requests")
        })
    }

    /// A reset in whole seconds may be up to one second early.
    fn lateness(&self) -> Duration {
        let is_whole = self.limit.reset.is_none_or(|reset| reset.figure.fract() == 0.0);
        let in_millis =
            matches!(self.meaning(), Some(ResetMeaning::DeltaMillis | ResetMeaning::EpochMillis));
        if is_whole && !in_millis { Duration::from_secs(1) } else { Duration::from_millis(50) }
    }

    fn meaning(&self) -> Option<ResetMeaning> {
        let written = self.limit.reset.map(|reset| reset.meaning);
        self.doubt.settled.or(written)
    }

    /// A success that leaves nothing is a contradiction when a window has just begun: unless one
    /// request is all that it grants, the server does not mean what it says.
    fn judge(&mut self, limit: &Limit, context: &Context) {
        let was_used_up = self.limit.remaining == Some(0.0) && self.left < 1.0;
        let is_used_up = limit.remaining == Some(0.0);
        let grants_one = limit.quota == Some(1.0);
        let is_past = limit.reset.is_some_and(|reset| reset.after.is_zero());
        let contradicts = was_used_up && !grants_one && (is_past || !self.trickles());
        if !is_used_up || !context.is_accepted {
            self.lies = 0;
        } else if contradicts {
            self.lies = self.lies.saturating_add(1);
        }
    }

    /// Takes in what was accepted up to a reply. What was before the window was known is as new as it,
    /// as far as the server counts it.
    fn note_used(&mut self, limit: &Limit, context: &Context) {
        self.used.took(context.now.since(context.sent));
        let Some(window) = self.window else { return };
        let counted = limit.quota.zip(limit.remaining).map(|(quota, remaining)| quota - remaining);
        let units = (context.accepted - self.accepted).min(counted.unwrap_or(f64::INFINITY));
        self.accepted = context.accepted;
        if units > 0.0 {
            self.used.note(units, context.sent, context.now, window);
        }
    }

    fn note_reset(&mut self, limit: &Limit, context: &Context) {
        let Some(reset) = limit.reset else { return };
        let now = context.now;
        let meaning = if reset.is_certain { reset.meaning } else { self.settle(reset, now) };
        let after =
            if meaning == reset.meaning { reset.after } else { meaning.after(reset.figure, now) };
        if after > RESET_MAX {
            self.reset_at = None;
            return;
        }
        let seen = now.after(after);
        let Some(known) = self.reset_at else {
            self.stand(seen, now);
            return;
        };
        let moved = seen.since(known);
        // One that creeps on with the clock never stands, however small its steps.
        let creeps = seen.since(self.reset_earliest) > TOLERANCE * 2;
        if moved <= TOLERANCE && known.since(seen) <= TOLERANCE && !creeps {
            if now.since(self.standing_since) > TOLERANCE * 4 {
                self.manner = Manner::Window;
            }
            // The latest of those that agree, since late is better than early.
            self.reset_at = Some(known.max(seen));
            self.reset_earliest = self.reset_earliest.min(seen);
            self.untested = None;
            return;
        }
        let is_full = match (limit.remaining, limit.quota) {
            (Some(remaining), Some(quota)) => remaining + context.in_flight + 2.0 >= quota * 0.7,
            (Some(remaining), None) => remaining > self.left,
            (None, _) => true,
        };
        let known = self.untested.unwrap_or(known);
        let is_due = now.after(TOLERANCE) >= known;
        if is_due && is_full {
            if self.manner != Manner::Trickle {
                self.refill.forget();
                self.window =
                    limit.window.or_else(|| Some(seen.since(known)).filter(|span| *span > SHORT));
            }
        } else if seen > known {
            self.manner = Manner::Trickle;
            self.learn_window(after, now);
        }
        self.stand(seen, now);
    }

    /// Finds the window out where it is not told: a reset that is always as far ahead names the
    /// moment when everything is back, which is a window away.
    fn learn_window(&mut self, after: Duration, now: Timestamp) {
        let (before, since) = self.ahead;
        if after.abs_diff(before) > TOLERANCE {
            self.ahead = (after, now);
            return;
        }
        let is_all = match self.limit.quota.zip(self.refill.rate()) {
            Some((quota, refill)) => {
                now.since(since) > after && after.as_secs_f64() * refill.get() > quota / 2.0
            }
            None => self.refill.barren >= BARREN,
        };
        if is_all && after > SHORT && self.limit.window.is_none() {
            self.window = Some(after);
        }
    }

    fn stand(&mut self, reset_at: Timestamp, now: Timestamp) {
        self.untested = None;
        self.reset_at = Some(reset_at);
        self.reset_earliest = reset_at;
        self.standing_since = now;
    }

    fn settle(&mut self, reset: Reset, now: Timestamp) -> ResetMeaning {
        let is_due = self.reset_at.is_none_or(|at| now.after(TOLERANCE) >= at);
        self.doubt.see(reset.figure, is_due, now);
        let refill = self.refill.rate().filter(|_| self.manner == Manner::Trickle);
        if let Some((quota, refill)) = self.limit.quota.zip(refill) {
            self.doubt.compare(reset.figure, quota / refill.get());
        }
        self.doubt.settled.unwrap_or(reset.meaning)
    }

    fn is_doubtful(&self, now: Timestamp) -> bool {
        self.limit.reset.is_some_and(|reset| !reset.is_certain)
            && self.doubt.settled.is_none()
            && self.window.is_none()
            && now.since(self.doubt.since) < DOUBT
    }
}
