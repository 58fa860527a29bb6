//! The one who delivers, on a thread of its own: whoever is slow or dead holds up nobody.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::disk::Lock;
use crate::engine::alert::Word;
use crate::engine::{Failure, Moment};
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
}

/// A channel that was tried.
struct Back {
    channel: String,
    words: Vec<Word>,
    outcome: Result<(), Undelivered>,
}

type UnderWay<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Back> + 'a>>>;

impl Postman {
    /// Begins to deliver; `clock` reads the time.
    ///
    /// # Errors
    /// When no thread or runtime can be had.
    pub fn start(post: Post, clock: fn() -> Moment) -> io::Result<Self> {
        let (orders, receiver) = watch::channel(post);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("post".to_owned()).spawn(move || {
            runtime.block_on(Round { orders: receiver, clock, delivering: None }.all());
            // A credential that is still being read is nobody's business any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { orders })
    }

    /// There is something to deliver, or the configuration has changed.
    pub fn deliver(&self, post: Post) {
        self.orders.send_replace(post);
    }
}

struct Round {
    orders: watch::Receiver<Post>,
    clock: fn() -> Moment,
    delivering: Option<Lock>,
}

impl Round {
    async fn all(mut self) {
        let mut under_way: UnderWay<'_> = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        let mut has_complained = false;
        loop {
            let next = match self.begin(&mut under_way, &mut busy) {
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
                    self.note(&back);
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
    ) -> Result<Duration, Failure> {
        let post = self.orders.borrow_and_update().clone();
        if post.channels().is_empty() {
            self.delivering = None;
            return Ok(LONGEST_NAP);
        }
        if self.delivering.is_none() {
            self.delivering = post.right_to_deliver()?;
        }
        if self.delivering.is_none() {
            return Ok(AGAIN);
        }
        let now = (self.clock)();
        for (channel, words) in post.due(now)? {
            if busy.insert(channel.clone()) {
                let post = post.clone();
                under_way.push(Box::pin(async move {
                    let outcome = post.deliver(&channel, &words, now).await;
                    Back { channel, words, outcome }
                }));
            }
        }
        let outbox = post.outbox().look()?.and_then(Result::ok).unwrap_or_default();
        let next = outbox.next_due(busy, now).map(|next| next.since(now));
        Ok(next.unwrap_or(LONGEST_NAP).clamp(Duration::from_millis(10), LONGEST_NAP))
    }

    fn note(&self, back: &Back) {
        let Back { channel, words, outcome } = back;
        let post = self.orders.borrow().clone();
        let is_first = || {
            let outbox = post.outbox().look().ok().flatten().and_then(Result::ok);
            let failures = outbox.and_then(|outbox| outbox.tray(channel).map(|tray| tray.failures));
            failures.unwrap_or_default() == 0
        };
        match outcome {
            Ok(()) => info!(channel, count = words.len(), "alerts delivered"),
            Err(why) if is_first() => warn!(channel, "alerts not delivered, tried again: {why}"),
            Err(why) => debug!(channel, "alerts not delivered yet: {why}"),
        }
        if let Err(failure) = post.note(channel, words, outcome, (self.clock)()) {
            warn!(cause = %failure.cause, "cannot note that alerts were delivered: {failure}");
        }
    }
}
