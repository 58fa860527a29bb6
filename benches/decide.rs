//! Cost of the rate limiter per request: admission, parsing of headers, recording of the response.
//!
//! ```text
//! cargo bench --profile dist --bench decide
//! ```
#![expect(clippy::print_stdout, reason = "a benchmark prints a table")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use cynosure_engine::rate_limit::{
    HeaderNames, RateLimitPolicy, RateLimitResponse, RateLimiter, ReportedLimits, ResponseOutcome,
    SendDecision, parse_headers,
};
use cynosure_engine::{RandomSample, Timestamp};

/// Requests per measurement.
const REQUESTS: u32 = 200_000;

/// Number of measurements. The best one counts, because the others were disturbed.
const MEASUREMENTS: u32 = 5;

const START: Timestamp = Timestamp(1_800_000_000_000);

/// Other headers of a server: most headers contain nothing about a rate limit.
const UNRELATED_HEADERS: [(&str, &str); 8] = [
    ("date", "Fri, 15 Jan 2027 08:00:00 GMT"),
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "4211"),
    ("cache-control", "private, no-store"),
    ("strict-transport-security", "max-age=31536000"),
    ("vary", "Accept-Encoding"),
    ("x-request-id", "0b9a3cf2d4"),
    ("server", "nginx"),
];

const IETF_HEADERS: [(&str, &str); 2] = [
    ("ratelimit-policy", "\"minute\";q=60000;w=60, \"day\";q=9000000;w=86400"),
    ("ratelimit", "\"minute\";r=59000;t=42, \"day\";r=8000000;t=3600"),
];

const X_RATELIMIT_HEADERS: [(&str, &str); 3] = [
    ("x-ratelimit-limit", "60000"),
    ("x-ratelimit-remaining", "59000"),
    ("x-ratelimit-reset", "1800000042"),
];

fn main() {
    println!("{:<28} {:>8} {:>8}", "nanoseconds per request", "decide", "read");
    for (name, headers) in [
        ("no headers", UNRELATED_HEADERS.to_vec()),
        ("RateLimit, two policies", [&UNRELATED_HEADERS[..], &IETF_HEADERS[..]].concat()),
        ("X-RateLimit-*", [&UNRELATED_HEADERS[..], &X_RATELIMIT_HEADERS[..]].concat()),
    ] {
        let names = HeaderNames::default();
        let signals = parse_headers(&headers, &names, START);
        let decide = best_measurement(|| measure_decisions(&signals));
        let read = best_measurement(|| {
            for _ in 0..REQUESTS {
                black_box(parse_headers(black_box(&headers), &names, START));
            }
        });
        println!("{name:<28} {decide:>8.0} {read:>8.0}");
    }
}

/// Admits requests as fast as the limiter allows, in virtual time.
fn measure_decisions(signals: &ReportedLimits) {
    let mut limiter = RateLimiter::new(RateLimitPolicy::default(), START);
    let mut now = START;
    let response = RateLimitResponse { outcome: ResponseOutcome::Accepted, reported: signals };
    let mut sent = 0;
    while sent < REQUESTS {
        match limiter.admit(1, now) {
            SendDecision::Admitted(token) => {
                sent += 1;
                black_box(limiter.record_response(token, &response, now, RandomSample(sent)));
            }
            SendDecision::Wait { until, .. } => now = until,
        }
    }
    black_box(limiter);
}

/// Returns the nanoseconds per request of the best measurement.
fn best_measurement(mut measure: impl FnMut()) -> f64 {
    let mut least = Duration::MAX;
    for _ in 0..MEASUREMENTS {
        let start = Instant::now();
        measure();
        least = least.min(start.elapsed());
    }
    least.as_secs_f64() * 1e9 / f64::from(REQUESTS)
}
