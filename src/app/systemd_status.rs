//! Notifications to systemd: ready once all sources have started, each change of the status text,
//! and the stop.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;

use crate::app::status_line::status_line;
use crate::env::{Env, RealEnv};
use crate::systemd::{Notifier, NotifyState};
use crate::worker::{ConfigVersion, SourceProgress, StopSignal};

/// Shortest interval between two status texts: fast enough to appear live, at a negligible cost.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which a slow start or stop asks systemd for more time.
const EXTEND_TIMEOUT_INTERVAL: Duration = Duration::from_secs(10);

/// Time that each of these requests asks for.
const EXTEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest number of these requests. A start or stop that takes half an hour never ends.
const EXTEND_TIMEOUTS_MAX: u32 = 180;

/// Channels that report the status of one source.
#[derive(Debug)]
pub(super) struct SourceWatch {
    pub progress: watch::Receiver<SourceProgress>,
    /// Number of the configuration version that the source has started with; 0 before its start.
    pub opened_version: watch::Receiver<u64>,
}

/// Phase of the process, as systemd sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NotifyPhase {
    /// Some sources have not started with this configuration version yet.
    OpeningVersion(u64),
    Running,
    Stopping,
}

/// Notifies systemd until every source has ended.
pub(super) async fn run_status_task(
    notifier: Arc<Notifier>,
    mut sources: Vec<SourceWatch>,
    mut config_versions: watch::Receiver<ConfigVersion>,
    mut stop: watch::Receiver<StopSignal>,
) {
    let mut phase = NotifyPhase::OpeningVersion(config_versions.borrow_and_update().number);
    let mut sent_text = String::new();
    let mut extensions = 0;
    loop {
        sources.retain(|source| source.progress.has_changed().is_ok());
        if sources.is_empty() {
            return;
        }
        if is_start_complete(&sources, phase) {
            (phase, extensions) = (NotifyPhase::Running, 0);
            sent_text = status_text(&sources);
            notifier.notify(&[NotifyState::Ready, NotifyState::Status(&sent_text)]);
        }
        if phase == NotifyPhase::Running {
            let text = status_text(&sources);
            if text != sent_text {
                notifier.notify(&[NotifyState::Status(&text)]);
                sent_text = text;
            }
        }
        let is_stopping = phase == NotifyPhase::Stopping;
        tokio::select! {
            biased;
            Ok(_) = stop.wait_for(|stop| *stop == StopSignal::Requested), if !is_stopping => {
                phase = NotifyPhase::Stopping;
                let text = "stopping: waiting for requests in flight";
                notifier.notify(&[NotifyState::Stopping, NotifyState::Status(text)]);
            }
            Ok(()) = config_versions.changed(), if !is_stopping => {
                phase = NotifyPhase::OpeningVersion(config_versions.borrow_and_update().number);
            }
            () = wait_for_change(&mut sources, phase) => {}
            () = tokio::time::sleep(EXTEND_TIMEOUT_INTERVAL),
                if phase != NotifyPhase::Running && extensions < EXTEND_TIMEOUTS_MAX =>
            {
                extensions += 1;
                notifier.notify(&[NotifyState::ExtendTimeout(EXTEND_TIMEOUT)]);
            }
        }
    }
}

/// Returns the status text of all sources.
fn status_text(sources: &[SourceWatch]) -> String {
    let progress: Vec<SourceProgress> =
        sources.iter().map(|source| source.progress.borrow().clone()).collect();
    status_line(&progress, RealEnv.now())
}

fn is_start_complete(sources: &[SourceWatch], phase: NotifyPhase) -> bool {
    match phase {
        NotifyPhase::OpeningVersion(number) => {
            sources.iter().all(|source| *source.opened_version.borrow() >= number)
        }
        NotifyPhase::Running | NotifyPhase::Stopping => false,
    }
}

/// Waits until the progress of a source changes, or a source has started or ended. In the running
/// phase it takes [`STATUS_INTERVAL`] at least.
async fn wait_for_change(sources: &mut [SourceWatch], phase: NotifyPhase) {
    // The first text after a start is sent without delay.
    if phase == NotifyPhase::Running {
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
    let changes = sources.iter_mut().map(|SourceWatch { progress, opened_version }| {
        let change = async move {
            tokio::select! {
                _ = progress.changed() => {}
                Ok(()) = opened_version.changed() => {}
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

    /// One source with a status task, and the senders that drive the task.
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
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            let settings = load_defaults(&EnvVars::default()).unwrap().settings;
            let initial_config = ConfigVersion { number: 1, settings: Rc::new(settings) };
            let (_, config_versions) = watch::channel(initial_config);
            let (progress, progress_receiver) = watch::channel(SourceProgress::unknown());
            let (opened_version, opened_receiver) = watch::channel(0);
            let (shutdown, stop) = watch::channel(StopSignal::Running);
            let notifier = Arc::new(Notifier::new(Some(path.as_os_str())));
            let source_watch =
                SourceWatch { progress: progress_receiver, opened_version: opened_receiver };
            let task = run_status_task(notifier, vec![source_watch], config_versions, stop);
            (Self { socket, _dir: dir, progress, opened_version, shutdown }, task)
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

    /// Lets the time of three and a half extensions pass; the task must not end.
    async fn assert_keeps_running(task: Pin<&mut impl Future<Output = ()>>) {
        tokio::time::timeout(Duration::from_secs(35), task).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_start_and_stop_extend_the_timeout() {
        let (source, task) = TestSource::start();
        let mut task = std::pin::pin!(task);

        assert_keeps_running(task.as_mut()).await;
        assert_eq!(source.messages(), ["EXTEND_TIMEOUT_USEC=60000000"; 3]);

        source.opened_version.send_replace(1);
        assert_keeps_running(task.as_mut()).await;
        assert_eq!(source.messages(), ["READY=1\nSTATUS=checking for changes"]);

        source.shutdown.send_replace(StopSignal::Requested);
        assert_keeps_running(task.as_mut()).await;
        let messages = source.messages();
        assert_eq!(messages[0], "STOPPING=1\nSTATUS=stopping: waiting for requests in flight");
        assert_eq!(messages[1..], ["EXTEND_TIMEOUT_USEC=60000000"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn unchanged_status_is_not_sent_again() {
        let (source, task) = TestSource::start();
        let mut task = std::pin::pin!(task);
        source.opened_version.send_replace(1);
        let updates = async {
            for settled in [1, 2, 2, 2] {
                source.progress.send_modify(|progress| {
                    progress.status = cynosure_engine::Status::Completed;
                    progress.settled_items = settled;
                });
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        };
        tokio::select! {
            () = updates => {}
            () = task.as_mut() => panic!("the task ended while its source was running"),
        }
        let messages = source.messages();
        assert_eq!(messages.last().unwrap(), "STATUS=completed, 2 settled");
        assert!(messages.len() <= 3, "{messages:?}");

        drop(source);
        task.await;
    }
}
