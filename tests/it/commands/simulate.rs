//! `simulate`: built-in scenarios, user scenarios, traces, and mistakes in them.

use serde_json::Value;

use crate::commands::test_home::{TestHome, closed_pipe};

/// Documentation of `simulate`; the tests run its examples.
const DOCS: &str = include_str!("../../../docs/simulate.md");

/// Returns the first code block of one language in the documentation.
fn example(language: &str) -> &'static str {
    let fence = format!("```{language}\n");
    let from = DOCS.find(&fence).unwrap() + fence.len();
    DOCS[from..].split("```").next().unwrap()
}

#[test]
fn without_a_name_the_scenarios_are_listed() {
    let output = TestHome::empty().cynosure(&["simulate"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    for name in
        ["fixed-600-per-minute", "bucket-10-per-second", "5000-per-hour", "lock-out", "long-outage"]
    {
        assert!(
            output.stdout.lines().any(|line| line.starts_with(&format!("{name}  "))),
            "{}",
            output.stdout
        );
    }
}

#[test]
fn two_policies_give_a_table_a_plot_and_a_comparison() {
    let home = TestHome::empty();
    for scenario in ["fixed-600-per-minute", "long-outage"] {
        let output = home.cynosure(&["simulate", scenario, "--svg", "plot.svg"]);

        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(output.stderr, "The plot is in plot.svg.\n");
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert!(lines[0].starts_with(&format!("{scenario}: ")), "{}", output.stdout);
        assert!(lines[3].starts_with("POLICY   TIME"), "{}", output.stdout);
        assert!(
            lines[4].starts_with("follow  ") && lines[5].starts_with("backoff  "),
            "{}",
            output.stdout
        );
        assert!(
            output.stdout.contains('█') && output.stdout.contains("▁ the server's quota"),
            "{}",
            output.stdout
        );
        assert_eq!(
            output.stdout.contains("░ outage"),
            scenario == "long-outage",
            "{}",
            output.stdout
        );
        assert!(lines.last().unwrap().starts_with("follow "), "{}", output.stdout);
        assert!(!output.stdout.contains('\x1b'), "a pipe is not a terminal");
        assert!(
            lines[6..lines.len() - 1].iter().all(|line| line.chars().count() <= 80),
            "{}",
            output.stdout
        );

        let svg = home.read("plot.svg");
        assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"));
        for text in
            [scenario, ">follow<", ">backoff<", "Requests done", "prefers-color-scheme: dark"]
        {
            assert!(svg.contains(text), "{text}");
        }
    }
}

#[test]
fn the_result_depends_on_the_seed_only() {
    let home = TestHome::empty();
    let json_of = |seed| {
        let args = ["simulate", "bucket-10-per-second-silent", "--seed", seed, "--json"];
        home.cynosure(&args).stdout
    };

    assert_eq!(json_of("7"), json_of("7"));
    assert_ne!(json_of("7"), json_of("8"));
}

#[test]
fn json_has_the_results_of_both_policies() {
    let args = ["simulate", "lock-out", "--policy", "fixed=18/min", "--against", "off", "--json"];
    let output = TestHome::empty().cynosure(&args);

    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["scenario"], "lock-out");
    let [fixed, off] = [&report["runs"][0], &report["runs"][1]];
    assert_eq!((&fixed["policy"], &off["policy"]), (&"fixed=18/min".into(), &"off".into()));
    assert_eq!(fixed["throttled"], 0, "18 a minute is within the quota");
    assert_eq!(fixed["seconds"], 14_400.0);
    assert!(fixed["share_of_quota"].as_f64().unwrap() > 0.9, "{fixed}");
    assert!(off["throttled"].as_u64().unwrap() > 0, "{off}");
    assert!(
        report["verdict"].as_str().unwrap().contains("Against such a server fixed=18/min"),
        "{report}"
    );
}

#[test]
fn only_per_worker_backoff_keeps_hitting_a_down_server() {
    let output = TestHome::empty().cynosure(&["simulate", "long-outage", "--json"]);

    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let requests = [0, 1].map(|run| report["runs"][run]["during_outages"].as_u64().unwrap());
    assert!((1..100).contains(&requests[0]) && requests[1] > 500, "{report}");
    assert_eq!(
        (&report["runs"][0]["finished"], &report["runs"][1]["finished"]),
        (&true.into(), &true.into())
    );
}

#[test]
fn a_user_scenario_is_simulated() {
    let home = TestHome::empty();
    home.write("mine.toml", example("toml"));

    let output =
        home.cynosure(&["simulate", "mine.toml", "--policy", "fixed=15/s", "--against", "follow"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output.stdout.starts_with("mine: 20 requests per second, in the older headers\n"),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.contains("30,000 requests, 8 at once. The quota is 20/s"),
        "{}",
        output.stdout
    );
}

#[test]
fn a_trace_is_replayed_with_its_inference_basis() {
    let home = TestHome::empty();
    home.write("trace.jsonl", example("jsonl"));

    let output = home.cynosure(&["simulate", "trace.jsonl"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().take(5).collect();
    assert_eq!(lines[0], "trace: a server like the one in the trace");
    let counts = "The trace: 3 responses in 64s; 1 accepted, 1 throttled, 1 failed, 0 outages.";
    assert_eq!(lines[2], counts);
}

#[test]
fn an_invalid_scenario_reports_every_error() {
    let home = TestHome::empty();
    home.write(
        "broken.toml",
        "about = \"x\"\n[server]\nheaders = \"none\"\nlatncy = \"1s\"\n[limit]\nkind = \"fixed-window\"\n\
         quota = \"many\"\nwindow = \"1m\"\n[mailbox]\n",
    );

    let output = home.cynosure(&["simulate", "broken.toml"]);

    assert_eq!(output.code, Some(78), "{output:?}");
    assert_eq!(output.stdout, "");
    insta::assert_snapshot!(output.stderr, @r#"
        cynosure: broken.toml:4:1: unknown key `server.latncy`; did you mean `latency`?
        broken.toml:7:1: `limit.quota` is the text "many"; write a whole number from 1 to 2000000
        broken.toml:9:2: [mailbox] needs `requests`, the number of requests, or `lasts`, the time to run; write one
        3 mistakes in the scenario
        "#);
}

#[test]
fn missing_and_unreadable_files_are_named() {
    let home = TestHome::empty();
    home.write("trace.jsonl", "{\"at\": 1, \"status\": \"ok\"}\n");
    home.write("noise.toml", "\u{0}\u{1}");
    fs_err::write(home.path("bytes.toml"), [0xff, 0xfe]).unwrap();
    let errors = ["lockout", "nothing-of-the-kind", "trace.jsonl", "noise.toml", "bytes.toml", "."]
        .map(|name| {
            let output = home.cynosure(&["simulate", name]);
            assert_eq!(output.code, Some(78), "{name}: {output:?}");
            output.stderr
        });

    insta::assert_snapshot!(errors.concat(), @r#"
        cynosure: there is no scenario or file "lockout"; did you mean lock-out?
        cynosure: there is no scenario or file "nothing-of-the-kind"; `cynosure simulate` lists the scenarios
        cynosure: trace.jsonl:1:1: `status` is missing or not an HTTP status; write 100 to 999, or 0 for no response
        1 mistake in the trace
        cynosure: noise.toml:1:1: not valid TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
        1 mistake in the scenario
        cynosure: bytes.toml is not text: invalid utf-8 sequence of 1 bytes from index 0
        cynosure: cannot read .: Is a directory (os error 21)
        "#);
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let home = TestHome::empty();
    for (args, message) in [
        (
            &["lock-out", "--policy", "fast"][..],
            "the policies are follow, fixed=RATE, off and backoff",
        ),
        (&["lock-out", "--policy", "fixed=fast"], "`fast` is not a rate"),
        (&["lock-out", "--against", "follow,reserve=2"], "`2` is not a valid reserve"),
        (&["lock-out", "--policy", "off", "--provider", "x"], "cannot be used with"),
        (&["--svg", "plot.svg"], "SCENARIO"),
        (&["--json"], "SCENARIO"),
    ] {
        let output = home.cynosure(&[&["simulate"], args].concat());

        assert_eq!(output.code, Some(2), "{args:?} {output:?}");
        assert!(output.stderr.contains(message), "{args:?}: {}", output.stderr);
    }
    assert!(!home.path("plot.svg").exists());
}

#[test]
fn a_provider_is_one_of_the_configuration() {
    let home = TestHome::with_source_work();

    let known = home.cynosure(&["simulate", "lock-out", "--provider", "127.0.0.1"]);
    assert_eq!(known.code, Some(0), "{known:?}");
    assert!(known.stdout.contains("\n127.0.0.1  4 h"), "{}", known.stdout);

    home.configure(
        "[restart]",
        "[provider.mail]\nmode = \"fixed\"\ncap = \"9/min\"\nconcurrency = 2\n[restart]",
    );
    let fixed = home.cynosure(&["simulate", "lock-out", "--provider", "mail", "--json"]);
    let report: Value = serde_json::from_str(&fixed.stdout).unwrap();
    let run = &report["runs"][0];
    assert_eq!((&run["policy"], &run["in_flight"]), (&"mail".into(), &2.into()));
    assert_eq!(run["done"].as_u64().unwrap().div_ceil(10), 216, "9 a minute in 4 h: {run}");

    let unknown = home.cynosure(&["simulate", "lock-out", "--provider", "example"]);
    assert_eq!(unknown.code, Some(78), "{unknown:?}");
    insta::assert_snapshot!(unknown.stderr, @r#"
        cynosure: there is no provider "example" in config.toml; known providers: 127.0.0.1, mail
        "#);
}

#[test]
fn the_plot_is_saved_with_a_closed_stdout() {
    let home = TestHome::empty();

    let output = home.run_to_end(
        home.command(&["simulate", "lock-out", "--svg", "p.svg"]).stdout(closed_pipe()),
    );

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(home.read("p.svg").ends_with("</svg>\n"));
}

#[test]
fn an_unwritable_plot_is_reported_after_the_table() {
    let home = TestHome::empty();
    let output = home.cynosure(&["simulate", "lock-out", "--svg", "nowhere/plot.svg"]);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stdout.contains("POLICY"), "{}", output.stdout);
    insta::assert_snapshot!(output.stderr, @r#"
        cynosure: cannot write nowhere/plot.svg: No such file or directory (os error 2); choose a file in an existing folder
        "#);
}
