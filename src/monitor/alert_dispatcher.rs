//! Alert dispatcher: delivers alerts on a separate thread, so that a slow or unreachable channel
//! delays nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cynosure_engine::alert::QueuedMessage;
use cynosure_engine::{Failure, Timestamp};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::disk::FileLock;
use crate::monitor::alert_delivery::AlertDelivery;
use crate::notify::DeliveryError;

/// Retry interval while another process delivers, or the disk fails.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum time between two checks of the outbox when nothing is due, because the clock may be set
/// meanwhile.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// Handle of the dispatcher thread, which delivers until the handle is dropped.
#[derive(Debug)]
pub struct AlertDispatcher {
    sender: watch::Sender<AlertDelivery>,
    clock: fn() -> Timestamp,
    thread: JoinHandle<()>,
}

/// Completed delivery attempt on one channel.
struct CompletedDelivery {
    channel: String,
    messages: Vec<QueuedMessage>,
    outcome: Result<(), DeliveryError>,
}

/// Delivery result that could not be written to the outbox.
struct UnpersistedResult {
    delivery: CompletedDelivery,
    finished_at: Timestamp,
    persist_tried_at: Timestamp,
}

type InFlightDeliveries<'a> =
    FuturesUnordered<Pin<Box<dyn Future<Output = CompletedDelivery> + 'a>>>;

impl AlertDispatcher {
    /// Starts the dispatcher; `clock` returns the current time.
    ///
    /// # Errors
    /// An error if no thread or runtime can be created.
    pub fn start(delivery: AlertDelivery, clock: fn() -> Timestamp) -> io::Result<Self> {
        let (sender, receiver) = watch::channel(delivery);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("alert-delivery".to_owned()).spawn(move || {
            runtime.block_on(DispatcherLoop::new(receiver, clock).run());
            // The result of a credential that is still being read is no longer needed.
            runtime.shutdown_background();
        })?;
        Ok(Self { sender, clock, thread })
    }

    /// Wakes the dispatcher, because messages are queued or the configuration has changed. Restarts
    /// the thread if it has died.
    pub fn dispatch(&mut self, delivery: AlertDelivery) {
        if !self.thread.is_finished() {
            self.sender.send_replace(delivery);
            return;
        }
        match Self::start(delivery, self.clock) {
            Ok(restarted) => {
                error!("the alert delivery thread has died and is restarted");
                *self = restarted;
            }
            Err(error) => {
                error!(%error, "the alert delivery thread has died and cannot be restarted");
            }
        }
    }
}

struct DispatcherLoop {
    receiver: watch::Receiver<AlertDelivery>,
    clock: fn() -> Timestamp,
    delivery_lock: Option<FileLock>,
    /// Results by channel. Until a result is persisted, its delivered messages are still pending in
    /// the outbox, so that the channel must not be tried again.
    unpersisted: BTreeMap<String, UnpersistedResult>,
}

impl DispatcherLoop {
    fn new(receiver: watch::Receiver<AlertDelivery>, clock: fn() -> Timestamp) -> Self {
        Self { receiver, clock, delivery_lock: None, unpersisted: BTreeMap::new() }
    }

    async fn run(mut self) {
        let mut in_flight: InFlightDeliveries<'_> = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut has_warned = false;
        loop {
            let now = (self.clock)();
            let next_check = match self.start_due(&mut in_flight, &mut busy, now) {
                Ok(next_check) => {
                    has_warned = false;
                    next_check
                }
                Err(failure) => {
                    if !has_warned {
                        warn!(cause = %failure.cause, error = %failure, "cannot deliver alerts");
                    }
                    has_warned = true;
                    RETRY_INTERVAL
                }
            };
            tokio::select! {
                changed = self.receiver.changed() => {
                    // The handle was dropped.
                    if changed.is_err() {
                        return;
                    }
                }
                Some(completed) = in_flight.next() => {
                    busy.remove(&completed.channel);
                    self.on_delivery_completed(completed, (self.clock)());
                }
                () = tokio::time::sleep(next_check) => {}
            }
        }
    }

    /// Starts a delivery to every channel that is due, and returns the time until the next check.
    fn start_due(
        &mut self,
        in_flight: &mut InFlightDeliveries<'_>,
        busy: &mut BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Duration, Failure> {
        let delivery = self.receiver.borrow_and_update().clone();
        let channels = delivery.channel_names();
        self.unpersisted.retain(|channel, _| channels.contains(channel));
        if channels.is_empty() {
            self.delivery_lock = None;
            return Ok(IDLE_MAX);
        }
        if self.delivery_lock.is_none() {
            self.delivery_lock = delivery.acquire_delivery_lock()?;
        }
        if self.delivery_lock.is_none() {
            return Ok(RETRY_INTERVAL);
        }
        self.persist_results(&delivery, now);
        for (channel, messages) in delivery.due_messages(now)? {
            if !self.unpersisted.contains_key(&channel) && busy.insert(channel.clone()) {
                let delivery = delivery.clone();
                in_flight.push(Box::pin(async move {
                    let outcome = delivery.deliver(&channel, &messages, now).await;
                    CompletedDelivery { channel, messages, outcome }
                }));
            }
        }
        let outbox = delivery.outbox_file().read()?.and_then(Result::ok).unwrap_or_default();
        let excluded = busy.iter().chain(self.unpersisted.keys()).cloned().collect();
        let next_delivery = outbox.next_due_at(&excluded, now).map(|due_at| due_at.since(now));
        let next_persist =
            self.unpersisted.values().map(|result| result.retry_at().since(now)).min();
        let next_check = next_delivery.into_iter().chain(next_persist).min().unwrap_or(IDLE_MAX);
        Ok(next_check.clamp(Duration::from_millis(10), IDLE_MAX))
    }

    /// Persists the results that could not be persisted before.
    fn persist_results(&mut self, delivery: &AlertDelivery, now: Timestamp) {
        self.unpersisted.retain(|channel, result| {
            if now >= result.persist_tried_at && now < result.retry_at() {
                return true;
            }
            result.persist_tried_at = now;
            let CompletedDelivery { messages, outcome, .. } = &result.delivery;
            match delivery.record_result(channel, messages, outcome, result.finished_at) {
                Ok(()) => {
                    info!(channel, "recorded the result of an alert delivery after a retry");
                    false
                }
                Err(failure) => {
                    debug!(channel, cause = %failure.cause, error = %failure, "still cannot record the result of an alert delivery");
                    true
                }
            }
        });
    }

    fn on_delivery_completed(&mut self, completed: CompletedDelivery, now: Timestamp) {
        let CompletedDelivery { channel, messages, outcome } = &completed;
        let delivery = self.receiver.borrow().clone();
        let is_first_failure = || {
            let outbox = delivery.outbox_file().read().ok().flatten().and_then(Result::ok);
            let failures = outbox.and_then(|outbox| {
                outbox.channel_state(channel).map(|state| state.consecutive_failures)
            });
            failures.unwrap_or_default() == 0
        };
        match outcome {
            Ok(()) => info!(channel, count = messages.len(), "alerts delivered"),
            Err(error) if is_first_failure() => {
                warn!(channel, %error, "alerts not delivered, will retry");
            }
            Err(error) => debug!(channel, %error, "alerts still not delivered"),
        }
        if let Err(failure) = delivery.record_result(channel, messages, outcome, now) {
            warn!(
                channel, cause = %failure.cause, error = %failure,
                "cannot record the result of an alert delivery, the channel waits until it is recorded"
            );
            let result =
                UnpersistedResult { delivery: completed, finished_at: now, persist_tried_at: now };
            self.unpersisted.insert(result.delivery.channel.clone(), result);
        }
    }
}

impl UnpersistedResult {
    fn retry_at(&self) -> Timestamp {
        self.persist_tried_at.after(RETRY_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::config::{AlertSettings, EnvVars, UrlOrSecret};
    use crate::disk::{Disk, DiskFile, Filesystem, PathKind, RealDisk};
    use cynosure_engine::alert::Severity;

    const NOW: Timestamp = Timestamp(1_772_874_303_000);
    const PING_CHANNEL: &str = "ping";

    /// Disk of this machine on which no file becomes durable while `is_failing` is set.
    #[derive(Debug, Default)]
    struct UnsyncableDisk {
        is_failing: AtomicBool,
    }

    impl Disk for UnsyncableDisk {
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            RealDisk.create_dir(path)
        }

        fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            let inner = RealDisk.create_file(path)?;
            Ok(Box::new(UnsyncableFile {
                inner,
                is_failing: self.is_failing.load(Ordering::Relaxed),
            }))
        }

        fn open_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            RealDisk.open_append(path)
        }

        fn open_file(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
            RealDisk.open_file(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealDisk.rename(from, to)
        }

        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            RealDisk.sync_dir(path)
        }

        fn open_filesystem(&self, path: &Path) -> io::Result<Box<dyn Filesystem>> {
            RealDisk.open_filesystem(path)
        }

        fn remove_file(&self, path: &Path) -> io::Result<()> {
            RealDisk.remove_file(path)
        }

        fn list_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
            RealDisk.list_dir(path)
        }

        fn path_kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
            RealDisk.path_kind(path)
        }
    }

    #[derive(Debug)]
    struct UnsyncableFile {
        inner: Box<dyn DiskFile>,
        is_failing: bool,
    }

    impl DiskFile for UnsyncableFile {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.inner.append(bytes)
        }

        fn truncate(&mut self, length: u64) -> io::Result<()> {
            self.inner.truncate(length)
        }

        fn sync(&mut self) -> io::Result<()> {
            if self.is_failing { Err(io::Error::other("no fsync")) } else { self.inner.sync() }
        }
    }

    /// Creates an [`AlertDelivery`] with one pending ping.
    fn delivery_with_ping(disk: &Arc<UnsyncableDisk>, state_dir: &Path) -> AlertDelivery {
        let url = "http://127.0.0.1:9/".parse().unwrap();
        let alert = AlertSettings {
            severity: Severity::Info,
            expire_after: Duration::from_secs(86_400),
            timeout: Duration::from_secs(1),
            ping_url: Some(UrlOrSecret::Url(url)),
            webhooks: BTreeMap::new(),
            mail: None,
        };
        let delivery = AlertDelivery {
            disk: Arc::<UnsyncableDisk>::clone(disk),
            state_dir: state_dir.to_owned(),
            alert_config: Arc::new(alert),
            environment: Arc::new(EnvVars::default()),
            host_name: "host".to_owned(),
            sources: ["work".to_owned()].into(),
        };
        for completed in [1, 2] {
            delivery.enqueue(&[], &[("work".to_owned(), completed)].into(), NOW).unwrap();
        }
        delivery
    }

    /// Returns the channels to which a cycle at this time starts a delivery. The deliveries are
    /// never polled.
    fn started_channels(dispatcher_loop: &mut DispatcherLoop, now: Timestamp) -> Vec<String> {
        let (mut in_flight, mut busy) = (InFlightDeliveries::new(), BTreeSet::new());
        dispatcher_loop.start_due(&mut in_flight, &mut busy, now).unwrap();
        busy.into_iter().collect()
    }

    fn seconds_later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn completed_delivery(
        delivery: &AlertDelivery,
        outcome: Result<(), DeliveryError>,
    ) -> CompletedDelivery {
        let messages = delivery.due_messages(NOW).unwrap().remove(PING_CHANNEL).unwrap();
        CompletedDelivery { channel: PING_CHANNEL.to_owned(), messages, outcome }
    }

    #[test]
    fn an_unpersisted_delivery_is_not_repeated() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<UnsyncableDisk>::default());
        let delivery = delivery_with_ping(&disk, home.path());
        let (_sender, receiver) = watch::channel(delivery.clone());
        let mut dispatcher_loop = DispatcherLoop::new(receiver, || NOW);
        assert_eq!(started_channels(&mut dispatcher_loop, NOW), [PING_CHANNEL]);

        disk.is_failing.store(true, Ordering::Relaxed);
        dispatcher_loop.on_delivery_completed(completed_delivery(&delivery, Ok(())), NOW);

        for seconds in [0, 29, 30, 61, 3_600] {
            assert_eq!(
                started_channels(&mut dispatcher_loop, seconds_later(seconds)),
                [""; 0],
                "after {seconds} s"
            );
        }
        disk.is_failing.store(false, Ordering::Relaxed);
        assert_eq!(
            started_channels(&mut dispatcher_loop, seconds_later(3_629)),
            [""; 0],
            "the retry has a delay"
        );
        assert!(!delivery.due_messages(NOW).unwrap().is_empty());
        assert_eq!(
            started_channels(&mut dispatcher_loop, seconds_later(3_630)),
            [""; 0],
            "the result is recorded"
        );
        assert!(delivery.due_messages(NOW).unwrap().is_empty());
    }

    #[test]
    fn an_unpersisted_failure_keeps_its_own_time() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<UnsyncableDisk>::default());
        let delivery = delivery_with_ping(&disk, home.path());
        let (_sender, receiver) = watch::channel(delivery.clone());
        let mut dispatcher_loop = DispatcherLoop::new(receiver, || NOW);
        disk.is_failing.store(true, Ordering::Relaxed);
        dispatcher_loop.on_delivery_completed(
            completed_delivery(&delivery, Err(DeliveryError::new("connection refused"))),
            NOW,
        );
        disk.is_failing.store(false, Ordering::Relaxed);

        assert_eq!(started_channels(&mut dispatcher_loop, seconds_later(29)), [""; 0]);
        assert_eq!(
            started_channels(&mut dispatcher_loop, seconds_later(30)),
            [PING_CHANNEL],
            "the delay of 30 s is over"
        );

        let outbox = delivery.outbox_file().read().unwrap().unwrap().unwrap();
        let state = outbox.channel_state(PING_CHANNEL).unwrap();
        assert_eq!((state.consecutive_failures, state.retry_at), (1, Some(seconds_later(30))));
    }

    #[test]
    fn a_removed_channel_drops_its_unpersisted_result() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<UnsyncableDisk>::default());
        let mut delivery = delivery_with_ping(&disk, home.path());
        let (sender, receiver) = watch::channel(delivery.clone());
        let mut dispatcher_loop = DispatcherLoop::new(receiver, || NOW);
        disk.is_failing.store(true, Ordering::Relaxed);
        dispatcher_loop.on_delivery_completed(completed_delivery(&delivery, Ok(())), NOW);
        assert_eq!(dispatcher_loop.unpersisted.len(), 1);

        Arc::make_mut(&mut delivery.alert_config).ping_url = None;
        sender.send_replace(delivery);

        assert_eq!(started_channels(&mut dispatcher_loop, NOW), [""; 0]);
        assert!(dispatcher_loop.unpersisted.is_empty());
    }

    #[test]
    fn a_dead_dispatcher_is_replaced() {
        static CLOCK_READS: AtomicU32 = AtomicU32::new(0);
        fn panics_at_first() -> Timestamp {
            assert!(CLOCK_READS.fetch_add(1, Ordering::SeqCst) > 0, "panic of the test");
            NOW
        }
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<UnsyncableDisk>::default());
        let mut delivery = delivery_with_ping(&disk, home.path());
        Arc::make_mut(&mut delivery.alert_config).ping_url = None;
        let mut dispatcher = AlertDispatcher::start(delivery.clone(), panics_at_first).unwrap();
        while !dispatcher.thread.is_finished() {
            thread::yield_now();
        }

        dispatcher.dispatch(delivery);

        while CLOCK_READS.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        assert!(!dispatcher.thread.is_finished());
    }
}
