//! Plain exponential backoff, as most clients do it: each request retries independently.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::limiter::LimiterKind;
use crate::server::{BenchHeaderMode, LimitedServer, ResponseCounts};

const CONCURRENCY: usize = 8;
const INITIAL_DELAY: Duration = Duration::from_secs(1);
const DOUBLINGS_MAX: u32 = 6;

/// Sends requests as fast as possible for this time, and returns the counts of the server.
pub(crate) async fn run(
    kind: LimiterKind,
    headers: BenchHeaderMode,
    duration: Duration,
) -> ResponseCounts {
    let server = LimitedServer::start(kind, headers, duration).await;
    let client = Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let url = format!("http://{}/jmap/session", server.address);
    let mut clients = JoinSet::new();
    for _ in 0..CONCURRENCY {
        clients.spawn(request_until_end(client.clone(), url.clone()));
    }
    timeout(duration, clients.join_all()).await.expect_err("the clients never stop");
    server.counts()
}

async fn request_until_end(client: Client, url: String) {
    let mut throttles = 0;
    loop {
        let request = client.get(&url).basic_auth("demo@example.com", Some("demo"));
        let response = request.send().await.expect("the server responds");
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let delay = INITIAL_DELAY * 2_u32.pow(throttles.min(DOUBLINGS_MAX));
            sleep(delay.mul_f64(fastrand::f64())).await;
            throttles += 1;
        } else {
            assert_eq!(response.status(), StatusCode::OK, "the credential is right");
            response.bytes().await.expect("a complete response");
            throttles = 0;
        }
    }
}
