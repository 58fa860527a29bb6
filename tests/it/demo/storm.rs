//! Fault level `storm`, with a client that retries everything and counts the faults.

use std::path::Path;
use std::time::Duration;

use cynosure_lab::demo::{
    DemoCounters, DemoOptions, DemoServer, FaultLevel, GeneratedMailbox, start,
};
use reqwest::{Client, header};

use super::client::plain_client;

/// Results and faults that a simple client counted during a storm.
#[derive(Debug, Default)]
struct FaultCounts {
    stored: usize,
    gone: usize,
    always_failing: usize,
    unauthorized: usize,
    rate_limits_with_retry_after: Vec<u64>,
    rate_limits_without_retry_after: usize,
    unavailable: usize,
    broken_connections: usize,
    truncated_bodies: usize,
    login_pages: usize,
    longest_failure_streak: usize,
}

/// Downloads all messages one after another. The client waits for Retry-After, otherwise for 20 ms.
async fn download_through_storm(items: u32) -> (FaultCounts, DemoCounters) {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    let demo = start(DemoOptions {
        items,
        faults: FaultLevel::Storm,
        token_file: Some(token_file.clone()),
        ..DemoOptions::default()
    })
    .unwrap();
    // The blob ids come from the generator, because this test does not cover the listing.
    let generated = GeneratedMailbox::new(DemoOptions::default().seed, items);
    let http = plain_client();
    let mut counts = FaultCounts::default();
    for (blob, _) in generated.blobs() {
        download(&http, &demo, &token_file, &blob, &mut counts).await;
    }
    (counts, demo.counters())
}

async fn download(
    http: &Client,
    demo: &DemoServer,
    token_file: &Path,
    blob: &str,
    counts: &mut FaultCounts,
) {
    let url =
        format!("http://{}/jmap/download/u-Demo_1/{blob}/m?type=message/rfc822", demo.address());
    let mut streak = 0;
    let mut server_errors = 0;
    loop {
        let token = std::fs::read_to_string(token_file).unwrap();
        let result = http.get(&url).bearer_auth(token.trim_end()).send().await;
        let mut pause = Duration::from_millis(20);
        match result {
            Err(_) => counts.broken_connections += 1,
            Ok(response) => match response.status().as_u16() {
                200 if response.headers()[header::CONTENT_TYPE] == "message/rfc822" => {
                    let length = response.content_length().unwrap();
                    match response.bytes().await {
                        Ok(body) => {
                            assert_eq!(body.len() as u64, length);
                            counts.stored += 1;
                            return;
                        }
                        Err(_) => counts.truncated_bodies += 1,
                    }
                }
                200 => counts.login_pages += 1,
                401 => counts.unauthorized += 1,
                404 => {
                    counts.gone += 1;
                    return;
                }
                429 => match response.headers().get(header::RETRY_AFTER) {
                    Some(seconds) => {
                        let seconds = seconds.to_str().unwrap().parse().unwrap();
                        counts.rate_limits_with_retry_after.push(seconds);
                        pause = Duration::from_secs(seconds);
                    }
                    None => counts.rate_limits_without_retry_after += 1,
                },
                503 => counts.unavailable += 1,
                500 if server_errors == 2 => {
                    counts.always_failing += 1;
                    return;
                }
                500 => server_errors += 1,
                other => panic!("unexpected status {other}"),
            },
        }
        streak += 1;
        counts.longest_failure_streak = counts.longest_failure_streak.max(streak);
        tokio::time::sleep(pause).await;
    }
}

fn assert_every_fault_occurred(counts: &FaultCounts, messages: usize) {
    assert_eq!(counts.stored + counts.gone + counts.always_failing, messages, "{counts:?}");
    assert_eq!((counts.gone, counts.always_failing, counts.login_pages), (3, 1, 2));
    assert_eq!(counts.rate_limits_with_retry_after, [2, 6]);
    assert!(10 < counts.unauthorized, "the new token is written three seconds late: {counts:?}");
    assert!(
        0 < counts.rate_limits_without_retry_after
            && 0 < counts.truncated_bodies
            && 0 < counts.broken_connections
    );
    assert!(8 <= counts.longest_failure_streak && 8 <= counts.unavailable);
}

#[tokio::test]
async fn a_storm_injects_every_fault_into_200_items() {
    let (counts, counters) = download_through_storm(200).await;

    assert_every_fault_occurred(&counts, 320);
    assert_eq!((counters.token_expiries, counters.token_renewals), (1, 1));
    assert_eq!(counters.messages_served_repeatedly, 0);
    assert!(0 < counters.slow_responses);
}

#[tokio::test]
async fn a_storm_injects_every_fault_into_2000_items() {
    let (counts, _) = download_through_storm(2_000).await;

    assert_every_fault_occurred(&counts, 3_200);
}
