//! The commands and configurations of the README and the documents work.

use std::path::Path;

use cynosure::config::{EnvVars, load};
use rustix::process::Signal;

use crate::commands::test_home::{NO_HOST_CHECKS_CONFIG, TestHome};

const README: &str = include_str!("../../../README.md");

/// Checked documents, each with its folder. `docs/simulate.md` holds scenarios, which
/// `simulate.rs` checks.
const DOCUMENTS: [(&str, &str); 9] = [
    ("", README),
    ("docs", include_str!("../../../docs/getting-started.md")),
    ("docs", include_str!("../../../docs/sources.md")),
    ("docs", include_str!("../../../docs/restore.md")),
    ("docs", include_str!("../../../docs/operations.md")),
    ("docs", include_str!("../../../docs/rate-limiting.md")),
    ("docs", include_str!("../../../docs/http-api.md")),
    ("docs", include_str!("../../../docs/architecture.md")),
    ("docs", include_str!("../../../docs/benchmarks.md")),
];

/// Returns the code blocks of one language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    let in_document = move |(_, text): (&str, &'static str)| {
        let starts = text.match_indices(&fence).map(|(at, fence)| at + fence.len());
        let starts: Vec<_> = starts.collect();
        starts.into_iter().map(move |from| text[from..].split("```").next().unwrap())
    };
    DOCUMENTS.into_iter().flat_map(in_document)
}

/// Returns the commands of all shell blocks, without their comments.
fn commands() -> Vec<Vec<&'static str>> {
    let lines = blocks("sh").flat_map(str::lines).map(|line| line.split('#').next().unwrap());
    lines
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect()
}

#[test]
fn every_command_runs() {
    let home = TestHome::with_demo_server(40);
    // CPU, memory and disk usage of the test machine must not fail a check.
    let text = home.read("config.toml");
    home.write("config.toml", &format!("{text}\n{NO_HOST_CHECKS_CONFIG}"));
    let mut executed = Vec::new();
    for words in commands() {
        match words.as_slice() {
            ["cynosure", "run"] => {
                let mut running = home.start(&["run"]);
                running.log_until("execution completed");
                running.signal(Signal::TERM);
                assert_eq!(running.0.wait().unwrap().code(), Some(143));
            }
            ["cynosure", "monitor"] => {
                let mut running = home.start(&["monitor"]);
                running.log_until("it cannot be observed or restarted");
                running.signal(Signal::TERM);
                assert_eq!(running.0.wait().unwrap().code(), Some(143));
            }
            // It asks questions, which its own tests answer.
            ["cynosure", "init"] => {}
            // Its findings depend on the machine.
            ["cynosure", "doctor"] => {
                let output = home.cynosure(&["doctor"]);
                assert!(
                    matches!(output.code, Some(0 | 1)) && output.stderr.is_empty(),
                    "{output:?}"
                );
            }
            ["cynosure", args @ ..] => {
                let output = home.cynosure(args);
                assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
            }
            ["cargo", "run", "--release", "--", args @ ..] => {
                assert_eq!(args, ["demo"]);
                let dir = home.path("demo").display().to_string();
                let output = home.cynosure(&["demo", "--items", "40", "--dir", &dir]);
                assert_eq!(output.code, Some(0), "{output:?}");
            }
            // These commands run this test.
            ["make", "quick" | "test"] => {}
            // The tests in tests/real check packages on a separate machine.
            ["make", "deb", ..] | ["editor" | "install" | "systemctl", ..] => {}
            other => panic!("no case for {other:?}"),
        }
        executed.push(words.join(" "));
    }
    assert!(executed.len() >= 25, "{executed:?}");
}

#[test]
fn the_configuration_is_valid() {
    let home = TestHome::empty();
    let text = blocks("toml").next().unwrap();
    home.write("config.toml", text);

    let loaded = load(&home.path("config.toml"), &EnvVars::default()).unwrap();

    assert!(loaded.settings.find_source("work").is_ok());
    for block in blocks("toml").skip(1) {
        home.write("config.toml", block);
        let loaded = load(&home.path("config.toml"), &EnvVars::default());
        assert!(loaded.is_ok(), "{loaded:?}");
    }
}

#[test]
fn linked_files_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for (folder, text) in DOCUMENTS {
        for (at, link) in text.match_indices("](") {
            let target = text[at + link.len()..].split(')').next().unwrap();
            let target = target.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(root.join(folder).join(target).exists(), "{folder}: {target}");
            checked += 1;
        }
    }
    assert!(checked >= 20, "{checked}");
}
