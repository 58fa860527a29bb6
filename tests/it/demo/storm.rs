//! A storm, met by a client that tries everything again and counts what it sees.

use std::path::Path;
use std::time::Duration;

use cynosure::demo::{DemoCounters, DemoOptions, DemoServer, FaultLevel, GeneratedMailbox, start};
use reqwest::{Client, header};

use super::client::plain_client;

/// What a simple client met on its way through a storm.
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

/// Downloads everything, one after another, waiting only as told.
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
    // The names are those of the oracle: the listing of a storm is another test's concern.
    let oracle = GeneratedMailbox::new(DemoOptions::default().seed, items);
    let http = plain_client();
    let mut met = FaultCounts::default();
    for (blob, _) in oracle.blobs() {
        download(&http, &demo, &token_file, &blob, &mut met).await;
    }
    (met, demo.counters())
}

async fn download(
    http: &Client,
    demo: &DemoServer,
    token_file: &Path,
    blob: &str,
    met: &mut FaultCounts,
) {
    let url =
        format!("http://{}/jmap/download/u-Demo_1/{blob}/m?type=message/rfc822", demo.address());
    let mut row = 0;
    let mut broken = 0;
    loop {
        let token = std::fs::read_to_string(token_file).unwrap();
        let answer = http.get(&url).bearer_auth(token.trim_end()).send().await;
        let mut pause = Duration::from_millis(20);
        match answer {
            Err(_) => met.broken_connections += 1,
            Ok(response) => match response.status().as_u16() {
                200 if response.headers()[header::CONTENT_TYPE] == "message/rfc822" => {
                    let length = response.content_length().unwrap();
                    match response.bytes().await {
                        Ok(body) => {
                            assert_eq!(body.len() as u64, length);
                            met.stored += 1;
                            return;
                        }
                        Err(_) => met.truncated_bodies += 1,
                    }
                }
                200 => met.login_pages += 1,
                401 => met.unauthorized += 1,
                404 => {
                    met.gone += 1;
                    return;
                }
                429 => match response.headers().get(header::RETRY_AFTER) {
                    Some(seconds) => {
                        let seconds = seconds.to_str().unwrap().parse().unwrap();
                        met.rate_limits_with_retry_after.push(seconds);
                        pause = Duration::from_secs(seconds);
                    }
                    None => met.rate_limits_without_retry_after += 1,
                },
                503 => met.unavailable += 1,
                500 if broken == 2 => {
                    met.always_failing += 1;
                    return;
                }
                500 => broken += 1,
                other => panic!("unexpected status {other}"),
            },
        }
        row += 1;
        met.longest_failure_streak = met.longest_failure_streak.max(row);
        tokio::time::sleep(pause).await;
    }
}

fn assert_every_fault_occurred(met: &FaultCounts, messages: usize) {
    assert_eq!(met.stored + met.gone + met.always_failing, messages, "{met:?}");
    assert_eq!((met.gone, met.always_failing, met.login_pages), (3, 1, 2));
    assert_eq!(met.rate_limits_with_retry_after, [2, 6]);
    assert!(10 < met.unauthorized, "the new token comes three seconds late: {met:?}");
    assert!(
        0 < met.rate_limits_without_retry_after
            && 0 < met.truncated_bodies
            && 0 < met.broken_connections
    );
    assert!(8 <= met.longest_failure_streak && 8 <= met.unavailable);
}

#[tokio::test]
async fn a_storm_injects_every_fault_into_200_items() {
    let (met, counters) = download_through_storm(200).await;

    assert_every_fault_occurred(&met, 320);
    assert_eq!((counters.token_expiries, counters.token_renewals), (1, 1));
    assert_eq!(counters.messages_served_repeatedly, 0);
    assert!(0 < counters.slow_responses);
}

#[tokio::test]
async fn a_storm_injects_every_fault_into_2000_items() {
    let (met, _) = download_through_storm(2_000).await;

    assert_every_fault_occurred(&met, 3_200);
}
