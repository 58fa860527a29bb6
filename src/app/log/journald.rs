//! Tracing layer that sends log lines with their fields to the systemd journal, without blocking.
//!
//! The protocol is one datagram per line: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. If the
//! journal is stuck, lines are dropped, and their number is logged later.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cynosure_engine::truncate_to_bytes;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::env::RealEnv;

/// Path of the journal's socket.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Maximum length of a value, in bytes, because a datagram has a limit and a line must be readable.
const VALUE_BYTES_MAX: usize = 32 << 10;

/// Field with the text of an entry.
const MESSAGE: &str = "MESSAGE";

/// Maximum length of a field name that the journal accepts, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Pause after the journal has not accepted a line. Each rejected line takes the kernel
/// milliseconds, which at a thousand lines a second would use all of the time.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Tracing layer with the connection to the journal.
#[derive(Debug)]
pub(super) struct JournaldLayer {
    socket: UnixDatagram,
    path: PathBuf,
    /// Lines dropped since the last accepted one.
    dropped_lines: AtomicU64,
    /// Time of the next attempt, in milliseconds of uptime.
    retry_at: AtomicU64,
}

/// Fields of an event or a span, under the names that the journal accepts.
#[derive(Debug, Default)]
struct JournalFields(Vec<(String, String)>);

impl JournaldLayer {
    /// Connects to the journal of this host.
    ///
    /// # Errors
    /// An I/O error if nothing listens on the socket.
    pub(super) fn open() -> io::Result<Self> {
        Self::at_path(Path::new(JOURNAL_SOCKET))
    }

    fn at_path(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // Tests that the journal listens. An empty datagram is not logged.
        socket.send_to(&[], path)?;
        let (dropped_lines, retry_at) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { socket, path: path.to_owned(), dropped_lines, retry_at })
    }

    fn send(&self, fields: &JournalFields) {
        let retry_at = Duration::from_millis(self.retry_at.load(Ordering::Relaxed));
        let now = RealEnv::uptime();
        if now < retry_at || self.socket.send_to(&fields.bytes(), &self.path).is_err() {
            self.dropped_lines.fetch_add(1, Ordering::Relaxed);
            if retry_at <= now {
                let retry_at = now.saturating_add(RETRY_DELAY).as_millis();
                self.retry_at.store(u64::try_from(retry_at).unwrap_or(0), Ordering::Relaxed);
            }
            return;
        }
        let dropped = self.dropped_lines.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let mut warning = JournalFields::default();
            warning.add_level(Level::WARN);
            warning.add_unique(
                MESSAGE,
                format!("{dropped} log lines dropped: the journal did not accept them"),
            );
            if self.socket.send_to(&warning.bytes(), &self.path).is_err() {
                self.dropped_lines.fetch_add(dropped, Ordering::Relaxed);
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
        event.record(&mut fields);
        fields.complete_message();
        fields.add_level(*event.metadata().level());
        // From the innermost span outwards, because inner fields take precedence.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(JournalFields(span_fields)) = span.extensions().get::<JournalFields>() {
                for (name, value) in span_fields {
                    fields.add_unique(name, value.clone());
                }
            }
        }
        self.send(&fields);
    }
}

impl JournalFields {
    /// Appends the fields to the message, because `journalctl` shows nothing else of an entry.
    fn complete_message(&mut self) {
        let message = self.0.iter().position(|(name, _)| name == MESSAGE);
        let (_, mut line) = message.map_or_else(Default::default, |index| self.0.remove(index));
        for (name, value) in &self.0 {
            let separator = if line.is_empty() { "" } else { " " };
            let needs_quotes = value.is_empty() || value.contains([' ', '"', '\n']);
            let value = if needs_quotes { &format!("{value:?}") } else { value };
            line.push_str(&format!("{separator}{}={value}", name.to_ascii_lowercase()));
        }
        self.add_unique(MESSAGE, line);
    }

    fn add_level(&mut self, level: Level) {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        self.add_unique("PRIORITY", priority.to_owned());
        self.add_unique("SYSLOG_IDENTIFIER", "cynosure".to_owned());
    }

    /// Adds a field, unless one of this name exists.
    fn add_unique(&mut self, name: &str, mut value: String) {
        let name = journal_field_name(name);
        if name.is_empty() || self.0.iter().any(|(other, _)| *other == name) {
            return;
        }
        value.truncate(truncate_to_bytes(&value, VALUE_BYTES_MAX).len());
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
        // Fails only if the value's `Debug` fails; the text written so far is then used.
        write!(text, "{value:?}").ok();
        self.add_unique(field.name(), text);
    }
}

/// Returns a valid field name, `TYPE` for `r#type`: capitals, digits and underscores, and a capital
/// first.
fn journal_field_name(name: &str) -> String {
    let name = name.strip_prefix("r#").unwrap_or(name);
    let chars =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    chars.skip_while(|c| !c.is_ascii_uppercase()).take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use tracing::{error, error_span, info};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;

    fn fake_journal() -> (tempfile::TempDir, UnixDatagram, JournaldLayer) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let journal = JournaldLayer::at_path(&path).unwrap();
        assert_eq!(listener.recv(&mut [0]).unwrap(), 0);
        (dir, listener, journal)
    }

    fn receive_line(listener: &UnixDatagram) -> Option<String> {
        let mut bytes = vec![0; 1 << 16];
        let length = listener.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn an_entry_has_the_fields_of_the_event_and_its_spans() {
        let (_dir, listener, journal) = fake_journal();

        tracing::subscriber::with_default(registry().with(journal), || {
            let _source = error_span!("worker", source = "work").entered();
            let _iteration =
                error_span!("iteration", session = "session_1", state = "downloading").entered();
            info!(
                cause = "server",
                r#type = "TEMPORARY",
                state = "error",
                error = "503 from example.com",
                "recorded error"
            );
        });

        insta::assert_snapshot!(receive_line(&listener).unwrap().trim_end(), @r#"
        CAUSE=server
        TYPE=TEMPORARY
        STATE=error
        ERROR=503 from example.com
        MESSAGE=recorded error cause=server type=TEMPORARY state=error error="503 from example.com"
        PRIORITY=6
        SYSLOG_IDENTIFIER=cynosure
        SESSION=session_1
        SOURCE=work
        "#);
    }

    #[test]
    fn a_multi_line_value_is_sent_length_prefixed() {
        let mut fields = JournalFields::default();
        fields.add_unique("MESSAGE", "a\nb=c".to_owned());

        assert_eq!(fields.bytes(), b"MESSAGE\n\x05\0\0\0\0\0\0\0a\nb=c\n");
    }

    #[test]
    fn a_stuck_journal_drops_entries_and_is_sent_their_count() {
        let (_dir, listener, journal) = fake_journal();
        let journal = std::sync::Arc::new(journal);

        // More lines than any socket queue holds; a blocking send would never return.
        for number in 0..5000 {
            let mut fields = JournalFields::default();
            fields.add_unique("MESSAGE", number.to_string());
            journal.send(&fields);
        }
        let dropped = journal.dropped_lines.load(Ordering::Relaxed);
        assert!(dropped > 0);
        let received = std::iter::from_fn(|| receive_line(&listener)).count() as u64;
        assert_eq!(received + dropped, 5000);

        journal.send(&JournalFields::default());
        assert_eq!(receive_line(&listener), None, "nothing is sent before retry_at");
        let dropped = dropped + 1;
        journal.retry_at.store(0, Ordering::Relaxed);
        journal.send(&JournalFields::default());
        let lines: Vec<String> = std::iter::from_fn(|| receive_line(&listener)).collect();
        assert!(lines[1].contains(&format!("MESSAGE={dropped} log lines dropped")), "{lines:?}");
    }

    #[test]
    fn a_missing_journal_blocks_nothing() {
        let (dir, listener, journal) = fake_journal();
        drop(listener);
        fs_err::remove_file(dir.path().join("socket")).unwrap();

        tracing::subscriber::with_default(registry().with(journal), || error!("not received"));
    }

    #[test]
    fn field_names_are_valid_for_the_journal() {
        assert_eq!(
            ["source", "r#type", "late_s", "__x", "a.b"].map(journal_field_name),
            ["SOURCE", "TYPE", "LATE_S", "X", "A_B"]
        );
    }
}
