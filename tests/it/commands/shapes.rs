//! The shape of what each command writes as JSON.

use std::path::Path;

use serde_json::Value;

use crate::commands::home::Home;
use crate::shapes::{assert_kept, shape};

/// The documents that a command writes: one, or one on each line.
fn documents(home: &Home, args: &[&str]) -> Vec<Value> {
    let ran = home.cynosure(args);
    let documents = serde_json::Deserializer::from_str(&ran.out).into_iter();
    let documents: Vec<Value> = documents.map(|document| document.expect(&ran.out)).collect();
    assert!(!documents.is_empty(), "{args:?}: {ran:?}");
    documents
}

/// The keys of the documents, where what is null differs from time to time.
fn keys(documents: &[Value]) -> String {
    let shape = shape(documents, |_| false);
    let keys: Vec<&str> =
        shape.lines().filter_map(|line| Some(line.rsplit_once(": ")?.0)).collect();
    keys.join("\n")
}

/// One source in each state, and what is shared by all, as the first release wrote it.
fn in_each_state() -> Home {
    let home = Home::of_work();
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
fn the_shape_of_what_each_command_says_of_the_present_is_kept() {
    let home = in_each_state();
    for (name, args) in [
        ("explain", &["explain", "--source", "work", "--status", "429", "--json"][..]),
        ("simulate", &["simulate", "lock-out", "--json"]),
    ] {
        assert_kept(name, &shape(&documents(&home, args), |_| false));
    }
    for (name, args) in
        [("status", &["status", "--json"][..]), ("breaker-list", &["breaker", "list", "--json"])]
    {
        assert_kept(name, &keys(&documents(&home, args)));
    }
}

#[test]
fn the_shape_of_what_each_command_says_of_the_past_is_kept() {
    let home = Home::after_a_storm();

    for name in ["history", "failures", "verify"] {
        assert_kept(name, &keys(&documents(&home, &[name, "--json"])));
    }
}
