//! Tells systemd what the sources do: when all have begun, each change of their story, the end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;

use crate::cli::sentence::sentence;
use crate::systemd::{Notifier, Word};
use crate::worker::{Reading, RealWorld, Stop, View, World};

/// How often the status may change: quick enough to look alive, slow enough to cost nothing.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How often more time is asked for while the start or the stop takes long, and how much.
const EXTEND_INTERVAL: Duration = Duration::from_secs(10);
const EXTENSION: Duration = Duration::from_secs(60);

/// How often at most: what takes half an hour never ends.
const EXTENSIONS_MAX: u32 = 180;

/// One source, as the herald sees it.
#[derive(Debug)]
pub(super) struct Followed {
    pub views: watch::Receiver<View>,
    /// The number of the reading that it lives by; 0 before it has begun.
    pub opened: watch::Receiver<u64>,
}

/// What systemd waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Awaited {
    /// Every source has begun to live by this reading.
    Opened(u64),
    Nothing,
    /// The end.
    End,
}

/// Tells until every source has ended.
pub(super) async fn herald(
    notifier: Arc<Notifier>,
    mut sources: Vec<Followed>,
    mut readings: watch::Receiver<Reading>,
    mut stop: watch::Receiver<Stop>,
) {
    let mut awaited = Awaited::Opened(readings.borrow_and_update().number);
    let mut told = String::new();
    let mut extensions = 0;
    loop {
        sources.retain(|source| source.views.has_changed().is_ok());
        if sources.is_empty() {
            return;
        }
        if is_open(&sources, awaited) {
            awaited = Awaited::Nothing;
            told = status(&sources);
            notifier.tell(&[Word::Ready, Word::Status(&told)]);
        }
        if awaited == Awaited::Nothing {
            let text = status(&sources);
            if text != told {
                notifier.tell(&[Word::Status(&text)]);
                told = text;
            }
        }
        let is_stopping = awaited == Awaited::End;
        tokio::select! {
            biased;
            Ok(_) = stop.wait_for(|stop| *stop == Stop::Asked), if !is_stopping => {
                awaited = Awaited::End;
                notifier.tell(&[Word::Stopping, Word::Status("stopping: what is in flight may end")]);
            }
            Ok(()) = readings.changed(), if !is_stopping => {
                awaited = Awaited::Opened(readings.borrow_and_update().number);
            }
            () = changed(&mut sources, awaited) => {}
            () = tokio::time::sleep(EXTEND_INTERVAL),
                if awaited != Awaited::Nothing && extensions < EXTENSIONS_MAX =>
            {
                extensions += 1;
                notifier.tell(&[Word::Extend(EXTENSION)]);
            }
        }
    }
}

/// The sentence for what all of them do.
fn status(sources: &[Followed]) -> String {
    let views: Vec<View> = sources.iter().map(|source| source.views.borrow().clone()).collect();
    sentence(&views, RealWorld.now())
}

fn is_open(sources: &[Followed], awaited: Awaited) -> bool {
    match awaited {
        Awaited::Opened(number) => sources.iter().all(|source| *source.opened.borrow() >= number),
        Awaited::Nothing | Awaited::End => false,
    }
}

/// Returns when a source has something new to tell, not too often, or has ended.
async fn changed(sources: &mut [Followed], awaited: Awaited) {
    // The first word after a start is not held back.
    if awaited == Awaited::Nothing {
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
    let changes = sources.iter_mut().map(|Followed { views, opened }| {
        let change = async move {
            tokio::select! {
                _ = views.changed() => {}
                Ok(()) = opened.changed() => {}
            }
        };
        Box::pin(change) as Pin<Box<dyn Future<Output = ()> + '_>>
    });
    select_all(changes).await;
}
