//! What following a quota must achieve against each kind of server, measured.

use std::time::Duration;

use crate::engine::quota::{QuotaPolicy, Rate};
use crate::simulate::{Latency, Outcome, Restart, Server, Shape, Speech, Strategy, Trial, run};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn shapes() -> Vec<(&'static str, Shape)> {
    vec![
        ("600/min", Shape::FixedWindow { quota: 600, window: MINUTE, phase: Duration::ZERO }),
        ("bucket 10/s", Shape::TokenBucket { rate: Rate::per_second(10.0), burst: 20 }),
        ("5000/h", Shape::FixedWindow { quota: 5000, window: HOUR, phase: Duration::ZERO }),
        (
            "19/min, lock",
            Shape::LockOut {
                quota: 19,
                window: MINUTE,
                lock: MINUTE * 5,
                restart: Restart::ByAnyRequest,
            },
        ),
        ("100/h", Shape::FixedWindow { quota: 100, window: HOUR, phase: Duration::ZERO }),
    ]
}

fn trial(shape: Shape, speech: Speech, strategy: Strategy, seed: u64) -> Trial {
    let latency = Latency { base: Duration::from_millis(60), spread: Duration::from_millis(40) };
    Trial {
        server: Server { shape, speech, latency, neighbour: None, outages: Vec::new() },
        strategy,
        workers: 8,
        weight: 1,
        lasts: 4 * HOUR,
        work: None,
        seed,
        sample: 60 * MINUTE,
    }
}

#[test]
fn table() {
    for (name, shape) in shapes() {
        for speech in [Speech::Nothing, Speech::RetryAfter, Speech::RateLimit] {
            for seed in [1, 2] {
                let start = std::time::SystemTime::now();
                let Outcome { share, throttled, samples, .. } = run(&trial(
                    shape.clone(),
                    speech,
                    Strategy::Quota(QuotaPolicy::default()),
                    seed,
                ));
                let v: Vec<_> = samples.iter().map(|s| (s.accepted, s.throttled)).collect();
                println!(
                    "{name:14} {speech:?} {seed} {:.1}% {throttled} {v:?} {:?}",
                    share * 100.0,
                    start.elapsed()
                );
            }
        }
    }
}
