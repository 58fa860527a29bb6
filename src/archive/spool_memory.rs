//! Memory of the documents of a source that are not in the archive yet.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Maximum bytes of one batch held in memory: 8 MiB, an eighth of the worker's memory limit.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes in memory from which no further document is received: a batch that is filled, and one on
/// its way to the disk. Many documents may be requested at once, and all of them would take more.
const SPOOL_USAGE_MAX: usize = 2 * BATCH_BYTES_MAX;

/// Bytes of all documents that are held in memory.
#[derive(Debug, Default)]
pub(super) struct SpoolUsage {
    bytes: AtomicUsize,
    freed: Notify,
}

/// Bytes of one document, which count until they are dropped.
#[derive(Debug)]
pub(super) struct SpoolBuffer {
    bytes: Vec<u8>,
    usage: Arc<SpoolUsage>,
}

impl SpoolUsage {
    /// Waits until another document may be received.
    pub(super) async fn wait_for_memory(&self) {
        loop {
            let mut freed = pin!(self.freed.notified());
            // Counts what is freed from here on.
            freed.as_mut().enable();
            if self.bytes.load(Ordering::Relaxed) < SPOOL_USAGE_MAX {
                return;
            }
            freed.await;
        }
    }
}

impl SpoolBuffer {
    pub(super) fn new(usage: Arc<SpoolUsage>) -> Self {
        Self { bytes: Vec::new(), usage }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        let before = self.bytes.capacity();
        self.bytes.extend_from_slice(bytes);
        let more = self.bytes.capacity().saturating_sub(before);
        self.usage.bytes.fetch_add(more, Ordering::Relaxed);
    }
}

impl Drop for SpoolBuffer {
    fn drop(&mut self) {
        self.usage.bytes.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
        self.usage.freed.notify_waiters();
    }
}
