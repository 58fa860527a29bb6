//! Capture of the log events that require manual intervention, or report that the worker is stuck.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Events of the levels ERROR and WARN, oldest first.
#[derive(Clone, Default)]
pub(crate) struct LogCapture {
    events: Arc<Mutex<Vec<(Level, String)>>>,
}

impl LogCapture {
    pub(crate) fn errors(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let errors = events.iter().filter(|(level, _)| *level == Level::ERROR);
        errors.map(|(_, text)| text.clone()).collect()
    }

    /// Returns the number of events that report a lack of progress.
    pub(crate) fn no_progress_count(&self) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|(_, text)| text.contains("no progress")).count()
    }
}

impl Subscriber for LogCapture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = EventText(String::new());
        event.record(&mut text);
        self.events.lock().unwrap().push((*event.metadata().level(), text.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Text of an event: `name=value` for each field.
struct EventText(String);

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}
