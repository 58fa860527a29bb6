//! Reads of the data to show: cached snapshots, and a limited number of other reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::endpoint::page::{DETAIL_ROWS_MAX, SourceDetail};
use crate::endpoint::route::PageFilter;
use crate::endpoint::view::{DashboardData, LookupError, Snapshot};

/// Time for which a snapshot is reused, however many requests there are.
const SNAPSHOT_MAX_AGE: Duration = Duration::from_secs(1);

/// Concurrent reads of ledgers, and of all metrics. A permit is held until the read ends, even if
/// its request has timed out, so that reads of a stuck disk do not pile up.
const LEDGER_READS_MAX: usize = 2;
const METRICS_READS_MAX: usize = 1;

/// Concurrent blocking calls: one snapshot at a time, and these reads.
pub(super) const BLOCKING_THREADS_MAX: usize = 1 + LEDGER_READS_MAX + METRICS_READS_MAX;

/// Reader of the data, shared by all requests and event streams.
#[derive(Debug)]
pub(crate) struct DataReader {
    data: Arc<dyn DashboardData>,
    snapshot_cache: Arc<AsyncMutex<SnapshotCache>>,
    ledger_permits: Arc<Semaphore>,
    metrics_permits: Arc<Semaphore>,
}

/// Last snapshot, and the time it was made.
type SnapshotCache = Option<(Instant, Arc<Snapshot>)>;

/// Reason that a request has no data to respond with.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The code that reads the data panicked.
    Panicked,
    Lookup(LookupError),
}

impl DataReader {
    pub(super) fn new(data: Arc<dyn DashboardData>) -> Self {
        Self {
            data,
            snapshot_cache: Arc::default(),
            ledger_permits: Arc::new(Semaphore::new(LEDGER_READS_MAX)),
            metrics_permits: Arc::new(Semaphore::new(METRICS_READS_MAX)),
        }
    }

    /// Returns a snapshot that is not older than [`SNAPSHOT_MAX_AGE`].
    pub(crate) async fn snapshot(&self) -> Result<Arc<Snapshot>, ApiError> {
        // Concurrent requests wait here, and share the snapshot.
        let mut cache = Arc::clone(&self.snapshot_cache).lock_owned().await;
        if let Some((made_at, snapshot)) = &*cache
            && made_at.elapsed() < SNAPSHOT_MAX_AGE
        {
            return Ok(Arc::clone(snapshot));
        }
        let data = Arc::clone(&self.data);
        let task = spawn_blocking(move || {
            let snapshot = Arc::new(data.snapshot());
            *cache = Some((Instant::now(), Arc::clone(&snapshot)));
            snapshot
        });
        task.await.map_err(|_panicked| ApiError::Panicked)
    }

    /// Returns a snapshot, and the details of the selected source, if there is one.
    pub(crate) async fn page_data(
        &self,
        filter: &PageFilter,
    ) -> Result<(Arc<Snapshot>, Option<SourceDetail>), ApiError> {
        let snapshot = self.snapshot().await?;
        let source = filter.source.as_ref().filter(|name| snapshot.source(name).is_some());
        let Some(name) = source.cloned() else { return Ok((snapshot, None)) };
        let detail = self.read_ledger(move |data| {
            Ok(SourceDetail {
                history: data.history(&name, DETAIL_ROWS_MAX),
                failures: data.failures(&name, DETAIL_ROWS_MAX),
                summary: data.summary(&name),
                name,
            })
        });
        Ok((snapshot, Some(detail.await?)))
    }

    pub(super) async fn read_ledger<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn DashboardData) -> Result<T, LookupError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.run_blocking(acquire_permit(&self.ledger_permits).await?, read).await
    }

    pub(super) async fn read_metrics<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn DashboardData) -> Result<T, LookupError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.run_blocking(acquire_permit(&self.metrics_permits).await?, read).await
    }

    async fn run_blocking<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        read: impl FnOnce(&dyn DashboardData) -> Result<T, LookupError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let data = Arc::clone(&self.data);
        let task = spawn_blocking(move || {
            let _permit = permit;
            read(&*data)
        });
        Ok(task.await.map_err(|_panicked| ApiError::Panicked)??)
    }
}

async fn acquire_permit(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(permits).acquire_owned().await.map_err(|_closed| ApiError::Panicked)
}

impl From<LookupError> for ApiError {
    fn from(error: LookupError) -> Self {
        Self::Lookup(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use serde_json::Value;
    use tokio::time::timeout;

    use super::*;
    use crate::endpoint::view::{FailedItem, SourceSummary, StateTransition};

    /// Data whose reads block until the sender is dropped.
    #[derive(Debug)]
    struct BlockedData(Mutex<std::sync::mpsc::Receiver<()>>);

    impl BlockedData {
        fn wait_for_release(&self) {
            // The only error: the sender was dropped.
            self.0.lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap_err();
        }
    }

    impl DashboardData for BlockedData {
        fn snapshot(&self) -> Snapshot {
            self.wait_for_release();
            panic!("the request has timed out")
        }

        fn history(
            &self,
            _source: &str,
            _limit: usize,
        ) -> Result<Vec<StateTransition>, LookupError> {
            self.wait_for_release();
            Ok(Vec::new())
        }

        fn failures(&self, _source: &str, _limit: usize) -> Result<Vec<FailedItem>, LookupError> {
            Ok(Vec::new())
        }

        fn summary(&self, _source: &str) -> Result<SourceSummary, LookupError> {
            Ok(SourceSummary::default())
        }

        fn metrics(&self) -> Result<String, LookupError> {
            self.wait_for_release();
            Ok(String::new())
        }

        fn metrics_json(&self) -> Result<Value, LookupError> {
            Ok(Value::Null)
        }
    }

    #[tokio::test]
    async fn an_abandoned_read_keeps_its_permit_until_it_ends() {
        let (release, blocked) = std::sync::mpsc::channel();
        let reader = DataReader::new(Arc::new(BlockedData(Mutex::new(blocked))));
        // Each read starts, and its request times out at once.
        for _ in 0..BLOCKING_THREADS_MAX {
            let history = reader.read_ledger(|data| data.history("work", 1));
            timeout(Duration::ZERO, history).await.unwrap_err();
            timeout(Duration::ZERO, reader.read_metrics(|data| data.metrics())).await.unwrap_err();
            timeout(Duration::ZERO, reader.snapshot()).await.unwrap_err();
        }

        assert_eq!(reader.ledger_permits.available_permits(), 0);
        assert_eq!(reader.metrics_permits.available_permits(), 0);
        assert!(reader.snapshot_cache.try_lock().is_err(), "one snapshot at a time");

        drop(release);
        reader.read_ledger(|data| data.history("work", 1)).await.unwrap();
        reader.read_metrics(|data| data.metrics()).await.unwrap();
        drop(reader.snapshot_cache.lock().await);
    }
}
