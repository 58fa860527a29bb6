//! A storm, met by a client that tries everything again and counts what it sees.

use std::path::Path;
use std::time::Duration;

use cynosure::demo::{DemoCounters, DemoOptions, DemoServer, FaultLevel, GeneratedMailbox, start};
use reqwest::{Client, header};

use super::caller::plain_client;

/// What a simple client met on its way through a storm.
#[derive(Debug, Default)]
struct Met {
    stored: usize,
    gone: usize,
    poisoned: usize,
    unauthorized: usize,
    rate_limits_told: Vec<u64>,
    rate_limits_untold: usize,
    unavailable: usize,
    broken_connections: usize,
    cut_bodies: usize,
    login_pages: usize,
    longest_row_of_failures: usize,
}

/// Downloads everything, one after another, waiting only as told.
async fn weather_a_storm(items: u32) -> (Met, DemoCounters) {
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
    let mut met = Met::default();
    for (blob, _) in oracle.blobs() {
        download(&http, &demo, &token_file, &blob, &mut met).await;
    }
    (met, demo.counters())
}

async fn download(http: &Client, demo: &DemoServer, token_file: &Path, blob: &str, met: &mut Met) {
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
                        Err(_) => met.cut_bodies += 1,
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
                        met.rate_limits_told.push(seconds);
                        pause = Duration::from_secs(seconds);
                    }
                    None => met.rate_limits_untold += 1,
                },
                503 => met.unavailable += 1,
                500 if broken == 2 => {
                    met.poisoned += 1;
                    return;
                }
                500 => broken += 1,
                other => panic!("unexpected status {other}"),
            },
        }
        row += 1;
        met.longest_row_of_failures = met.longest_row_of_failures.max(row);
        tokio::time::sleep(pause).await;
    }
}

fn assert_that_all_was_met(met: &Met, messages: usize) {
    assert_eq!(met.stored + met.gone + met.poisoned, messages, "{met:?}");
    assert_eq!((met.gone, met.poisoned, met.login_pages), (3, 1, 2));
    assert_eq!(met.rate_limits_told, [2, 6]);
    assert!(10 < met.unauthorized, "the new token comes three seconds late: {met:?}");
    assert!(0 < met.rate_limits_untold && 0 < met.cut_bodies && 0 < met.broken_connections);
    assert!(8 <= met.longest_row_of_failures && 8 <= met.unavailable);
}

#[tokio::test]
async fn a_storm_brings_all_its_faults_to_two_hundred_items() {
    let (met, counters) = weather_a_storm(200).await;

    assert_that_all_was_met(&met, 320);
    assert_eq!((counters.token_expiries, counters.token_renewals), (1, 1));
    assert_eq!(counters.messages_served_repeatedly, 0);
    assert!(0 < counters.slow_responses);
}

#[tokio::test]
async fn a_storm_brings_all_its_faults_to_two_thousand_items() {
    let (met, _) = weather_a_storm(2_000).await;

    assert_that_all_was_met(&met, 3_200);
}
