//! Files and functions that `docs/architecture.md` names exist, and the walk of one message is
//! short.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use proc_macro2::TokenStream;

use super::{LAYERS, repository_root, visit_identifiers};

/// Heading of the section with the walk: a table in the order in which a reply passes the files.
const WALK_HEADING: &str = "## The life of one message\n";

/// Maximum number of files between the socket and the ledger, so that a reply can be followed in
/// one reading.
const WALK_FILES_MAX: usize = 26;

/// Row of the walk.
struct WalkStep<'a> {
    /// Path below `src`, or below the root if it is in another crate.
    file: &'a str,
    /// Functions and types of the file, such as `Type::function`.
    names: Vec<&'a str>,
}

#[test]
fn every_source_path_in_the_architecture_exists() {
    let document = document();
    let paths: Vec<&str> = code_spans(&document).filter_map(source_path).collect();

    for path in &paths {
        assert!(location(path).exists(), "docs/architecture.md names {path}, which does not exist");
    }
    assert!(paths.len() > 50, "{}", paths.len());
}

#[test]
fn a_reply_passes_few_files_on_its_way_to_the_ledger() {
    let document = document();
    let files: BTreeSet<&str> = walk(&document).iter().map(|step| step.file).collect();

    assert!(files.len() > 10, "{files:?}");
    assert!(files.len() <= WALK_FILES_MAX, "{} files: {files:?}", files.len());
}

#[test]
fn each_step_of_the_walk_is_in_its_file() {
    let document = document();
    for WalkStep { file, names } in walk(&document) {
        let text =
            fs::read_to_string(location(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let (mut used, mut defined) = (BTreeSet::new(), BTreeSet::new());
        let mut previous = String::new();
        visit_identifiers(tokens, &mut |identifier: &str| {
            if ["fn", "struct", "enum", "trait"].contains(&previous.as_str()) {
                defined.insert(identifier.to_owned());
            }
            used.insert(identifier.to_owned());
            identifier.clone_into(&mut previous);
        });
        assert!(!names.is_empty(), "the walk names no function or type of {file}");
        for name in names {
            let (owner, item) = name.rsplit_once("::").unwrap_or((name, name));
            assert!(defined.contains(item) && used.contains(owner), "{file} does not have {name}");
        }
    }
}

fn document() -> String {
    fs::read_to_string(repository_root().join("docs/architecture.md")).expect("the document exists")
}

/// Returns the rows of the table of the walk.
fn walk(document: &str) -> Vec<WalkStep<'_>> {
    let (_, section) = document.split_once(WALK_HEADING).expect("the section exists");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| WalkStep {
        file: code_spans(cell(row, 1)).next().expect("the row names a file"),
        names: code_spans(cell(row, 2)).collect(),
    })
    .collect()
}

/// Returns the cell of a table row with this number, from 1.
fn cell(row: &str, number: usize) -> &str {
    row.split('|').nth(number).expect("the row has all cells")
}

/// Returns the texts in backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the location of a path that the document names.
fn location(path: &str) -> PathBuf {
    let sources = if path.starts_with("crates/") { "" } else { "src" };
    repository_root().join(sources).join(path)
}

/// Returns the path of a Rust file or of a folder in a layer or a crate; `None` for other code.
fn source_path(code: &str) -> Option<&str> {
    let path = code.strip_prefix("src/").unwrap_or(code);
    let first = path.split('/').next().unwrap_or(path);
    let is_in_layer = LAYERS.iter().any(|(layer, _)| *layer == first);
    let is_in_crate = path.starts_with("crates/");
    (is_in_layer || is_in_crate || path.ends_with(".rs")).then_some(path)
}
