//! The one who delivers, on a thread of its own: whoever is slow or dead holds up nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::disk::Lock;
use crate::engine::alert::QueuedMessage;
use crate::engine::{Failure, Timestamp};
use crate::monitor::post::Post;
use crate::notify::Undelivered;

/// How long it is waited for another process that delivers, or for a disk that does not work.
const AGAIN: Duration = Duration::from_secs(30);

/// How often what waits is looked at though nothing is due: a clock may have been set.
const LONGEST_NAP: Duration = Duration::from_secs(600);

/// Delivers as long as it is kept.
#[derive(Debug)]
pub struct Postman {
    orders: watch::Sender<Post>,
    clock: fn() -> Timestamp,
    thread: JoinHandle<()>,
}

/// A channel that was tried.
struct Back {
    channel: String,
    words: Vec<QueuedMessage>,
    outcome: Result<(), Undelivered>,
}

/// What came of a try and could not be written down.
struct Unnoted {
    back: Back,
    ended_at: Timestamp,
    tried_at: Timestamp,
}

type UnderWay<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Back> + 'a>>>;

impl Postman {
    /// Begins to deliver; `clock` reads the time.
    ///
    /// # Errors
    /// When no thread or runtime can be had.
    pub fn start(post: Post, clock: fn() -> Timestamp) -> io::Result<Self> {
        let (orders, receiver) = watch::channel(post);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("post".to_owned()).spawn(move || {
            runtime.block_on(Round::new(receiver, clock).all());
            // A credential that is still being read is nobody's business any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { orders, clock, thread })
    }

    /// There is something to deliver, or the configuration has changed.
    pub fn deliver(&mut self, post: Post) {
        if !self.thread.is_finished() {
            self.orders.send_replace(post);
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

struct Round {
    orders: watch::Receiver<Post>,
    clock: fn() -> Timestamp,
    delivering: Option<Lock>,
    /// By channel. Until it is noted, what was delivered still waits in the outbox, and would be
    /// delivered again.
    unnoted: BTreeMap<String, Unnoted>,
}

impl Round {
    fn new(orders: watch::Receiver<Post>, clock: fn() -> Timestamp) -> Self {
        Self { orders, clock, delivering: None, unnoted: BTreeMap::new() }
    }

    async fn all(mut self) {
        let mut under_way: UnderWay<'_> = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut has_complained = false;
        loop {
            let now = (self.clock)();
            let next = match self.begin(&mut under_way, &mut busy, now) {
                Ok(next) => {
                    has_complained = false;
                    next
                }
                Err(failure) => {
                    if !has_complained {
                        warn!(cause = %failure.cause, "cannot deliver alerts: {failure}");
                    }
                    has_complained = true;
                    AGAIN
                }
            };
            tokio::select! {
                ordered = self.orders.changed() => {
                    // Nobody keeps it any more.
                    if ordered.is_err() {
                        return;
                    }
                }
                Some(back) = under_way.next() => {
                    busy.remove(&back.channel);
                    self.note(back, (self.clock)());
                }
                () = tokio::time::sleep(next) => {}
            }
        }
    }

    /// Begins with every channel that is due, and says when to look again.
    fn begin(
        &mut self,
        under_way: &mut UnderWay<'_>,
        busy: &mut BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Duration, Failure> {
        let post = self.orders.borrow_and_update().clone();
        let channels = post.channels();
        self.unnoted.retain(|channel, _| channels.contains(channel));
        if channels.is_empty() {
            self.delivering = None;
            return Ok(LONGEST_NAP);
        }
        if self.delivering.is_none() {
            self.delivering = post.right_to_deliver()?;
        }
        if self.delivering.is_none() {
            return Ok(AGAIN);
        }
        self.catch_up(&post, now);
        for (channel, words) in post.due(now)? {
            if !self.unnoted.contains_key(&channel) && busy.insert(channel.clone()) {
                let post = post.clone();
                under_way.push(Box::pin(async move {
                    let outcome = post.deliver(&channel, &words, now).await;
                    Back { channel, words, outcome }
                }));
            }
        }
        let outbox = post.outbox().look()?.and_then(Result::ok).unwrap_or_default();
        let held = busy.iter().chain(self.unnoted.keys()).cloned().collect();
        let next = outbox.next_due_at(&held, now).map(|next| next.since(now));
        let again = self.unnoted.values().map(|unnoted| unnoted.again_at().since(now)).min();
        let next = next.into_iter().chain(again).min().unwrap_or(LONGEST_NAP);
        Ok(next.clamp(Duration::from_millis(10), LONGEST_NAP))
    }

    /// Writes down what could not be written down before.
    fn catch_up(&mut self, post: &Post, now: Timestamp) {
        self.unnoted.retain(|channel, unnoted| {
            if now >= unnoted.tried_at && now < unnoted.again_at() {
                return true;
            }
            unnoted.tried_at = now;
            let Back { words, outcome, .. } = &unnoted.back;
            match post.note(channel, words, outcome, unnoted.ended_at) {
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

    fn note(&mut self, back: Back, now: Timestamp) {
        let Back { channel, words, outcome } = &back;
        let post = self.orders.borrow().clone();
        let is_first = || {
            let outbox = post.outbox().look().ok().flatten().and_then(Result::ok);
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
        if let Err(failure) = post.note(channel, words, outcome, now) {
            warn!(
                channel, cause = %failure.cause,
                "cannot note what came of delivering alerts, and sends no more there until it is: {failure}"
            );
            let unnoted = Unnoted { back, ended_at: now, tried_at: now };
            self.unnoted.insert(unnoted.back.channel.clone(), unnoted);
        }
    }
}

impl Unnoted {
    fn again_at(&self) -> Timestamp {
        self.tried_at.after(AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::config::{Address, Alert, Environment};
    use crate::disk::{Disk, DiskFile, Filesystem, PathKind, RealDisk};
    use crate::engine::alert::Severity;

    const NOW: Timestamp = Timestamp(1_772_874_303_000);
    const PING: &str = "ping";

    /// The disk of this machine, on which nothing becomes durable while it is `ill`.
    #[derive(Debug, Default)]
    struct Unsynced {
        ill: AtomicBool,
    }

    impl Disk for Unsynced {
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            RealDisk.create_dir(path)
        }

        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            let inner = RealDisk.create(path)?;
            Ok(Box::new(UnsyncedFile { inner, ill: self.ill.load(Ordering::Relaxed) }))
        }

        fn append_to(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            RealDisk.append_to(path)
        }

        fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
            RealDisk.open(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealDisk.rename(from, to)
        }

        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            RealDisk.sync_dir(path)
        }

        fn filesystem(&self, path: &Path) -> io::Result<Box<dyn Filesystem>> {
            RealDisk.filesystem(path)
        }

        fn remove_file(&self, path: &Path) -> io::Result<()> {
            RealDisk.remove_file(path)
        }

        fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
            RealDisk.list(path)
        }

        fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
            RealDisk.kind(path)
        }
    }

    #[derive(Debug)]
    struct UnsyncedFile {
        inner: Box<dyn DiskFile>,
        ill: bool,
    }

    impl DiskFile for UnsyncedFile {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.inner.append(bytes)
        }

        fn sync(&mut self) -> io::Result<()> {
            if self.ill { Err(io::Error::other("no fsync")) } else { self.inner.sync() }
        }
    }

    /// A post with one ping that waits.
    fn post(disk: &Arc<Unsynced>, state_dir: &Path) -> Post {
        let url = "http://127.0.0.1:9/".parse().unwrap();
        let alert = Alert {
            severity: Severity::Info,
            expire: Duration::from_secs(86_400),
            timeout: Duration::from_secs(1),
            ping: Some(Address::Known(url)),
            webhooks: BTreeMap::new(),
            mail: None,
        };
        let post = Post {
            disk: Arc::<Unsynced>::clone(disk),
            state_dir: state_dir.to_owned(),
            alert: Arc::new(alert),
            environment: Arc::new(Environment::default()),
            host: "host".to_owned(),
            sources: ["work".to_owned()].into(),
        };
        for completed in [1, 2] {
            post.queue(&[], &[("work".to_owned(), completed)].into(), NOW).unwrap();
        }
        post
    }

    /// The channels that a round begins with at this moment; none of them is ever asked.
    fn begun(round: &mut Round, now: Timestamp) -> Vec<String> {
        let (mut under_way, mut busy) = (UnderWay::new(), BTreeSet::new());
        round.begin(&mut under_way, &mut busy, now).unwrap();
        busy.into_iter().collect()
    }

    fn later(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    fn back(post: &Post, outcome: Result<(), Undelivered>) -> Back {
        let words = post.due(NOW).unwrap().remove(PING).unwrap();
        Back { channel: PING.to_owned(), words, outcome }
    }

    #[test]
    fn what_was_delivered_and_cannot_be_noted_is_not_delivered_again() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<Unsynced>::default());
        let post = post(&disk, home.path());
        let (_orders, following) = watch::channel(post.clone());
        let mut round = Round::new(following, || NOW);
        assert_eq!(begun(&mut round, NOW), [PING]);

        disk.ill.store(true, Ordering::Relaxed);
        round.note(back(&post, Ok(())), NOW);

        for seconds in [0, 29, 30, 61, 3_600] {
            assert_eq!(begun(&mut round, later(seconds)), [""; 0], "after {seconds} s");
        }
        disk.ill.store(false, Ordering::Relaxed);
        assert_eq!(begun(&mut round, later(3_629)), [""; 0], "it is not tried without pause");
        assert!(!post.due(NOW).unwrap().is_empty());
        assert_eq!(begun(&mut round, later(3_630)), [""; 0], "it is noted at last");
        assert!(post.due(NOW).unwrap().is_empty());
    }

    #[test]
    fn a_failure_that_could_not_be_noted_counts_from_when_it_happened() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<Unsynced>::default());
        let post = post(&disk, home.path());
        let (_orders, following) = watch::channel(post.clone());
        let mut round = Round::new(following, || NOW);
        disk.ill.store(true, Ordering::Relaxed);
        round.note(back(&post, Err(Undelivered::new("nobody is there"))), NOW);
        disk.ill.store(false, Ordering::Relaxed);

        assert_eq!(begun(&mut round, later(29)), [""; 0]);
        assert_eq!(begun(&mut round, later(30)), [PING], "its pause of 30 s is over by then");

        let outbox = post.outbox().look().unwrap().unwrap().unwrap();
        let tray = outbox.channel_state(PING).unwrap();
        assert_eq!((tray.consecutive_failures, tray.retry_at), (1, Some(later(30))));
    }

    #[test]
    fn a_channel_that_is_gone_leaves_nothing_to_note() {
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<Unsynced>::default());
        let mut post = post(&disk, home.path());
        let (orders, following) = watch::channel(post.clone());
        let mut round = Round::new(following, || NOW);
        disk.ill.store(true, Ordering::Relaxed);
        round.note(back(&post, Ok(())), NOW);
        assert_eq!(round.unnoted.len(), 1);

        Arc::make_mut(&mut post.alert).ping = None;
        orders.send_replace(post);

        assert_eq!(begun(&mut round, NOW), [""; 0]);
        assert!(round.unnoted.is_empty());
    }

    #[test]
    fn a_postman_that_died_is_followed_by_another() {
        static LOOKS: AtomicU32 = AtomicU32::new(0);
        fn dies_at_first() -> Timestamp {
            assert!(LOOKS.fetch_add(1, Ordering::SeqCst) > 0, "as the test wants it");
            NOW
        }
        let (home, disk) = (tempfile::tempdir().unwrap(), Arc::<Unsynced>::default());
        let mut post = post(&disk, home.path());
        Arc::make_mut(&mut post.alert).ping = None;
        let mut postman = Postman::start(post.clone(), dies_at_first).unwrap();
        while !postman.thread.is_finished() {
            thread::yield_now();
        }

        postman.deliver(post);

        while LOOKS.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        assert!(!postman.thread.is_finished());
    }
}
