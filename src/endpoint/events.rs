//! Live updates of an open page: server-sent events (WHATWG HTML), one per changed section.
//!
//! An open page costs a single request, so that live updates never use up its rate limit.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::StatusCode;
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use crate::endpoint::page::{self, PageSection};
use crate::endpoint::response::{HttpResponse, sorted_json, streaming_response};
use crate::endpoint::route::PageFilter;
use crate::endpoint::server::DataReader;

const EVENT_STREAM_TYPE: &str = "text/event-stream; charset=utf-8";

/// Interval of the checks for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Checks without a change after which a keep-alive is sent, so that both sides notice a dead
/// connection.
const UNCHANGED_POLLS_MAX: u32 = 7;

const KEEP_ALIVE: &[u8] = b"event: keep-alive\ndata: {}\n\n";

/// Delay before the browser reconnects, in milliseconds.
const RETRY_HINT: &[u8] = b"retry: 3000\n\n";

/// State of one event stream.
struct EventStream {
    reader: Arc<DataReader>,
    filter: PageFilter,
    shutdown: watch::Receiver<bool>,
    next_poll: Instant,
    unchanged_polls: u32,
    /// HTML by section id, as last sent; `None` before the first event.
    sent_sections: Option<BTreeMap<String, String>>,
    _permit: OwnedSemaphorePermit,
}

/// Response that streams the changes of a page until the client disconnects or the server shuts
/// down.
pub(super) fn event_stream(
    reader: Arc<DataReader>,
    filter: PageFilter,
    permit: OwnedSemaphorePermit,
    shutdown: watch::Receiver<bool>,
) -> HttpResponse {
    let state = EventStream {
        reader,
        filter,
        shutdown,
        next_poll: Instant::now(),
        unchanged_polls: 0,
        sent_sections: None,
        _permit: permit,
    };
    let frames = stream::unfold(state, |mut state| async move {
        let bytes = state.next_chunk().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), state))
    });
    streaming_response(StatusCode::OK, EVENT_STREAM_TYPE, StreamBody::new(frames).boxed_unsync())
}

/// Response to a HEAD request for an event stream.
pub(super) fn event_stream_head() -> HttpResponse {
    streaming_response(StatusCode::OK, EVENT_STREAM_TYPE, Empty::new().boxed_unsync())
}

impl EventStream {
    /// Waits for the next bytes to send. `None` ends the stream.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                () = sleep_until(self.next_poll) => {}
                _ = self.shutdown.changed() => return None,
            }
            self.next_poll = Instant::now() + POLL_INTERVAL;
            // The next poll, in 2 s, may succeed. Until then the page shows how old its data is.
            let Ok((snapshot, detail)) = self.reader.page_data(&self.filter).await else {
                continue;
            };
            let sections = page::changing_sections(&snapshot, &self.filter, detail.as_ref());
            if let Some(bytes) = self.events_to_send(sections) {
                return Some(bytes);
            }
        }
    }

    /// Returns the events to send now that the page has these sections, if any.
    fn events_to_send(&mut self, sections: Vec<PageSection>) -> Option<Bytes> {
        let Some(sent) = &mut self.sent_sections else {
            // The page may be older than this snapshot. All sections are sent once, `alerts` last,
            // so that the script detects sections that were added or removed.
            let all = sections.iter().map(section_event).collect::<String>();
            self.sent_sections = Some(html_by_id(sections));
            return Some(Bytes::from([RETRY_HINT, all.as_bytes()].concat()));
        };
        let is_changed = |section: &PageSection| sent.get(&section.id) != Some(&section.html);
        let same_ids = sections.len() == sent.len()
            && sections.iter().all(|section| sent.contains_key(&section.id));
        if !same_ids {
            self.sent_sections = Some(html_by_id(sections));
            return Some(Bytes::from_static(b"event: reload\ndata: {}\n\n"));
        }
        let events: String =
            sections.iter().filter(|section| is_changed(section)).map(section_event).collect();
        *sent = html_by_id(sections);
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

/// Encodes the section as JSON, because an event's data must not contain line breaks.
fn section_event(section: &PageSection) -> String {
    format!("event: section\ndata: {}\n\n", sorted_json(section))
}
