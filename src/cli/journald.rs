//! Log lines to the systemd journal, with their fields, never waiting for it.
//!
//! The protocol is one datagram per line: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. A journal
//! that is stuck costs lines, which are counted and told later, and no work.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::worker::RealEnv;

/// Where the journal listens.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// The longest value, in bytes: a datagram has a limit, and a line has readers.
const VALUE_BYTES_MAX: usize = 32 << 10;

/// The longest name of a field that the journal takes, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// How long the journal is left alone after it did not take a line: each that it refuses takes the
/// kernel milliseconds, which at a thousand lines a second are all there is.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The way to the journal.
#[derive(Debug)]
pub(super) struct JournaldLayer {
    socket: UnixDatagram,
    path: PathBuf,
    /// Lines that it did not take since it last took one.
    dropped_lines: AtomicU64,
    /// When it is tried again, in milliseconds of uptime.
    retry_at: AtomicU64,
}

/// The fields of an event or a span, by the names the journal takes.
#[derive(Debug, Default)]
struct JournalFields(Vec<(String, String)>);

impl JournaldLayer {
    /// Opens the way to the journal of this machine.
    ///
    /// # Errors
    /// When nothing listens there.
    pub(super) fn open() -> io::Result<Self> {
        Self::at_path(Path::new(JOURNAL_SOCKET))
    }

    fn at_path(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // An empty datagram is no line; it only finds out whether anybody is there.
        socket.send_to(&[], path)?;
        let (lost, again_at) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { socket, path: path.to_owned(), dropped_lines: lost, retry_at: again_at })
    }

    fn send(&self, fields: &JournalFields) {
        let again_at = Duration::from_millis(self.retry_at.load(Ordering::Relaxed));
        let now = RealEnv::uptime();
        if now < again_at || self.socket.send_to(&fields.bytes(), &self.path).is_err() {
            self.dropped_lines.fetch_add(1, Ordering::Relaxed);
            if again_at <= now {
                let again_at = now.saturating_add(RETRY_DELAY).as_millis();
                self.retry_at.store(u64::try_from(again_at).unwrap_or(0), Ordering::Relaxed);
            }
            return;
        }
        let lost = self.dropped_lines.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut told = JournalFields::default();
            told.with_event_fields(Level::WARN);
            told.add_unique(
                "MESSAGE",
                format!("{lost} log lines are lost: the journal did not take them"),
            );
            if self.socket.send_to(&told.bytes(), &self.path).is_err() {
                self.dropped_lines.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JournaldLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = JournalFields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = JournalFields::default();
        fields.with_event_fields(*event.metadata().level());
        event.record(&mut fields);
        // From the inside out: what stands nearer to the event is more true of it.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(JournalFields(outer)) = span.extensions().get::<JournalFields>() {
                for (name, value) in outer {
                    fields.add_unique(name, value.clone());
                }
            }
        }
        self.send(&fields);
    }
}

impl JournalFields {
    fn with_event_fields(&mut self, level: Level) {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        self.add_unique("PRIORITY", priority.to_owned());
        self.add_unique("SYSLOG_IDENTIFIER", "cynosure".to_owned());
    }

    /// Adds a field, unless there is one of this name.
    fn add_unique(&mut self, name: &str, mut value: String) {
        let name = journal_field_name(name);
        if name.is_empty() || self.0.iter().any(|(other, _)| *other == name) {
            return;
        }
        let cut = (0..=VALUE_BYTES_MAX).rev().find(|at| value.is_char_boundary(*at));
        value.truncate(cut.unwrap_or_default());
        self.0.push((name, value));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            bytes.extend_from_slice(name.as_bytes());
            if value.contains('\n') {
                bytes.push(b'\n');
                bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            } else {
                bytes.push(b'=');
            }
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }
}

impl Visit for JournalFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_unique(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Writing to a string fails only where a value cannot be shown; then what there is stands.
        write!(text, "{value:?}").ok();
        self.add_unique(field.name(), text);
    }
}

/// `r#type` as `TYPE`: capitals, digits and underscores, none of them in front.
fn journal_field_name(name: &str) -> String {
    let name = name.strip_prefix("r#").unwrap_or(name);
    let letters =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    letters.skip_while(|c| !c.is_ascii_uppercase()).take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use tracing::{error, error_span, info};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;

    fn fake_journal() -> (tempfile::TempDir, UnixDatagram, JournaldLayer) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let journal = JournaldLayer::at_path(&path).unwrap();
        assert_eq!(listener.recv(&mut [0]).unwrap(), 0);
        (home, listener, journal)
    }

    fn receive_line(listener: &UnixDatagram) -> Option<String> {
        let mut bytes = vec![0; 1 << 16];
        let length = listener.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn an_entry_has_the_fields_of_the_event_and_its_spans() {
        let (_home, listener, journal) = fake_journal();

        tracing::subscriber::with_default(registry().with(journal), || {
            let _source = error_span!("worker", source = "work").entered();
            let _turn = error_span!("turn", session = "session_1", state = "downloading").entered();
            info!(
                cause = "server",
                r#type = "TEMPORARY",
                state = "error",
                "recorded error: {}",
                503
            );
        });

        insta::assert_snapshot!(receive_line(&listener).unwrap().trim_end(), @r"
        PRIORITY=6
        SYSLOG_IDENTIFIER=cynosure
        MESSAGE=recorded error: 503
        CAUSE=server
        TYPE=TEMPORARY
        STATE=error
        SESSION=session_1
        SOURCE=work
        ");
    }

    #[test]
    fn a_multi_line_value_is_sent_length_prefixed() {
        let mut fields = JournalFields::default();
        fields.add_unique("MESSAGE", "a\nb=c".to_owned());

        assert_eq!(fields.bytes(), b"MESSAGE\n\x05\0\0\0\0\0\0\0a\nb=c\n");
    }

    #[test]
    fn a_stuck_journal_drops_entries_and_is_sent_their_count() {
        let (_home, listener, journal) = fake_journal();
        let journal = std::sync::Arc::new(journal);

        // More than any queue takes; each that waited would wait for ever.
        for number in 0..5000 {
            let mut fields = JournalFields::default();
            fields.add_unique("MESSAGE", number.to_string());
            journal.send(&fields);
        }
        let lost = journal.dropped_lines.load(Ordering::Relaxed);
        assert!(lost > 0);
        let taken = std::iter::from_fn(|| receive_line(&listener)).count() as u64;
        assert_eq!(taken + lost, 5000);

        journal.send(&JournalFields::default());
        assert_eq!(receive_line(&listener), None, "it is left alone for a while");
        let lost = lost + 1;
        journal.retry_at.store(0, Ordering::Relaxed);
        journal.send(&JournalFields::default());
        let told: Vec<String> = std::iter::from_fn(|| receive_line(&listener)).collect();
        assert!(told[1].contains(&format!("MESSAGE={lost} log lines are lost")), "{told:?}");
    }

    #[test]
    fn a_missing_journal_blocks_nothing() {
        let (home, listener, journal) = fake_journal();
        drop(listener);
        fs_err::remove_file(home.path().join("socket")).unwrap();

        tracing::subscriber::with_default(registry().with(journal), || error!("unheard"));
    }

    #[test]
    fn field_names_are_valid_for_the_journal() {
        assert_eq!(
            ["source", "r#type", "late_s", "__x", "a.b"].map(journal_field_name),
            ["SOURCE", "TYPE", "LATE_S", "X", "A_B"]
        );
    }
}
