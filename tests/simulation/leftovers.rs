//! Messages that fail for ever, and new mail beside them.

use std::time::Duration;

use cynosure::retry::Shape;
use cynosure::worker::Mode;
use tokio::time::{sleep, timeout};

use crate::life::{Stage, play};
use crate::rules::policies;
use crate::server::Bad;

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
    /// The requests for bad ones that may be in flight.
    half_slots: u32,
}

impl Stage {
    /// Fills the mailbox: each message is an item of its own, and the bad ones are spread evenly.
    fn fill(&self, leftovers: Leftovers) {
        let Leftovers { bad, of, how, .. } = leftovers;
        let mut server = self.server.borrow_mut();
        server.mail.clear();
        server.deliver(of, &self.world);
        for (no, mail) in &mut server.mail {
            (mail.item, mail.poison) = (format!("T{no}"), false);
            mail.bytes.truncate(100);
            mail.bad = ((no * bad) / of != ((no - 1) * bad) / of).then_some(how);
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
                self.live(Mode::Keep).await;
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
    /// all requests take on the slots that they have, those of one message one after the other,
    /// and two minutes.
    fn bound(self) -> Duration {
        let item = policies().item;
        let (one, delays) = (REQUEST_MAX + self.how.takes(), item.retry_delay * item.max_requests);
        let rounds = u32::try_from(self.bad).unwrap().div_ceil(self.half_slots);
        let good = REQUEST_MAX * u32::try_from(self.of).unwrap() / (2 * self.half_slots);
        delays + one * item.max_requests * rounds + good + Duration::from_secs(120)
    }
}

fn holds_for(leftovers: Leftovers) {
    play(async |stage| {
        stage.request = Shape::FAST;
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
        let few = [(1, 60), (5, 100)];
        // The first timeouts of forty leave the limiter with a place or two, and half of those.
        let many = (how != Bad::Silent).then_some((40, 300));
        for (bad, of) in few.into_iter().chain(many) {
            holds_for(Leftovers { bad, of, how, half_slots: 4 });
        }
    }
}

/// FAULTS 49. By then the limiter has cut the places down to one.
#[test]
fn a_thousand_bad_messages_come_to_an_end() {
    holds_for(Leftovers { bad: 1000, of: 10_000, how: Bad::Failed, half_slots: 1 });
}
