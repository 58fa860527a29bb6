//! What of the page changes, pushed to it: server-sent events, a section each.
//!
//! An open page costs one request, however long it is open, so that it never uses up its own allowance.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::StatusCode;
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use crate::endpoint::answer::{Answer, streamed};
use crate::endpoint::page::{self, Section};
use crate::endpoint::route::Focus;
use crate::endpoint::server::Service;

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// How often a page is looked at for what has changed.
const INTERVAL: Duration = Duration::from_secs(2);

/// After so many looks without a change something is said all the same, so that a dead connection is noticed.
const QUIET_LOOKS_MAX: u32 = 7;

/// Said when nothing has changed.
const STILL_HERE: &[u8] = b"event: alive\ndata: {}\n\n";

/// When the browser asks again after the stream ended, in milliseconds.
const HELLO: &[u8] = b"retry: 3000\n\n";

/// One page that is kept up to date.
struct Watcher {
    service: Arc<Service>,
    focus: Focus,
    stopped: watch::Receiver<bool>,
    next: Instant,
    quiet: u32,
    shown: Option<BTreeMap<String, String>>,
    _place: OwnedSemaphorePermit,
}

/// Streams a page's changes for as long as somebody listens.
pub(super) fn stream(
    service: Arc<Service>,
    focus: Focus,
    place: OwnedSemaphorePermit,
    stopped: watch::Receiver<bool>,
) -> Answer {
    let next = Instant::now();
    let watcher = Watcher { service, focus, stopped, next, quiet: 0, shown: None, _place: place };
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), watcher))
    });
    streamed(StatusCode::OK, EVENT_STREAM, StreamBody::new(frames).boxed_unsync())
}

/// The head of such an answer alone.
pub(super) fn head() -> Answer {
    streamed(StatusCode::OK, EVENT_STREAM, Empty::new().boxed_unsync())
}

impl Watcher {
    /// The next thing to say; `None` when it is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                () = sleep_until(self.next) => {}
                _ = self.stopped.changed() => return None,
            }
            self.next = Instant::now() + INTERVAL;
            // What cannot be told now may be in two seconds; the page says how old it is.
            let Ok((snapshot, near)) = self.service.seen(&self.focus).await else { continue };
            let sections = page::sections(&snapshot, &self.focus, near.as_ref());
            if let Some(bytes) = self.news(sections) {
                return Some(bytes);
            }
        }
    }

    fn news(&mut self, sections: Vec<Section>) -> Option<Bytes> {
        let Some(shown) = &mut self.shown else {
            // The page may be older than what is seen now: all of it is sent once, the alerts at the end,
            // so that it notices what it has too much or too little.
            let all = sections.iter().map(event).collect::<String>();
            self.shown = Some(by_id(sections));
            return Some(Bytes::from([HELLO, all.as_bytes()].concat()));
        };
        let is_other = |section: &Section| shown.get(&section.id) != Some(&section.html);
        let same_ids = sections.len() == shown.len()
            && sections.iter().all(|section| shown.contains_key(&section.id));
        if !same_ids {
            self.shown = Some(by_id(sections));
            return Some(Bytes::from_static(b"event: reload\ndata: {}\n\n"));
        }
        let events: String =
            sections.iter().filter(|section| is_other(section)).map(event).collect();
        *shown = by_id(sections);
        if !events.is_empty() {
            self.quiet = 0;
            return Some(Bytes::from(events));
        }
        self.quiet += 1;
        if self.quiet < QUIET_LOOKS_MAX {
            return None;
        }
        self.quiet = 0;
        Some(Bytes::from_static(STILL_HERE))
    }
}

fn by_id(sections: Vec<Section>) -> BTreeMap<String, String> {
    sections.into_iter().map(|section| (section.id, section.html)).collect()
}

/// As JSON, which has no line breaks.
fn event(section: &Section) -> String {
    format!("event: section\ndata: {}\n\n", json!({ "id": section.id, "html": section.html }))
}
