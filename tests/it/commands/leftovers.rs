//! Messages that the server never brings, and new mail beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::commands::home::{Home, Running, UNCONCERNED};
use crate::hostile::{Act, plain};
use crate::mailbox::{Mailbox, Served};

/// The name of the one provider.
const PROVIDER: &str = "127.0.0.1";

/// New messages that arrive when only bad ones are left.
const NEW: usize = 20;

/// Requests in flight at once, by default.
const SLOTS: usize = 8;

/// Attempts of one item, by default.
const ATTEMPTS: usize = 3;

/// Requests of one attempt, by default.
const REQUESTS: usize = 3;

const POLL_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// After this, a server that says nothing is given up.
const DEADLINE: Duration = Duration::from_millis(500);

/// More than a request of a server on this machine takes that answers at once.
const ANSWER_MAX: Duration = Duration::from_millis(200);

/// How often it is looked whether the program has got somewhere.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How a message fails whenever it is asked for.
#[derive(Clone, Copy, Debug)]
enum Bad {
    /// 404, though it is listed.
    Missing,
    /// 500.
    Failed,
    /// The body breaks off.
    Cut,
    /// The body is whole, and has another length than was listed.
    WrongSize,
    /// The connection is reset or closed without an answer.
    Broken,
    /// No answer, until the client has had enough.
    Silent,
}

/// Where the bad messages are in the mailbox.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Middle,
    Spread,
}

/// So many bad messages among all.
#[derive(Clone, Copy, Debug)]
struct Leftovers {
    bad: usize,
    of: usize,
    how: Bad,
    layout: Layout,
}

/// A mailbox with leftovers, and the program that works on it.
struct Scene {
    leftovers: Leftovers,
    served: Served,
    /// How often each message was asked for.
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    home: Arc<Home>,
    running: Running,
}

impl Bad {
    /// What the server does when the message `id` is asked for.
    fn acts(self, id: &str) -> Vec<Act> {
        let bytes = "Content-Type: application/octet-stream\r\n";
        match self {
            Self::Missing => vec![Act::Send(plain("404 Not Found", "", ""))],
            Self::Failed => vec![Act::Send(plain("500 Internal Server Error", "", ""))],
            Self::Cut => {
                let mut answer = plain("200 OK", bytes, id);
                answer.pop();
                vec![Act::Send(answer), Act::Close]
            }
            Self::WrongSize => vec![Act::Send(plain("200 OK", bytes, format!("{id} and more")))],
            Self::Broken if id.ends_with(['0', '2', '4', '6', '8']) => vec![Act::Reset],
            Self::Broken => vec![Act::Close],
            Self::Silent => vec![Act::Hang],
        }
    }

    fn cause(self) -> &'static str {
        match self {
            Self::Missing | Self::Failed => "server",
            Self::Cut | Self::WrongSize => "truncated",
            Self::Broken => "connection",
            Self::Silent => "timeout",
        }
    }

    /// How long one request takes, at most.
    fn takes(self) -> Duration {
        match self {
            Self::Silent => ANSWER_MAX + DEADLINE,
            Self::Missing | Self::Failed | Self::Cut | Self::WrongSize | Self::Broken => ANSWER_MAX,
        }
    }
}

impl Leftovers {
    fn good(self) -> usize {
        self.of - self.bad
    }

    fn ids(self) -> BTreeSet<String> {
        let Self { bad, of, layout, .. } = self;
        let is_bad = |no: &usize| match layout {
            Layout::Middle => ((of - bad) / 2..(of + bad) / 2).contains(no),
            Layout::Spread => (no + 1) * bad / of != no * bad / of,
        };
        (0..of).filter(is_bad).map(|no| format!("M{no}")).collect()
    }

    /// How long it may take until all are in quarantine: their own delays, the time that their
    /// requests take on half of the slots, and two minutes.
    fn bound(self) -> Duration {
        let count = |count: usize| u32::try_from(count).unwrap();
        let requests = count((self.bad * ATTEMPTS * REQUESTS).div_ceil(SLOTS / 2));
        let tried = self.how.takes() * requests;
        RETRY_DELAY_MAX * count(ATTEMPTS) + tried + Duration::from_secs(120)
    }

    /// How many times what is good may be asked for again. A known-good document is asked for before
    /// a fifth failure in a row, so once for four bad messages; twice as often is let pass.
    fn again_max(self) -> usize {
        let too_late = match self.how {
            // On a busy machine a good answer may be given up as well.
            Bad::Silent => self.of / 10,
            Bad::Missing | Bad::Failed | Bad::Cut | Bad::WrongSize | Bad::Broken => 0,
        };
        self.bad / 2 + too_late
    }

    async fn begin(self) -> Scene {
        let Self { of, how, .. } = self;
        let (bad, asked) = (self.ids(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        assert_eq!(bad.len(), self.bad);
        let log = Arc::clone(&asked);
        let served = Mailbox::of(of)
            .serve_with(move |asked| {
                let id = asked.path().strip_prefix("/get/alice/B")?.split('/').next()?;
                *log.lock().unwrap().entry(id.to_owned()).or_default() += 1;
                bad.contains(id).then(|| how.acts(id))
            })
            .await;
        let home = Home::at(served.server.url.as_str());
        let config = home.read("config.toml");
        let source = config.split("[restart]").next().unwrap();
        let total_timeout = match how {
            Bad::Silent => format!("total_timeout = \"{}ms\"", DEADLINE.as_millis()),
            Bad::Missing | Bad::Failed | Bad::Cut | Bad::WrongSize | Bad::Broken => String::new(),
        };
        home.write(
            "config.toml",
            &format!(
                "{source}poll_interval = \"{}s\"\n{UNCONCERNED}\
                 [item]\nretry_delay = \"500ms\"\nmax_retry_delay = \"{}s\"\n\
                 [request]\ndelay = \"100ms\"\n{total_timeout}\n",
                POLL_INTERVAL.as_secs(),
                RETRY_DELAY_MAX.as_secs(),
            ),
        );
        let log = fs_err::File::create(home.path("log")).unwrap().into_file();
        let running = Running(home.command(&["run"]).stderr(log).spawn().unwrap());
        Scene { leftovers: self, served, asked, home: Arc::new(home), running }
    }
}

impl Scene {
    /// Waits until there are as many as wanted, at most for `limit`.
    async fn until(&self, limit: Duration, what: &str, count: fn(&Home) -> usize, wanted: usize) {
        let waiting = async {
            let counted = async || {
                let home = Arc::clone(&self.home);
                spawn_blocking(move || count(&home)).await.unwrap()
            };
            while counted().await != wanted {
                sleep(LOOK_INTERVAL).await;
            }
        };
        let (waited, leftovers) = (timeout(limit, waiting).await, self.leftovers);
        assert!(
            waited.is_ok(),
            "{what} took longer than {limit:?}: {leftovers:?}\n{}",
            self.home.read("log")
        );
    }

    /// Goes on until new messages are stored, and the bad ones are in quarantine.
    async fn survive(self) {
        let (good, bound) = (self.leftovers.good(), self.leftovers.bound());
        let arriving = async {
            self.until(bound, "what is good", stored, good).await;
            self.served.change(|mailbox| (0..NEW).for_each(|no| mailbox.arrive(&format!("N{no}"))));
            let soon = POLL_INTERVAL + Duration::from_secs(60);
            self.until(soon, "new mail", stored, good + NEW).await;
        };
        let ending = self.until(bound, "quarantine", quarantined, self.leftovers.bad);
        tokio::join!(arriving, ending);
        spawn_blocking(move || self.end()).await.unwrap();
    }

    /// Ends the program, and looks at what it leaves.
    fn end(mut self) {
        self.running.signal(Signal::TERM);
        let leftovers = self.leftovers;
        assert_eq!(self.running.0.wait().unwrap().code(), Some(143), "{leftovers:?}");

        assert_eq!(stored(&self.home), leftovers.good() + NEW, "{leftovers:?}");
        let verified = self.home.cynosure(&["verify"]);
        assert_eq!(verified.code, Some(0), "{leftovers:?}: {verified:?}");
        self.check_failures();
        let breakers: Value = serde_json::from_str(&self.home.read("state/breakers.json")).unwrap();
        let counts = &breakers["breakers"][PROVIDER]["statistics"];
        assert_ne!(counts["calls"], 0, "{leftovers:?}: {breakers}");
        assert_eq!(counts["opened"], 0, "{leftovers:?}: {breakers}");
        self.check_asked();
    }

    /// All that is bad is in quarantine for what is wrong with it, and nothing else failed.
    fn check_failures(&self) {
        let leftovers = self.leftovers;
        let failures = self.home.cynosure(&["failures", "--json"]).json_lines();
        let items: BTreeSet<_> = failures.iter().filter_map(|row| row["item"].as_str()).collect();
        let threads: BTreeSet<_> = leftovers.ids().iter().map(|id| format!("T{id}")).collect();
        assert_eq!(items, threads.iter().map(String::as_str).collect(), "{leftovers:?}");
        for row in &failures {
            assert_eq!(row["state"], "quarantined", "{leftovers:?}: {row}");
            assert_eq!(row["cause"], leftovers.how.cause(), "{leftovers:?}: {row}");
        }
    }

    /// What is good was fetched once, but for the documents that were asked for again to tell the
    /// provider from its items.
    fn check_asked(&self) {
        let (leftovers, asked) = (self.leftovers, self.asked.lock().unwrap());
        let ids = leftovers.ids();
        let good = asked.iter().filter(|(id, _)| !ids.contains(*id));
        let times: Vec<usize> = good.map(|(_, times)| *times).collect();
        assert_eq!(times.len(), leftovers.good() + NEW, "{leftovers:?}: {asked:?}");
        let again = times.iter().sum::<usize>() - times.len();
        assert!(again <= leftovers.again_max(), "{leftovers:?}: {again} times again: {asked:?}");
    }
}

/// The messages that are there; nobody has made the archive when the program begins.
fn stored(home: &Home) -> usize {
    if home.path("downloads").exists() { home.messages().len() } else { 0 }
}

fn quarantined(home: &Home) -> usize {
    let failures = home.cynosure(&["failures", "--json"]).json_lines();
    failures.iter().filter(|row| row["state"] == "quarantined").count()
}

/// Has the program work on mailboxes with few and with many bad messages at once; `layouts` are
/// those of the many.
async fn holds_for(how: Bad, layouts: &[Layout]) {
    let mut all = vec![(1, 30, Layout::Middle), (5, 60, Layout::Middle)];
    all.extend(layouts.iter().map(|layout| (40, 150, *layout)));
    let all = all.into_iter().map(|(bad, of, layout)| Leftovers { bad, of, how, layout });
    let scenes = all.map(async |leftovers| leftovers.begin().await.survive().await);
    scenes.collect::<JoinSet<()>>().join_all().await;
}

/// FAULTS 49: 404, though they are listed.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_listed_and_not_found_hold_up_nothing() {
    holds_for(Bad::Missing, &[Layout::Middle]).await;
}

/// FAULTS 49: 500.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_server_fails_at_hold_up_nothing() {
    holds_for(Bad::Failed, &[Layout::Middle, Layout::Spread]).await;
}

/// FAULTS 49: fewer bytes than announced.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_break_off_hold_up_nothing() {
    holds_for(Bad::Cut, &[Layout::Middle]).await;
}

/// FAULTS 49: more bytes than listed.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_another_size_hold_up_nothing() {
    holds_for(Bad::WrongSize, &[Layout::Middle]).await;
}

/// FAULTS 49: the connection ends without an answer.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_break_the_connection_hold_up_nothing() {
    holds_for(Bad::Broken, &[Layout::Middle]).await;
}

/// FAULTS 49: no answer within the client's deadline.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_never_answered_hold_up_nothing() {
    holds_for(Bad::Silent, &[Layout::Middle]).await;
}
