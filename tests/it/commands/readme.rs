//! What the README says can be typed, can be typed.

use std::path::Path;

use cynosure::config::{Environment, load};
use rustix::process::Signal;

use crate::commands::home::{Home, UNCONCERNED};

const README: &str = include_str!("../../../README.md");

/// The blocks of one language.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let fence = format!("```{language}\n");
    README
        .match_indices(&fence)
        .map(|(at, fence)| at + fence.len())
        .collect::<Vec<_>>()
        .into_iter()
        .map(|from| README[from..].split("```").next().unwrap())
}

/// The commands of all shell blocks, without their comments.
fn commands() -> Vec<Vec<&'static str>> {
    let lines = blocks("sh").flat_map(str::lines).map(|line| line.split('#').next().unwrap());
    lines
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect()
}

#[test]
fn every_command_runs() {
    let home = Home::served(40);
    // How busy and how full the machine is, is up to it.
    let text = home.read("config.toml");
    home.write("config.toml", &format!("{text}\n{UNCONCERNED}"));
    let mut ran = Vec::new();
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
                running.log_until("it can neither be seen nor restarted");
                running.signal(Signal::TERM);
                assert_eq!(running.0.wait().unwrap().code(), Some(143));
            }
            // What it finds is up to the machine.
            ["cynosure", "doctor"] => {
                let end = home.cynosure(&["doctor"]);
                assert!(matches!(end.code, Some(0 | 1)) && end.err.is_empty(), "{end:?}");
            }
            ["cynosure", args @ ..] => {
                let end = home.cynosure(args);
                assert_eq!(end.code, Some(0), "{args:?}: {end:?}");
            }
            ["cargo", "run", "--release", "--", args @ ..] => {
                assert_eq!(args, ["demo"]);
                let dir = home.path("demo").display().to_string();
                let end = home.cynosure(&["demo", "--items", "40", "--dir", &dir]);
                assert_eq!(end.code, Some(0), "{end:?}");
            }
            // That is what runs this.
            ["make", "quick" | "test"] => {}
            // What a package does is tried on a machine of its own, among the real tests.
            ["make", "deb", ..] | ["editor" | "install" | "systemctl", ..] => {}
            other => panic!("nobody has tried {other:?}"),
        }
        ran.push(words.join(" "));
    }
    assert!(ran.len() >= 9, "{ran:?}");
}

#[test]
fn the_configuration_is_valid() {
    let home = Home::empty();
    let text = blocks("toml").next().unwrap();
    home.write("config.toml", text);

    let loaded = load(&home.path("config.toml"), &Environment::default()).unwrap();

    assert!(loaded.settings.source("work").is_ok());
    for block in blocks("toml").skip(1) {
        home.write("config.toml", block);
        let loaded = load(&home.path("config.toml"), &Environment::default());
        assert!(loaded.is_ok(), "{loaded:?}");
    }
}

#[test]
fn the_files_it_points_to_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets =
        README.match_indices("](").map(|(at, _)| README[at + 2..].split(')').next().unwrap());
    let targets: Vec<_> = targets.filter(|target| !target.contains("://")).collect();
    assert!(targets.len() >= 5, "{targets:?}");
    for target in targets {
        assert!(root.join(target).exists(), "{target}");
    }
}
