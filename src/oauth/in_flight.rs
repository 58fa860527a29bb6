//! Refreshes in flight, whose answers may hold the only valid refresh tokens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::client::REQUEST_TIMEOUT;

/// Time to store a token after its request.
const SAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of refreshes of a process that are requested and not stored yet. Clones share it.
#[derive(Clone)]
pub struct RefreshesInFlight {
    count: Arc<watch::Sender<usize>>,
}

/// One refresh, counted until this is dropped.
pub(super) struct RefreshInFlight {
    count: Arc<watch::Sender<usize>>,
}

impl RefreshesInFlight {
    /// Waits until all of them have ended, but no longer than one may take. Called before the
    /// runtime ends, which drops them.
    pub async fn wait(&self) {
        let mut count = self.count.subscribe();
        // The sender exists as long as `self`, so that the channel is not closed.
        let all_ended = count.wait_for(|count| *count == 0);
        if timeout(REQUEST_TIMEOUT.saturating_add(SAVE_TIMEOUT), all_ended).await.is_err() {
            warn!("a token refresh has not ended in time, so its new refresh token may be lost");
        }
    }

    pub(super) fn begin(&self) -> RefreshInFlight {
        self.count.send_modify(|count| *count = count.saturating_add(1));
        RefreshInFlight { count: Arc::clone(&self.count) }
    }
}

impl Default for RefreshesInFlight {
    fn default() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)) }
    }
}

impl fmt::Debug for RefreshesInFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshesInFlight").field("count", &*self.count.borrow()).finish()
    }
}

impl Drop for RefreshInFlight {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_a_refresh() {
        let refreshes = RefreshesInFlight::default();
        refreshes.wait().await;
        let refresh = refreshes.begin();
        let start = Instant::now();
        tokio::spawn(async move {
            sleep(Duration::from_secs(20)).await;
            drop(refresh);
        });

        refreshes.wait().await;

        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_ever() {
        let refreshes = RefreshesInFlight::default();
        let _stuck = refreshes.begin();
        let start = Instant::now();

        refreshes.wait().await;

        assert_eq!(start.elapsed().as_secs(), 35);
    }
}
