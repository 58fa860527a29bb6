//! The client's loop in virtual time: some workers, each with one request in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use crate::engine::breaker::{self, Breaker, BreakerPermit, BreakerPolicy, CallSubject};
use crate::engine::rate_limit::{
    self, HeaderNames, RateLimitReply, RateLimiter, RequestToken, SendDecision,
};
use crate::engine::{Cause, Failure, RandomSample, Timestamp};
use crate::simulate::{Limiter, Neighbour, Outcome, Ruling, Sample, Strategy, Trial};

/// Virtual time begins here: a whole hour in 2027, so that a window's phase is what the server says.
const START: Timestamp = Timestamp(1_800_000_000_000);

/// The wait of a worker whose request failed; each further failure in a row doubles it.
const FAILURE_DELAY: Duration = Duration::from_secs(1);

/// No worker waits longer after a failure.
const FAILURE_DELAY_MAX: Duration = Duration::from_secs(60);

/// Runs a trial to its end.
#[must_use]
pub fn run(trial: &Trial) -> Outcome {
    let mut client = Client::new(trial);
    if let Some(neighbour) = trial.server.neighbour {
        client.neighbour_later(neighbour, START);
    }
    // The first request asks for the list; until it is answered there is nothing else to ask for.
    client.later(START, Event::Free { worker: 0 });
    let end = START.after(trial.lasts);
    while let Some(Reverse(next)) = client.queue.pop() {
        if next.at > end || client.outcome.is_finished {
            break;
        }
        client.now = next.at;
        client.happen(next.event);
    }
    client.close(end)
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Entry {
    at: Timestamp,
    /// Events of one moment happen in the order they were planned.
    number: u64,
    event: Event,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    /// A worker is ready to send.
    Free { worker: u32 },
    /// Its request reaches the server.
    Arrive { worker: u32 },
    /// The reply reaches it.
    Answer { worker: u32 },
    /// The other client's request reaches the server.
    Neighbour,
    /// Those that wait may ask again.
    Wake,
}

/// What a worker knows of its request.
#[derive(Clone, Debug, Default)]
struct Worker {
    ticket: Option<RequestToken>,
    permit: Option<BreakerPermit>,
    reply: Option<Answer>,
    /// Refusals and failures in a row.
    in_a_row: u32,
    latency: Duration,
}

#[derive(Clone, Debug)]
enum Answer {
    Ruled(Ruling),
    Down,
}

struct Client<'a> {
    trial: &'a Trial,
    now: Timestamp,
    queue: BinaryHeap<Reverse<Entry>>,
    planned: u64,
    rng: Rng,
    limiter: Limiter,
    quota: Option<RateLimiter>,
    breaker: Option<Breaker>,
    workers: Vec<Worker>,
    waiting: Vec<u32>,
    /// The first request is answered.
    has_begun: bool,
    /// The wake-up that is planned, so that not every worker plans its own.
    wake: Option<Timestamp>,
    outcome: Outcome,
}

impl<'a> Client<'a> {
    fn new(trial: &'a Trial) -> Self {
        let quota = match &trial.strategy {
            Strategy::Quota(policy) => Some(RateLimiter::new(policy.clone(), START)),
            Strategy::Backoff { .. } => None,
        };
        let breaker =
            quota.is_some().then(|| Breaker::new("server", BreakerPolicy::DEFAULT, START));
        Self {
            trial,
            now: START,
            queue: BinaryHeap::new(),
            planned: 0,
            rng: Rng::with_seed(trial.seed),
            limiter: Limiter::new(
                trial.server.shape.clone(),
                trial.server.speech,
                trial.server.renewal,
                START,
            ),
            quota,
            breaker,
            workers: vec![Worker::default(); trial.workers as usize],
            waiting: Vec::new(),
            has_begun: false,
            wake: None,
            outcome: Outcome::default(),
        }
    }

    fn later(&mut self, at: Timestamp, event: Event) {
        self.planned += 1;
        self.queue.push(Reverse(Entry { at, number: self.planned, event }));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Free { worker } => {
                self.waiting.push(worker);
                self.send();
            }
            Event::Arrive { worker } => self.arrive(worker),
            Event::Answer { worker } => {
                self.answer(worker);
                self.send();
            }
            Event::Neighbour => {
                let ruling = self.limiter.ask(1, self.now);
                self.outcome.neighbour += u64::from(ruling.is_accepted);
                if let Some(neighbour) = self.trial.server.neighbour {
                    self.neighbour_later(neighbour, self.now);
                }
            }
            Event::Wake => {
                if self.wake == Some(self.now) {
                    self.wake = None;
                }
                self.send();
            }
        }
    }

    /// Sends for as many of the waiting workers as may.
    fn send(&mut self) {
        while let Some(&worker) = self.waiting.last() {
            if !self.pass_breaker(worker) || !self.pass_quota(worker) {
                return;
            }
            self.waiting.pop();
            let latency = self.trial.server.latency;
            let tail = -(1.0 - self.rng.f64()).ln();
            let latency = latency.base + latency.spread.mul_f64(tail.min(20.0));
            self.workers[worker as usize].latency = latency;
            self.later(self.now.after(latency / 2), Event::Arrive { worker });
        }
    }

    /// Whether the breaker lets the worker send; if not, the next look is planned.
    fn pass_breaker(&mut self, worker: u32) -> bool {
        let Some(breaker) = &mut self.breaker else { return true };
        match breaker.admit(self.now).0 {
            breaker::Admission::Admitted(permit) => {
                self.workers[worker as usize].permit = Some(permit);
                true
            }
            // The end of the one that tries is the next look.
            breaker::Admission::ProbeInFlight => false,
            breaker::Admission::Rejected { until } => {
                self.wake_at(until.unwrap_or(Timestamp(i64::MAX)));
                false
            }
        }
    }

    /// Whether the quota lets the worker send; if not, the next look is planned.
    fn pass_quota(&mut self, worker: u32) -> bool {
        let Some(quota) = &mut self.quota else { return true };
        match quota.admit(self.trial.weight, self.now) {
            SendDecision::Admitted(ticket) => {
                self.workers[worker as usize].ticket = Some(ticket);
                true
            }
            SendDecision::Wait { until, .. } => {
                if let (Some(breaker), Some(permit)) =
                    (&mut self.breaker, self.workers[worker as usize].permit.take())
                {
                    breaker.record_cancelled(permit);
                }
                self.wake_at(until);
                false
            }
        }
    }

    fn wake_at(&mut self, until: Timestamp) {
        assert!(until > self.now, "a wait must lie ahead, or it is a busy loop");
        if self.wake.is_none_or(|wake| until < wake) {
            self.wake = Some(until);
            self.later(until, Event::Wake);
        }
    }

    /// Tells the breaker how a request ended. Each is of another item.
    fn tell_breaker(&mut self, index: usize, outcome: rate_limit::ReplyOutcome) {
        let permit = self.workers[index].permit.take();
        let (Some(breaker), Some(permit)) = (&mut self.breaker, permit) else { return };
        let _change: Option<breaker::BreakerTransition> = match outcome {
            rate_limit::ReplyOutcome::Accepted => breaker.record_success(permit, self.now),
            rate_limit::ReplyOutcome::Failed => {
                let item = CallSubject::Item(self.planned.to_string());
                breaker.record_failure(permit, &item, &Failure::new(Cause::Server, "503"), self.now)
            }
            rate_limit::ReplyOutcome::Throttled => {
                breaker.record_neutral(permit);
                None
            }
        };
    }

    fn arrive(&mut self, worker: u32) {
        let since = self.now.since(START);
        let outages = &self.trial.server.outages;
        let is_down = outages.iter().any(|o| since >= o.from && since < o.from + o.lasts);
        let reply = if is_down {
            self.outcome.during_outage += 1;
            Answer::Down
        } else {
            Answer::Ruled(self.limiter.ask(self.trial.weight, self.now))
        };
        let latency = self.workers[worker as usize].latency;
        self.workers[worker as usize].reply = Some(reply);
        self.later(self.now.after(latency / 2), Event::Answer { worker });
    }

    fn answer(&mut self, worker: u32) {
        let index = worker as usize;
        let Some(reply) = self.workers[index].reply.take() else { return };
        let (outcome, headers) = match reply {
            Answer::Ruled(ruling) if ruling.is_accepted => {
                (rate_limit::ReplyOutcome::Accepted, ruling.headers)
            }
            Answer::Ruled(ruling) => (rate_limit::ReplyOutcome::Throttled, ruling.headers),
            Answer::Down => (rate_limit::ReplyOutcome::Failed, Vec::new()),
        };
        if let (Some(quota), Some(ticket)) = (&mut self.quota, self.workers[index].ticket.take()) {
            let headers: Vec<_> = headers.iter().map(|(name, text)| (*name, &**text)).collect();
            let signals = rate_limit::parse_headers(&headers, &HeaderNames::default(), self.now);
            let draw = RandomSample(self.rng.u32(..));
            let _moved: Option<rate_limit::Block> = quota.record_reply(
                ticket,
                &RateLimitReply { outcome, headers: &signals },
                self.now,
                draw,
            );
        }
        self.tell_breaker(index, outcome);
        self.count(outcome);
        if !std::mem::replace(&mut self.has_begun, true) {
            for worker in 1..self.trial.workers {
                self.later(self.now, Event::Free { worker });
            }
        }
        let delay = self.delay(index, outcome);
        self.later(self.now.after(delay), Event::Free { worker });
    }

    /// Returns how long the worker waits by itself before it asks to send again.
    fn delay(&mut self, index: usize, outcome: rate_limit::ReplyOutcome) -> Duration {
        let doublings = self.workers[index].in_a_row.min(16);
        self.workers[index].in_a_row = match outcome {
            rate_limit::ReplyOutcome::Accepted => 0,
            rate_limit::ReplyOutcome::Throttled | rate_limit::ReplyOutcome::Failed => doublings + 1,
        };
        match (outcome, &self.trial.strategy) {
            (rate_limit::ReplyOutcome::Accepted, _) => Duration::ZERO,
            (rate_limit::ReplyOutcome::Throttled, Strategy::Quota(_)) => Duration::ZERO,
            (rate_limit::ReplyOutcome::Throttled, Strategy::Backoff { first, longest }) => {
                (*first * (1 << doublings)).min(*longest).mul_f64(self.rng.f64())
            }
            (rate_limit::ReplyOutcome::Failed, _) => {
                (FAILURE_DELAY * (1 << doublings)).min(FAILURE_DELAY_MAX)
            }
        }
    }

    fn count(&mut self, outcome: rate_limit::ReplyOutcome) {
        let sample = self.trial.sample.max(Duration::from_millis(1));
        let since = self.now.since(START);
        let index = usize::try_from(since.as_millis() / sample.as_millis()).unwrap_or(usize::MAX);
        while self.outcome.samples.len() <= index {
            let before = u32::try_from(self.outcome.samples.len()).unwrap_or(u32::MAX);
            self.outcome.samples.push(Sample { from: sample * before, ..Sample::default() });
        }
        let weight = u64::from(self.trial.weight);
        let sample = &mut self.outcome.samples[index];
        match outcome {
            rate_limit::ReplyOutcome::Accepted => {
                sample.accepted += weight;
                self.outcome.accepted += weight;
            }
            rate_limit::ReplyOutcome::Throttled => {
                sample.throttled += 1;
                self.outcome.throttled += 1;
            }
            rate_limit::ReplyOutcome::Failed => {
                sample.failed += 1;
                self.outcome.failed += 1;
            }
        }
        let done = self.outcome.accepted / weight.max(1);
        self.outcome.is_finished = self.trial.work.is_some_and(|work| done >= work);
    }

    fn neighbour_later(&mut self, neighbour: Neighbour, now: Timestamp) {
        let gap = neighbour.rate.interval().mul_f64(-(1.0 - self.rng.f64()).ln());
        let mut at = now.after(gap);
        let turn = neighbour.works + neighbour.rests;
        let into = at.since(START).as_millis() % turn.as_millis().max(1);
        if into >= neighbour.works.as_millis() && !neighbour.rests.is_zero() {
            let rest = turn.as_millis().saturating_sub(into);
            at = at.after(Duration::from_millis(u64::try_from(rest).unwrap_or(u64::MAX)));
        }
        self.later(at, Event::Neighbour);
    }

    fn close(mut self, end: Timestamp) -> Outcome {
        let stopped = if self.outcome.is_finished { self.now } else { end };
        self.outcome.took = stopped.since(START);
        let took = self.outcome.took;
        let outages = self.trial.server.outages.iter();
        let down = outages
            .map(|outage| (outage.from + outage.lasts).min(took).saturating_sub(outage.from));
        let served = took.saturating_sub(down.sum());
        let granted = self.limiter.grants().get() * served.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts of one trial fit in 53 bits")]
        let (accepted, neighbour) = (self.outcome.accepted as f64, self.outcome.neighbour as f64);
        self.outcome.share = accepted / (granted - neighbour).max(1.0);
        self.outcome
    }
}
