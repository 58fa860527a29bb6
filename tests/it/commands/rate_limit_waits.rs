//! Waits that a server asks for: they survive a kill, processes share them, and absurd ones are
//! limited.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::commands::test_home::TestHome;
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};
use crate::hostile_server::{ConnectionAction, plain_response};

/// Requests that the server received: the time of arrival, and true if it was throttled.
type RequestLog = Arc<Mutex<Vec<(Instant, bool)>>>;

/// Mailbox that responds with 429 during one `block`, which begins after `after` requests.
async fn blocking_mailbox(after: usize, block: Duration) -> (ServedMailbox, RequestLog) {
    let log = RequestLog::default();
    let server_log = Arc::clone(&log);
    let served = FakeMailbox::with_emails(60)
        .serve_with(move |_| {
            let (mut log, now) = (server_log.lock().unwrap(), now());
            let first = log.iter().find(|(_, is_throttled)| *is_throttled).map(|(at, _)| *at);
            let is_throttled = match first {
                None => log.len() == after,
                Some(first) => now < first + block,
            };
            log.push((now, is_throttled));
            let retry_after = format!("Retry-After: {}\r\n", block.as_secs());
            is_throttled.then(|| {
                let throttle = plain_response("429 Too Many Requests", &retry_after, "");
                vec![ConnectionAction::Send(throttle)]
            })
        })
        .await;
    (served, log)
}

#[expect(clippy::disallowed_methods, reason = "a server measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Counts the requests from `grace` after the first throttle to the end of the server's `block`.
fn requests_while_blocked(log: &RequestLog, grace: Duration, block: Duration) -> usize {
    let log = log.lock().unwrap();
    let (first, _) =
        *log.iter().find(|(_, is_throttled)| *is_throttled).expect("a request was throttled");
    log.iter().filter(|(at, _)| first + grace < *at && *at < first + block).count()
}

/// Waits until the state file has this status. The worker saves it before it acts on it.
async fn wait_for_status(home: &TestHome, source: &str, status: &str) {
    let file = format!("state/{source}/execution_state.json");
    let mut poll = tokio::time::interval(Duration::from_millis(10));
    loop {
        poll.tick().await;
        let text = fs_err::read_to_string(home.path(&file)).unwrap_or_default();
        let state: Value = serde_json::from_str(&text).unwrap_or_default();
        if state["status"] == status {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_survives_a_kill_until_its_deadline() {
    let block = Duration::from_secs(8);
    let (served, log) = blocking_mailbox(30, block).await;
    let home = TestHome::with_source_at(served.server.url.as_str());
    let running = home.start(&["run", "--once"]);
    wait_for_status(&home, "work", "rate_limited").await;

    // Dropping it sends SIGKILL, in the middle of the wait.
    drop(running);
    let second_run = tokio::task::spawn_blocking(move || (home.cynosure(&["run", "--once"]), home));

    let (output, home) = second_run.await.unwrap();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stdout, "listed 60 = stored 60 + gone 0 + quarantined 0\n");
    // Requests in flight together with the throttled one arrive within the grace period.
    assert_eq!(requests_while_blocked(&log, Duration::from_millis(500), block), 0);
    assert_eq!(home.cynosure(&["verify"]).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_is_shared_between_processes() {
    let block = Duration::from_secs(6);
    let (served, log) = blocking_mailbox(60, block).await;
    let home = TestHome::with_source_at(served.server.url.as_str());
    let config = home.read("config.toml");
    let other =
        config.split("[restart]").next().unwrap().replace("[source.work]", "[source.other]");
    home.write("config.toml", &format!("{config}\n{other}"));
    let home = Arc::new(home);
    let runs = ["work", "other"].map(|source| {
        let home = Arc::clone(&home);
        tokio::task::spawn_blocking(move || home.cynosure(&["run", source, "--once"]))
    });

    for run in runs {
        let output = run.await.unwrap();
        assert_eq!(output.code, Some(0), "{output:?}");
    }
    assert_eq!(requests_while_blocked(&log, Duration::from_millis(1500), block), 0);
    let throttled = log.lock().unwrap().iter().filter(|(_, is_throttled)| *is_throttled).count();
    assert!(throttled <= 16, "{throttled} requests were throttled: more than were in flight");
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictory_headers_neither_stop_nor_spin_the_worker() {
    for headers in [
        "RateLimit-Remaining: 0\r\nRateLimit-Reset: 31536000000\r\n",
        "X-RateLimit-Limit: 10\r\nX-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 999999999999999\r\n",
        "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 1\r\n",
        "X-RateLimit-Remaining: -3\r\nX-RateLimit-Reset: -60\r\n",
        "RateLimit: \"a\";r=0;t=-5\r\nRateLimit-Policy: \"a\";q=0;w=0\r\n",
        "RateLimit-Limit: NaN\r\nRateLimit-Remaining: 1e400\r\nRateLimit-Reset: inf\r\n",
    ] {
        let rate_limit_headers = headers.to_owned();
        let log = RequestLog::default();
        let server_log = Arc::clone(&log);
        // One response in the middle of the listing has them; all others are normal.
        let served = FakeMailbox::with_emails(12)
            .serve_with(move |request| {
                let mut log = server_log.lock().unwrap();
                log.push((now(), false));
                (log.len() == 4 && request.path() == "/jmap/").then(|| {
                    let body = serde_json::json!({
                        "methodResponses": [["error", {"type": "serverUnavailable"}, "0"]],
                    });
                    let headers = format!("Content-Type: application/json\r\n{rate_limit_headers}");
                    vec![ConnectionAction::Send(plain_response(
                        "200 OK",
                        &headers,
                        body.to_string(),
                    ))]
                })
            })
            .await;
        let home = TestHome::with_source_at(served.server.url.as_str());
        let config = home.read("config.toml");
        home.write(
            "config.toml",
            &format!("{config}[provider.\"127.0.0.1\"]\nmax_wait = \"2s\"\n"),
        );

        let output = tokio::task::spawn_blocking(move || home.cynosure(&["run", "--once"]));

        let output = output.await.unwrap();
        assert_eq!(output.code, Some(0), "{headers}: {output:?}");
        let requests = log.lock().unwrap().len();
        assert!(requests < 60, "{headers}: {requests} requests for 12 mails");
    }
}
