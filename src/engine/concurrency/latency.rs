//! Whether a server takes longer than its load explains.
//!
//! Latency alone does not tell: a server with one worker answers eight requests in eight times the
//! time of one, and does as much as ever. So each number in flight has its own median, and what a number may take is
//! what any other took at best: as much for fewer requests, and in proportion for more. Only what lies
//! beyond that costs throughput.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Taken;
use crate::engine::Timestamp;

/// Latencies that make a median: few enough to learn from a slow server, enough to pass over a slow answer.
const WINDOW_LEN: usize = 10;

/// Latencies that the ninetieth percentile is taken of.
const RECENT_LEN: usize = 32;

/// How much more than at best a median may be: chance does as much.
const TOLERANCE: f64 = 2.0;

/// Below this nobody waits, and what is measured is the machine's own unrest.
const UNREMARKABLE: Duration = Duration::from_millis(50);

/// What a server did longer ago is no measure of it any more: it may have changed for good.
const BEST_AGE_MAX: Duration = Duration::from_secs(300);

/// Numbers in flight that are told apart; what is beyond them counts as the last.
const LEVELS_MAX: u32 = 256;

/// What a full window says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Judgement {
    /// The server keeps pace with so many.
    Fine { in_flight: u32 },
    /// It does not; `share` is what it would be allowed over what it took, below 1.
    Slow { share: f64 },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Latencies {
    levels: BTreeMap<u32, Level>,
    /// The last whole times as they came, and the place of the next one.
    recent: Vec<Duration>,
    next: usize,
    /// The same in order: every request asks for their percentile.
    sorted: Vec<Duration>,
}

/// What is known of one number in flight.
#[derive(Clone, Debug, Default, PartialEq)]
struct Level {
    window: Vec<Duration>,
    best: Option<(Duration, Timestamp)>,
}

impl Latencies {
    /// Notes one answer; a window that it fills is judged.
    pub(super) fn note(&mut self, taken: Taken, now: Timestamp) -> Option<Judgement> {
        self.note_whole(taken.whole);
        let in_flight = taken.in_flight.clamp(1, LEVELS_MAX);
        let window = &mut self.levels.entry(in_flight).or_default().window;
        window.push(taken.first_byte);
        if window.len() < WINDOW_LEN {
            return None;
        }
        let median = percentile(&mut std::mem::take(window), 50);
        Some(self.judge(in_flight, median, now))
    }

    /// The ninetieth percentile of the time a place was taken for, of late.
    pub(super) fn whole_p90(&self) -> Option<Duration> {
        let last = self.sorted.len().checked_sub(1)?;
        self.sorted.get(last * 90 / 100).copied()
    }

    fn judge(&mut self, in_flight: u32, median: Duration, now: Timestamp) -> Judgement {
        for level in self.levels.values_mut() {
            level.best = level.best.filter(|(_, at)| now.since(*at) <= BEST_AGE_MAX);
        }
        let best = &mut self.levels.entry(in_flight).or_default().best;
        if best.is_none_or(|(best, _)| median <= best) {
            *best = Some((median, now));
        }
        let allowed = self.at_best(in_flight).max(UNREMARKABLE).mul_f64(TOLERANCE);
        if median <= allowed {
            Judgement::Fine { in_flight }
        } else {
            Judgement::Slow { share: allowed.as_secs_f64() / median.as_secs_f64() }
        }
    }

    /// The longest that so many may take by the best that was seen at any number.
    fn at_best(&self, in_flight: u32) -> Duration {
        let seen = self.levels.iter().filter_map(|(number, level)| Some((*number, level.best?.0)));
        let scaled = seen.map(|(number, best)| {
            best.mul_f64((f64::from(in_flight) / f64::from(number)).max(1.0))
        });
        scaled.min().unwrap_or(Duration::MAX)
    }

    fn note_whole(&mut self, whole: Duration) {
        if self.recent.len() < RECENT_LEN {
            self.recent.push(whole);
        } else {
            let oldest = std::mem::replace(&mut self.recent[self.next], whole);
            let at = self.sorted.partition_point(|known| *known < oldest);
            self.sorted.remove(at);
        }
        self.next = (self.next + 1) % RECENT_LEN;
        let at = self.sorted.partition_point(|known| *known < whole);
        self.sorted.insert(at, whole);
    }
}

/// The value that so many per cent do not exceed; zero of none.
fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    let Some(last) = values.len().checked_sub(1) else { return Duration::ZERO };
    *values.select_nth_unstable(last * percent / 100).1
}
