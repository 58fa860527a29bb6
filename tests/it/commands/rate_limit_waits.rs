//! A server's word about its limits: kept over a kill, shared by processes, and not believed when it is absurd.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::commands::test_home::TestHome;
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};
use crate::hostile_server::{ConnectionAction, plain_response};

/// A request as the server saw it: when it came, and whether it was refused.
type RequestLog = Arc<Mutex<Vec<(Instant, bool)>>>;

/// A mailbox that says 429 for `closed` once, after so many requests, and keeps to it.
async fn blocking_mailbox(after: usize, closed: Duration) -> (ServedMailbox, RequestLog) {
    let log = RequestLog::default();
    let seen = Arc::clone(&log);
    let served = FakeMailbox::with_emails(60)
        .serve_with(move |_| {
            let (mut log, now) = (seen.lock().unwrap(), now());
            let first = log.iter().find(|(_, refused)| *refused).map(|(at, _)| *at);
            let refused = match first {
                None => log.len() == after,
                Some(first) => now < first + closed,
            };
            log.push((now, refused));
            let told = format!("Retry-After: {}\r\n", closed.as_secs());
            refused.then(|| {
                vec![ConnectionAction::Send(plain_response("429 Too Many Requests", &told, ""))]
            })
        })
        .await;
    (served, log)
}

#[expect(clippy::disallowed_methods, reason = "a server goes by its clock")]
fn now() -> Instant {
    Instant::now()
}

/// What came between the first refusal, with a little grace, and the end of the server's wait.
fn requests_while_blocked(log: &RequestLog, grace: Duration, closed: Duration) -> usize {
    let log = log.lock().unwrap();
    let (first, _) = *log.iter().find(|(_, refused)| *refused).expect("it refused one");
    log.iter().filter(|(at, _)| first + grace < *at && *at < first + closed).count()
}

/// Waits until the state file says so, as it does before anything hangs on it.
async fn wait_for_status(home: &TestHome, source: &str, status: &str) {
    let file = format!("state/{source}/execution_state.json");
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    loop {
        looks.tick().await;
        let text = fs_err::read_to_string(home.path(&file)).unwrap_or_default();
        let state: Value = serde_json::from_str(&text).unwrap_or_default();
        if state["status"] == status {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_survives_a_kill_until_its_deadline() {
    let closed = Duration::from_secs(8);
    let (served, log) = blocking_mailbox(30, closed).await;
    let home = TestHome::with_source_at(served.server.url.as_str());
    let running = home.start(&["run", "--once"]);
    wait_for_status(&home, "work", "rate_limited").await;

    // By SIGKILL, in the middle of the wait.
    drop(running);
    let again = tokio::task::spawn_blocking(move || (home.cynosure(&["run", "--once"]), home));

    let (ran, home) = again.await.unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout, "listed 60 = stored 60 + gone 0 + quarantined 0\n");
    // Those in flight with the one that was refused come within the grace.
    assert_eq!(requests_while_blocked(&log, Duration::from_millis(500), closed), 0);
    assert_eq!(home.cynosure(&["verify"]).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_is_shared_between_processes() {
    let closed = Duration::from_secs(6);
    let (served, log) = blocking_mailbox(60, closed).await;
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
        let ran = run.await.unwrap();
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    assert_eq!(requests_while_blocked(&log, Duration::from_millis(1500), closed), 0);
    let refused = log.lock().unwrap().iter().filter(|(_, refused)| *refused).count();
    assert!(refused <= 16, "{refused} requests were refused: more than were in flight");
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
        let lie = headers.to_owned();
        let log = RequestLog::default();
        let seen = Arc::clone(&log);
        // One lie in the middle of a listing that is otherwise honest.
        let served = FakeMailbox::with_emails(12)
            .serve_with(move |asked| {
                let mut log = seen.lock().unwrap();
                log.push((now(), false));
                (log.len() == 4 && asked.path() == "/jmap/").then(|| {
                    let answer = serde_json::json!({
                        "methodResponses": [["error", {"type": "serverUnavailable"}, "0"]],
                    });
                    let headers = format!("Content-Type: application/json\r\n{lie}");
                    vec![ConnectionAction::Send(plain_response(
                        "200 OK",
                        &headers,
                        answer.to_string(),
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

        let ran = tokio::task::spawn_blocking(move || home.cynosure(&["run", "--once"]));

        let ran = ran.await.unwrap();
        assert_eq!(ran.code, Some(0), "{headers}: {ran:?}");
        let asked = log.lock().unwrap().len();
        assert!(asked < 60, "{headers}: {asked} requests for 12 mails");
    }
}
