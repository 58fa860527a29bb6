//! Scenarios with messages that always fail, and new messages that must be stored nevertheless.

use std::time::Duration;

use cynosure::retry::BackoffConfig;
use cynosure::worker::RunMode;
use tokio::time::{sleep, timeout};

use crate::driver::{CONCURRENT_DOWNLOADS, Harness, run_scenario};
use crate::server::{MessageFault, PAGE_ENTRIES};
use crate::test_config::item_retry_policy;

/// Number of new messages that arrive when only bad ones are left.
const NEW_MESSAGES: u64 = 20;

/// Longest duration of a request for a good message.
const REQUEST_DURATION_MAX: Duration = Duration::from_millis(205);

/// Mailbox with bad messages: their number, fault and positions.
#[derive(Clone, Copy, Debug)]
struct FaultyMailbox {
    bad: u64,
    total: u64,
    fault: MessageFault,
    positions: BadPositions,
}

/// Positions of the bad messages in the mailbox.
#[derive(Clone, Copy, Debug)]
enum BadPositions {
    Spread,
    First,
    Middle,
    Last,
}

impl BadPositions {
    const ALL: [Self; 4] = [Self::Spread, Self::First, Self::Middle, Self::Last];

    /// Returns true if message `number`, from 1 on, is one of the `bad` of `total` messages.
    fn is_bad(self, number: u64, bad: u64, total: u64) -> bool {
        match self {
            Self::Spread => (number * bad) / total != ((number - 1) * bad) / total,
            Self::First => number <= bad,
            Self::Middle => ((total - bad) / 2 + 1..=(total + bad) / 2).contains(&number),
            Self::Last => number > total - bad,
        }
    }
}

impl Harness {
    /// Fills the mailbox. Each message is a separate item.
    fn fill_mailbox(&self, mailbox: FaultyMailbox) {
        let FaultyMailbox { bad, total, fault, positions } = mailbox;
        let mut server = self.server.borrow_mut();
        server.messages.clear();
        server.deliver(total, &self.env);
        for (id, message) in &mut server.messages {
            (message.item, message.always_fails) = (format!("T{id}"), false);
            message.bytes.truncate(100);
            message.fault = positions.is_bad(*id, bad, total).then_some(fault);
        }
    }

    /// Delivers the new messages, each a separate item without a fault.
    fn deliver_new(&self) {
        let mut server = self.server.borrow_mut();
        let before = server.messages.len() as u64;
        server.deliver(NEW_MESSAGES, &self.env);
        for (id, message) in server.messages.range_mut(before + 1..) {
            (message.item, message.always_fails) = (format!("T{id}"), false);
        }
    }

    fn stored_items(&self) -> u64 {
        self.count("SELECT count(*) FROM items WHERE status = 1")
    }

    /// Waits until `is_reached`, at most for `limit`.
    async fn wait_until(&self, limit: Duration, event: &str, is_reached: impl Fn() -> bool) {
        let reached = async {
            while !is_reached() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let result = timeout(limit, reached).await;
        assert!(result.is_ok(), "{event} took longer than {limit:?}: {:?}", self.stored_state());
    }

    /// Runs the process until the new messages are stored and the bad ones are quarantined.
    async fn run_until_done(&self, mailbox: FaultyMailbox) {
        let (good_count, limit) = (mailbox.total - mailbox.bad, mailbox.time_limit());
        let running = async {
            loop {
                self.run_process(RunMode::Continuous).await;
                sleep(Duration::from_secs(1)).await;
            }
        };
        let arriving = async {
            self.wait_until(limit, "storing the good messages", || {
                self.stored_items() == good_count
            })
            .await;
            self.deliver_new();
            let poll_limit = self.machine_config.poll_interval + Duration::from_secs(60);
            self.wait_until(poll_limit, "storing the new messages", || {
                self.stored_items() == good_count + NEW_MESSAGES
            })
            .await;
        };
        let quarantined = || self.count("SELECT count(*) FROM items WHERE status = 3");
        let quarantining = self
            .wait_until(limit, "quarantining the bad messages", || quarantined() == mailbox.bad);
        tokio::select! {
            () = running => unreachable!("the loop is endless"),
            _ = async { tokio::join!(arriving, quarantining) } => {}
        }
    }
}

impl FaultyMailbox {
    /// Returns the longest time until all bad messages are quarantined. It is the time to list all
    /// messages and to fetch the good ones, then the delays of the bad messages, their requests on
    /// half of the slots, and two minutes.
    fn time_limit(self) -> Duration {
        let policy = item_retry_policy();
        let slots = u32::try_from(CONCURRENT_DOWNLOADS).unwrap();
        let [bad, total] = [self.bad, self.total].map(|count| u32::try_from(count).unwrap());
        let per_request = REQUEST_DURATION_MAX + self.fault.extra_latency();
        let listing = REQUEST_DURATION_MAX * total.div_ceil(PAGE_ENTRIES);
        let fetching = REQUEST_DURATION_MAX * total.div_ceil(slots);
        let retrying = per_request * policy.max_requests * bad.div_ceil(slots / 2);
        let delays = policy.retry_delay * policy.max_attempts;
        listing + fetching + retrying + delays + Duration::from_secs(120)
    }
}

/// Asserts that all good messages are stored, new ones too, and all bad ones are quarantined.
fn check_mailbox(mailbox: FaultyMailbox) {
    run_scenario(async |harness| {
        harness.request_retry = BackoffConfig::FAST;
        // Shorter than the delays of one item, so that it ends while bad messages wait.
        harness.machine_config.poll_interval = Duration::from_secs(20);
        harness.fill_mailbox(mailbox);

        harness.run_until_done(mailbox).await;
    });
}

/// FAULTS 49: 1, 5 or 40 messages fail permanently.
#[test]
fn bad_messages_block_neither_new_mail_nor_each_other() {
    for fault in MessageFault::ALL {
        for (bad, total) in [(1, 60), (5, 100), (40, 300)] {
            for positions in BadPositions::ALL {
                check_mailbox(FaultyMailbox { bad, total, fault, positions });
            }
        }
    }
}

/// FAULTS 49: 1,000 of 10,000 messages fail permanently.
#[test]
fn a_thousand_bad_messages_block_no_other_mail() {
    for fault in MessageFault::ALL {
        check_mailbox(FaultyMailbox {
            bad: 1000,
            total: 10_000,
            fault,
            positions: BadPositions::Spread,
        });
    }
}
