//! What changes on the page is pushed to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::Stage;
use super::client::{connect, head, request};
use super::scene::{calm, source};

/// A page that listens.
struct Listener {
    from: BufReader<TcpStream>,
}

/// The name of an event and what it says.
type Event = (String, Value);

impl Listener {
    fn of(stage: &Stage, query: &str) -> Self {
        let mut stream = connect(stage.address);
        stream.write_all(request("GET", &format!("/events{query}"), &[]).as_bytes()).unwrap();
        let mut from = BufReader::new(stream);
        let reply = head(&mut from);
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, "text/event-stream; charset=utf-8")
        );
        Self { from }
    }

    /// The next event; the sizes of chunks between the lines are passed over.
    fn next(&mut self) -> Event {
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
    fn skip_the_beginning(&mut self) {
        while self.next().1["id"] != "alerts" {}
    }
}

#[test]
fn a_page_is_told_everything_once_and_then_what_changes() {
    let stage = Stage::show(calm());
    let mut page = Listener::of(&stage, "");
    let mut ids = Vec::new();
    while ids.last().map(String::as_str) != Some("alerts") {
        let (name, said) = page.next();
        assert_eq!(name, "section");
        ids.push(said["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids, ["summary", "checks", "source-work", "providers", "heat", "trends", "alerts"]);

    stage.scene.change(|snapshot| snapshot.sources[0].settled = 10_205);

    let (name, said) = page.next();
    assert_eq!((name.as_str(), said["id"].as_str()), ("section", Some("source-work")));
    assert!(said["html"].as_str().unwrap().contains("10,205"), "{said}");
}

#[test]
fn a_page_with_other_sections_loads_itself_again() {
    let stage = Stage::show(calm());
    let mut page = Listener::of(&stage, "?severity=info");
    page.skip_the_beginning();

    stage.scene.change(|snapshot| snapshot.sources.push(source("another", "idle")));

    assert_eq!(page.next().0, "reload");
}

#[test]
fn a_quiet_server_says_that_it_is_there() {
    let stage = Stage::show(calm());
    let mut page = Listener::of(&stage, "");
    page.skip_the_beginning();

    assert_eq!(page.next().0, "alive");
}

#[test]
fn there_are_streams_for_some_pages_and_pages_for_all() {
    let stage = Stage::show(calm());
    let pages: Vec<Listener> = (0..16).map(|_| Listener::of(&stage, "")).collect();

    let refused = stage.get("/events");

    assert_eq!(refused.status, 503);
    assert_eq!(stage.get("/").status, 200);
    drop(pages);
}
