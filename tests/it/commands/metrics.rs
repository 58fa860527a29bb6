//! Metrics file of a worker, and its counters over several runs.

use std::path::Path;

use cynosure::disk::RealDisk;
use cynosure::state::{ExecutionState, MetricsFile, StateFile, read_metrics, read_state_file};
use cynosure_engine::Status;
use cynosure_engine::metrics::SourceMetrics;

use crate::commands::test_home::TestHome;
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

const METRICS_FILE: &str = "state/demo/figures.json";

fn worker_metrics(home: &TestHome) -> SourceMetrics {
    let file = read_metrics(&RealDisk, Path::new(&home.path(METRICS_FILE)));
    let MetricsFile::Read(metrics) = file else { panic!("{file:?}") };
    *metrics
}

#[test]
fn counters_continue_in_the_next_run() {
    let home = TestHome::with_demo_server(40);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));

    let first = worker_metrics(&home);
    let (items, requests) = (&first.items, &first.requests);
    let messages = u64::try_from(home.messages().len()).unwrap();
    assert_eq!((items.listed, items.stored, items.gone, items.quarantined), (40, 40, 0, 0));
    assert_eq!((items.documents_stored, items.fetch_duration.count()), (messages, 40));
    let bytes: u64 = home.messages().iter().map(|path| fs_err::metadata(path).unwrap().len()).sum();
    assert_eq!(items.bytes_stored, bytes);
    assert!(items.commit_duration.count() > 0);
    assert!(requests.by_outcome.success > messages, "{requests:?}");
    assert_eq!(requests.latency.count(), requests.by_outcome.success);
    assert!(requests.bytes_received > bytes);
    assert_eq!((first.lifecycle.starts, first.lifecycle.sessions_completed), (1, 1));
    assert_eq!(first.success_rate(), Some(1.0));
    assert!(
        first.counting_since.is_some_and(|since| 0 < since && since < first.written_at),
        "{first:?}"
    );

    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));

    let second = worker_metrics(&home);
    assert_eq!((second.items.stored, second.lifecycle.starts), (40, 2));
    assert!(second.requests.by_outcome.success > first.requests.by_outcome.success);
    assert!(second.written_at > first.written_at);
    assert_eq!(second.counting_since, first.counting_since);
}

/// Waits until state and metrics of `source` match, and were written at the same time. Returns the
/// metrics.
fn metrics_of_transition(
    home: &TestHome,
    source: &str,
    matches: impl Fn(&ExecutionState, &SourceMetrics) -> bool,
) -> SourceMetrics {
    let dir = home.path("state").join(source);
    loop {
        let state = read_state_file(&RealDisk, &dir.join("execution_state.json"));
        let metrics = read_metrics(&RealDisk, &dir.join("figures.json"));
        if let (Ok(StateFile::Read(state)), MetricsFile::Read(metrics)) = (state, metrics)
            && matches(&state, &metrics)
            && state.last_updated.0 == metrics.written_at
        {
            return *metrics;
        }
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_counted_when_it_begins() {
    let response = plain_response("429 Too Many Requests", "Retry-After: 21600\r\n", "");
    let server = HostileServer::start(move |_, _| {
        vec![ConnectionAction::Send(response.clone()), ConnectionAction::Close]
    })
    .await;
    let home = TestHome::with_source_at(server.url.as_str());
    let _worker = home.start(&["run"]);

    let is_limited =
        |state: &ExecutionState, _: &SourceMetrics| state.status == Status::RateLimited;
    let poll = move || metrics_of_transition(&home, "work", is_limited);
    let metrics = tokio::task::spawn_blocking(poll).await.unwrap();

    assert_eq!(metrics.lifecycle.rate_limit_waits, 1, "{metrics:?}");
}

#[test]
fn a_session_is_counted_when_it_is_completed() {
    let home = TestHome::with_demo_server(3);
    let _worker = home.start(&["run"]);

    // Waits for the counter, because the state that follows `completed` begins at once.
    let is_completed =
        |_: &ExecutionState, metrics: &SourceMetrics| metrics.lifecycle.sessions_completed > 0;
    let metrics = metrics_of_transition(&home, "demo", is_completed);

    assert_eq!(metrics.lifecycle.sessions_completed, 1, "{metrics:?}");
}

#[test]
fn an_unusable_metrics_file_is_quarantined() {
    let home = TestHome::with_demo_server(3);
    assert_eq!(home.cynosure(&["run", "--once"]).code, Some(0));
    home.write(METRICS_FILE, "{\"schema\":99}");

    let output = home.cynosure(&["run", "--once"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("the metrics start at zero"), "{output:?}");
    let metrics = worker_metrics(&home);
    assert_eq!(metrics.lifecycle.starts, 1);
    assert!(metrics.counting_since.is_some(), "{metrics:?}");
    assert_eq!(home.read(&format!("{METRICS_FILE}.unreadable-1")), "{\"schema\":99}");
}

#[test]
fn a_recreated_client_is_logged_once_and_counted() {
    // Nothing listens at its address.
    let home = TestHome::with_source_work();
    home.configure("attempts = 1", "attempts = 4\ndelay = \"1ms\"\nmax_delay = \"2ms\"");

    let output = home.cynosure(&["run", "--once"]);

    let message = "recreating the HTTP client after consecutive requests without a response";
    assert_eq!(output.stderr.matches(message).count(), 1, "{output:?}");
    let file = read_metrics(&RealDisk, &home.path("state/work/figures.json"));
    let metrics = file.into_metrics().unwrap();
    let failed = metrics.requests.by_outcome.unreachable;
    assert!(failed >= 4, "{metrics:?}");
    assert_eq!(u64::from(metrics.connection.consecutive_failures), failed);
    assert_eq!(metrics.connection.reconnects, failed / 3);
    assert_eq!(metrics.success_rate(), Some(0.0));
    assert!(metrics.lifecycle.errors >= 1 && metrics.requests.retries >= 3);
}
