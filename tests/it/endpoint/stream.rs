//! Event stream that pushes changes to the page.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::TestEndpoint;
use super::client::{connect, read_head, request};
use super::fake_data::{healthy_snapshot, source};

/// Client of the event stream.
struct EventReader {
    reader: BufReader<TcpStream>,
}

/// Name and data of an event.
type ReceivedEvent = (String, Value);

impl EventReader {
    fn connect(endpoint: &TestEndpoint, query: &str) -> Self {
        let mut stream = connect(endpoint.address);
        stream.write_all(request("GET", &format!("/events{query}"), &[]).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let response = read_head(&mut reader);
        assert_eq!(
            (response.status, response.header("content-type")),
            (200, "text/event-stream; charset=utf-8")
        );
        Self { reader }
    }

    /// Reads the next event and skips the chunk sizes between the lines.
    fn next_event(&mut self) -> ReceivedEvent {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.reader.read_line(&mut line).unwrap(), 0, "the stream ended");
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.trim_end().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Skips the initial events, which contain every section once.
    fn skip_initial_events(&mut self) {
        while self.next_event().1["id"] != "alerts" {}
    }
}

#[test]
fn the_stream_sends_everything_once_and_then_changes() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let mut events = EventReader::connect(&endpoint, "");
    let mut ids = Vec::new();
    while ids.last().map(String::as_str) != Some("alerts") {
        let (name, data) = events.next_event();
        assert_eq!(name, "section");
        ids.push(data["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids, ["summary", "checks", "source-work", "providers", "heat", "trends", "alerts"]);

    endpoint.data.update(|snapshot| snapshot.sources[0].settled = 10_205);

    let (name, data) = events.next_event();
    assert_eq!((name.as_str(), data["id"].as_str()), ("section", Some("source-work")));
    assert!(data["html"].as_str().unwrap().contains("10,205"), "{data}");
}

#[test]
fn changed_section_ids_reload_the_page() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let mut events = EventReader::connect(&endpoint, "?severity=info");
    events.skip_initial_events();

    endpoint.data.update(|snapshot| snapshot.sources.push(source("another", "idle")));

    assert_eq!(events.next_event().0, "reload");
}

#[test]
fn an_unchanged_stream_sends_keep_alives() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let mut events = EventReader::connect(&endpoint, "");
    events.skip_initial_events();

    assert_eq!(events.next_event().0, "keep-alive");
}

#[test]
fn streams_are_limited_and_pages_are_not() {
    let endpoint = TestEndpoint::serving(healthy_snapshot());
    let readers: Vec<EventReader> = (0..16).map(|_| EventReader::connect(&endpoint, "")).collect();

    let rejected = endpoint.get("/events");

    assert_eq!(rejected.status, 503);
    assert_eq!(endpoint.get("/").status, 200);
    drop(readers);
}
