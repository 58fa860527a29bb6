//! Messages that fail for ever, and new mail beside them.

use std::time::Duration;

use cynosure::retry::BackoffConfig;
use cynosure::worker::RunMode;
use tokio::time::{sleep, timeout};

use crate::life::{DOWNLOADS_AT_ONCE, Stage, play};
use crate::rules::policies;
use crate::server::{Bad, PAGE};

/// New messages that arrive when only bad ones are left.
const NEW: u64 = 20;

/// The longest answer of a good message.
const REQUEST_MAX: Duration = Duration::from_millis(205);

/// So many bad messages among all.
#[derive(Clone, Copy, Debug)]
struct Leftovers {
    bad: u64,
    of: u64,
    how: Bad,
    layout: Layout,
}

/// Where the bad messages are in the mailbox.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Spread,
    First,
    Middle,
    Last,
}

impl Layout {
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

impl Stage {
    /// Fills the mailbox: each message is an item of its own.
    fn fill(&self, leftovers: Leftovers) {
        let Leftovers { bad, of, how, layout } = leftovers;
        let mut server = self.server.borrow_mut();
        server.mail.clear();
        server.deliver(of, &self.world);
        for (no, mail) in &mut server.mail {
            (mail.item, mail.poison) = (format!("T{no}"), false);
            mail.bytes.truncate(100);
            mail.bad = layout.is_bad(*no, bad, of).then_some(how);
        }
    }

    fn deliver_new(&self) {
        let mut server = self.server.borrow_mut();
        let before = server.mail.len() as u64;
        server.deliver(NEW, &self.world);
        for (no, mail) in server.mail.range_mut(before + 1..) {
            (mail.item, mail.poison) = (format!("T{no}"), false);
        }
    }

    fn stored(&self) -> u64 {
        self.count("SELECT count(*) FROM items WHERE status = 1")
    }

    /// Waits for it to be so, at most for `limit`.
    async fn until(&self, limit: Duration, what: &str, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let waited = timeout(limit, waiting).await;
        assert!(waited.is_ok(), "{what} took longer than {limit:?}: {:?}", self.saved());
    }

    /// Lives until the new messages are stored, and the bad ones in quarantine.
    async fn survive(&self, leftovers: Leftovers) {
        let (good, bound) = (leftovers.of - leftovers.bad, leftovers.bound());
        let living = async {
            loop {
                self.live(RunMode::Continuous).await;
                sleep(Duration::from_secs(1)).await;
            }
        };
        let arriving = async {
            self.until(bound, "what is good", || self.stored() == good).await;
            self.deliver_new();
            let soon = self.rules.poll_interval + Duration::from_secs(60);
            self.until(soon, "new mail", || self.stored() == good + NEW).await;
        };
        let quarantined = || self.count("SELECT count(*) FROM items WHERE status = 3");
        let ending = self.until(bound, "quarantine", || quarantined() == leftovers.bad);
        tokio::select! {
            () = living => unreachable!("it lives for ever"),
            _ = async { tokio::join!(arriving, ending) } => {}
        }
    }
}

impl Leftovers {
    /// How long it may take until all bad ones are in quarantine: their own delays, the time that
    /// their requests take on half of the slots, and two minutes; and before that, the time in which
    /// all are listed, and what is good is fetched.
    fn bound(self) -> Duration {
        let policy = policies().item;
        let slots = u32::try_from(DOWNLOADS_AT_ONCE).unwrap();
        let [bad, of] = [self.bad, self.of].map(|count| u32::try_from(count).unwrap());
        let one = REQUEST_MAX + self.how.takes();
        let listed = REQUEST_MAX * of.div_ceil(PAGE);
        let fetched = REQUEST_MAX * of.div_ceil(slots);
        let tried = one * policy.max_requests * bad.div_ceil(slots / 2);
        let delays = policy.retry_delay * policy.max_attempts;
        listed + fetched + tried + delays + Duration::from_secs(120)
    }
}

fn holds_for(leftovers: Leftovers) {
    play(async |stage| {
        stage.request = BackoffConfig::FAST;
        // Shorter than the delays of one item, so that it passes while leftovers wait.
        stage.rules.poll_interval = Duration::from_secs(20);
        stage.fill(leftovers);

        stage.survive(leftovers).await;
    });
}

/// FAULTS 49.
#[test]
fn bad_messages_hold_up_neither_new_mail_nor_each_other() {
    for how in Bad::ALL {
        for (bad, of) in [(1, 60), (5, 100), (40, 300)] {
            for layout in Layout::ALL {
                holds_for(Leftovers { bad, of, how, layout });
            }
        }
    }
}

/// FAULTS 49.
#[test]
fn a_thousand_bad_messages_hold_up_neither_new_mail_nor_each_other() {
    for how in Bad::ALL {
        holds_for(Leftovers { bad: 1000, of: 10_000, how, layout: Layout::Spread });
    }
}
