//! One mail that the server never brings, and the rest of the mailbox beside it.

use crate::commands::home::{Home, Ran};
use crate::mailbox::Mailbox;

/// Runs the program to its end while the server of the test goes on.
async fn run_once(home: Home) -> (Home, Ran) {
    let run = move || {
        let ran = home.cynosure(&["run", "--once"]);
        (home, ran)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// FAULTS 54: its id makes a URL of 70 kB.
#[tokio::test]
async fn a_mail_whose_url_is_too_long_is_quarantined_alone() {
    let mut mailbox = Mailbox::of(3);
    mailbox.emails.push("x".repeat(70_000));
    let served = mailbox.serve().await;

    let (home, ran) = run_once(Home::at(served.server.url.as_str())).await;

    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(home.messages().len(), 3);
    let failure = &home.cynosure(&["failures", "--json"]).json_lines()[0];
    assert_eq!(failure["cause"], "too_large");
    let why = failure["message"].as_str().unwrap_or_default();
    assert!(why.contains("a URL of 70") && why.contains("bytes"), "{failure}");
}
