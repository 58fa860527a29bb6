//! Listens to what the worker says when a person is needed, or when it is stuck.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// What was said at the levels ERROR and WARN, oldest first.
#[derive(Clone, Default)]
pub(crate) struct LogCapture {
    events: Arc<Mutex<Vec<(Level, String)>>>,
}

impl LogCapture {
    pub(crate) fn errors(&self) -> Vec<String> {
        let heard = self.events.lock().unwrap();
        let errors = heard.iter().filter(|(level, _)| *level == Level::ERROR);
        errors.map(|(_, said)| said.clone()).collect()
    }

    /// How often work was begun anew because nothing moved.
    pub(crate) fn no_progress_count(&self) -> usize {
        let heard = self.events.lock().unwrap();
        heard.iter().filter(|(_, said)| said.contains("no progress")).count()
    }
}

impl Subscriber for LogCapture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut said = EventText(String::new());
        event.record(&mut said);
        self.events.lock().unwrap().push((*event.metadata().level(), said.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct EventText(String);

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}
