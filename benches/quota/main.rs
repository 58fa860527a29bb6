//! Share of a server's quota that is obtained, and its 429s, compared with plain backoff.
//!
//! ```text
//! cargo bench --profile dist --bench quota -- [SECONDS] [WORD]...
//! ```
//!
//! Words select cases: those whose row of the table contains all of them (`sliding`, `none`,
//! `follow`).
//!
//! Every case has a separate server, a limiter in front of the embedded mailbox service, and all
//! run at once, since they mostly wait. `follow` is the real binary, `run --once`, which is killed
//! at the end of the time. `backoff` is a client in this program: eight concurrent requests, each
//! retried after 1 s, doubling to 64 s with full jitter, without regard to the server's headers.
#![expect(clippy::print_stdout, reason = "a benchmark prints a table")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the numbers of a limiter are small and positive"
)]

mod backoff;
mod limiter;
mod server;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cynosure_lab::demo::demo_config;
use fs_err as fs;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::limiter::LimiterKind;
use crate::server::{BenchHeaderMode, LimitedServer, ResponseCounts};

/// Duration of each case, unless the command line sets another: without headers, learning the limit
/// takes some minutes.
const CASE_DURATION: Duration = Duration::from_secs(600);

const TEN_SECONDS: Duration = Duration::from_secs(10);

const KINDS: [LimiterKind; 4] = [
    LimiterKind::FixedWindow { quota: 200, window: TEN_SECONDS },
    LimiterKind::SlidingLog { quota: 200, window: TEN_SECONDS },
    LimiterKind::TokenBucket { per_second: 20.0, burst: 40.0 },
    LimiterKind::Lockout { quota: 60, window: TEN_SECONDS, lockout: Duration::from_secs(30) },
];

const HEADERS: [(BenchHeaderMode, &str); 3] = [
    (BenchHeaderMode::None, "none"),
    (BenchHeaderMode::RetryAfter, "Retry-After"),
    (BenchHeaderMode::RateLimit, "RateLimit"),
];

fn main() {
    // Cargo passes `--bench` to every benchmark.
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (seconds, words): (Vec<String>, Vec<String>) =
        arguments.partition(|argument| argument.parse::<u64>().is_ok());
    let seconds = seconds.last().and_then(|seconds| seconds.parse().ok());
    let duration = seconds.map_or(CASE_DURATION, Duration::from_secs);
    rustls::crypto::ring::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(run(duration, &words));
}

async fn run(duration: Duration, words: &[String]) {
    println!("{} s for each case, all at once", duration.as_secs());
    println!(
        "{:36} {:12} {:>8} {:>8} {:>10} {:>6} {:>8}",
        "limiter", "headers", "policy", "accepted", "of quota", "429s", "of sent"
    );
    let mut cases = JoinSet::new();
    let mut case_number = 0;
    for kind in KINDS {
        for headers in HEADERS {
            for policy in ["follow", "backoff"] {
                let case = format!("{} {} {policy}", kind.name(), headers.1);
                if !words.iter().all(|word| case.contains(word.as_str())) {
                    continue;
                }
                cases.spawn(async move {
                    let counts = match policy {
                        "follow" => run_worker(kind, headers.0, duration).await,
                        _ => backoff::run(kind, headers.0, duration).await,
                    };
                    (case_number, row(kind, headers.1, policy, counts, duration))
                });
                case_number += 1;
            }
        }
    }
    let mut rows = cases.join_all().await;
    rows.sort();
    for (_, row) in rows {
        println!("{row}");
    }
}

fn row(
    kind: LimiterKind,
    headers: &str,
    policy: &str,
    counts: ResponseCounts,
    duration: Duration,
) -> String {
    let share = f64::from(counts.accepted) / kind.max_accepted(duration);
    let throttled_share =
        f64::from(counts.throttled) / f64::from((counts.accepted + counts.throttled).max(1));
    format!(
        "{:36} {headers:12} {policy:>8} {:>8} {:>8.1} % {:>6} {:>6.2} %",
        kind.name(),
        counts.accepted,
        share * 100.0,
        counts.throttled,
        throttled_share * 100.0
    )
}

/// Runs the real binary on a mailbox behind the limiter for this time, and returns the counts.
async fn run_worker(
    kind: LimiterKind,
    headers: BenchHeaderMode,
    duration: Duration,
) -> ResponseCounts {
    let folder = TempDir::new().expect("a temporary folder");
    let server = LimitedServer::start(kind, headers, duration).await;
    let worker = start_worker(&server, folder.path());
    tokio::time::sleep(duration).await;
    let counts = server.counts();
    drop(worker);
    counts
}

/// Worker process, killed when dropped.
struct WorkerProcess(Child);

fn start_worker(server: &LimitedServer, folder: &Path) -> WorkerProcess {
    let text = demo_config(&server.demo, &folder.join("downloads"));
    // Without the tables that shorten the waits of the demonstration.
    let source = text.split("[restart]").next().unwrap_or_default();
    let config = source.replace(&server.demo.address().to_string(), &server.address.to_string());
    let file = folder.join("config.toml");
    fs::write(&file, config).expect("the folder is ours");
    let log = fs::File::create(folder.join("log")).expect("the folder is ours").into_file();
    let process = Command::new(env!("CARGO_BIN_EXE_cynosure"))
        .env_clear()
        .env("DEMO_PASSWORD", "demo")
        .arg("--config")
        .arg(file)
        .args(["run", "--once", "-q"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    WorkerProcess(process.expect("the worker starts"))
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Both have no effect if the process has already ended.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
