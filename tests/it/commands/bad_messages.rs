//! Messages that the server never brings, and new mail beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::commands::test_home::{NO_HOST_CHECKS_CONFIG, RunningProgram, TestHome};
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};
use crate::hostile_server::{ConnectionAction, plain_response};

/// The name of the one provider.
const PROVIDER: &str = "127.0.0.1";

/// New messages that arrive when only bad ones are left.
const NEW_MESSAGES: usize = 20;

/// Requests in flight at once, by default.
const CONCURRENCY: usize = 8;

/// Attempts of one item, by default.
const ATTEMPTS: usize = 3;

/// Requests of one attempt, by default.
const REQUESTS_PER_ATTEMPT: usize = 3;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// After this, a server that says nothing is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// More than a request of a server on this machine takes that answers at once.
const RESPONSE_TIME_MAX: Duration = Duration::from_millis(200);

/// How often it is looked whether the program has got somewhere.
const POLL_PAUSE: Duration = Duration::from_millis(200);

/// How a message fails whenever it is asked for.
#[derive(Clone, Copy, Debug)]
enum BadMessage {
    /// 404, though it is listed.
    Missing,
    /// 500.
    ServerError,
    /// The body breaks off.
    Truncated,
    /// The body is whole, and has another length than was listed.
    WrongSize,
    /// The connection is reset or closed without an answer.
    ConnectionBroken,
    /// No answer, until the client has had enough.
    NoResponse,
}

/// Where the bad messages are in the mailbox.
#[derive(Clone, Copy, Debug)]
enum BadPositions {
    Middle,
    Spread,
}

/// So many bad messages among all.
#[derive(Clone, Copy, Debug)]
struct BadMessages {
    bad: usize,
    total: usize,
    failure: BadMessage,
    layout: BadPositions,
}

/// A mailbox with leftovers, and the program that works on it.
struct BadMessageScenario {
    messages: BadMessages,
    mailbox: ServedMailbox,
    /// How often each message was asked for.
    request_counts: Arc<Mutex<BTreeMap<String, usize>>>,
    home: Arc<TestHome>,
    running: RunningProgram,
}

impl BadMessage {
    /// What the server does when the message `id` is asked for.
    fn server_actions(self, id: &str) -> Vec<ConnectionAction> {
        let bytes = "Content-Type: application/octet-stream\r\n";
        match self {
            Self::Missing => vec![ConnectionAction::Send(plain_response("404 Not Found", "", ""))],
            Self::ServerError => {
                vec![ConnectionAction::Send(plain_response("500 Internal Server Error", "", ""))]
            }
            Self::Truncated => {
                let mut answer = plain_response("200 OK", bytes, id);
                answer.pop();
                vec![ConnectionAction::Send(answer), ConnectionAction::Close]
            }
            Self::WrongSize => vec![ConnectionAction::Send(plain_response(
                "200 OK",
                bytes,
                format!("{id} and more"),
            ))],
            Self::ConnectionBroken if id.ends_with(['0', '2', '4', '6', '8']) => {
                vec![ConnectionAction::Reset]
            }
            Self::ConnectionBroken => vec![ConnectionAction::Close],
            Self::NoResponse => vec![ConnectionAction::StopResponding],
        }
    }

    fn cause(self) -> &'static str {
        match self {
            Self::Missing | Self::ServerError => "server",
            Self::Truncated | Self::WrongSize => "truncated",
            Self::ConnectionBroken => "connection",
            Self::NoResponse => "timeout",
        }
    }

    /// How long one request takes, at most.
    fn request_duration(self) -> Duration {
        match self {
            Self::NoResponse => RESPONSE_TIME_MAX + REQUEST_TIMEOUT,
            Self::Missing
            | Self::ServerError
            | Self::Truncated
            | Self::WrongSize
            | Self::ConnectionBroken => RESPONSE_TIME_MAX,
        }
    }
}

impl BadMessages {
    fn good_count(self) -> usize {
        self.total - self.bad
    }

    fn ids(self) -> BTreeSet<String> {
        let Self { bad, total: of, layout, .. } = self;
        let is_bad = |no: &usize| match layout {
            BadPositions::Middle => ((of - bad) / 2..(of + bad) / 2).contains(no),
            BadPositions::Spread => (no + 1) * bad / of != no * bad / of,
        };
        (0..of).filter(is_bad).map(|no| format!("M{no}")).collect()
    }

    /// How long it may take until all are in quarantine: their own delays, the time that their
    /// requests take on half of the slots, and two minutes.
    fn time_limit(self) -> Duration {
        let count = |count: usize| u32::try_from(count).unwrap();
        let requests =
            count((self.bad * ATTEMPTS * REQUESTS_PER_ATTEMPT).div_ceil(CONCURRENCY / 2));
        let tried = self.failure.request_duration() * requests;
        RETRY_DELAY_MAX * count(ATTEMPTS) + tried + Duration::from_secs(120)
    }

    /// How many times what is good may be asked for again. A known-good document is asked for before
    /// a fifth failure in a row, so once for four bad messages; twice as often is let pass.
    fn repeated_requests_max(self) -> usize {
        let too_late = match self.failure {
            // On a busy machine a good answer may be given up as well.
            BadMessage::NoResponse => self.total / 10,
            BadMessage::Missing
            | BadMessage::ServerError
            | BadMessage::Truncated
            | BadMessage::WrongSize
            | BadMessage::ConnectionBroken => 0,
        };
        self.bad / 2 + too_late
    }

    async fn start(self) -> BadMessageScenario {
        let Self { total: of, failure: how, .. } = self;
        let (bad, asked) = (self.ids(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        assert_eq!(bad.len(), self.bad);
        let log = Arc::clone(&asked);
        let served = FakeMailbox::with_emails(of)
            .serve_with(move |asked| {
                let id = asked.path().strip_prefix("/get/alice/B")?.split('/').next()?;
                *log.lock().unwrap().entry(id.to_owned()).or_default() += 1;
                bad.contains(id).then(|| how.server_actions(id))
            })
            .await;
        let home = TestHome::with_source_at(served.server.url.as_str());
        let config = home.read("config.toml");
        let source = config.split("[restart]").next().unwrap();
        let total_timeout = match how {
            BadMessage::NoResponse => {
                format!("total_timeout = \"{}ms\"", REQUEST_TIMEOUT.as_millis())
            }
            BadMessage::Missing
            | BadMessage::ServerError
            | BadMessage::Truncated
            | BadMessage::WrongSize
            | BadMessage::ConnectionBroken => String::new(),
        };
        home.write(
            "config.toml",
            &format!(
                "{source}poll_interval = \"{}s\"\n{NO_HOST_CHECKS_CONFIG}\
                 [item]\nretry_delay = \"500ms\"\nmax_retry_delay = \"{}s\"\n\
                 [request]\ndelay = \"100ms\"\n{total_timeout}\n",
                POLL_INTERVAL.as_secs(),
                RETRY_DELAY_MAX.as_secs(),
            ),
        );
        let log = fs_err::File::create(home.path("log")).unwrap().into_file();
        let running = RunningProgram(home.command(&["run"]).stderr(log).spawn().unwrap());
        BadMessageScenario {
            messages: self,
            mailbox: served,
            request_counts: asked,
            home: Arc::new(home),
            running,
        }
    }
}

impl BadMessageScenario {
    /// Waits until there are as many as wanted, at most for `limit`.
    async fn wait_until(
        &self,
        limit: Duration,
        what: &str,
        count: fn(&TestHome) -> usize,
        wanted: usize,
    ) {
        let waiting = async {
            let counted = async || {
                let home = Arc::clone(&self.home);
                spawn_blocking(move || count(&home)).await.unwrap()
            };
            while counted().await != wanted {
                sleep(POLL_PAUSE).await;
            }
        };
        let (waited, leftovers) = (timeout(limit, waiting).await, self.messages);
        assert!(
            waited.is_ok(),
            "{what} took longer than {limit:?}: {leftovers:?}\n{}",
            self.home.read("log")
        );
    }

    /// Goes on until new messages are stored, and the bad ones are in quarantine.
    async fn run_until_done(self) {
        let (good, bound) = (self.messages.good_count(), self.messages.time_limit());
        let arriving = async {
            self.wait_until(bound, "what is good", stored, good).await;
            self.mailbox.with_mailbox(|mailbox| {
                (0..NEW_MESSAGES).for_each(|no| mailbox.deliver(&format!("N{no}")))
            });
            let soon = POLL_INTERVAL + Duration::from_secs(60);
            self.wait_until(soon, "new mail", stored, good + NEW_MESSAGES).await;
        };
        let ending = self.wait_until(bound, "quarantine", quarantined, self.messages.bad);
        tokio::join!(arriving, ending);
        spawn_blocking(move || self.stop_and_check()).await.unwrap();
    }

    /// Ends the program, and looks at what it leaves.
    fn stop_and_check(mut self) {
        self.running.signal(Signal::TERM);
        let leftovers = self.messages;
        assert_eq!(self.running.0.wait().unwrap().code(), Some(143), "{leftovers:?}");

        assert_eq!(stored(&self.home), leftovers.good_count() + NEW_MESSAGES, "{leftovers:?}");
        let verified = self.home.cynosure(&["verify"]);
        assert_eq!(verified.code, Some(0), "{leftovers:?}: {verified:?}");
        self.check_failures();
        let breakers: Value = serde_json::from_str(&self.home.read("state/breakers.json")).unwrap();
        let counts = &breakers["breakers"][PROVIDER]["statistics"];
        assert_ne!(counts["calls"], 0, "{leftovers:?}: {breakers}");
        assert_eq!(counts["opened"], 0, "{leftovers:?}: {breakers}");
        self.check_request_counts();
    }

    /// All that is bad is in quarantine for what is wrong with it, and nothing else failed.
    fn check_failures(&self) {
        let leftovers = self.messages;
        let failures = self.home.cynosure(&["failures", "--json"]).json_lines();
        let items: BTreeSet<_> = failures.iter().filter_map(|row| row["item"].as_str()).collect();
        let threads: BTreeSet<_> = leftovers.ids().iter().map(|id| format!("T{id}")).collect();
        assert_eq!(items, threads.iter().map(String::as_str).collect(), "{leftovers:?}");
        for row in &failures {
            assert_eq!(row["state"], "quarantined", "{leftovers:?}: {row}");
            assert_eq!(row["cause"], leftovers.failure.cause(), "{leftovers:?}: {row}");
        }
    }

    /// What is good was fetched once, but for the documents that were asked for again to tell the
    /// provider from its items.
    fn check_request_counts(&self) {
        let (leftovers, asked) = (self.messages, self.request_counts.lock().unwrap());
        let ids = leftovers.ids();
        let good = asked.iter().filter(|(id, _)| !ids.contains(*id));
        let times: Vec<usize> = good.map(|(_, times)| *times).collect();
        assert_eq!(times.len(), leftovers.good_count() + NEW_MESSAGES, "{leftovers:?}: {asked:?}");
        let again = times.iter().sum::<usize>() - times.len();
        assert!(
            again <= leftovers.repeated_requests_max(),
            "{leftovers:?}: {again} times again: {asked:?}"
        );
    }
}

/// The messages that are there; nobody has made the archive when the program begins.
fn stored(home: &TestHome) -> usize {
    if home.path("downloads").exists() { home.messages().len() } else { 0 }
}

fn quarantined(home: &TestHome) -> usize {
    let failures = home.cynosure(&["failures", "--json"]).json_lines();
    failures.iter().filter(|row| row["state"] == "quarantined").count()
}

/// Has the program work on mailboxes with few and with many bad messages at once; `layouts` are
/// those of the many.
async fn check_all_layouts(how: BadMessage, layouts: &[BadPositions]) {
    let mut all = vec![(1, 30, BadPositions::Middle), (5, 60, BadPositions::Middle)];
    all.extend(layouts.iter().map(|layout| (40, 150, *layout)));
    let all = all.into_iter().map(|(bad, of, layout)| BadMessages {
        bad,
        total: of,
        failure: how,
        layout,
    });
    let scenes = all.map(async |leftovers| leftovers.start().await.run_until_done().await);
    scenes.collect::<JoinSet<()>>().join_all().await;
}

/// FAULTS 49: 404, though they are listed.
#[tokio::test(flavor = "multi_thread")]
async fn messages_with_404_block_nothing() {
    check_all_layouts(BadMessage::Missing, &[BadPositions::Middle]).await;
}

/// FAULTS 49: 500.
#[tokio::test(flavor = "multi_thread")]
async fn messages_with_500_block_nothing() {
    check_all_layouts(BadMessage::ServerError, &[BadPositions::Middle, BadPositions::Spread]).await;
}

/// FAULTS 49: fewer bytes than announced.
#[tokio::test(flavor = "multi_thread")]
async fn truncated_messages_block_nothing() {
    check_all_layouts(BadMessage::Truncated, &[BadPositions::Middle]).await;
}

/// FAULTS 49: more bytes than listed.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_wrong_size_block_nothing() {
    check_all_layouts(BadMessage::WrongSize, &[BadPositions::Middle]).await;
}

/// FAULTS 49: the connection ends without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_break_the_connection_block_nothing() {
    check_all_layouts(BadMessage::ConnectionBroken, &[BadPositions::Middle]).await;
}

/// FAULTS 49: no answer within the client's deadline.
#[tokio::test(flavor = "multi_thread")]
async fn messages_without_response_block_nothing() {
    check_all_layouts(BadMessage::NoResponse, &[BadPositions::Middle]).await;
}
