//! Tells systemd what the sources do: when all have begun, each change of their story, the end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;

use crate::cli::status_line::status_line;
use crate::systemd::{Notifier, NotifyState};
use crate::worker::{ConfigVersion, Env, RealEnv, SourceProgress, StopSignal};

/// How often the status may change: quick enough to look alive, slow enough to cost nothing.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How often more time is asked for while the start or the stop takes long, and how much.
const EXTEND_TIMEOUT_INTERVAL: Duration = Duration::from_secs(10);
const EXTEND_TIMEOUT: Duration = Duration::from_secs(60);

/// How often at most: what takes half an hour never ends.
const EXTEND_TIMEOUTS_MAX: u32 = 180;

/// One source, as the herald sees it.
#[derive(Debug)]
pub(super) struct SourceWatch {
    pub progress: watch::Receiver<SourceProgress>,
    /// The number of the reading that it lives by; 0 before it has begun.
    pub opened_version: watch::Receiver<u64>,
}

/// What systemd waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NotifyPhase {
    /// Every source has begun to live by this reading.
    OpeningVersion(u64),
    Running,
    /// The end.
    Stopping,
}

/// Tells until every source has ended.
pub(super) async fn run_status_task(
    notifier: Arc<Notifier>,
    mut sources: Vec<SourceWatch>,
    mut readings: watch::Receiver<ConfigVersion>,
    mut stop: watch::Receiver<StopSignal>,
) {
    let mut awaited = NotifyPhase::OpeningVersion(readings.borrow_and_update().number);
    let mut told = String::new();
    let mut extensions = 0;
    loop {
        sources.retain(|source| source.progress.has_changed().is_ok());
        if sources.is_empty() {
            return;
        }
        if is_version_opened(&sources, awaited) {
            (awaited, extensions) = (NotifyPhase::Running, 0);
            told = status_text(&sources);
            notifier.notify(&[NotifyState::Ready, NotifyState::Status(&told)]);
        }
        if awaited == NotifyPhase::Running {
            let text = status_text(&sources);
            if text != told {
                notifier.notify(&[NotifyState::Status(&text)]);
                told = text;
            }
        }
        let is_stopping = awaited == NotifyPhase::Stopping;
        tokio::select! {
            biased;
            Ok(_) = stop.wait_for(|stop| *stop == StopSignal::Requested), if !is_stopping => {
                awaited = NotifyPhase::Stopping;
                notifier.notify(&[NotifyState::Stopping, NotifyState::Status("stopping: what is in flight may end")]);
            }
            Ok(()) = readings.changed(), if !is_stopping => {
                awaited = NotifyPhase::OpeningVersion(readings.borrow_and_update().number);
            }
            () = wait_for_change(&mut sources, awaited) => {}
            () = tokio::time::sleep(EXTEND_TIMEOUT_INTERVAL),
                if awaited != NotifyPhase::Running && extensions < EXTEND_TIMEOUTS_MAX =>
            {
                extensions += 1;
                notifier.notify(&[NotifyState::ExtendTimeout(EXTEND_TIMEOUT)]);
            }
        }
    }
}

/// The sentence for what all of them do.
fn status_text(sources: &[SourceWatch]) -> String {
    let views: Vec<SourceProgress> =
        sources.iter().map(|source| source.progress.borrow().clone()).collect();
    status_line(&views, RealEnv.now())
}

fn is_version_opened(sources: &[SourceWatch], awaited: NotifyPhase) -> bool {
    match awaited {
        NotifyPhase::OpeningVersion(number) => {
            sources.iter().all(|source| *source.opened_version.borrow() >= number)
        }
        NotifyPhase::Running | NotifyPhase::Stopping => false,
    }
}

/// Returns when a source has something new to tell, not too often, or has ended.
async fn wait_for_change(sources: &mut [SourceWatch], awaited: NotifyPhase) {
    // The first word after a start is not held back.
    if awaited == NotifyPhase::Running {
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
    let changes =
        sources.iter_mut().map(|SourceWatch { progress: views, opened_version: opened }| {
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
    struct TestSource {
        socket: UnixDatagram,
        _dir: tempfile::TempDir,
        progress: watch::Sender<SourceProgress>,
        opened_version: watch::Sender<u64>,
        shutdown: watch::Sender<StopSignal>,
    }

    impl TestSource {
        fn start() -> (Self, impl Future<Output = ()>) {
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
            let followed = SourceWatch { progress: views, opened_version: opening };
            let herald = run_status_task(notifier, vec![followed], readings, stopping);
            (
                Self {
                    socket: told,
                    _dir: dir,
                    progress: view,
                    opened_version: opened,
                    shutdown: stop,
                },
                herald,
            )
        }

        fn messages(&self) -> Vec<String> {
            let mut bytes = [0; 4096];
            let next = || {
                let length = self.socket.recv(&mut bytes).ok()?;
                Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
            };
            std::iter::from_fn(next).collect()
        }
    }

    /// Three extensions and a half pass, and it has not ended.
    async fn assert_keeps_running(herald: Pin<&mut impl Future<Output = ()>>) {
        tokio::time::timeout(Duration::from_secs(35), herald).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_start_and_stop_extend_the_timeout() {
        let (scene, herald) = TestSource::start();
        let mut herald = std::pin::pin!(herald);

        assert_keeps_running(herald.as_mut()).await;
        assert_eq!(scene.messages(), ["EXTEND_TIMEOUT_USEC=60000000"; 3]);

        scene.opened_version.send_replace(1);
        assert_keeps_running(herald.as_mut()).await;
        assert_eq!(scene.messages(), ["READY=1\nSTATUS=looking for something new"]);

        scene.shutdown.send_replace(StopSignal::Requested);
        assert_keeps_running(herald.as_mut()).await;
        let told = scene.messages();
        assert_eq!(told[0], "STOPPING=1\nSTATUS=stopping: what is in flight may end");
        assert_eq!(told[1..], ["EXTEND_TIMEOUT_USEC=60000000"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn unchanged_status_is_not_sent_again() {
        let (scene, herald) = TestSource::start();
        let mut herald = std::pin::pin!(herald);
        scene.opened_version.send_replace(1);
        let while_told = async {
            for done in [1, 2, 2, 2] {
                scene.progress.send_modify(|view| {
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
        let told = scene.messages();
        assert_eq!(told.last().unwrap(), "STATUS=completed, 2 settled");
        assert!(told.len() <= 3, "{told:?}");

        drop(scene);
        herald.await;
    }
}
