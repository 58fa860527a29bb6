//! Pool of connections, against a script for each connection.

use std::time::Duration;

use cynosure_engine::{Cause, ImapPhase};
use tokio::time::{sleep, timeout};

use super::*;
use crate::source::imap::connect::test_server::ScriptStep::{
    Expect, ExpectStart, Say, Sleep, UntilClosed,
};
use crate::source::imap::connect::test_server::{
    ScriptServer, ScriptStep, account, plain_options, run_locally,
};
use crate::source::imap::wire::Command;

const CAPABLE_GREETING: ScriptStep = Say("* OK [CAPABILITY IMAP4rev1] ready");
const LOGIN: ScriptStep = Expect("A1 LOGIN me@example.com s3cret-word");
const LOGGED_IN: ScriptStep = Say("A1 OK [CAPABILITY IMAP4rev1] logged in");

/// Returns a pool, and a server that plays one script for each connection after its login.
async fn start(connections: u32, scripts: &[&[ScriptStep]]) -> (Pool, ScriptServer) {
    let login = [CAPABLE_GREETING, LOGIN, LOGGED_IN];
    let scripts = scripts.iter().map(|script| [&login[..], *script].concat()).collect();
    let server = ScriptServer::start(scripts).await;
    (pool_for(connections, server.port), server)
}

fn pool_for(connections: u32, port: u16) -> Pool {
    let options = ImapOptions { connections, ..plain_options(port) };
    Pool::for_account(Rc::into_inner(account(options)).unwrap())
}

async fn run_noop(connection: &mut PooledConnection) {
    connection.run(&Command::new("NOOP"), ImapPhase::Idle).await.unwrap();
}

#[tokio::test]
async fn a_connection_is_used_again() {
    run_locally(async {
        let (pool, server) = start(
            1,
            &[&[
                Expect("A2 NOOP"),
                Say("A2 OK done\n* OK still here"),
                Expect("A3 NOOP"),
                Say("A3 OK done"),
                UntilClosed,
            ]],
        )
        .await;

        let mut connection = pool.acquire().await.unwrap();
        let (waiting, ()) = tokio::join!(pool.acquire(), async {
            assert!(pool.has_waiters());
            run_noop(&mut connection).await;
            drop(connection);
        });
        run_noop(&mut waiting.unwrap()).await;

        assert!(!pool.has_waiters());
        pool.close_idle();
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_waits_for_the_reply_to_the_name_of_the_client() {
    run_locally(async {
        let script = vec![
            CAPABLE_GREETING,
            LOGIN,
            Say("A1 OK [CAPABILITY IMAP4rev1 ID] logged in"),
            ExpectStart("A2 ID ("),
            Expect("A3 NOOP"),
            Say("* ID NIL\nA2 NO who are you\nA3 OK done"),
            Expect("A4 NOOP"),
            Say("A4 OK done"),
            UntilClosed,
        ];
        let server = ScriptServer::start(vec![script]).await;
        let pool = pool_for(1, server.port);

        // An idle connection may get the reply, too.
        drop(pool.acquire().await.unwrap());
        run_noop(&mut pool.acquire().await.unwrap()).await;
        run_noop(&mut pool.acquire().await.unwrap()).await;

        pool.close_idle();
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_with_a_command_in_flight_is_closed() {
    run_locally(async {
        let (pool, server) = start(
            1,
            &[
                &[Expect("A2 NOOP"), UntilClosed],
                &[Expect("A2 NOOP"), Say("A2 OK done"), UntilClosed],
            ],
        )
        .await;

        let mut connection = pool.acquire().await.unwrap();
        let command = connection.start(&Command::new("NOOP"), ImapPhase::Idle).await.unwrap();
        drop((connection, command));
        run_noop(&mut pool.acquire().await.unwrap()).await;

        pool.close_idle();
        server.finish().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_a_minute() {
    run_locally(async {
        let (pool, server) = start(1, &[&[UntilClosed]]).await;
        drop(pool.acquire().await.unwrap());

        let mut finished = Box::pin(server.finish());
        assert!(timeout(Duration::from_secs(10), &mut finished).await.is_err(), "it is open");
        sleep(Duration::from_secs(51)).await;

        assert!(pool.0.idle.take_newest().is_none());
        drop(finished);
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_the_server_ended_is_replaced() {
    run_locally(async {
        let (pool, server) = start(
            1,
            &[&[Say("* BYE Autologout")], &[Expect("A2 NOOP"), Say("A2 OK done"), UntilClosed]],
        )
        .await;
        // The end has arrived with the reply to the login.
        drop(pool.acquire().await.unwrap());

        run_noop(&mut pool.acquire().await.unwrap()).await;

        pool.close_idle();
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_reset_closes_used_and_idle_connections() {
    run_locally(async {
        let (pool, server) = start(2, &[&[UntilClosed], &[UntilClosed], &[UntilClosed]]).await;
        let used = pool.acquire().await.unwrap();
        drop(pool.acquire().await.unwrap());

        pool.reset();
        drop(used);

        assert!(pool.0.idle.take_newest().is_none());
        drop(pool.acquire().await.unwrap());
        assert!(pool.0.idle.take_newest().is_some(), "a connection of now is kept");
        server.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_lowers_the_number() {
    run_locally(async {
        let refusal = Say("* BYE [ALERT] Too many simultaneous connections. (Failure)");
        let open = vec![CAPABLE_GREETING, LOGIN, LOGGED_IN, UntilClosed];
        let server = ScriptServer::start(vec![open, vec![refusal]]).await;
        let pool = pool_for(2, server.port);
        let first = pool.acquire().await.unwrap();

        let failure = pool.acquire().await.unwrap_err();

        assert_eq!(failure.cause, Cause::RateLimit);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(60)));
        assert_eq!(pool.0.account.slots.free_count(), 0);
        drop(first);
        drop(pool);
        server.finish().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_login_that_gets_no_reply_is_no_connection() {
    run_locally(async {
        let silent = vec![CAPABLE_GREETING, LOGIN, Sleep(Duration::from_secs(3600))];
        let server = ScriptServer::start(vec![silent]).await;
        let pool = pool_for(1, server.port);

        let failure = pool.acquire().await.unwrap_err();

        assert_eq!(failure.cause, Cause::Timeout);
        assert_eq!(pool.0.account.slots.free_count(), 1, "the slot is free again");
        let metrics = pool.0.account.options.network.metrics.snapshot();
        assert_eq!(metrics.connection.consecutive_failures, 1);
    })
    .await;
}
