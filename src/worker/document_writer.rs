//! Sinks of downloads: one writes to a spooled file, the other discards the bytes.

use std::rc::Rc;

use cynosure_engine::{Cause, Failure};

use crate::archive::SpooledDocument;
use crate::env::Env;
use crate::source::Sink;

/// Bytes buffered before they are written to disk, so that a slow disk does not block the loop.
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

    /// Appends the buffered bytes, without a blocking thread if that touches only memory.
    async fn flush_buffer(&mut self) -> Result<(), Failure> {
        let mut spooled = self.spooled.take().ok_or_else(interrupted_write)?;
        let bytes = std::mem::take(&mut self.buffer);
        let (spooled, result) = if spooled.fits_in_memory(bytes.len()) {
            let result = spooled.append(&bytes);
            (spooled, result)
        } else {
            self.env
                .spawn_blocking(move || {
                    let result = spooled.append(&bytes);
                    (spooled, result)
                })
                .await
        };
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
