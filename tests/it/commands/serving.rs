//! The endpoint of a monitor: begun, told, begun anew, refused, and ended.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use cynosure::state::ExecutionState;
use cynosure::worker::{Env, RealEnv};
use rustix::process::Signal;

use crate::commands::home::{Home, Running};
use crate::commands::standing::state;
use crate::commands::watching::{fresh, publish};
use crate::endpoint::client::{ask, connect, head, request};

/// A monitor with a watched source, that looks often.
fn home(endpoint: &str) -> Home {
    let home = Home::of_work();
    publish(&home, "work", &ExecutionState { last_updated: RealEnv.now(), ..fresh() });
    let settings = format!("[monitor]\ninterval = \"200ms\"\n{endpoint}\n[restart]");
    home.configure("[restart]", &settings);
    home
}

const SERVED: &str = "[endpoint]\nlisten = \"127.0.0.1:0\"\nrequests_per_minute = 10000";

/// Where it says that it listens.
fn address(monitor: &mut Running) -> SocketAddr {
    let log = monitor.log_up_to("the endpoint listens on http://");
    let (_, after) = log.rsplit_once("http://").unwrap();
    after.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn it_shows_what_the_files_tell_and_ends_with_the_monitor() {
    let home = home(SERVED);
    let mut monitor = home.start(&["monitor"]);
    let address = address(&mut monitor);
    let overview = || ask(address, "GET", "/api/health/overview", &[]).json();
    crate::endpoint::until(|| overview()["looked_at"].is_string());

    let source = ask(address, "GET", "/api/sources/work", &[]).json();
    assert_eq!(source["state"], state().status.name());
    assert_eq!(source["total"], state().total_threads);
    let overview = overview();
    assert!(!overview["checks"].as_array().unwrap().is_empty(), "{overview}");
    let metrics = ask(address, "GET", "/metrics", &[]);
    assert!(metrics.body.contains("source=\"work\""), "{}", metrics.body);
    assert_eq!(
        ask(address, "GET", "/api/sources/work/history", &[]).json()["history"],
        serde_json::json!([])
    );
    assert!(ask(address, "GET", "/", &[]).body.contains("id=\"source-work\""));

    // A page that stays open does not hold it up.
    let mut page = connect(address);
    page.write_all(request("GET", "/events", &[]).as_bytes()).unwrap();
    let mut page = BufReader::new(page);
    assert_eq!(head(&mut page).status, 200);
    monitor.signal(Signal::TERM);
    assert_eq!(monitor.0.wait().unwrap().code(), Some(143));
    let mut rest = Vec::new();
    page.read_to_end(&mut rest).ok();
}

#[test]
fn state_files_that_vanish_or_are_cut_short_are_told_and_nothing_more() {
    let home = home(SERVED);
    let mut monitor = home.start(&["monitor"]);
    let address = address(&mut monitor);

    home.write("state/work/execution_state.json", "{\"schema\":");
    home.write("state/quota.json", "{");
    home.write("state/breakers.json", "[]");
    home.write("state/health.json", "");
    home.write("state/alerts.json", "{\"schema\":1,\"alerts\":7}");
    home.write("state/trends.json", "{}");
    home.write("state/work/ledger.sqlite", "this is no ledger");

    crate::endpoint::until(|| {
        ask(address, "GET", "/api/sources/work", &[]).json()["state"] == "unknown"
    });
    for path in ["/", "/?source=work", "/health", "/metrics", "/api/health/overview", "/api/trends"]
    {
        let status = ask(address, "GET", path, &[]).status;
        assert!(matches!(status, 200 | 503), "{path}: {status}");
    }
    assert_eq!(ask(address, "GET", "/api/sources/work/history", &[]).status, 503);

    fs_err::remove_dir_all(home.path("state/work")).unwrap();
    crate::endpoint::until(|| {
        ask(address, "GET", "/api/sources/work", &[]).json()["state"] == "never_run"
    });
    home.configure("[source.work]", "[source.other]");
    crate::endpoint::until(|| ask(address, "GET", "/api/sources/work", &[]).status == 404);
}

#[test]
fn other_settings_begin_it_anew_and_a_token_shuts_it() {
    let home = home(SERVED);
    let mut monitor = home.start(&["monitor"]);
    let open = address(&mut monitor);
    assert_ne!(ask(open, "GET", "/health", &[]).status, 401);

    home.configure("requests_per_minute = 10000", "token = { file = \"token\" }");
    let shut = address(&mut monitor);

    assert_eq!(ask(shut, "GET", "/health", &[]).status, 401);
    let known = ask(shut, "GET", "/api/health/overview", &[("Authorization", "Bearer secret")]);
    assert_eq!(known.status, 200);
}

#[test]
fn a_token_that_changes_is_taken_over() {
    let home = home(&format!("{SERVED}\ntoken = {{ file = \"token\" }}"));
    let mut monitor = home.start(&["monitor"]);
    let before = address(&mut monitor);
    let ask = |token: &str| {
        let proof = format!("Bearer {token}");
        ask(before, "GET", "/api/health/overview", &[("Authorization", &proof)]).status
    };
    assert_eq!(ask("secret"), 200);

    home.write("token", "another");
    let after = address(&mut monitor);

    assert_eq!((after, ask("secret"), ask("another")), (before, 401, 200));
}

#[test]
fn it_stays_where_it_is_while_the_new_address_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let new = taken.local_addr().unwrap();
    let home = home(SERVED);
    let mut monitor = home.start(&["monitor"]);
    let old = address(&mut monitor);

    home.configure("listen = \"127.0.0.1:0\"", &format!("listen = \"{new}\""));
    monitor.log_until(&format!("the endpoint stays at http://{old}/: cannot listen on {new}"));
    assert_eq!(ask(old, "GET", "/api/health/overview", &[]).status, 200);

    drop(taken);
    assert_eq!(address(&mut monitor), new);
    assert_eq!(ask(new, "GET", "/api/health/overview", &[]).status, 200);
    assert!(TcpStream::connect(old).is_err(), "nobody listens at the old one any more");
}

#[test]
fn a_command_that_gives_the_token_slowly_holds_up_no_look() {
    let slow = "token = { command = [\"sleep\", \"20\"] }";
    let home = home(&format!("[endpoint]\nlisten = \"127.0.0.1:0\"\n{slow}"));
    let mut monitor = home.start(&["monitor"]);

    let log = monitor.log_up_to("it can neither be seen nor restarted");

    assert!(!log.contains("the endpoint is not served"), "{log}");
}

#[test]
fn lines_that_cannot_be_written_are_told_once_and_hold_up_nothing() {
    let home = home(SERVED);
    home.write("state/trends.lock/in-the-way", "");
    let mut monitor = home.start(&["monitor"]);
    let address = address(&mut monitor);
    monitor.log_until("the lines of the day have a gap");

    let looked = || ask(address, "GET", "/health", &[]).json()["looked_at"].clone();
    for _ in 0..2 {
        let before = looked();
        crate::endpoint::until(|| looked() != before);
    }
    monitor.signal(Signal::TERM);
    let mut rest = String::new();
    monitor.0.stderr.take().unwrap().read_to_string(&mut rest).unwrap();

    assert!(!rest.contains("gap"), "{rest}");
}

#[test]
fn an_address_that_is_taken_is_told_and_the_watch_goes_on() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = home(&format!("[endpoint]\nlisten = \"{address}\""));
    let mut monitor = home.start(&["monitor"]);

    // Each is done beside the other, in whatever order.
    let looked = "it can neither be seen nor restarted";
    if !monitor.log_up_to("the endpoint is not served: cannot listen on").contains(looked) {
        monitor.log_until(looked);
    }
    drop(taken);
    monitor.log_until("the endpoint listens on http://");
}

#[test]
fn a_token_that_cannot_be_read_leaves_it_shut() {
    let home = home("[endpoint]\nlisten = \"127.0.0.1:0\"\ntoken = { file = \"nowhere\" }");
    let mut monitor = home.start(&["monitor"]);

    let log = monitor.log_up_to("the endpoint is not served: ");

    assert!(log.contains("credential file"), "{log}");
    assert!(!log.contains("listens on"), "{log}");
}

#[test]
fn other_machines_are_not_let_in_without_a_token() {
    let home = home("[endpoint]\nlisten = \"0.0.0.0:8080\"");
    for command in [&["config", "check"][..], &["monitor"]] {
        let ran = home.cynosure(command);

        assert_eq!(ran.code, Some(78), "{ran:?}");
        assert!(ran.err.contains("`endpoint.listen` lets other machines ask"), "{}", ran.err);
        assert!(ran.err.contains("token = { file ="), "{}", ran.err);
    }
}
