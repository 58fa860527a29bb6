//! Connections that are logged in, against a script.

use std::cell::{Cell, RefCell};

use cynosure_engine::Timestamp;
use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use futures_util::future::LocalBoxFuture;
use tokio::task::yield_now;
use tokio::time::advance;

use super::*;
use crate::limiter::{Permit, PermitRequest, QuotaScope, RequestLimiter};
use crate::source::imap::connect::connect;
use crate::source::imap::connect::test_server::ScriptStep::{
    Expect, Say, SayBytes, Sleep, UntilClosed,
};
use crate::source::imap::connect::test_server::{
    ScriptServer, ScriptStep, account_with, no_tls, plain_options, run_locally,
};

const BLOCKED_UNTIL: Timestamp = Timestamp(1_000);

/// Limiter that logs the use of its permits, of which it has one at a time.
#[derive(Clone, Debug, Default)]
struct SinglePermitLimiter {
    log: Rc<RefCell<Vec<String>>>,
    is_taken: Rc<Cell<bool>>,
}

#[derive(Debug)]
struct SinglePermit(SinglePermitLimiter);

impl RequestLimiter for SinglePermitLimiter {
    fn acquire<'a>(
        &'a self,
        _request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async move {
            while self.is_taken.replace(true) {
                yield_now().await;
            }
            Ok(Box::new(SinglePermit(self.clone())) as Box<dyn Permit>)
        })
    }

    fn try_take_retry(&self, _scope: QuotaScope<'_>) -> bool {
        false
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Permit for SinglePermit {
    fn record_response_start(&mut self, _limits: ReportedLimits, latency: Duration) {
        self.0.log.borrow_mut().push(format!("started after {} s", latency.as_secs()));
    }

    fn record_retry_after(&mut self, retry_after: Duration) {
        self.0.log.borrow_mut().push(format!("retry after {} s", retry_after.as_secs()));
    }

    fn record_lock_out(&mut self, first_wait: Duration) {
        self.0.log.borrow_mut().push(format!("lock-out: first {} s", first_wait.as_secs()));
    }

    fn record_bytes(&mut self, bytes: u64) {
        self.0.log.borrow_mut().push(format!("{bytes} bytes"));
    }

    fn record_outcome(&mut self, outcome: ResponseOutcome) -> Option<Timestamp> {
        self.0.log.borrow_mut().push(format!("{outcome:?}"));
        (outcome == ResponseOutcome::Throttled).then_some(BLOCKED_UNTIL)
    }
}

impl Drop for SinglePermit {
    fn drop(&mut self) {
        self.0.is_taken.replace(false);
    }
}

impl SinglePermitLimiter {
    fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

/// Connects to a server that plays the script. Nobody logs in.
async fn open(script: &[ScriptStep]) -> (Connection, ScriptServer, SinglePermitLimiter) {
    let server = ScriptServer::start(vec![script.to_vec()]).await;
    let limiter = SinglePermitLimiter::default();
    let account = account_with(plain_options(server.port), Rc::new(limiter.clone()), no_tls);
    let stream = connect(&account.options, no_tls).await.unwrap();
    let channel = CommandChannel::new(stream, Rc::clone(&account));
    let generation = account.generation();
    (Connection::new(channel, account, generation), server, limiter)
}

fn list() -> Command {
    Command::new("LIST").astring("").astring("*")
}

#[tokio::test]
async fn a_command_returns_its_untagged_responses() {
    run_locally(async {
        let (mut connection, server, limiter) = open(&[
            Expect("A1 LIST \"\" \"*\""),
            Say("* LIST () \"/\" INBOX\n* OK [ALERT] quota is low\n+ odd\nA1 OK done"),
            UntilClosed,
        ])
        .await;

        let responses = connection.run(&list(), ImapPhase::Listing).await.unwrap();

        assert_eq!(responses.len(), 2, "{responses:?}");
        assert!(connection.is_reusable());
        assert_eq!(limiter.log(), ["started after 0 s", "Accepted"]);
        let metrics = connection.account.options.network.metrics.snapshot();
        assert_eq!(metrics.requests.by_outcome.success, 1);
        drop(connection);
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_throttled_command_blocks_the_limiter() {
    run_locally(async {
        let (mut connection, _server, limiter) = open(&[
            Expect("A1 LIST \"\" \"*\""),
            Say("A1 BAD Request is throttled. Suggested Backoff Time: 89117 milliseconds"),
        ])
        .await;

        let failure = connection.run(&list(), ImapPhase::Listing).await.unwrap_err();

        assert_eq!(failure.cause, Cause::RateLimit);
        assert_eq!(failure.retry_after, Some(Duration::from_millis(89_117)));
        assert_eq!(failure.blocked_until, Some(BLOCKED_UNTIL));
        assert_eq!(limiter.log(), ["started after 0 s", "retry after 89 s", "Throttled"]);
        let expected = "127.0.0.1 refused to list messages or folders: \"BAD Request is throttled.";
        assert!(failure.message.starts_with(expected), "{failure}");
    })
    .await;
}

/// The limiter makes the wait longer with each in a row, so it must know that it is not told.
#[tokio::test]
async fn a_lock_out_without_a_time_is_left_to_the_limiter() {
    run_locally(async {
        let (mut connection, _server, limiter) = open(&[
            Expect("A1 LIST \"\" \"*\""),
            Say("A1 NO [OVERQUOTA] Account exceeded command or bandwidth limits."),
        ])
        .await;

        let failure = connection.run(&list(), ImapPhase::Listing).await.unwrap_err();

        assert_eq!((failure.cause, failure.is_lock_out), (Cause::RateLimit, true));
        assert_eq!(failure.blocked_until, Some(BLOCKED_UNTIL));
        assert_eq!(limiter.log(), ["started after 0 s", "lock-out: first 3600 s", "Throttled"]);
    })
    .await;
}

/// Three such ends within ten minutes would be a limit of sessions by themselves.
#[tokio::test]
async fn a_bye_after_a_rate_limit_belongs_to_it() {
    run_locally(async {
        let (mut connection, _server, _limiter) = open(&[
            Expect("A1 LIST \"\" \"*\""),
            Say("A1 BAD Request is throttled. Suggested Backoff Time: 100 milliseconds"),
            Say("* BYE Connection closed. 14"),
        ])
        .await;
        let refused = connection.run(&list(), ImapPhase::Listing).await.unwrap_err();

        let ended = connection.read(&mut NoBodies).await.unwrap_err();

        assert_eq!([refused.cause, ended.cause], [Cause::RateLimit, Cause::Connection]);
        assert_eq!(ended.message, "127.0.0.1 ended the connection");
    })
    .await;
}

#[tokio::test]
async fn a_bye_ends_the_command_and_the_connection() {
    run_locally(async {
        let (mut connection, _server, limiter) =
            open(&[Expect("A1 LIST \"\" \"*\""), Say("* BYE Server shutting down.")]).await;

        let failure = connection.run(&list(), ImapPhase::Listing).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Connection);
        assert!(failure.message.starts_with("127.0.0.1 ended the connection: "), "{failure}");
        assert_eq!(limiter.log(), ["started after 0 s", "Failed"]);
        assert!(!connection.is_reusable());
        assert_eq!(connection.read(&mut NoBodies).await.unwrap_err().cause, Cause::Connection);
    })
    .await;
}

#[tokio::test]
async fn a_broken_connection_counts_once_for_the_oldest_command() {
    run_locally(async {
        let (mut connection, _server, limiter) = open(&[Expect("A1 LIST \"\" \"*\"")]).await;

        let command = connection.start(&list(), ImapPhase::Listing).await.unwrap();
        let failure = connection.read(&mut NoBodies).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Connection);
        assert_eq!(limiter.log(), ["Failed"]);
        let metrics = connection.account.options.network.metrics.snapshot();
        assert_eq!(metrics.connection.consecutive_failures, 1);
        drop(command);
        assert!(!connection.is_reusable());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_times_out() {
    run_locally(async {
        let (mut connection, _server, _limiter) =
            open(&[Expect("A1 LIST \"\" \"*\""), Sleep(Duration::from_secs(3600))]).await;

        let failure = connection.run(&list(), ImapPhase::Listing).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Timeout);
        assert_eq!(failure.message, "127.0.0.1 sent nothing for 5 s");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_do_not_extend_a_command() {
    run_locally(async {
        let mut script = vec![Expect("A1 LIST \"\" \"*\"")];
        let sign = [Sleep(Duration::from_secs(4)), Say("* OK Still here\n* 1 EXISTS")];
        script.extend(sign.repeat(20));
        let (mut connection, _server, _limiter) = open(&script).await;
        let started_at = Instant::now();

        let failure = connection.run(&list(), ImapPhase::Listing).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Timeout);
        assert_eq!(failure.message, "127.0.0.1 did not complete its response within 1 min");
        assert_eq!(started_at.elapsed().as_secs(), 60);
        assert!(!connection.is_reusable());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_takes_longer_than_one_part_may() {
    run_locally(async {
        let mut script = vec![Expect("A1 LIST \"\" \"*\"")];
        let part = [Sleep(Duration::from_secs(4)), Say("* LIST () \"/\" a")];
        script.extend(part.repeat(20));
        script.push(Say("A1 OK done"));
        let (mut connection, _server, _limiter) = open(&script).await;

        let responses = connection.run(&list(), ImapPhase::Listing).await.unwrap();

        assert_eq!(responses.len(), 20);
    })
    .await;
}

#[tokio::test]
async fn a_second_command_is_sent_only_with_a_permit() {
    run_locally(async {
        let (mut connection, server, limiter) = open(&[
            Expect("A1 LIST \"\" \"*\""),
            Say("A1 OK done"),
            Expect("A2 NOOP"),
            Say("A2 OK done"),
            UntilClosed,
        ])
        .await;
        let noop = Command::new("NOOP");

        let mut first = connection.start(&list(), ImapPhase::Listing).await.unwrap();
        assert!(connection.try_start(&noop, ImapPhase::Idle).await.unwrap().is_none());
        first.record_bytes(17);
        let Response::Tagged { tag, reply } = connection.read(&mut NoBodies).await.unwrap() else {
            panic!("the first response is the reply");
        };
        assert_eq!(tag, first.tag());
        connection.finish(first, &reply).unwrap();
        let second = connection.try_start(&noop, ImapPhase::Idle).await.unwrap();

        assert_eq!(second.unwrap().tag(), "A2");
        assert_eq!(limiter.log(), ["17 bytes", "started after 0 s", "Accepted"]);
        drop(connection);
        server.finish().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_delayed_success_halves_the_pace() {
    run_locally(async {
        let (mut connection, server, limiter) = open(&[
            Expect("A1 LIST \"\" \"*\""),
            Sleep(Duration::from_secs(3)),
            Say("A1 OK Success [THROTTLED]"),
            Expect("A2 LIST \"\" \"*\""),
            Say("A2 OK Success"),
            UntilClosed,
        ])
        .await;
        connection.run(&list(), ImapPhase::Listing).await.unwrap();
        assert!(connection.try_start(&list(), ImapPhase::Listing).await.unwrap().is_none());
        advance(Duration::from_secs(1)).await;

        let before = Instant::now();
        connection.run(&list(), ImapPhase::Listing).await.unwrap();

        assert_eq!(before.elapsed().as_secs(), 2, "the pause is as long as the first command");
        assert_eq!(limiter.log()[..2], ["started after 3 s", "Accepted"]);
        drop(connection);
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_folder_is_opened_once() {
    run_locally(async {
        let (mut connection, server, _limiter) = open(&[
            Expect("A1 EXAMINE INBOX"),
            Say("* 172 EXISTS\n* OK [UIDVALIDITY 3857529045] valid"),
            Say("* OK [UIDNEXT 4392] next\nA1 OK [READ-ONLY] done"),
            Expect("A2 EXAMINE gone"),
            Say("A2 NO [NONEXISTENT] no such folder"),
            Expect("A3 EXAMINE INBOX"),
            Say("* OK [UIDVALIDITY 2] ok\nA3 OK done"),
            Expect("A4 EXAMINE odd"),
            Say("A4 OK done"),
            UntilClosed,
        ])
        .await;
        let inbox = FolderName::from_text("INBOX");
        let expected =
            OpenFolder { uid_validity: 3_857_529_045, uid_next: Some(4392), exists: 172 };

        assert_eq!(connection.open_folder(&inbox).await, Ok(expected));
        assert_eq!(connection.open_folder(&inbox).await, Ok(expected));
        let gone = connection.open_folder(&FolderName::from_text("gone")).await.unwrap_err();
        assert_eq!(gone.cause, Cause::NotFound);
        assert!(gone.message.starts_with("folder \"gone\": 127.0.0.1 refused to open"), "{gone}");
        let again = connection.open_folder(&inbox).await.unwrap();
        assert_eq!(again, OpenFolder { uid_validity: 2, uid_next: None, exists: 0 });
        let odd = connection.open_folder(&FolderName::from_text("odd")).await.unwrap_err();
        assert!(odd.message.ends_with("no UIDVALIDITY for it"), "{odd}");
        drop(connection);
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_literal_waits_for_its_continuation() {
    run_locally(async {
        let (mut connection, server, _limiter) = open(&[
            Expect("A1 STATUS {4}"),
            Say("* 1 EXISTS\n+ go on"),
            Expect("a\tbc (MESSAGES)"),
            Say("A1 OK done"),
            Expect("A2 STATUS {4}"),
            Say("A2 NO [CANNOT] no such name"),
            Expect("A3 NOOP"),
            Say("A3 OK done"),
            UntilClosed,
        ])
        .await;
        let folder = FolderName::from_wire(b"a\tbc");
        let status = Command::new("STATUS").folder(&folder).text("(MESSAGES)");

        let responses = connection.run(&status, ImapPhase::Listing).await.unwrap();
        let is_held = matches!(&responses[..], [Response::Data { number: Some(1), .. }]);
        assert!(is_held, "{responses:?}");
        let refused = connection.run(&status, ImapPhase::Listing).await.unwrap_err();
        assert_eq!(refused.cause, Cause::Forbidden);
        connection.run(&Command::new("NOOP"), ImapPhase::Idle).await.unwrap();
        drop(connection);
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn too_many_responses_are_one_clear_failure() {
    run_locally(async {
        let responses = "* OK go on\r\n".repeat(RESPONSES_MAX + 1);
        let (mut connection, _server, _limiter) =
            open(&[Expect("A1 LIST \"\" \"*\""), SayBytes(responses.leak().as_bytes())]).await;

        let failure = connection.run(&list(), ImapPhase::Listing).await.unwrap_err();

        assert_eq!(failure.cause, Cause::TooLarge);
        let expected = "127.0.0.1 sent more than 210000 responses to one command; if the account \
                        has more than 100000 folders, use a login that sees fewer";
        assert_eq!(failure.message, expected);
        assert!(!connection.is_reusable());
    })
    .await;
}

#[tokio::test]
async fn a_reply_without_a_command_is_a_failure() {
    run_locally(async {
        let (mut connection, _server, _limiter) =
            open(&[Expect("A1 LIST \"\" \"*\""), Say("A9 OK done")]).await;

        let failure = connection.run(&list(), ImapPhase::Listing).await.unwrap_err();

        assert_eq!(failure.message, "127.0.0.1 replied to A9, which is not in flight");
        assert!(!connection.is_reusable());
    })
    .await;
}
