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

use crate::endpoint::page::{self, PageSection};
use crate::endpoint::response::{HttpResponse, streaming_response};
use crate::endpoint::route::PageFilter;
use crate::endpoint::server::EndpointService;

const EVENT_STREAM_TYPE: &str = "text/event-stream; charset=utf-8";

/// How often a page is looked at for what has changed.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// After so many looks without a change something is said all the same, so that a dead connection is noticed.
const UNCHANGED_POLLS_MAX: u32 = 7;

/// Said when nothing has changed.
const KEEP_ALIVE: &[u8] = b"event: alive\ndata: {}\n\n";

/// When the browser asks again after the stream ended, in milliseconds.
const RETRY_HINT: &[u8] = b"retry: 3000\n\n";

/// One page that is kept up to date.
struct EventStream {
    service: Arc<EndpointService>,
    filter: PageFilter,
    shutdown: watch::Receiver<bool>,
    next_poll: Instant,
    unchanged_polls: u32,
    sent_sections: Option<BTreeMap<String, String>>,
    _permit: OwnedSemaphorePermit,
}

/// Streams a page's changes for as long as somebody listens.
pub(super) fn event_stream(
    service: Arc<EndpointService>,
    focus: PageFilter,
    place: OwnedSemaphorePermit,
    stopped: watch::Receiver<bool>,
) -> HttpResponse {
    let next = Instant::now();
    let watcher = EventStream {
        service,
        filter: focus,
        shutdown: stopped,
        next_poll: next,
        unchanged_polls: 0,
        sent_sections: None,
        _permit: place,
    };
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next_chunk().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), watcher))
    });
    streaming_response(StatusCode::OK, EVENT_STREAM_TYPE, StreamBody::new(frames).boxed_unsync())
}

/// The head of such an answer alone.
pub(super) fn event_stream_head() -> HttpResponse {
    streaming_response(StatusCode::OK, EVENT_STREAM_TYPE, Empty::new().boxed_unsync())
}

impl EventStream {
    /// The next thing to say; `None` when it is over.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                () = sleep_until(self.next_poll) => {}
                _ = self.shutdown.changed() => return None,
            }
            self.next_poll = Instant::now() + POLL_INTERVAL;
            // What cannot be told now may be in two seconds; the page says how old it is.
            let Ok((snapshot, near)) = self.service.page_data(&self.filter).await else { continue };
            let sections = page::changing_sections(&snapshot, &self.filter, near.as_ref());
            if let Some(bytes) = self.changed_sections(sections) {
                return Some(bytes);
            }
        }
    }

    fn changed_sections(&mut self, sections: Vec<PageSection>) -> Option<Bytes> {
        let Some(shown) = &mut self.sent_sections else {
            // The page may be older than what is seen now: all of it is sent once, the alerts at the end,
            // so that it notices what it has too much or too little.
            let all = sections.iter().map(section_event).collect::<String>();
            self.sent_sections = Some(html_by_id(sections));
            return Some(Bytes::from([RETRY_HINT, all.as_bytes()].concat()));
        };
        let is_other = |section: &PageSection| shown.get(&section.id) != Some(&section.html);
        let same_ids = sections.len() == shown.len()
            && sections.iter().all(|section| shown.contains_key(&section.id));
        if !same_ids {
            self.sent_sections = Some(html_by_id(sections));
            return Some(Bytes::from_static(b"event: reload\ndata: {}\n\n"));
        }
        let events: String =
            sections.iter().filter(|section| is_other(section)).map(section_event).collect();
        *shown = html_by_id(sections);
        if !events.is_empty() {
            self.unchanged_polls = 0;
            return Some(Bytes::from(events));
        }
        self.unchanged_polls += 1;
        if self.unchanged_polls < UNCHANGED_POLLS_MAX {
            return None;
        }
        self.unchanged_polls = 0;
        Some(Bytes::from_static(KEEP_ALIVE))
    }
}

fn html_by_id(sections: Vec<PageSection>) -> BTreeMap<String, String> {
    sections.into_iter().map(|section| (section.id, section.html)).collect()
}

/// As JSON, which has no line breaks.
fn section_event(section: &PageSection) -> String {
    format!("event: section\ndata: {}\n\n", json!({ "id": section.id, "html": section.html }))
}
