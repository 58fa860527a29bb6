//! Delivery of telemetry, and its failures.

use std::time::Duration;

use cynosure::telemetry::{Collector, DeliveryHandle, DeliveryStatus, ExportHeaders, Exporter};
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use super::{resource, spans};
use crate::commands::test_home::silent_server;
use crate::fake_receiver::FakeReceiver;

const LONG_TIMEOUT: Duration = Duration::from_secs(20);

fn collector(url: &str) -> Collector {
    let mut headers = ExportHeaders::default();
    headers.add("authorization", "Bearer s3cret").unwrap();
    Collector { base_url: url.parse().unwrap(), headers, resource: resource() }
}

#[test]
fn spans_are_sent_in_batches_to_the_traces_path() {
    let receiver = FakeReceiver::with_statuses(&[]);
    let exporter = Exporter::start(Some(collector(&format!("{}/otel/", receiver.url())))).unwrap();

    spans().into_iter().for_each(|span| exporter.queue().send_span(span));
    exporter.close(LONG_TIMEOUT);

    let post = receiver.next_post();
    assert_eq!(post.path, "/otel/v1/traces");
    assert_eq!(post.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(post.header("content-type"), Some("application/json"));
    let sent = &post.json["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(sent.as_array().unwrap().len(), 3);
    assert!(receiver.is_empty());
}

/// Waits for the end of a delivery, and returns its result.
fn wait_for_delivery(mut handle: DeliveryHandle) -> DeliveryStatus {
    loop {
        match handle.status() {
            DeliveryStatus::Pending => std::thread::yield_now(),
            status @ (DeliveryStatus::Delivered | DeliveryStatus::Dropped) => return status,
        }
    }
}

#[test]
fn only_temporary_rejections_are_retried() {
    let receiver = FakeReceiver::with_statuses(&[503, 200, 400, 302]);
    let exporter = Exporter::start(None).unwrap();
    let url: Url = receiver.url().parse().unwrap();
    let post = |name: &str| {
        exporter.queue().send_json(url.clone(), ExportHeaders::default(), &json!({ "name": name }))
    };

    let deliveries = ["first", "second", "third", "fourth"].map(post);

    let names: Vec<_> = (0..5).map(|_| receiver.next_post().json["name"].clone()).collect();
    assert_eq!(names, ["first", "first", "second", "third", "fourth"]);
    let (delivered, dropped) = (DeliveryStatus::Delivered, DeliveryStatus::Dropped);
    assert_eq!(deliveries.map(wait_for_delivery), [delivered, dropped, dropped, delivered]);
    exporter.close(LONG_TIMEOUT);
    assert!(receiver.is_empty());
}

/// Sends about a hundred times as many spans as the queue holds; the receiver never responds.
#[tokio::test]
async fn a_silent_receiver_blocks_nothing() {
    let listener = silent_server();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let exporter = Exporter::start(Some(collector(url.as_str()))).unwrap();
    let queue = exporter.queue();
    let large = json!({ "filling": "x".repeat(1 << 20) });

    // A queue that waits for the receiver would never get through this.
    for _ in 0..100 {
        let _handle = queue.send_json(url.clone(), ExportHeaders::default(), &large);
    }
    for _ in 0..33_000 {
        spans().into_iter().for_each(|span| queue.send_span(span));
    }
    drop(queue);
    let started = Instant::now();
    exporter.close(Duration::from_millis(200));

    // The request in flight would time out after 10 s.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn an_invalid_header_is_not_logged() {
    for (name, value) in [("x", "s3cret\n"), ("s3cret\n", "x"), ("", "s3cret")] {
        let error = ExportHeaders::default().add(name, value).unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
    }
    let shown = format!("{:?}", collector("http://127.0.0.1/"));
    assert!(!shown.contains("s3cret"), "{shown}");
}
