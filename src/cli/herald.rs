//! Tells systemd what the sources do: when all have begun, each change of their story, the end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;

use crate::cli::sentence::sentence;
use crate::systemd::{Notifier, NotifyState};
use crate::worker::{ConfigVersion, Env, RealEnv, SourceProgress, StopSignal};

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
    pub views: watch::Receiver<SourceProgress>,
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
    mut readings: watch::Receiver<ConfigVersion>,
    mut stop: watch::Receiver<StopSignal>,
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
            (awaited, extensions) = (Awaited::Nothing, 0);
            told = status(&sources);
            notifier.notify(&[NotifyState::Ready, NotifyState::Status(&told)]);
        }
        if awaited == Awaited::Nothing {
            let text = status(&sources);
            if text != told {
                notifier.notify(&[NotifyState::Status(&text)]);
                told = text;
            }
        }
        let is_stopping = awaited == Awaited::End;
        tokio::select! {
            biased;
            Ok(_) = stop.wait_for(|stop| *stop == StopSignal::Requested), if !is_stopping => {
                awaited = Awaited::End;
                notifier.notify(&[NotifyState::Stopping, NotifyState::Status("stopping: what is in flight may end")]);
            }
            Ok(()) = readings.changed(), if !is_stopping => {
                awaited = Awaited::Opened(readings.borrow_and_update().number);
            }
            () = changed(&mut sources, awaited) => {}
            () = tokio::time::sleep(EXTEND_INTERVAL),
                if awaited != Awaited::Nothing && extensions < EXTENSIONS_MAX =>
            {
                extensions += 1;
                notifier.notify(&[NotifyState::ExtendTimeout(EXTENSION)]);
            }
        }
    }
}

/// The sentence for what all of them do.
fn status(sources: &[Followed]) -> String {
    let views: Vec<SourceProgress> =
        sources.iter().map(|source| source.views.borrow().clone()).collect();
    sentence(&views, RealEnv.now())
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::rc::Rc;

    use crate::config::{EnvVars, load_defaults};

    use super::*;

    /// A herald of one source, and all that moves it.
    struct Scene {
        told: UnixDatagram,
        _dir: tempfile::TempDir,
        view: watch::Sender<SourceProgress>,
        opened: watch::Sender<u64>,
        stop: watch::Sender<StopSignal>,
    }

    impl Scene {
        fn set() -> (Self, impl Future<Output = ()>) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("notify");
            let told = UnixDatagram::bind(&path).unwrap();
            told.set_nonblocking(true).unwrap();
            let settings = load_defaults(&EnvVars::default()).unwrap().settings;
            let first = ConfigVersion { number: 1, settings: Rc::new(settings) };
            let (_, readings) = watch::channel(first);
            let ((view, views), (opened, opening)) =
                (watch::channel(SourceProgress::unknown()), watch::channel(0));
            let (stop, stopping) = watch::channel(StopSignal::Running);
            let notifier = Arc::new(Notifier::new(Some(path.as_os_str())));
            let followed = Followed { views, opened: opening };
            let herald = herald(notifier, vec![followed], readings, stopping);
            (Self { told, _dir: dir, view, opened, stop }, herald)
        }

        fn told(&self) -> Vec<String> {
            let mut bytes = [0; 4096];
            let next = || {
                let length = self.told.recv(&mut bytes).ok()?;
                Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
            };
            std::iter::from_fn(next).collect()
        }
    }

    /// Three extensions and a half pass, and it has not ended.
    async fn goes_on(herald: Pin<&mut impl Future<Output = ()>>) {
        tokio::time::timeout(Duration::from_secs(35), herald).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_start_and_a_slow_stop_ask_for_more_time() {
        let (scene, herald) = Scene::set();
        let mut herald = std::pin::pin!(herald);

        goes_on(herald.as_mut()).await;
        assert_eq!(scene.told(), ["EXTEND_TIMEOUT_USEC=60000000"; 3]);

        scene.opened.send_replace(1);
        goes_on(herald.as_mut()).await;
        assert_eq!(scene.told(), ["READY=1\nSTATUS=looking for something new"]);

        scene.stop.send_replace(StopSignal::Requested);
        goes_on(herald.as_mut()).await;
        let told = scene.told();
        assert_eq!(told[0], "STOPPING=1\nSTATUS=stopping: what is in flight may end");
        assert_eq!(told[1..], ["EXTEND_TIMEOUT_USEC=60000000"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_not_changed_is_not_told_again_and_the_last_source_ends_it() {
        let (scene, herald) = Scene::set();
        let mut herald = std::pin::pin!(herald);
        scene.opened.send_replace(1);
        let while_told = async {
            for done in [1, 2, 2, 2] {
                scene.view.send_modify(|view| {
                    view.status = crate::engine::Status::Completed;
                    view.settled_items = done;
                });
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        };
        tokio::select! {
            () = while_told => {}
            () = herald.as_mut() => panic!("its source is still there"),
        }
        let told = scene.told();
        assert_eq!(told.last().unwrap(), "STATUS=completed, 2 settled");
        assert!(told.len() <= 3, "{told:?}");

        drop(scene);
        herald.await;
    }
}
