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
use crate::simulate::{
    CompetingClient, LimitDecision, SendStrategy, ServerLimiter, Simulation, SimulationResult,
    SimulationSample,
};

/// Virtual time begins here: a whole hour in 2027, so that a window's phase is what the server says.
const START: Timestamp = Timestamp(1_800_000_000_000);

/// The wait of a worker whose request failed; each further failure in a row doubles it.
const FAILURE_DELAY: Duration = Duration::from_secs(1);

/// No worker waits longer after a failure.
const FAILURE_DELAY_MAX: Duration = Duration::from_secs(60);

/// Runs a trial to its end.
#[must_use]
pub fn run(trial: &Simulation) -> SimulationResult {
    let mut client = SimulatedClient::new(trial);
    if let Some(neighbour) = trial.server.competing_client {
        client.schedule_competing_request(neighbour, START);
    }
    // The first request asks for the list; until it is answered there is nothing else to ask for.
    client.schedule(START, SimulationEvent::WorkerReady { worker: 0 });
    let end = START.after(trial.duration);
    while let Some(Reverse(next)) = client.queue.pop() {
        if next.at > end || client.result.is_finished {
            break;
        }
        client.now = next.at;
        client.handle_event(next.event);
    }
    client.finish(end)
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct ScheduledEvent {
    at: Timestamp,
    /// Events of one moment happen in the order they were planned.
    sequence: u64,
    event: SimulationEvent,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum SimulationEvent {
    /// A worker is ready to send.
    WorkerReady { worker: u32 },
    /// Its request reaches the server.
    RequestArrives { worker: u32 },
    /// The reply reaches it.
    ResponseArrives { worker: u32 },
    /// The other client's request reaches the server.
    CompetingRequest,
    /// Those that wait may ask again.
    WakeWaiters,
}

/// What a worker knows of its request.
#[derive(Clone, Debug, Default)]
struct SimulatedWorker {
    ticket: Option<RequestToken>,
    permit: Option<BreakerPermit>,
    reply: Option<ServerResponse>,
    /// Refusals and failures in a row.
    consecutive_failures: u32,
    latency: Duration,
}

#[derive(Clone, Debug)]
enum ServerResponse {
    Decided(LimitDecision),
    Unavailable,
}

struct SimulatedClient<'a> {
    simulation: &'a Simulation,
    now: Timestamp,
    queue: BinaryHeap<Reverse<ScheduledEvent>>,
    last_sequence: u64,
    rng: Rng,
    server_limiter: ServerLimiter,
    rate_limiter: Option<RateLimiter>,
    breaker: Option<Breaker>,
    workers: Vec<SimulatedWorker>,
    waiting_workers: Vec<u32>,
    /// The first request is answered.
    has_first_response: bool,
    /// The wake-up that is planned, so that not every worker plans its own.
    next_wake: Option<Timestamp>,
    result: SimulationResult,
}

impl<'a> SimulatedClient<'a> {
    fn new(trial: &'a Simulation) -> Self {
        let quota = match &trial.strategy {
            SendStrategy::RateLimiter(policy) => Some(RateLimiter::new(policy.clone(), START)),
            SendStrategy::Backoff { .. } => None,
        };
        let breaker =
            quota.is_some().then(|| Breaker::new("server", BreakerPolicy::DEFAULT, START));
        Self {
            simulation: trial,
            now: START,
            queue: BinaryHeap::new(),
            last_sequence: 0,
            rng: Rng::with_seed(trial.seed),
            server_limiter: ServerLimiter::new(
                trial.server.algorithm.clone(),
                trial.server.header_mode,
                trial.server.reset_semantics,
                START,
            ),
            rate_limiter: quota,
            breaker,
            workers: vec![SimulatedWorker::default(); trial.workers as usize],
            waiting_workers: Vec::new(),
            has_first_response: false,
            next_wake: None,
            result: SimulationResult::default(),
        }
    }

    fn schedule(&mut self, at: Timestamp, event: SimulationEvent) {
        self.last_sequence += 1;
        self.queue.push(Reverse(ScheduledEvent { at, sequence: self.last_sequence, event }));
    }

    fn handle_event(&mut self, event: SimulationEvent) {
        match event {
            SimulationEvent::WorkerReady { worker } => {
                self.waiting_workers.push(worker);
                self.send_ready();
            }
            SimulationEvent::RequestArrives { worker } => self.on_request_arrived(worker),
            SimulationEvent::ResponseArrives { worker } => {
                self.on_response(worker);
                self.send_ready();
            }
            SimulationEvent::CompetingRequest => {
                let ruling = self.server_limiter.decide(1, self.now);
                self.result.competing_units += u64::from(ruling.is_accepted);
                if let Some(neighbour) = self.simulation.server.competing_client {
                    self.schedule_competing_request(neighbour, self.now);
                }
            }
            SimulationEvent::WakeWaiters => {
                if self.next_wake == Some(self.now) {
                    self.next_wake = None;
                }
                self.send_ready();
            }
        }
    }

    /// Sends for as many of the waiting workers as may.
    fn send_ready(&mut self) {
        while let Some(&worker) = self.waiting_workers.last() {
            if !self.admit_by_breaker(worker) || !self.admit_by_rate_limiter(worker) {
                return;
            }
            self.waiting_workers.pop();
            let latency = self.simulation.server.latency;
            let tail = -(1.0 - self.rng.f64()).ln();
            let latency = latency.base + latency.mean_tail.mul_f64(tail.min(20.0));
            self.workers[worker as usize].latency = latency;
            self.schedule(self.now.after(latency / 2), SimulationEvent::RequestArrives { worker });
        }
    }

    /// Whether the breaker lets the worker send; if not, the next look is planned.
    fn admit_by_breaker(&mut self, worker: u32) -> bool {
        let Some(breaker) = &mut self.breaker else { return true };
        match breaker.admit(self.now).0 {
            breaker::Admission::Admitted(permit) => {
                self.workers[worker as usize].permit = Some(permit);
                true
            }
            // The end of the one that tries is the next look.
            breaker::Admission::ProbeInFlight => false,
            breaker::Admission::Rejected { until } => {
                self.schedule_wake(until.unwrap_or(Timestamp(i64::MAX)));
                false
            }
        }
    }

    /// Whether the quota lets the worker send; if not, the next look is planned.
    fn admit_by_rate_limiter(&mut self, worker: u32) -> bool {
        let Some(quota) = &mut self.rate_limiter else { return true };
        match quota.admit(self.simulation.weight, self.now) {
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
                self.schedule_wake(until);
                false
            }
        }
    }

    fn schedule_wake(&mut self, until: Timestamp) {
        assert!(until > self.now, "a wait must lie ahead, or it is a busy loop");
        if self.next_wake.is_none_or(|wake| until < wake) {
            self.next_wake = Some(until);
            self.schedule(until, SimulationEvent::WakeWaiters);
        }
    }

    /// Tells the breaker how a request ended. Each is of another item.
    fn report_to_breaker(&mut self, index: usize, outcome: rate_limit::ReplyOutcome) {
        let permit = self.workers[index].permit.take();
        let (Some(breaker), Some(permit)) = (&mut self.breaker, permit) else { return };
        let _change: Option<breaker::BreakerTransition> = match outcome {
            rate_limit::ReplyOutcome::Accepted => breaker.record_success(permit, self.now),
            rate_limit::ReplyOutcome::Failed => {
                let item = CallSubject::Item(self.last_sequence.to_string());
                breaker.record_failure(permit, &item, &Failure::new(Cause::Server, "503"), self.now)
            }
            rate_limit::ReplyOutcome::Throttled => {
                breaker.record_neutral(permit);
                None
            }
        };
    }

    fn on_request_arrived(&mut self, worker: u32) {
        let since = self.now.since(START);
        let outages = &self.simulation.server.outages;
        let is_down = outages.iter().any(|o| since >= o.start && since < o.start + o.duration);
        let reply = if is_down {
            self.result.requests_during_outage += 1;
            ServerResponse::Unavailable
        } else {
            ServerResponse::Decided(self.server_limiter.decide(self.simulation.weight, self.now))
        };
        let latency = self.workers[worker as usize].latency;
        self.workers[worker as usize].reply = Some(reply);
        self.schedule(self.now.after(latency / 2), SimulationEvent::ResponseArrives { worker });
    }

    fn on_response(&mut self, worker: u32) {
        let index = worker as usize;
        let Some(reply) = self.workers[index].reply.take() else { return };
        let (outcome, headers) = match reply {
            ServerResponse::Decided(ruling) if ruling.is_accepted => {
                (rate_limit::ReplyOutcome::Accepted, ruling.headers)
            }
            ServerResponse::Decided(ruling) => {
                (rate_limit::ReplyOutcome::Throttled, ruling.headers)
            }
            ServerResponse::Unavailable => (rate_limit::ReplyOutcome::Failed, Vec::new()),
        };
        if let (Some(quota), Some(ticket)) =
            (&mut self.rate_limiter, self.workers[index].ticket.take())
        {
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
        self.report_to_breaker(index, outcome);
        self.record_outcome(outcome);
        if !std::mem::replace(&mut self.has_first_response, true) {
            for worker in 1..self.simulation.workers {
                self.schedule(self.now, SimulationEvent::WorkerReady { worker });
            }
        }
        let delay = self.retry_delay(index, outcome);
        self.schedule(self.now.after(delay), SimulationEvent::WorkerReady { worker });
    }

    /// Returns how long the worker waits by itself before it asks to send again.
    fn retry_delay(&mut self, index: usize, outcome: rate_limit::ReplyOutcome) -> Duration {
        let doublings = self.workers[index].consecutive_failures.min(16);
        self.workers[index].consecutive_failures = match outcome {
            rate_limit::ReplyOutcome::Accepted => 0,
            rate_limit::ReplyOutcome::Throttled | rate_limit::ReplyOutcome::Failed => doublings + 1,
        };
        match (outcome, &self.simulation.strategy) {
            (rate_limit::ReplyOutcome::Accepted, _) => Duration::ZERO,
            (rate_limit::ReplyOutcome::Throttled, SendStrategy::RateLimiter(_)) => Duration::ZERO,
            (
                rate_limit::ReplyOutcome::Throttled,
                SendStrategy::Backoff { initial_delay: first, max_delay: longest },
            ) => (*first * (1 << doublings)).min(*longest).mul_f64(self.rng.f64()),
            (rate_limit::ReplyOutcome::Failed, _) => {
                (FAILURE_DELAY * (1 << doublings)).min(FAILURE_DELAY_MAX)
            }
        }
    }

    fn record_outcome(&mut self, outcome: rate_limit::ReplyOutcome) {
        let sample = self.simulation.sample_interval.max(Duration::from_millis(1));
        let since = self.now.since(START);
        let index = usize::try_from(since.as_millis() / sample.as_millis()).unwrap_or(usize::MAX);
        while self.result.samples.len() <= index {
            let before = u32::try_from(self.result.samples.len()).unwrap_or(u32::MAX);
            self.result
                .samples
                .push(SimulationSample { start: sample * before, ..SimulationSample::default() });
        }
        let weight = u64::from(self.simulation.weight);
        let sample = &mut self.result.samples[index];
        match outcome {
            rate_limit::ReplyOutcome::Accepted => {
                sample.accepted += weight;
                self.result.accepted += weight;
            }
            rate_limit::ReplyOutcome::Throttled => {
                sample.throttled += 1;
                self.result.throttled += 1;
            }
            rate_limit::ReplyOutcome::Failed => {
                sample.failed += 1;
                self.result.failed += 1;
            }
        }
        let done = self.result.accepted / weight.max(1);
        self.result.is_finished = self.simulation.request_goal.is_some_and(|work| done >= work);
    }

    fn schedule_competing_request(&mut self, neighbour: CompetingClient, now: Timestamp) {
        let gap = neighbour.rate.interval().mul_f64(-(1.0 - self.rng.f64()).ln());
        let mut at = now.after(gap);
        let turn = neighbour.active_for + neighbour.idle_for;
        let into = at.since(START).as_millis() % turn.as_millis().max(1);
        if into >= neighbour.active_for.as_millis() && !neighbour.idle_for.is_zero() {
            let rest = turn.as_millis().saturating_sub(into);
            at = at.after(Duration::from_millis(u64::try_from(rest).unwrap_or(u64::MAX)));
        }
        self.schedule(at, SimulationEvent::CompetingRequest);
    }

    fn finish(mut self, end: Timestamp) -> SimulationResult {
        let stopped = if self.result.is_finished { self.now } else { end };
        self.result.duration = stopped.since(START);
        let took = self.result.duration;
        let outages = self.simulation.server.outages.iter();
        let down = outages
            .map(|outage| (outage.start + outage.duration).min(took).saturating_sub(outage.start));
        let served = took.saturating_sub(down.sum());
        let granted = self.server_limiter.granted_rate().get() * served.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts of one trial fit in 53 bits")]
        let (accepted, neighbour) =
            (self.result.accepted as f64, self.result.competing_units as f64);
        self.result.utilization = accepted / (granted - neighbour).max(1.0);
        self.result
    }
}
