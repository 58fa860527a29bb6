//! Checks of the structure of the source tree.
#![expect(clippy::panic, reason = "test helpers panic on failure")]

use std::fs;
use std::path::Path;

/// Layers, each with the other layers that it may use.
const LAYERS: &[(&str, &[&str])] = &[
    ("engine", &[]),
    // A separate library, used by every layer that retries transient failures.
    ("retry", &["engine"]),
    ("disk", &["engine", "retry"]),
    ("human", &["engine"]),
    ("config", &["engine", "retry", "disk"]),
    ("source", &["engine", "retry", "disk"]),
    ("ledger", &["engine", "retry", "disk"]),
    ("archive", &["engine", "retry", "disk"]),
    ("state", &["engine", "disk"]),
    ("systemd", &["engine", "retry", "disk"]),
    ("telemetry", &["engine", "retry"]),
    ("notify", &["engine"]),
    ("endpoint", &["engine", "human"]),
    // Only the engine, which it simulates, and the parser of the configuration for its input files.
    // It must not depend on the layers whose work it predicts.
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
    // Independent of the worker, because it must detect a stuck worker.
    ("monitor", &["engine", "retry", "disk", "config", "state", "systemd", "notify", "telemetry"]),
    (
        "cli",
        &[
            "engine",
            "retry",
            "disk",
            "human",
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

/// Crates and functions that only the given folders may use, because each has one home.
const EXCLUSIVE_CRATES: &[(&str, &[&str])] = &[
    ("rusqlite", &["ledger"]),
    // Sources, alerts and telemetry have separate clients. They share no limits, no rate limiter
    // and no proxies, and the monitor must not depend on the client of the sources.
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

/// Names that would make the engine impure.
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

/// Maximum number of lines of a file, so that it can be understood as a whole.
const LINES_MAX: usize = 500;

#[test]
fn each_layer_depends_only_on_the_layers_below_it() {
    for (layer, allowed) in LAYERS {
        for (path, text) in source_files(&format!("src/{layer}")) {
            for used in used_modules(&text) {
                assert!(
                    used == *layer || allowed.contains(&used.as_str()),
                    "{path} uses {used}, which {layer} may not use"
                );
            }
        }
    }
}

#[test]
fn every_layer_is_in_the_table() {
    for entry in fs::read_dir(repository_root().join("src")).expect("the source tree exists") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            let name =
                path.file_name().expect("a folder has a name").to_string_lossy().into_owned();
            assert!(LAYERS.iter().any(|(layer, _)| *layer == name), "{name} is in no layer");
        }
    }
}

#[test]
fn the_engine_is_pure() {
    for (path, text) in source_files("src/engine") {
        for name in IMPURE_NAMES {
            assert!(!text.contains(name), "{path} contains {name}");
        }
    }
}

#[test]
fn each_dependency_is_used_in_one_folder_only() {
    for (name, folders) in EXCLUSIVE_CRATES {
        let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
        for (path, text) in source_files("src").into_iter().filter(|(path, _)| !is_test(path)) {
            let is_home = folders.iter().any(|folder| path.contains(&format!("src/{folder}/")));
            let is_used = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(name));
            assert!(is_home || !is_used, "{path} uses {name}, which only {folders:?} may use");
        }
    }
}

#[test]
fn every_file_has_a_module_doc_and_few_enough_lines() {
    for (path, text) in source_files("src") {
        assert!(text.starts_with("//! "), "{path} does not start with a module doc");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines");
    }
}

/// Returns the layers that a file uses.
fn used_modules(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.match_indices("crate::")
            .map(|(at, matched)| {
                let rest = &line[at + matched.len()..];
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
