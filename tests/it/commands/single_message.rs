//! One mail that the server never delivers: it is quarantined, and the others are stored.

use serde_json::Value;

use crate::commands::test_home::{ProgramOutput, TestHome};
use crate::fake_mailbox::FakeMailbox;
use crate::hostile_server::{ConnectionAction, plain_response};

/// Runs the program to its end on another thread, so that the test's server can respond.
async fn run_once(home: TestHome) -> (TestHome, ProgramOutput) {
    let run = move || {
        let output = home.cynosure(&["run", "--once"]);
        (home, output)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// FAULTS 54: the id of the mail makes a URL of 70 kB.
#[tokio::test]
async fn a_mail_whose_url_is_too_long_is_quarantined_alone() {
    let mut mailbox = FakeMailbox::with_emails(3);
    mailbox.emails.push("x".repeat(70_000));
    let served = mailbox.serve().await;

    let (home, output) = run_once(TestHome::with_source_at(served.server.url.as_str())).await;

    assert_eq!(output.code, Some(3), "{output:?}");
    assert_eq!(home.messages().len(), 3);
    let failure = &home.cynosure(&["failures", "--json"]).json_lines()[0];
    assert_eq!(failure["cause"], "too_large");
    let message = failure["message"].as_str().unwrap_or_default();
    assert!(message.contains("a URL of 70") && message.contains("bytes"), "{failure}");
}

/// FAULTS 50: the server responds with "too many requests" for one mail only, permanently.
#[tokio::test]
async fn a_mail_that_is_always_throttled_is_quarantined_alone() {
    for header in ["", "Retry-After: 1\r\n"] {
        let served = FakeMailbox::with_emails(12)
            .serve_with(move |request| {
                let throttle = vec![ConnectionAction::Send(plain_response("429 Slow", header, ""))];
                request.path().starts_with("/get/alice/BM3/").then_some(throttle)
            })
            .await;
        let home = TestHome::with_source_at(served.server.url.as_str());
        let short_retries = "[item]\nretry_delay = \"100ms\"\nmax_retry_delay = \"100ms\"\n";
        home.write("config.toml", &(home.read("config.toml") + short_retries));

        let (home, output) = run_once(home).await;

        assert_eq!(output.code, Some(3), "{output:?}");
        assert_eq!(home.messages().len(), 11);
        let failure = &home.cynosure(&["failures", "--json"]).json_lines()[0];
        assert_eq!(failure["cause"], "rate_limit");
        let message = failure["message"].as_str().unwrap_or_default();
        assert!(message.ends_with("only for this document: other requests succeed"), "{message}");
        let limiter_state: Value = serde_json::from_str(&home.read("state/quota.json")).unwrap();
        for (name, scope) in limiter_state["scopes"].as_object().unwrap() {
            let cycles = scope["quota"]["learned"]["cycles"].as_u64();
            assert!(
                cycles <= Some(1),
                "the limiter learns only from the first 429: {name} {scope}"
            );
        }
    }
}
