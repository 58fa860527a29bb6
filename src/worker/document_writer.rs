//! Sinks of downloads: one writes to a spooled file, the other discards the bytes.

use std::rc::Rc;

use cynosure_engine::{Cause, Failure};

use crate::archive::SpooledDocument;
use crate::env::Env;
use crate::source::Sink;

/// Bytes of a long document that are buffered before they are written to disk, so that a slow disk
/// does not block the loop.
const SINK_BUFFER_BYTES: usize = 256 * 1024;

/// Sink that writes the bytes of a document into its spooled file.
pub(super) struct DocumentWriter<E> {
    pub(super) env: Rc<E>,
    /// Absent only while a blocking thread uses it.
    pub(super) spooled: Option<SpooledDocument>,
    pub(super) buffer: Vec<u8>,
}

impl<E: Env> DocumentWriter<E> {
    pub(super) async fn finish(mut self) -> Result<SpooledDocument, Failure> {
        self.flush_buffer().await?;
        self.spooled.ok_or_else(interrupted_write)
    }

    /// Appends the buffered bytes, which do not fit in memory.
    async fn flush_buffer(&mut self) -> Result<(), Failure> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut spooled = self.spooled.take().ok_or_else(interrupted_write)?;
        let bytes = std::mem::take(&mut self.buffer);
        let append = move || {
            let result = spooled.append(&bytes);
            (spooled, result)
        };
        let (spooled, result) = self.env.spawn_blocking(append).await;
        self.spooled = Some(spooled);
        result
    }
}

/// Sink that discards all bytes.
pub(super) struct DiscardSink;

impl Sink for DiscardSink {
    async fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<E: Env> Sink for DocumentWriter<E> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let spooled = self.spooled.as_mut().ok_or_else(interrupted_write)?;
        if self.buffer.is_empty() && spooled.fits_in_memory(bytes.len()) {
            if spooled.length() == 0 {
                spooled.wait_for_memory().await;
            }
            return spooled.append(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= SINK_BUFFER_BYTES { self.flush_buffer().await } else { Ok(()) }
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.buffer.clear();
        self.spooled.as_mut().ok_or_else(interrupted_write)?.rewind();
        Ok(())
    }
}

/// Failure for a sink that is used after a write was cancelled: a bug in the source.
fn interrupted_write() -> Failure {
    Failure::new(Cause::Unknown, "an interrupted write left the document incomplete")
}
