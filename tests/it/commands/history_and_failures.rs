//! `status`, `history` and `failures` after a run of `demo`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::commands::json_output::assert_history_shapes;
use crate::commands::status::status_cells;
use crate::commands::test_home::TestHome;

#[test]
fn a_completed_source_is_one_line() {
    insta::assert_snapshot!(status_cells(&TestHome::after_demo()), @r"
    SOURCE | STATE | DONE | RATE | UNTIL | ARCHIVE | COMPLETE UNTIL | REASON
    demo | completed | 60 / 60 | – | since TIME | SIZE | TIME | –
    ");
}

#[test]
fn the_history_shows_each_state_with_its_reason() {
    let home = TestHome::after_demo();

    insta::assert_snapshot!(home.cynosure(&["history"]).cells(), @r"
    TIME | FROM | TO | REASON
    TIME | idle | collecting | changes found at the source (SESSION)
    TIME | collecting | downloading | everything is listed
    TIME | downloading | completed | every listed item is settled
    ");
    insta::assert_snapshot!(home.cynosure(&["history", "demo", "-n", "1"]).cells(), @r"
    TIME | FROM | TO | REASON
    TIME | downloading | completed | every listed item is settled (SESSION)
    ");
}

#[test]
fn a_storm_passes_every_state_and_completes() {
    let (home, output) = TestHome::after_storm();

    let states: BTreeSet<String> = home
        .cynosure(&["history", "--json"])
        .json_lines()
        .iter()
        .map(|transition| transition["to"].as_str().unwrap().to_owned())
        .collect();
    for state in ["collecting", "downloading", "rate_limited", "error", "auth_failed", "completed"]
    {
        assert!(states.contains(state), "{state} is not in {states:?}");
    }
    let missing = output.stderr.lines().find(|line| line.starts_with("missing "));
    let missing = missing.unwrap_or_else(|| panic!("{output:?}"));
    assert!(missing.contains(" quarantined (1 "), "{missing}");
    assert!(missing.contains(": `cynosure failures demo` shows "), "{missing}");
    assert_history_shapes(&home);
}

#[test]
fn the_history_as_json_has_one_line_per_transition() {
    let lines = TestHome::after_demo().cynosure(&["history", "--json"]).json_lines();

    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["from"], &lines[0]["to"]),
        (&Value::from("idle"), &Value::from("collecting"))
    );
    for key in ["source", "at", "reason", "session"] {
        assert!(lines[0][key].is_string(), "{key} in {}", lines[0]);
    }
}

#[test]
fn status_works_with_a_broken_configuration() {
    let home = TestHome::after_demo();
    home.configure("kind = \"jmap\"", "kind = \"jamp\"");

    let output = home.cynosure(&["status"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("config.toml:4:1: `source.demo.kind`"), "{}", output.stderr);
    insta::assert_snapshot!(status_cells(&home), @r"
    SOURCE | STATE | DONE | RATE | UNTIL | ARCHIVE | COMPLETE UNTIL | REASON
    demo | completed | 60 / 60 | – | since TIME | SIZE | TIME | its configuration cannot be read
    ");
    let json: Value = serde_json::from_str(&home.cynosure(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["mistakes"].as_array().unwrap().len(), 1);
    assert_eq!(json["sources"][0]["configured"], Value::Null);

    let without_states = TestHome::with_source_work();
    without_states.configure("kind = \"jmap\"", "kind = \"jamp\"");
    assert_eq!(without_states.cynosure(&["status"]).code, Some(78));
}

#[test]
fn no_failures_are_reported_as_such() {
    let output = TestHome::after_demo().cynosure(&["failures"]);

    assert_eq!(output.code, Some(0));
    assert_eq!(
        output.stdout,
        "no failed items: every item is stored or waits for its first attempt\n"
    );
}

#[test]
fn a_source_that_never_ran_has_neither_history_nor_failures() {
    let home = TestHome::with_source_work();

    assert_eq!(home.cynosure(&["history"]).stdout, "no state changes yet\n");
    assert_eq!(home.cynosure(&["failures"]).code, Some(0));
    assert_eq!(
        home.cynosure(&["verify"]).stdout,
        "work has never run: there is nothing to verify\n"
    );
    assert!(!home.path("state").exists(), "the commands create no files");
}
