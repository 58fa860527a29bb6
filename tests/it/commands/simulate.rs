//! `simulate`: shipped scenarios, files of one's own, traces, and mistakes in them.

use serde_json::Value;

use crate::commands::home::{Home, deaf};

/// The documentation, whose examples are tried.
const DOCS: &str = include_str!("../../../docs/simulate.md");

/// The first block of one language in the documentation.
fn example(language: &str) -> &'static str {
    let fence = format!("```{language}\n");
    let from = DOCS.find(&fence).unwrap() + fence.len();
    DOCS[from..].split("```").next().unwrap()
}

#[test]
fn without_a_name_it_lists_the_scenarios() {
    let ran = Home::empty().cynosure(&["simulate"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    for name in
        ["fixed-600-per-minute", "bucket-10-per-second", "5000-per-hour", "lock-out", "long-outage"]
    {
        assert!(ran.out.lines().any(|line| line.starts_with(&format!("{name}  "))), "{}", ran.out);
    }
}

#[test]
fn two_policies_are_told_in_a_table_a_plot_and_a_sentence() {
    let home = Home::empty();
    for scenario in ["fixed-600-per-minute", "long-outage"] {
        let ran = home.cynosure(&["simulate", scenario, "--svg", "plot.svg"]);

        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.err, "The plot is in plot.svg.\n");
        let lines: Vec<&str> = ran.out.lines().collect();
        assert!(lines[0].starts_with(&format!("{scenario}: ")), "{}", ran.out);
        assert!(lines[3].starts_with("POLICY   TIME"), "{}", ran.out);
        assert!(
            lines[4].starts_with("follow  ") && lines[5].starts_with("backoff  "),
            "{}",
            ran.out
        );
        assert!(ran.out.contains('█') && ran.out.contains("▁ the server's quota"), "{}", ran.out);
        assert_eq!(ran.out.contains("░ outage"), scenario == "long-outage", "{}", ran.out);
        assert!(lines.last().unwrap().starts_with("follow "), "{}", ran.out);
        assert!(!ran.out.contains('\x1b'), "a pipe is no terminal");
        assert!(
            lines[6..lines.len() - 1].iter().all(|line| line.chars().count() <= 80),
            "{}",
            ran.out
        );

        let svg = home.read("plot.svg");
        assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"));
        for said in
            [scenario, ">follow<", ">backoff<", "Requests done", "prefers-color-scheme: dark"]
        {
            assert!(svg.contains(said), "{said}");
        }
    }
}

#[test]
fn the_same_seed_ends_the_same_way_and_another_one_differently() {
    let home = Home::empty();
    let ran = |seed| {
        let args = ["simulate", "bucket-10-per-second-silent", "--seed", seed, "--json"];
        home.cynosure(&args).out
    };

    assert_eq!(ran("7"), ran("7"));
    assert_ne!(ran("7"), ran("8"));
}

#[test]
fn as_json_it_has_the_figures_of_both() {
    let args = ["simulate", "lock-out", "--policy", "fixed=18/min", "--against", "off", "--json"];
    let ran = Home::empty().cynosure(&args);

    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["scenario"], "lock-out");
    let [fixed, off] = [&told["runs"][0], &told["runs"][1]];
    assert_eq!((&fixed["policy"], &off["policy"]), (&"fixed=18/min".into(), &"off".into()));
    assert_eq!(fixed["throttled"], 0, "18 a minute is within the quota");
    assert_eq!(fixed["seconds"], 14_400.0);
    assert!(fixed["share_of_quota"].as_f64().unwrap() > 0.9, "{fixed}");
    assert!(off["throttled"].as_u64().unwrap() > 0, "{off}");
    assert!(
        told["verdict"].as_str().unwrap().contains("Against such a server fixed=18/min"),
        "{told}"
    );
}

#[test]
fn a_server_that_is_down_is_left_alone_but_by_who_backs_off_each_for_himself() {
    let ran = Home::empty().cynosure(&["simulate", "long-outage", "--json"]);

    let told: Value = serde_json::from_str(&ran.out).unwrap();
    let asked = [0, 1].map(|run| told["runs"][run]["during_outages"].as_u64().unwrap());
    assert!((1..100).contains(&asked[0]) && asked[1] > 500, "{told}");
    assert_eq!(
        (&told["runs"][0]["finished"], &told["runs"][1]["finished"]),
        (&true.into(), &true.into())
    );
}

#[test]
fn a_scenario_of_ones_own_is_rehearsed() {
    let home = Home::empty();
    home.write("mine.toml", example("toml"));

    let ran =
        home.cynosure(&["simulate", "mine.toml", "--policy", "fixed=15/s", "--against", "follow"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.out.starts_with("mine: 20 requests per second, in the older headers\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("30,000 requests, 8 at once. The quota is 20/s"), "{}", ran.out);
}

#[test]
fn a_trace_is_replayed_and_says_what_it_rests_on() {
    let home = Home::empty();
    home.write("trace.jsonl", example("jsonl"));

    let ran = home.cynosure(&["simulate", "trace.jsonl"]);

    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told: Vec<&str> = ran.out.lines().take(5).collect();
    assert_eq!(told[0], "trace: a server like the one in the trace");
    let second = "The trace: 3 answers in 64s; 1 accepted, 1 refused, 1 failed, in 0 outages.";
    assert_eq!(told[2], second);
}

#[test]
fn a_broken_scenario_is_answered_with_every_mistake() {
    let home = Home::empty();
    home.write(
        "broken.toml",
        "about = \"x\"\n[server]\nheaders = \"none\"\nlatncy = \"1s\"\n[limit]\nkind = \"fixed-window\"\n\
         quota = \"many\"\nwindow = \"1m\"\n[mailbox]\n",
    );

    let ran = home.cynosure(&["simulate", "broken.toml"]);

    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert_eq!(ran.out, "");
    insta::assert_snapshot!(ran.err, @r#"
        cynosure: broken.toml:4:1: unknown key `server.latncy`; did you mean `latency`?
        broken.toml:7:1: `limit.quota` is the text "many"; write a whole number from 1 to 2000000
        broken.toml:9:2: [mailbox] says neither `requests`, how many there are, nor `lasts`, for how long to try; write one
        3 mistakes in the scenario
        "#);
}

#[test]
fn what_is_not_there_or_cannot_be_read_is_named() {
    let home = Home::empty();
    home.write("trace.jsonl", "{\"at\": 1, \"status\": \"ok\"}\n");
    home.write("noise.toml", "\u{0}\u{1}");
    fs_err::write(home.path("bytes.toml"), [0xff, 0xfe]).unwrap();
    let told = ["lockout", "nothing-of-the-kind", "trace.jsonl", "noise.toml", "bytes.toml", "."]
        .map(|what| {
            let ran = home.cynosure(&["simulate", what]);
            assert_eq!(ran.code, Some(78), "{what}: {ran:?}");
            ran.err
        });

    insta::assert_snapshot!(told.concat(), @r#"
        cynosure: there is no scenario or file "lockout"; did you mean lock-out?
        cynosure: there is no scenario or file "nothing-of-the-kind"; `cynosure simulate` lists the scenarios
        cynosure: trace.jsonl:1:1: `status` is missing or no status; write one from 100 to 999, or 0 for no answer
        1 mistake in the trace
        cynosure: noise.toml:1:1: not valid TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
        1 mistake in the scenario
        cynosure: bytes.toml is not text: invalid utf-8 sequence of 1 bytes from index 0
        cynosure: cannot read .: Is a directory (os error 21)
        "#);
}

#[test]
fn what_is_typed_wrongly_is_usage() {
    let home = Home::empty();
    for (args, why) in [
        (
            &["lock-out", "--policy", "fast"][..],
            "the policies are follow, fixed=RATE, off and backoff",
        ),
        (&["lock-out", "--policy", "fixed=fast"], "`fast` is not a rate"),
        (&["lock-out", "--against", "follow,reserve=2"], "`2` is no reserve"),
        (&["lock-out", "--policy", "off", "--provider", "x"], "cannot be used with"),
        (&["--svg", "plot.svg"], "SCENARIO"),
        (&["--json"], "SCENARIO"),
    ] {
        let ran = home.cynosure(&[&["simulate"], args].concat());

        assert_eq!(ran.code, Some(2), "{args:?} {ran:?}");
        assert!(ran.err.contains(why), "{args:?}: {}", ran.err);
    }
    assert!(!home.path("plot.svg").exists());
}

#[test]
fn a_provider_is_one_of_the_configuration() {
    let home = Home::of_work();

    let known = home.cynosure(&["simulate", "lock-out", "--provider", "127.0.0.1"]);
    assert_eq!(known.code, Some(0), "{known:?}");
    assert!(known.out.contains("\n127.0.0.1  4 h"), "{}", known.out);

    home.configure(
        "[restart]",
        "[provider.mail]\nmode = \"fixed\"\ncap = \"9/min\"\nconcurrency = 2\n[restart]",
    );
    let fixed = home.cynosure(&["simulate", "lock-out", "--provider", "mail", "--json"]);
    let told: Value = serde_json::from_str(&fixed.out).unwrap();
    let run = &told["runs"][0];
    assert_eq!((&run["policy"], &run["in_flight"]), (&"mail".into(), &2.into()));
    assert_eq!(run["done"].as_u64().unwrap().div_ceil(10), 216, "9 a minute in 4 h: {run}");

    let unknown = home.cynosure(&["simulate", "lock-out", "--provider", "example"]);
    assert_eq!(unknown.code, Some(78), "{unknown:?}");
    insta::assert_snapshot!(unknown.err, @r#"
        cynosure: there is no provider "example" in config.toml; the providers there: 127.0.0.1, mail
        "#);
}

#[test]
fn the_plot_is_saved_also_when_nobody_reads_the_table() {
    let home = Home::empty();

    let ran = home.end(home.command(&["simulate", "lock-out", "--svg", "p.svg"]).stdout(deaf()));

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(home.read("p.svg").ends_with("</svg>\n"));
}

#[test]
fn a_plot_that_cannot_be_written_is_said_after_the_table() {
    let home = Home::empty();
    let ran = home.cynosure(&["simulate", "lock-out", "--svg", "nowhere/plot.svg"]);

    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("POLICY"), "{}", ran.out);
    insta::assert_snapshot!(ran.err, @r#"
        cynosure: cannot write nowhere/plot.svg: No such file or directory (os error 2); name a file in a folder that is there
        "#);
}
