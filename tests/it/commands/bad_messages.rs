//! Messages that always fail at the server, and new mail that must still be stored.

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

/// Name of the only provider.
const PROVIDER: &str = "127.0.0.1";

/// Number of new messages, which arrive once only bad ones are left.
const NEW_MESSAGES: usize = 20;

/// Requests in flight at once, by default.
const CONCURRENCY: usize = 8;

/// Attempts of one item, by default.
const ATTEMPTS: usize = 3;

/// Requests of one attempt, by default.
const REQUESTS_PER_ATTEMPT: usize = 3;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// Timeout of a request without a response.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// Upper bound for a request to a server on this machine that responds at once.
const RESPONSE_TIME_MAX: Duration = Duration::from_millis(200);

/// Interval between two checks of the progress of the program.
const PROGRESS_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Failure of every request for a bad message.
#[derive(Clone, Copy, Debug)]
enum MessageFailure {
    /// 404, although it is listed.
    Missing,
    /// 500.
    ServerError,
    /// The body ends early.
    Truncated,
    /// The body is complete, but its length is not the listed one.
    WrongSize,
    /// The connection is reset or closed without a response.
    ConnectionBroken,
    /// No response, until the client times out.
    NoResponse,
}

/// Positions of the bad messages in the mailbox.
#[derive(Clone, Copy, Debug)]
enum BadMessageLayout {
    Middle,
    Spread,
}

/// Number, failure and positions of the bad messages of a mailbox.
#[derive(Clone, Copy, Debug)]
struct BadMessageCase {
    bad: usize,
    total: usize,
    failure: MessageFailure,
    layout: BadMessageLayout,
}

/// Mailbox with bad messages, and the program that extracts it.
struct BadMessageScenario {
    case: BadMessageCase,
    mailbox: ServedMailbox,
    /// Number of requests for each message.
    request_counts: Arc<Mutex<BTreeMap<String, usize>>>,
    home: Arc<TestHome>,
    running: RunningProgram,
}

impl MessageFailure {
    /// Returns the actions of the server for a request for the message `id`.
    fn server_actions(self, id: &str) -> Vec<ConnectionAction> {
        let headers = "Content-Type: application/octet-stream\r\n";
        match self {
            Self::Missing => vec![ConnectionAction::Send(plain_response("404 Not Found", "", ""))],
            Self::ServerError => {
                vec![ConnectionAction::Send(plain_response("500 Internal Server Error", "", ""))]
            }
            Self::Truncated => {
                let mut response = plain_response("200 OK", headers, id);
                response.pop();
                vec![ConnectionAction::Send(response), ConnectionAction::Close]
            }
            Self::WrongSize => vec![ConnectionAction::Send(plain_response(
                "200 OK",
                headers,
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

    /// Returns the longest duration of one request.
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

impl BadMessageCase {
    fn good_count(self) -> usize {
        self.total - self.bad
    }

    fn ids(self) -> BTreeSet<String> {
        let Self { bad, total, layout, .. } = self;
        let is_bad = |index: &usize| match layout {
            BadMessageLayout::Middle => ((total - bad) / 2..(total + bad) / 2).contains(index),
            BadMessageLayout::Spread => (index + 1) * bad / total != index * bad / total,
        };
        (0..total).filter(is_bad).map(|index| format!("M{index}")).collect()
    }

    /// Returns the time limit until all bad messages are in quarantine: their retry delays, the
    /// duration of their requests with half of the concurrency, and two minutes.
    fn time_limit(self) -> Duration {
        let to_u32 = |count: usize| u32::try_from(count).unwrap();
        let requests =
            to_u32((self.bad * ATTEMPTS * REQUESTS_PER_ATTEMPT).div_ceil(CONCURRENCY / 2));
        let request_time = self.failure.request_duration() * requests;
        RETRY_DELAY_MAX * to_u32(ATTEMPTS) + request_time + Duration::from_secs(120)
    }

    /// Returns the maximum number of repeated requests for good messages. A known-good document is
    /// fetched before a fifth failure in a row, so once for four bad messages; the limit is twice
    /// that.
    fn repeated_requests_max(self) -> usize {
        let timeouts = match self.failure {
            // On a busy machine the request of a good message may time out as well.
            MessageFailure::NoResponse => self.total / 10,
            MessageFailure::Missing
            | MessageFailure::ServerError
            | MessageFailure::Truncated
            | MessageFailure::WrongSize
            | MessageFailure::ConnectionBroken => 0,
        };
        self.bad / 2 + timeouts
    }

    async fn start(self) -> BadMessageScenario {
        let Self { total, failure, .. } = self;
        let (bad_ids, request_counts) = (self.ids(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        assert_eq!(bad_ids.len(), self.bad);
        let counts = Arc::clone(&request_counts);
        let mailbox = FakeMailbox::with_emails(total)
            .serve_with(move |request| {
                let id = request.path().strip_prefix("/get/alice/B")?.split('/').next()?;
                *counts.lock().unwrap().entry(id.to_owned()).or_default() += 1;
                bad_ids.contains(id).then(|| failure.server_actions(id))
            })
            .await;
        let home = TestHome::with_source_at(mailbox.server.url.as_str());
        let config = home.read("config.toml");
        let source = config.split("[restart]").next().unwrap();
        let total_timeout = match failure {
            MessageFailure::NoResponse => {
                format!("total_timeout = \"{}ms\"", REQUEST_TIMEOUT.as_millis())
            }
            MessageFailure::Missing
            | MessageFailure::ServerError
            | MessageFailure::Truncated
            | MessageFailure::WrongSize
            | MessageFailure::ConnectionBroken => String::new(),
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
        let home = Arc::new(home);
        BadMessageScenario { case: self, mailbox, request_counts, home, running }
    }
}

impl BadMessageScenario {
    /// Waits until `count` returns `expected`, at most for `limit`.
    async fn wait_until(
        &self,
        limit: Duration,
        subject: &str,
        count: fn(&TestHome) -> usize,
        expected: usize,
    ) {
        let waiting = async {
            let current_count = async || {
                let home = Arc::clone(&self.home);
                spawn_blocking(move || count(&home)).await.unwrap()
            };
            while current_count().await != expected {
                sleep(PROGRESS_CHECK_INTERVAL).await;
            }
        };
        let (result, case) = (timeout(limit, waiting).await, self.case);
        assert!(
            result.is_ok(),
            "{subject} took longer than {limit:?}: {case:?}\n{}",
            self.home.read("log")
        );
    }

    /// Runs until the new messages are stored and the bad ones are in quarantine, then checks the
    /// result.
    async fn run_until_done(self) {
        let (good, limit) = (self.case.good_count(), self.case.time_limit());
        let storing = async {
            self.wait_until(limit, "storing the good messages", stored_count, good).await;
            self.mailbox.with_mailbox(|mailbox| {
                (0..NEW_MESSAGES).for_each(|index| mailbox.deliver(&format!("N{index}")));
            });
            let limit = POLL_INTERVAL + Duration::from_secs(60);
            self.wait_until(limit, "storing new mail", stored_count, good + NEW_MESSAGES).await;
        };
        let quarantining = self.wait_until(limit, "quarantine", quarantined_count, self.case.bad);
        tokio::join!(storing, quarantining);
        spawn_blocking(move || self.stop_and_check()).await.unwrap();
    }

    /// Stops the program and checks its files.
    fn stop_and_check(mut self) {
        self.running.signal(Signal::TERM);
        let case = self.case;
        assert_eq!(self.running.0.wait().unwrap().code(), Some(143), "{case:?}");

        assert_eq!(stored_count(&self.home), case.good_count() + NEW_MESSAGES, "{case:?}");
        let verified = self.home.cynosure(&["verify"]);
        assert_eq!(verified.code, Some(0), "{case:?}: {verified:?}");
        self.check_failures();
        let breakers: Value = serde_json::from_str(&self.home.read("state/breakers.json")).unwrap();
        let statistics = &breakers["breakers"][PROVIDER]["statistics"];
        assert_ne!(statistics["calls"], 0, "{case:?}: {breakers}");
        assert_eq!(statistics["opened"], 0, "{case:?}: {breakers}");
        self.check_request_counts();
    }

    /// Asserts that every bad message is in quarantine with its cause, and nothing else failed.
    fn check_failures(&self) {
        let case = self.case;
        let failures = self.home.cynosure(&["failures", "--json"]).json_lines();
        let items: BTreeSet<_> = failures.iter().filter_map(|row| row["item"].as_str()).collect();
        let threads: BTreeSet<_> = case.ids().iter().map(|id| format!("T{id}")).collect();
        assert_eq!(items, threads.iter().map(String::as_str).collect(), "{case:?}");
        for row in &failures {
            assert_eq!(row["state"], "quarantined", "{case:?}: {row}");
            assert_eq!(row["cause"], case.failure.cause(), "{case:?}: {row}");
        }
    }

    /// Asserts that each good message was requested once, except for the known-good documents that
    /// were fetched again to distinguish failing items from a failing provider.
    fn check_request_counts(&self) {
        let (case, request_counts) = (self.case, self.request_counts.lock().unwrap());
        let bad_ids = case.ids();
        let good = request_counts.iter().filter(|(id, _)| !bad_ids.contains(*id));
        let counts: Vec<usize> = good.map(|(_, count)| *count).collect();
        assert_eq!(counts.len(), case.good_count() + NEW_MESSAGES, "{case:?}: {request_counts:?}");
        let repeated = counts.iter().sum::<usize>() - counts.len();
        assert!(
            repeated <= case.repeated_requests_max(),
            "{case:?}: {repeated} repeated requests: {request_counts:?}"
        );
    }
}

/// Returns the number of stored messages; 0 while the archive does not exist yet.
fn stored_count(home: &TestHome) -> usize {
    if home.path("downloads").exists() { home.messages().len() } else { 0 }
}

fn quarantined_count(home: &TestHome) -> usize {
    let failures = home.cynosure(&["failures", "--json"]).json_lines();
    failures.iter().filter(|row| row["state"] == "quarantined").count()
}

/// Runs one scenario for each mailbox, all at once: two with few bad messages, and for each of the
/// `layouts` one with many.
async fn check_all_layouts(failure: MessageFailure, layouts: &[BadMessageLayout]) {
    let mut cases = vec![(1, 30, BadMessageLayout::Middle), (5, 60, BadMessageLayout::Middle)];
    cases.extend(layouts.iter().map(|layout| (40, 150, *layout)));
    let cases = cases.into_iter().map(|(bad, total, layout)| BadMessageCase {
        bad,
        total,
        failure,
        layout,
    });
    let scenarios = cases.map(async |case| case.start().await.run_until_done().await);
    scenarios.collect::<JoinSet<()>>().join_all().await;
}

/// FAULTS 49: 404, although they are listed.
#[tokio::test(flavor = "multi_thread")]
async fn messages_with_404_block_nothing() {
    check_all_layouts(MessageFailure::Missing, &[BadMessageLayout::Middle]).await;
}

/// FAULTS 49: 500.
#[tokio::test(flavor = "multi_thread")]
async fn messages_with_500_block_nothing() {
    check_all_layouts(
        MessageFailure::ServerError,
        &[BadMessageLayout::Middle, BadMessageLayout::Spread],
    )
    .await;
}

/// FAULTS 49: fewer bytes than announced.
#[tokio::test(flavor = "multi_thread")]
async fn truncated_messages_block_nothing() {
    check_all_layouts(MessageFailure::Truncated, &[BadMessageLayout::Middle]).await;
}

/// FAULTS 49: more bytes than listed.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_wrong_size_block_nothing() {
    check_all_layouts(MessageFailure::WrongSize, &[BadMessageLayout::Middle]).await;
}

/// FAULTS 49: the connection ends without a response.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_break_the_connection_block_nothing() {
    check_all_layouts(MessageFailure::ConnectionBroken, &[BadMessageLayout::Middle]).await;
}

/// FAULTS 49: no response within the client's deadline.
#[tokio::test(flavor = "multi_thread")]
async fn messages_without_response_block_nothing() {
    check_all_layouts(MessageFailure::NoResponse, &[BadMessageLayout::Middle]).await;
}
