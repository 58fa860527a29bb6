//! Messages that fail for ever, and new mail beside them.

use std::time::Duration;

use cynosure::retry::BackoffConfig;
use cynosure::worker::RunMode;
use tokio::time::{sleep, timeout};

use crate::driver::{CONCURRENT_DOWNLOADS, Harness, run_scenario};
use crate::server::{BadMessage, PAGE_ENTRIES};
use crate::test_config::policies;

/// New messages that arrive when only bad ones are left.
const NEW_MESSAGES: u64 = 20;

/// The longest answer of a good message.
const REQUEST_DURATION_MAX: Duration = Duration::from_millis(205);

/// So many bad messages among all.
#[derive(Clone, Copy, Debug)]
struct BadMessages {
    bad: u64,
    total: u64,
    failure: BadMessage,
    layout: BadPositions,
}

/// Where the bad messages are in the mailbox.
#[derive(Clone, Copy, Debug)]
enum BadPositions {
    Spread,
    First,
    Middle,
    Last,
}

impl BadPositions {
    const ALL: [Self; 4] = [Self::Spread, Self::First, Self::Middle, Self::Last];

    /// Whether the message `no` is bad, of the messages from 1 on.
    fn is_bad(self, no: u64, bad: u64, of: u64) -> bool {
        match self {
            Self::Spread => (no * bad) / of != ((no - 1) * bad) / of,
            Self::First => no <= bad,
            Self::Middle => ((of - bad) / 2 + 1..=(of + bad) / 2).contains(&no),
            Self::Last => no > of - bad,
        }
    }
}

impl Harness {
    /// Fills the mailbox: each message is an item of its own.
    fn fill(&self, leftovers: BadMessages) {
        let BadMessages { bad, total: of, failure: how, layout } = leftovers;
        let mut server = self.server.borrow_mut();
        server.messages.clear();
        server.deliver(of, &self.env);
        for (no, mail) in &mut server.messages {
            (mail.item, mail.always_fails) = (format!("T{no}"), false);
            mail.bytes.truncate(100);
            mail.bad = layout.is_bad(*no, bad, of).then_some(how);
        }
    }

    fn deliver_new(&self) {
        let mut server = self.server.borrow_mut();
        let before = server.messages.len() as u64;
        server.deliver(NEW_MESSAGES, &self.env);
        for (no, mail) in server.messages.range_mut(before + 1..) {
            (mail.item, mail.always_fails) = (format!("T{no}"), false);
        }
    }

    fn stored(&self) -> u64 {
        self.count("SELECT count(*) FROM items WHERE status = 1")
    }

    /// Waits for it to be so, at most for `limit`.
    async fn wait_until(&self, limit: Duration, what: &str, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let waited = timeout(limit, waiting).await;
        assert!(waited.is_ok(), "{what} took longer than {limit:?}: {:?}", self.stored_state());
    }

    /// Lives until the new messages are stored, and the bad ones in quarantine.
    async fn run_until_done(&self, leftovers: BadMessages) {
        let (good, bound) = (leftovers.total - leftovers.bad, leftovers.time_limit());
        let living = async {
            loop {
                self.run_process(RunMode::Continuous).await;
                sleep(Duration::from_secs(1)).await;
            }
        };
        let arriving = async {
            self.wait_until(bound, "what is good", || self.stored() == good).await;
            self.deliver_new();
            let soon = self.machine_config.poll_interval + Duration::from_secs(60);
            self.wait_until(soon, "new mail", || self.stored() == good + NEW_MESSAGES).await;
        };
        let quarantined = || self.count("SELECT count(*) FROM items WHERE status = 3");
        let ending = self.wait_until(bound, "quarantine", || quarantined() == leftovers.bad);
        tokio::select! {
            () = living => unreachable!("it lives for ever"),
            _ = async { tokio::join!(arriving, ending) } => {}
        }
    }
}

impl BadMessages {
    /// How long it may take until all bad ones are in quarantine: their own delays, the time that
    /// their requests take on half of the slots, and two minutes; and before that, the time in which
    /// all are listed, and what is good is fetched.
    fn time_limit(self) -> Duration {
        let policy = policies().item;
        let slots = u32::try_from(CONCURRENT_DOWNLOADS).unwrap();
        let [bad, of] = [self.bad, self.total].map(|count| u32::try_from(count).unwrap());
        let one = REQUEST_DURATION_MAX + self.failure.extra_latency();
        let listed = REQUEST_DURATION_MAX * of.div_ceil(PAGE_ENTRIES);
        let fetched = REQUEST_DURATION_MAX * of.div_ceil(slots);
        let tried = one * policy.max_requests * bad.div_ceil(slots / 2);
        let delays = policy.retry_delay * policy.max_attempts;
        listed + fetched + tried + delays + Duration::from_secs(120)
    }
}

fn check_all_positions(leftovers: BadMessages) {
    run_scenario(async |stage| {
        stage.request_retry = BackoffConfig::FAST;
        // Shorter than the delays of one item, so that it passes while leftovers wait.
        stage.machine_config.poll_interval = Duration::from_secs(20);
        stage.fill(leftovers);

        stage.run_until_done(leftovers).await;
    });
}

/// FAULTS 49.
#[test]
fn bad_messages_block_neither_new_mail_nor_each_other() {
    for how in BadMessage::ALL {
        for (bad, of) in [(1, 60), (5, 100), (40, 300)] {
            for layout in BadPositions::ALL {
                check_all_positions(BadMessages { bad, total: of, failure: how, layout });
            }
        }
    }
}

/// FAULTS 49.
#[test]
fn a_thousand_bad_messages_block_no_other_mail() {
    for how in BadMessage::ALL {
        check_all_positions(BadMessages {
            bad: 1000,
            total: 10_000,
            failure: how,
            layout: BadPositions::Spread,
        });
    }
}
