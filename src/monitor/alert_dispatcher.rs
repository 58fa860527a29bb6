//! Alert dispatcher: delivers alerts on a separate thread, so that a slow or dead channel delays
//! nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::disk::FileLock;
use crate::engine::alert::QueuedMessage;
use crate::engine::{Failure, Timestamp};
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
struct DeliveryDone {
    channel: String,
    messages: Vec<QueuedMessage>,
    outcome: Result<(), DeliveryError>,
}

/// Delivery result that could not be persisted.
struct UnpersistedResult {
    delivery: DeliveryDone,
    finished_at: Timestamp,
    persist_tried_at: Timestamp,
}

type InFlightDeliveries<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = DeliveryDone> + 'a>>>;

impl AlertDispatcher {
    /// Starts the dispatcher; `clock` returns the current time.
    ///
    /// # Errors
    /// An error if no thread or runtime can be created.
    pub fn start(post: AlertDelivery, clock: fn() -> Timestamp) -> io::Result<Self> {
        let (orders, receiver) = watch::channel(post);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("post".to_owned()).spawn(move || {
            runtime.block_on(DispatcherLoop::new(receiver, clock).run());
            // The result of a credential that is still being read is no longer needed.
            runtime.shutdown_background();
        })?;
        Ok(Self { sender: orders, clock, thread })
    }

    /// Wakes the dispatcher, because messages are queued or the configuration has changed. Restarts
    /// the thread if it has died.
    pub fn dispatch(&mut self, post: AlertDelivery) {
        if !self.thread.is_finished() {
            self.sender.send_replace(post);
            return;
        }
        match Self::start(post, self.clock) {
            Ok(anew) => {
                error!("the thread that delivers alerts has died, and is started anew");
                *self = anew;
            }
            Err(error) => {
                error!(
                    "the thread that delivers alerts has died, and no other can be had: {error}"
                );
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
    fn new(orders: watch::Receiver<AlertDelivery>, clock: fn() -> Timestamp) -> Self {
        Self { receiver: orders, clock, delivery_lock: None, unpersisted: BTreeMap::new() }
    }

    async fn run(mut self) {
        let mut under_way: InFlightDeliveries<'_> = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut has_complained = false;
        loop {
            let now = (self.clock)();
            let next = match self.start_due(&mut under_way, &mut busy, now) {
                Ok(next) => {
                    has_complained = false;
                    next
                }
                Err(failure) => {
                    if !has_complained {
                        warn!(cause = %failure.cause, "cannot deliver alerts: {failure}");
                    }
                    has_complained = true;
                    RETRY_INTERVAL
                }
            };
            tokio::select! {
                ordered = self.receiver.changed() => {
                    // The handle was dropped.
                    if ordered.is_err() {
                        return;
                    }
                }
                Some(back) = under_way.next() => {
                    busy.remove(&back.channel);
                    self.on_delivery_done(back, (self.clock)());
                }
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Starts a delivery to every channel that is due, and returns the time until the next check.
    fn start_due(
        &mut self,
        under_way: &mut InFlightDeliveries<'_>,
        busy: &mut BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Duration, Failure> {
        let post = self.receiver.borrow_and_update().clone();
        let channels = post.channel_names();
        self.unpersisted.retain(|channel, _| channels.contains(channel));
        if channels.is_empty() {
            self.delivery_lock = None;
            return Ok(IDLE_MAX);
        }
        if self.delivery_lock.is_none() {
            self.delivery_lock = post.acquire_delivery_lock()?;
        }
        if self.delivery_lock.is_none() {
            return Ok(RETRY_INTERVAL);
        }
        self.persist_results(&post, now);
        for (channel, words) in post.due_messages(now)? {
            if !self.unpersisted.contains_key(&channel) && busy.insert(channel.clone()) {
                let post = post.clone();
                under_way.push(Box::pin(async move {
                    let outcome = post.deliver(&channel, &words, now).await;
                    DeliveryDone { channel, messages: words, outcome }
                }));
            }
        }
        let outbox = post.outbox_file().read()?.and_then(Result::ok).unwrap_or_default();
        let held = busy.iter().chain(self.unpersisted.keys()).cloned().collect();
        let next = outbox.next_due_at(&held, now).map(|next| next.since(now));
        let again = self.unpersisted.values().map(|unnoted| unnoted.retry_at().since(now)).min();
        let next = next.into_iter().chain(again).min().unwrap_or(IDLE_MAX);
        Ok(next.clamp(Duration::from_millis(10), IDLE_MAX))
    }

    /// Persists the results that could not be persisted before.
    fn persist_results(&mut self, post: &AlertDelivery, now: Timestamp) {
        self.unpersisted.retain(|channel, unnoted| {
            if now >= unnoted.persist_tried_at && now < unnoted.retry_at() {
                return true;
            }
            unnoted.persist_tried_at = now;
            let DeliveryDone { messages: words, outcome, .. } = &unnoted.delivery;
            match post.record_result(channel, words, outcome, unnoted.finished_at) {
                Ok(()) => {
                    info!(channel, "what came of delivering alerts is noted at last");
                    false
                }
                Err(failure) => {
                    debug!(channel, cause = %failure.cause, "still cannot note it: {failure}");
                    true
                }
            }
        });
    }

    fn on_delivery_done(&mut self, back: DeliveryDone, now: Timestamp) {
        let DeliveryDone { channel, messages: words, outcome } = &back;
        let post = self.receiver.borrow().clone();
        let is_first = || {
            let outbox = post.outbox_file().read().ok().flatten().and_then(Result::ok);
            let failures = outbox.and_then(|outbox| {
                outbox.channel_state(channel).map(|tray| tray.consecutive_failures)
            });
            failures.unwrap_or_default() == 0
        };
        match outcome {
            Ok(()) => info!(channel, count = words.len(), "alerts delivered"),
            Err(why) if is_first() => warn!(channel, "alerts not delivered, tried again: {why}"),
            Err(why) => debug!(channel, "alerts not delivered yet: {why}"),
        }
        if let Err(failure) = post.record_result(channel, words, outcome, now) {
            warn!(
                channel, cause = %failure.cause,
                "cannot note what came of delivering alerts, and sends no more there until it is: {failure}"
            );
            let unnoted =
                UnpersistedResult { delivery: back, finished_at: now, persist_tried_at: now };
            self.unpersisted.insert(unnoted.delivery.channel.clone(), unnoted);
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
    use crate::engine::alert::Severity;

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
        let post = AlertDelivery {
            disk: Arc::<UnsyncableDisk>::clone(disk),
            state_dir: state_dir.to_owned(),
            alert_config: Arc::new(alert),
            environment: Arc::new(EnvVars::default()),
            host_name: "host".to_owned(),
            sources: ["work".to_owned()].into(),
        };
        for completed in [1, 2] {
            post.enqueue(&[], &[("work".to_owned(), completed)].into(), NOW).unwrap();
        }
        post
    }

    /// Returns the channels to which a cycle at this time starts a delivery. The deliveries are
    /// never polled.
    fn started_channels(round: &mut DispatcherLoop, now: Timestamp) -> Vec<String> {
        let (mut under_way, mut busy) = (InFlightDeliveries::new(), BTreeSet::new());
        round.start_due(&mut under_way, &mut busy, now).unwrap();
        busy.into_iter().collect()
    }

    fn seconds_later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn delivery_done(post: &AlertDelivery, outcome: Result<(), DeliveryError>) -> DeliveryDone {
        let words = post.due_messages(NOW).unwrap().remove(PING_CHANNEL).unwrap();
        DeliveryDone { channel: PING_CHANNEL.to_owned(), messages: words, outcome }
    }

    #[test]
    fn an_unpersisted_delivery_is_not_repeated() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<UnsyncableDisk>::default());
        let post = delivery_with_ping(&disk, home.path());
        let (_orders, following) = watch::channel(post.clone());
        let mut round = DispatcherLoop::new(following, || NOW);
        assert_eq!(started_channels(&mut round, NOW), [PING_CHANNEL]);

        disk.is_failing.store(true, Ordering::Relaxed);
        round.on_delivery_done(delivery_done(&post, Ok(())), NOW);

        for seconds in [0, 29, 30, 61, 3_600] {
            assert_eq!(
                started_channels(&mut round, seconds_later(seconds)),
                [""; 0],
                "after {seconds} s"
            );
        }
        disk.is_failing.store(false, Ordering::Relaxed);
        assert_eq!(
            started_channels(&mut round, seconds_later(3_629)),
            [""; 0],
            "it is not tried without pause"
        );
        assert!(!post.due_messages(NOW).unwrap().is_empty());
        assert_eq!(
            started_channels(&mut round, seconds_later(3_630)),
            [""; 0],
            "it is noted at last"
        );
        assert!(post.due_messages(NOW).unwrap().is_empty());
    }

    #[test]
    fn an_unpersisted_failure_keeps_its_own_time() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<UnsyncableDisk>::default());
        let post = delivery_with_ping(&disk, home.path());
        let (_orders, following) = watch::channel(post.clone());
        let mut round = DispatcherLoop::new(following, || NOW);
        disk.is_failing.store(true, Ordering::Relaxed);
        round.on_delivery_done(
            delivery_done(&post, Err(DeliveryError::new("nobody is there"))),
            NOW,
        );
        disk.is_failing.store(false, Ordering::Relaxed);

        assert_eq!(started_channels(&mut round, seconds_later(29)), [""; 0]);
        assert_eq!(
            started_channels(&mut round, seconds_later(30)),
            [PING_CHANNEL],
            "its pause of 30 s is over by then"
        );

        let outbox = post.outbox_file().read().unwrap().unwrap().unwrap();
        let tray = outbox.channel_state(PING_CHANNEL).unwrap();
        assert_eq!((tray.consecutive_failures, tray.retry_at), (1, Some(seconds_later(30))));
    }

    #[test]
    fn a_removed_channel_drops_its_unpersisted_result() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<UnsyncableDisk>::default());
        let mut post = delivery_with_ping(&disk, home.path());
        let (orders, following) = watch::channel(post.clone());
        let mut round = DispatcherLoop::new(following, || NOW);
        disk.is_failing.store(true, Ordering::Relaxed);
        round.on_delivery_done(delivery_done(&post, Ok(())), NOW);
        assert_eq!(round.unpersisted.len(), 1);

        Arc::make_mut(&mut post.alert_config).ping_url = None;
        orders.send_replace(post);

        assert_eq!(started_channels(&mut round, NOW), [""; 0]);
        assert!(round.unpersisted.is_empty());
    }

    #[test]
    fn a_dead_dispatcher_is_replaced() {
        static LOOKS: AtomicU32 = AtomicU32::new(0);
        fn dies_at_first() -> Timestamp {
            assert!(LOOKS.fetch_add(1, Ordering::SeqCst) > 0, "as the test wants it");
            NOW
        }
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<UnsyncableDisk>::default());
        let mut post = delivery_with_ping(&disk, home.path());
        Arc::make_mut(&mut post.alert_config).ping_url = None;
        let mut postman = AlertDispatcher::start(post.clone(), dies_at_first).unwrap();
        while !postman.thread.is_finished() {
            thread::yield_now();
        }

        postman.dispatch(post);

        while LOOKS.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        assert!(!postman.thread.is_finished());
    }
}
