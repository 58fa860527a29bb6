//! Checks that the source tree keeps its shape.
#![expect(clippy::panic, reason = "helpers of tests fail as loudly as tests")]

use std::fs;
use std::path::Path;

/// A layer, and what of the program it may use besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("engine", &[]),
    // A library of its own, which whoever calls something that may fail for a moment can use.
    ("retry", &["engine"]),
    ("disk", &["engine", "retry"]),
    ("words", &["engine"]),
    ("config", &["engine", "retry", "disk"]),
    ("source", &["engine", "retry", "disk"]),
    ("ledger", &["engine", "retry", "disk"]),
    ("archive", &["engine", "retry", "disk"]),
    ("state", &["engine", "disk"]),
    ("systemd", &["engine", "retry", "disk"]),
    ("telemetry", &["engine", "retry"]),
    ("notify", &["engine"]),
    ("endpoint", &["engine", "words"]),
    // Only what is rehearsed, and how files are read: the rehearsal must not need what it is made for.
    ("simulate", &["engine", "config"]),
    ("demo", &[]),
    (
        "worker",
        &[
            "engine",
            "retry",
            "disk",
            "config",
            "source",
            "ledger",
            "archive",
            "state",
            "systemd",
            "telemetry",
        ],
    ),
    // Beside the worker, of which it uses nothing: it must see what a stuck worker does not.
    ("monitor", &["engine", "retry", "disk", "config", "state", "systemd", "notify", "telemetry"]),
    (
        "cli",
        &[
            "engine",
            "retry",
            "disk",
            "words",
            "config",
            "source",
            "ledger",
            "archive",
            "state",
            "systemd",
            "notify",
            "telemetry",
            "endpoint",
            "worker",
            "monitor",
            "demo",
            "simulate",
        ],
    ),
];

/// Crates and modules that only one folder may name, since each has one home.
const EXCLUSIVE_CRATES: &[(&str, &[&str])] = &[
    ("rusqlite", &["ledger"]),
    // Mailboxes are fetched by one client, and people are told by others: they share no limits, no gate
    // and no proxies, and the monitor must not need what fetches.
    ("reqwest", &["source", "notify", "telemetry"]),
    ("lettre", &["notify"]),
    ("hyper::", &["demo", "endpoint", "source"]),
    ("maud", &["endpoint"]),
    ("listenfd", &["endpoint"]),
    ("syncfs", &["disk"]),
    ("fsync(", &["disk"]),
    ("flock(", &["disk"]),
    ("zbus", &["systemd"]),
    ("clap", &["cli", "demo"]),
    ("indicatif", &["cli"]),
];

/// What would make the engine impure.
const IMPURE_NAMES: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::io",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "tracing",
    "fs_err",
    "fastrand",
    "Utc::now",
    "Local::now",
];

/// A file longer than this no longer fits in the head.
const LINES_MAX: usize = 500;

#[test]
fn each_layer_depends_only_on_the_layers_below_it() {
    for (layer, allowed) in LAYERS {
        for (path, text) in source_files(&format!("src/{layer}")) {
            for used in used_modules(&text) {
                assert!(
                    used == *layer || allowed.contains(&used.as_str()),
                    "{path} uses {used}, which does not stand below {layer}"
                );
            }
        }
    }
}

#[test]
fn every_layer_is_in_the_table() {
    for entry in fs::read_dir(repository_root().join("src")).expect("there is a source tree") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            assert!(LAYERS.iter().any(|(layer, _)| *layer == name), "{name} is in no layer");
        }
    }
}

#[test]
fn the_engine_is_pure() {
    for (path, text) in source_files("src/engine") {
        for word in IMPURE_NAMES {
            assert!(!text.contains(word), "{path} mentions {word}");
        }
    }
}

#[test]
fn each_dependency_is_used_in_one_folder_only() {
    for (word, homes) in EXCLUSIVE_CRATES {
        let tests = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
        for (path, text) in source_files("src").into_iter().filter(|(path, _)| !tests(path)) {
            let home = homes.iter().any(|home| path.contains(&format!("src/{home}/")));
            let named = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(home || !named, "{path} names {word}, which belongs to {homes:?}");
        }
    }
}

#[test]
fn every_file_has_a_module_doc_and_few_enough_lines() {
    for (path, text) in source_files("src") {
        assert!(text.starts_with("//! "), "{path} does not open with a sentence about itself");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines");
    }
}

/// The folders of the program that a file names.
fn used_modules(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.match_indices("crate::")
            .map(|(at, found)| {
                let rest = &line[at + found.len()..];
                let end =
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                rest[..end].to_owned()
            })
            .collect::<Vec<_>>()
    })
    .filter(|name| !name.is_empty())
    .collect()
}

fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn source_files(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect_source_files(&repository_root().join(folder), &mut found);
    assert!(!found.is_empty(), "no sources under {folder}");
    found
}

fn collect_source_files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            collect_source_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            found.push((path.display().to_string(), text));
        }
    }
}
