//! Shape of the JSON output of each command.

use std::path::Path;

use serde_json::Value;

use crate::commands::test_home::TestHome;
use crate::json_shape::{assert_matches_snapshot, json_shape};

/// Returns the documents that a command prints: one, or one on each line.
fn documents(home: &TestHome, args: &[&str]) -> Vec<Value> {
    let output = home.cynosure(args);
    let documents = serde_json::Deserializer::from_str(&output.stdout).into_iter();
    let documents: Vec<Value> = documents.map(|document| document.expect(&output.stdout)).collect();
    assert!(!documents.is_empty(), "{args:?}: {output:?}");
    documents
}

/// Returns the paths of all keys, without types, because some values are null in some runs only.
fn key_paths(documents: &[Value]) -> String {
    let shape = json_shape(documents, |_| false);
    let keys: Vec<&str> =
        shape.lines().filter_map(|line| Some(line.rsplit_once(": ")?.0)).collect();
    keys.join("\n")
}

/// Home with one source in each state and the shared files, in the format of the first release.
fn home_with_every_state() -> TestHome {
    let home = TestHome::with_source_work();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-1");
    let mut sources = String::new();
    for state in
        ["auth_failed", "collecting", "completed", "downloading", "error", "idle", "rate_limited"]
    {
        let file = fixtures.join(format!("execution_state-{state}.json"));
        let mut json: Value = serde_json::from_slice(&fs_err::read(file).unwrap()).unwrap();
        json["source"] = state.into();
        home.write(&format!("state/{state}/execution_state.json"), &json.to_string());
        sources.push_str(&format!(
            "[source.{state}]\nkind = \"jmap\"\nurl = \"http://127.0.0.1:9/\"\n\
             account = \"me@example.com\"\nauth = {{ type = \"bearer\", token = {{ file = \"token\" }} }}\n"
        ));
    }
    for name in ["breakers.json", "quota.json"] {
        home.write(&format!("state/{name}"), &fs_err::read_to_string(fixtures.join(name)).unwrap());
    }
    home.write("config.toml", &(sources + &home.read("config.toml")));
    home
}

#[test]
fn the_json_shape_of_current_state_commands_is_stable() {
    let home = home_with_every_state();
    for (name, args) in [
        ("explain", &["explain", "--source", "work", "--status", "429", "--json"][..]),
        ("simulate", &["simulate", "lock-out", "--json"]),
    ] {
        assert_matches_snapshot(name, &json_shape(&documents(&home, args), |_| false));
    }
    for (name, args) in
        [("status", &["status", "--json"][..]), ("breaker-list", &["breaker", "list", "--json"])]
    {
        assert_matches_snapshot(name, &key_paths(&documents(&home, args)));
    }
}

#[test]
fn the_json_shape_of_health_commands_is_stable() {
    let home = home_with_every_state();
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-2/alerts.json");
    home.write("state/alerts.json", &fs_err::read_to_string(alerts).unwrap());

    for (name, args) in [
        ("check", &["check", "--json"][..]),
        ("doctor", &["doctor", "--json"]),
        ("alert-list", &["alert", "list", "--json"]),
    ] {
        assert_matches_snapshot(name, &key_paths(&documents(&home, args)));
    }
}

/// Checks the commands about what has happened, in a home with all kinds of failures.
pub(super) fn assert_history_shapes(home: &TestHome) {
    for name in ["history", "failures", "verify"] {
        assert_matches_snapshot(name, &key_paths(&documents(home, &[name, "--json"])));
    }
}
