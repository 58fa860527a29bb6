//! Checks of the structure of the source tree.
#![expect(clippy::panic, reason = "test helpers panic on failure")]

mod architecture;
mod import_circles;
mod struct_size;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Crates of the workspace, each with the folder of its sources.
const CRATES: [(&str, &str); 3] = [
    ("cynosure_engine", "crates/engine/src"),
    ("cynosure_lab", "crates/lab/src"),
    ("cynosure", "src"),
];

/// Folders of modules, each with the others that it may use.
type Layers = &'static [(&'static str, &'static [&'static str])];

/// Layers of the program, each with the other layers that it may use. Each may use the engine.
const LAYERS: Layers = &[
    // A separate library, used by every layer that retries transient failures.
    ("retry", &[]),
    ("disk", &["retry"]),
    ("human", &[]),
    ("http_client", &[]),
    ("oauth", &["retry", "disk", "http_client"]),
    ("config", &["retry", "disk"]),
    ("env", &[]),
    ("limiter", &["env", "disk", "state"]),
    ("source", &["retry", "disk", "http_client", "limiter"]),
    ("database", &[]),
    ("ledger", &["retry", "disk", "database"]),
    ("archive", &["retry", "disk"]),
    ("state", &["disk"]),
    ("systemd", &["retry", "disk"]),
    ("telemetry", &["retry", "http_client"]),
    ("notify", &["http_client"]),
    ("endpoint", &["human"]),
    ("export", &["retry", "disk", "human", "ledger", "archive"]),
    ("onboarding", &["disk", "http_client", "config"]),
    // Configuration and clients do not know each other, so the registry of kinds is above both.
    ("source_kinds", &["config", "limiter", "source"]),
    (
        "worker",
        &[
            "env",
            "limiter",
            "retry",
            "disk",
            "oauth",
            "config",
            "source",
            "source_kinds",
            "ledger",
            "archive",
            "state",
            "systemd",
            "telemetry",
        ],
    ),
    // Independent of the worker, because it must detect a stuck worker.
    ("monitor", &["retry", "disk", "config", "state", "systemd", "notify", "telemetry"]),
    // Composes the processes of the worker and the monitor. What they report, `cli` prints.
    (
        "app",
        &[
            "env",
            "limiter",
            "retry",
            "disk",
            "human",
            "oauth",
            "config",
            "source",
            "ledger",
            "archive",
            "state",
            "systemd",
            "telemetry",
            "endpoint",
            "worker",
            "monitor",
        ],
    ),
    (
        "cli",
        &[
            "env",
            "disk",
            "human",
            "config",
            "ledger",
            "archive",
            "state",
            "systemd",
            "notify",
            "export",
            "onboarding",
            "worker",
            "monitor",
            "app",
        ],
    ),
];

/// Modules of the lab, each with the others that it may use.
const LAB_LAYERS: Layers = &[("demo", &[]), ("simulate", &[]), ("plot", &["simulate"])];

/// Folders of sources, each with its layers.
const LAYERED_SOURCES: [(&str, Layers); 2] = [("src", LAYERS), ("crates/lab/src", LAB_LAYERS)];

/// Names of crates and functions, each with the only folders that may use it.
const RESTRICTED_NAMES: &[(&str, &[&str])] = &[
    // The worker and the monitor need nothing of what only tries things out.
    ("cynosure_lab", &["app", "cli"]),
    ("rusqlite", &["ledger"]),
    ("tokio_postgres", &["database", "ledger/postgres"]),
    // Sources, sign-in, alerts and telemetry have separate clients. They share no limits, no rate
    // limiter and no proxies, and the monitor must not depend on the client of the sources.
    ("reqwest", &["http_client", "oauth", "onboarding", "source/http", "notify", "telemetry"]),
    ("reqwest::Error", &["http_client", "source/http"]),
    ("ClientBuilder", &["http_client"]),
    ("Client::builder", &["http_client"]),
    ("rustls::Error", &["http_client", "database"]),
    ("lettre", &["notify"]),
    ("hyper::", &["endpoint", "source"]),
    // Only the registry names kinds of sources, beside their clients and their settings.
    ("source::jmap", &["source/jmap", "source_kinds"]),
    ("source::imap", &["source/imap", "source_kinds"]),
    ("source::rest", &["source/rest", "source_kinds"]),
    ("KindSettings::", &["config", "source_kinds"]),
    ("maud", &["endpoint"]),
    ("listenfd", &["endpoint"]),
    ("syncfs", &["disk"]),
    ("fsync(", &["disk"]),
    ("zbus", &["systemd"]),
    ("clap", &["cli"]),
    ("indicatif", &["app", "cli"]),
];

/// Words for kinds of sources in identifiers, and the only files and folders that may use them, as
/// docs/architecture.md lists them.
const KIND_WORDS: [&str; 2] = ["imap", "jmap"];
const KIND_PLACES: &[&str] = &[
    "src/source/imap",
    "src/source/jmap",
    "src/source/rest",
    "src/source/mod.rs",
    "src/source_kinds",
    "src/onboarding",
    "src/config/kind",
    "src/config/mod.rs",
    "src/cli/args.rs",
    "src/cli/commands/demo.rs",
    "src/cli/commands/explain",
    "src/cli/commands/init",
    "src/cli/commands/profile_text",
    "crates/engine/src/classify.rs",
    "crates/engine/src/imap_reply",
    "crates/engine/src/lib.rs",
    "crates/engine/src/modified_utf7.rs",
    "crates/engine/src/rest",
    "crates/lab/src/demo",
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

/// Words that no identifier contains, because each has a standard term: `watchdog` for `keeper`,
/// `limiter` for `door`, `cost` for `fare`, `permit` for `traveller`, `episode` for `spell`,
/// `alert` for `concern`, `heartbeat` for `seat`, `timestamp` or `start` for `birth`, and so on.
const BANNED_WORDS: &[&str] = &[
    "bearing",
    "birth",
    "board",
    "concern",
    "door",
    "ears",
    "errand",
    "fare",
    "ground",
    "heard",
    "herald",
    "keeper",
    "looked",
    "lookout",
    "lull",
    "postman",
    "seat",
    "spell",
    "traveller",
    "turnstile",
    "untold",
];

/// First words that do not say what a type is.
const QUESTION_WORDS: &[&str] =
    &["How", "That", "What", "When", "Where", "Whether", "Which", "Who", "Whoever", "Whose", "Why"];

/// Maximum number of lines of a file, so that it can be understood as a whole.
const LINES_MAX: usize = 500;

#[test]
fn each_layer_depends_only_on_the_layers_below_it() {
    for (sources, layers) in LAYERED_SOURCES {
        for (layer, allowed) in layers {
            for (path, text) in source_files(&format!("{sources}/{layer}")) {
                for used in used_modules(&text) {
                    assert!(
                        used == *layer || allowed.contains(&used.as_str()),
                        "{path} uses {used}, which {layer} may not use"
                    );
                }
            }
        }
    }
}

#[test]
fn every_layer_is_in_the_table() {
    for (sources, layers) in LAYERED_SOURCES {
        for entry in fs::read_dir(repository_root().join(sources)).expect("the folder exists") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                let name = path.file_name().expect("a folder has a name").to_string_lossy();
                assert!(layers.iter().any(|(layer, _)| *layer == name), "{name} is in no layer");
            }
        }
    }
}

#[test]
fn the_engine_is_pure() {
    for (path, text) in source_files("crates/engine/src") {
        for name in IMPURE_NAMES {
            assert!(!text.contains(name), "{path} contains {name}");
        }
    }
}

#[test]
fn restricted_names_are_used_only_in_their_folders() {
    for (name, folders) in RESTRICTED_NAMES {
        for (path, text) in source_files("src").into_iter().filter(|(path, _)| !is_test(path)) {
            let is_allowed = folders.iter().any(|folder| path.contains(&format!("src/{folder}/")));
            let is_used = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(name));
            assert!(is_allowed || !is_used, "{path} uses {name}, which only {folders:?} may use");
        }
    }
}

#[test]
fn kinds_of_sources_are_named_in_few_places() {
    let mut named_in = BTreeSet::new();
    for (path, text) in crate_sources().into_iter().filter(|(path, _)| !is_test(path)) {
        let place = KIND_PLACES.iter().find(|place| path.contains(&format!("/{place}")));
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        visit_identifiers(tokens, &mut |identifier| {
            let is_kind = names_kind(identifier);
            assert!(place.is_some() || !is_kind, "{path} names a kind of source: {identifier}");
            named_in.extend(place.filter(|_| is_kind));
        });
    }
    assert_eq!(named_in, KIND_PLACES.iter().collect(), "places that need not be in the list");
}

/// True for an identifier with a word for a kind. The word `rest` is one in the name of a type only,
/// because anything may have a rest.
fn names_kind(identifier: &str) -> bool {
    let words = words(identifier);
    let is_type = identifier.starts_with(char::is_uppercase) && identifier.contains("Rest");
    words.iter().any(|word| KIND_WORDS.contains(&word.as_str()) || (is_type && word == "rest"))
}

#[test]
fn every_file_has_a_module_doc_and_few_enough_lines() {
    for (path, text) in crate_sources() {
        assert!(text.starts_with("//! "), "{path} does not start with a module doc");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines");
    }
}

#[test]
fn identifiers_contain_no_banned_word() {
    for folder in ["src", "crates", "tests", "benches"] {
        for (path, text) in source_files(folder) {
            let tokens: TokenStream =
                text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
            visit_identifiers(tokens, &mut |identifier| {
                let words = words(identifier);
                let banned = words.iter().find(|word| BANNED_WORDS.contains(&word.as_str()));
                assert_eq!(banned, None, "{path}: {identifier}");
            });
        }
    }
}

#[test]
fn type_names_are_unique() {
    let mut files = BTreeMap::<String, Vec<String>>::new();
    for (path, text) in crate_sources() {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut previous = String::new();
        visit_identifiers(tokens, &mut |identifier: &str| {
            if ["struct", "enum", "trait"].contains(&previous.as_str()) {
                files.entry(identifier.to_owned()).or_default().push(path.clone());
            }
            identifier.clone_into(&mut previous);
        });
    }
    let shared: Vec<_> = files.iter().filter(|(_, paths)| paths.len() > 1).collect();
    assert!(shared.is_empty(), "types that share a name: {shared:#?}");
    assert!(files.len() > 500, "{}", files.len());
}

#[test]
fn no_type_doc_opens_with_a_question_word() {
    for (path, text) in crate_sources() {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| defines_type(line)) {
            let above = lines[..index].iter().rev().skip_while(|line| line.starts_with("#["));
            let first = above.take_while(|line| line.starts_with("///")).last();
            let word = first.and_then(|doc| doc.trim_start_matches('/').split_whitespace().next());
            let is_question = word.is_some_and(|word| QUESTION_WORDS.contains(&word));
            assert!(!is_question, "{path}: {line} opens with {word:?}");
        }
    }
}

#[test]
fn identifiers_are_split_into_words() {
    for (identifier, expected) in [
        ("KeeperState", &["keeper", "state"][..]),
        ("SPELL_MAX", &["spell", "max"]),
        ("is_untold", &["is", "untold"]),
        ("keyboard", &["keyboard"]),
        ("HTTPServer2", &["http", "server"]),
    ] {
        assert_eq!(words(identifier), expected);
    }
}

#[test]
fn every_test_named_by_the_list_of_faults_exists() {
    let root = repository_root();
    let list = fs::read_to_string(root.join("docs/faults.md")).expect("the list exists");
    let named = list.split('`').filter_map(|code| code.split_once(".rs: "));
    let mut checked = 0;
    for (file, test) in named {
        let path = root.join(format!("{file}.rs"));
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("docs/faults.md names {}: {error}", path.display()));
        assert!(text.contains(&format!("fn {test}(")), "{file}.rs has no test {test}");
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

/// True for a file with nothing but tests.
fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// Calls `visit` with each identifier, also those in the arguments of macros.
fn visit_identifiers(tokens: TokenStream, visit: &mut impl FnMut(&str)) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => visit_identifiers(group.stream(), visit),
            TokenTree::Ident(identifier) => visit(&identifier.to_string()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// True for the brackets of `#[cfg(test)]`.
fn is_cfg_test(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket
        && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// True for the last token of an item: its braces, or a semicolon.
fn is_end_of_item(token: &TokenTree) -> bool {
    is_punct(token, ';')
        || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

fn is_punct(token: &TokenTree, expected: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == expected)
}

/// Splits an identifier at underscores, digits and capitals; the words are in lower case.
fn words(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let chars: Vec<char> = identifier.chars().collect();
    for (index, &c) in chars.iter().enumerate() {
        let follows_lower = index > 0 && chars[index - 1].is_lowercase();
        let precedes_lower = chars.get(index + 1).is_some_and(|next| next.is_lowercase());
        if !c.is_alphabetic() || (c.is_uppercase() && (follows_lower || precedes_lower)) {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            words.last_mut().expect("there is a word").extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// True for a line that begins the definition of a struct, an enum or a trait.
fn defines_type(line: &str) -> bool {
    let line = match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ").map_or(line, |(_, item)| item),
        None => line.strip_prefix("pub ").unwrap_or(line),
    };
    ["struct ", "enum ", "trait "].iter().any(|keyword| line.starts_with(keyword))
}

/// Returns the modules of the crate that a file uses.
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

/// Returns the sources of all crates, each file with its text.
fn crate_sources() -> Vec<(String, String)> {
    CRATES.iter().flat_map(|(_, folder)| source_files(folder)).collect()
}

/// Returns the path of the module in a file of a crate, from the name of the crate.
fn module_path(file: &str) -> String {
    for (name, folder) in CRATES {
        let folder = repository_root().join(folder);
        if let Ok(path) = Path::new(file).strip_prefix(folder) {
            let path = path.with_extension("").display().to_string().replace('/', "::");
            let path = path.strip_suffix("::mod").unwrap_or(&path);
            return if path == "lib" { name.to_owned() } else { format!("{name}::{path}") };
        }
    }
    panic!("{file} is in no crate");
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
