//! Simulated client in virtual time: some workers, each with at most one request in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use cynosure_engine::breaker::{self, Breaker, BreakerPermit, BreakerPolicy, CallSubject};
use cynosure_engine::rate_limit::{
    self, HeaderNames, RateLimitResponse, RateLimiter, RequestToken, SendDecision,
};
use cynosure_engine::{Cause, Failure, RandomSample, Timestamp, doubled_delay};
use fastrand::Rng;

use crate::simulate::{
    CompetingClient, LimitDecision, SendStrategy, ServerLimiter, Simulation, SimulationResult,
    SimulationSample,
};

/// Start of virtual time: a full hour in 2027, so that the server's `phase` is the offset of the
/// first window.
const START: Timestamp = Timestamp(1_800_000_000_000);

/// Delay of a worker after a failed request. Each further failure in a row doubles it.
const FAILURE_DELAY: Duration = Duration::from_secs(1);

/// Maximum delay of a worker after failures.
const FAILURE_DELAY_MAX: Duration = Duration::from_secs(60);

/// Runs a simulation until its goal is reached or its duration is over.
#[must_use]
pub fn run(simulation: &Simulation) -> SimulationResult {
    let mut client = SimulatedClient::new(simulation);
    if let Some(competing_client) = simulation.server.competing_client {
        client.schedule_competing_request(competing_client, START);
    }
    // The first request fetches the listing. Until its response there is nothing else to request.
    client.schedule(START, SimulationEvent::WorkerReady { worker: 0 });
    let end = START.after(simulation.duration);
    while let Some(Reverse(next)) = client.queue.events.pop() {
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
    /// Order of scheduling, which is also the order of events at the same time.
    sequence: u64,
    event: SimulationEvent,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum SimulationEvent {
    /// The worker is ready to send.
    WorkerReady { worker: u32 },
    /// The worker's request reaches the server.
    RequestArrives { worker: u32 },
    /// The response reaches the worker.
    ResponseArrives { worker: u32 },
    /// A request of the competing client reaches the server.
    CompetingRequest,
    /// The waiting workers try again to send.
    WakeWaiters,
}

/// State of one worker and its current request.
#[derive(Clone, Debug, Default)]
struct SimulatedWorker {
    token: Option<RequestToken>,
    permit: Option<BreakerPermit>,
    response: Option<ServerResponse>,
    /// Throttled and failed requests in a row.
    consecutive_failures: u32,
    latency: Duration,
}

#[derive(Clone, Debug)]
enum ServerResponse {
    Decided(LimitDecision),
    Unavailable,
}

/// Scheduled events, the earliest first.
#[derive(Debug, Default)]
struct EventQueue {
    events: BinaryHeap<Reverse<ScheduledEvent>>,
    /// Sequence number of the event that was scheduled last.
    last_sequence: u64,
}

struct SimulatedClient<'a> {
    simulation: &'a Simulation,
    now: Timestamp,
    queue: EventQueue,
    rng: Rng,
    server_limiter: ServerLimiter,
    rate_limiter: Option<RateLimiter>,
    breaker: Option<Breaker>,
    workers: Vec<SimulatedWorker>,
    waiting_workers: Vec<u32>,
    /// True once the first request has its response.
    has_first_response: bool,
    /// Earliest scheduled wake-up, so that the workers do not schedule one each.
    next_wake: Option<Timestamp>,
    result: SimulationResult,
}

impl<'a> SimulatedClient<'a> {
    fn new(simulation: &'a Simulation) -> Self {
        let rate_limiter = match &simulation.strategy {
            SendStrategy::RateLimiter(policy) => Some(RateLimiter::new(policy.clone(), START)),
            SendStrategy::Backoff { .. } => None,
        };
        let breaker =
            rate_limiter.is_some().then(|| Breaker::new("server", BreakerPolicy::DEFAULT, START));
        Self {
            simulation,
            now: START,
            queue: EventQueue::default(),
            rng: Rng::with_seed(simulation.seed),
            server_limiter: ServerLimiter::new(
                simulation.server.algorithm.clone(),
                simulation.server.header_mode,
                simulation.server.reset_semantics,
                START,
            ),
            rate_limiter,
            breaker,
            workers: vec![SimulatedWorker::default(); simulation.workers as usize],
            waiting_workers: Vec::new(),
            has_first_response: false,
            next_wake: None,
            result: SimulationResult::default(),
        }
    }

    fn schedule(&mut self, at: Timestamp, event: SimulationEvent) {
        self.queue.last_sequence += 1;
        let sequence = self.queue.last_sequence;
        self.queue.events.push(Reverse(ScheduledEvent { at, sequence, event }));
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
                let decision = self.server_limiter.decide(1, self.now);
                self.result.competing_units += u64::from(decision.is_accepted);
                if let Some(competing_client) = self.simulation.server.competing_client {
                    self.schedule_competing_request(competing_client, self.now);
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

    /// Sends for the waiting workers until the breaker or the rate limiter admits no more.
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

    /// True if the circuit breaker admits the worker. Otherwise schedules a wake-up, except while
    /// a probe is in flight.
    fn admit_by_breaker(&mut self, worker: u32) -> bool {
        let Some(breaker) = &mut self.breaker else { return true };
        match breaker.admit(self.now).0 {
            breaker::Admission::Admitted(permit) => {
                self.workers[worker as usize].permit = Some(permit);
                true
            }
            // The response to the probe makes the waiting workers try again.
            breaker::Admission::ProbeInFlight => false,
            breaker::Admission::Rejected { until } => {
                self.schedule_wake(until.unwrap_or(Timestamp(i64::MAX)));
                false
            }
        }
    }

    /// True if the rate limiter admits the worker. Otherwise schedules a wake-up.
    fn admit_by_rate_limiter(&mut self, worker: u32) -> bool {
        let Some(rate_limiter) = &mut self.rate_limiter else { return true };
        match rate_limiter.admit(self.simulation.weight, self.now) {
            SendDecision::Admitted(token) => {
                self.workers[worker as usize].token = Some(token);
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
        assert!(until > self.now, "a wake-up must be in the future, or the loop never ends");
        if self.next_wake.is_none_or(|wake| until < wake) {
            self.next_wake = Some(until);
            self.schedule(until, SimulationEvent::WakeWaiters);
        }
    }

    /// Records the outcome of a request in the circuit breaker. Each failure has a different item
    /// as its subject.
    fn report_to_breaker(&mut self, index: usize, outcome: rate_limit::ResponseOutcome) {
        let permit = self.workers[index].permit.take();
        let (Some(breaker), Some(permit)) = (&mut self.breaker, permit) else { return };
        let _transition: Option<breaker::BreakerTransition> = match outcome {
            rate_limit::ResponseOutcome::Accepted => breaker.record_success(permit, self.now),
            rate_limit::ResponseOutcome::Failed => {
                let subject = CallSubject::Item(self.queue.last_sequence.to_string());
                let failure = Failure::new(Cause::Server, "503");
                breaker.record_failure(permit, &subject, &failure, self.now)
            }
            rate_limit::ResponseOutcome::Throttled => {
                breaker.record_neutral(permit);
                None
            }
        };
    }

    fn on_request_arrived(&mut self, worker: u32) {
        let elapsed = self.now.since(START);
        let outages = &self.simulation.server.outages;
        let is_down = outages
            .iter()
            .any(|outage| elapsed >= outage.start && elapsed < outage.start + outage.duration);
        let response = if is_down {
            self.result.requests_during_outage += 1;
            ServerResponse::Unavailable
        } else {
            ServerResponse::Decided(self.server_limiter.decide(self.simulation.weight, self.now))
        };
        let latency = self.workers[worker as usize].latency;
        self.workers[worker as usize].response = Some(response);
        self.schedule(self.now.after(latency / 2), SimulationEvent::ResponseArrives { worker });
    }

    fn on_response(&mut self, worker: u32) {
        let index = worker as usize;
        let Some(response) = self.workers[index].response.take() else { return };
        let (outcome, headers) = match response {
            ServerResponse::Decided(decision) if decision.is_accepted => {
                (rate_limit::ResponseOutcome::Accepted, decision.headers)
            }
            ServerResponse::Decided(decision) => {
                (rate_limit::ResponseOutcome::Throttled, decision.headers)
            }
            ServerResponse::Unavailable => (rate_limit::ResponseOutcome::Failed, Vec::new()),
        };
        if let (Some(rate_limiter), Some(token)) =
            (&mut self.rate_limiter, self.workers[index].token.take())
        {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let headers = rate_limit::parse_headers(&headers, &HeaderNames::default(), self.now);
            let sample = RandomSample(self.rng.u32(..));
            let _block: Option<rate_limit::Block> = rate_limiter.record_response(
                token,
                &RateLimitResponse { outcome, reported: &headers },
                self.now,
                sample,
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

    /// Returns the worker's delay until it tries to send again. The breaker and the rate limiter
    /// may delay it further.
    fn retry_delay(&mut self, index: usize, outcome: rate_limit::ResponseOutcome) -> Duration {
        let doublings = self.workers[index].consecutive_failures.min(16);
        self.workers[index].consecutive_failures = match outcome {
            rate_limit::ResponseOutcome::Accepted => 0,
            rate_limit::ResponseOutcome::Throttled | rate_limit::ResponseOutcome::Failed => {
                doublings + 1
            }
        };
        match (outcome, &self.simulation.strategy) {
            (rate_limit::ResponseOutcome::Accepted, _) => Duration::ZERO,
            (rate_limit::ResponseOutcome::Throttled, SendStrategy::RateLimiter(_)) => {
                Duration::ZERO
            }
            (
                rate_limit::ResponseOutcome::Throttled,
                SendStrategy::Backoff { initial_delay, max_delay },
            ) => doubled_delay(*initial_delay, doublings, *max_delay).mul_f64(self.rng.f64()),
            (rate_limit::ResponseOutcome::Failed, _) => {
                doubled_delay(FAILURE_DELAY, doublings, FAILURE_DELAY_MAX)
            }
        }
    }

    fn record_outcome(&mut self, outcome: rate_limit::ResponseOutcome) {
        let interval = self.simulation.sample_interval.max(Duration::from_millis(1));
        let elapsed = self.now.since(START);
        let index =
            usize::try_from(elapsed.as_millis() / interval.as_millis()).unwrap_or(usize::MAX);
        while self.result.samples.len() <= index {
            let number = u32::try_from(self.result.samples.len()).unwrap_or(u32::MAX);
            self.result
                .samples
                .push(SimulationSample { start: interval * number, ..SimulationSample::default() });
        }
        let weight = u64::from(self.simulation.weight);
        let sample = &mut self.result.samples[index];
        match outcome {
            rate_limit::ResponseOutcome::Accepted => {
                sample.accepted += weight;
                self.result.accepted += weight;
            }
            rate_limit::ResponseOutcome::Throttled => {
                sample.throttled += 1;
                self.result.throttled += 1;
            }
            rate_limit::ResponseOutcome::Failed => {
                sample.failed += 1;
                self.result.failed += 1;
            }
        }
        let accepted_requests = self.result.accepted / weight.max(1);
        let goal = self.simulation.request_goal;
        self.result.is_finished = goal.is_some_and(|goal| accepted_requests >= goal);
    }

    fn schedule_competing_request(&mut self, client: CompetingClient, now: Timestamp) {
        let interval = client.rate.interval().mul_f64(-(1.0 - self.rng.f64()).ln());
        let mut at = now.after(interval);
        let cycle = client.active_for + client.idle_for;
        let offset = at.since(START).as_millis() % cycle.as_millis().max(1);
        if offset >= client.active_for.as_millis() && !client.idle_for.is_zero() {
            let idle_ms = cycle.as_millis().saturating_sub(offset);
            at = at.after(Duration::from_millis(u64::try_from(idle_ms).unwrap_or(u64::MAX)));
        }
        self.schedule(at, SimulationEvent::CompetingRequest);
    }

    fn finish(mut self, end: Timestamp) -> SimulationResult {
        let stopped_at = if self.result.is_finished { self.now } else { end };
        self.result.duration = stopped_at.since(START);
        let duration = self.result.duration;
        let outages = self.simulation.server.outages.iter();
        let downtimes = outages.map(|outage| {
            (outage.start + outage.duration).min(duration).saturating_sub(outage.start)
        });
        let uptime = duration.saturating_sub(downtimes.sum());
        let granted = self.server_limiter.granted_rate().get() * uptime.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts of one simulation fit in 53 bits")]
        let (accepted, competing) =
            (self.result.accepted as f64, self.result.competing_units as f64);
        self.result.utilization = accepted / (granted - competing).max(1.0);
        self.result
    }
}
