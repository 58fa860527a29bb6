//! What changes on the page is pushed to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::TestEndpoint;
use super::client::{connect, read_head, request};
use super::fake_data::{healthy_snapshot, source};

/// A page that listens.
struct EventReader {
    from: BufReader<TcpStream>,
}

/// The name of an event and what it says.
type ReceivedEvent = (String, Value);

impl EventReader {
    fn connect(stage: &TestEndpoint, query: &str) -> Self {
        let mut stream = connect(stage.address);
        stream.write_all(request("GET", &format!("/events{query}"), &[]).as_bytes()).unwrap();
        let mut from = BufReader::new(stream);
        let reply = read_head(&mut from);
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, "text/event-stream; charset=utf-8")
        );
        Self { from }
    }

    /// The next event; the sizes of chunks between the lines are passed over.
    fn next_event(&mut self) -> ReceivedEvent {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the stream ended");
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.trim_end().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Passes over what is sent to every page at first.
    fn skip_initial_events(&mut self) {
        while self.next_event().1["id"] != "alerts" {}
    }
}

#[test]
fn the_stream_sends_everything_once_and_then_changes() {
    let stage = TestEndpoint::serving(healthy_snapshot());
    let mut page = EventReader::connect(&stage, "");
    let mut ids = Vec::new();
    while ids.last().map(String::as_str) != Some("alerts") {
        let (name, said) = page.next_event();
        assert_eq!(name, "section");
        ids.push(said["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids, ["summary", "checks", "source-work", "providers", "heat", "trends", "alerts"]);

    stage.data.update(|snapshot| snapshot.sources[0].settled = 10_205);

    let (name, said) = page.next_event();
    assert_eq!((name.as_str(), said["id"].as_str()), ("section", Some("source-work")));
    assert!(said["html"].as_str().unwrap().contains("10,205"), "{said}");
}

#[test]
fn changed_section_ids_reload_the_page() {
    let stage = TestEndpoint::serving(healthy_snapshot());
    let mut page = EventReader::connect(&stage, "?severity=info");
    page.skip_initial_events();

    stage.data.update(|snapshot| snapshot.sources.push(source("another", "idle")));

    assert_eq!(page.next_event().0, "reload");
}

#[test]
fn an_unchanged_stream_sends_keep_alives() {
    let stage = TestEndpoint::serving(healthy_snapshot());
    let mut page = EventReader::connect(&stage, "");
    page.skip_initial_events();

    assert_eq!(page.next_event().0, "alive");
}

#[test]
fn streams_are_limited_and_pages_are_not() {
    let stage = TestEndpoint::serving(healthy_snapshot());
    let pages: Vec<EventReader> = (0..16).map(|_| EventReader::connect(&stage, "")).collect();

    let refused = stage.get("/events");

    assert_eq!(refused.status, 503);
    assert_eq!(stage.get("/").status, 200);
    drop(pages);
}
