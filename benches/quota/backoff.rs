//! What most clients do: try again after a growing wait, each request for itself.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limiter::LimiterKind;
use crate::server::{BenchHeaderMode, LimitedServer, ResponseCounts};

const CONCURRENCY: usize = 8;
const INITIAL_DELAY: Duration = Duration::from_secs(1);
const DOUBLINGS_MAX: u32 = 6;

/// Asks as fast as it goes until the time is over.
pub(crate) async fn run(
    kind: LimiterKind,
    headers: BenchHeaderMode,
    span: Duration,
) -> ResponseCounts {
    let server = LimitedServer::start(kind, headers, span).await;
    let client = Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let url = format!("http://{}/jmap/session", server.address);
    let mut clients = JoinSet::new();
    for _ in 0..CONCURRENCY {
        clients.spawn(request_until_end(client.clone(), url.clone()));
    }
    timeout(span, clients.join_all()).await.expect_err("they ask for ever");
    server.counts()
}

async fn request_until_end(client: Client, url: String) {
    let mut refusals = 0;
    loop {
        let ask = client.get(&url).basic_auth("demo@example.com", Some("demo"));
        let answer = ask.send().await.expect("the server answers");
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let grown = INITIAL_DELAY * 2_u32.pow(refusals.min(DOUBLINGS_MAX));
            sleep(grown.mul_f64(fastrand::f64())).await;
            refusals += 1;
        } else {
            assert_eq!(answer.status(), StatusCode::OK, "the credential is right");
            answer.bytes().await.expect("a whole answer");
            refusals = 0;
        }
    }
}
