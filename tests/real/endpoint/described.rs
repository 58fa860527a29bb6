//! What is described is what is answered: a public tool makes requests from the description and judges the replies.

use std::path::Path;
use std::process::Command;

use cynosure::endpoint::view::Snapshot;
use cynosure::engine::watch::HealthLevel;

use super::Stage;
use super::scene::storm;
use crate::requirement::skip;

#[test]
fn the_description_holds_for_whatever_schemathesis_tries() {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin/schemathesis");
    if !program.exists() {
        return skip("schemathesis, which `make setup` fetches").unwrap_or(());
    }
    let well = Stage::show(Snapshot { level: HealthLevel::Warning, ..storm() });
    let said = tried(&program, &well, &[]);
    // All but the one it has read the description from.
    assert!(said.contains("11 selected / 11 total"), "{said}");

    // What is critical is told by 503, which it would take for a fault.
    let ill = Stage::show(storm());
    let said = tried(
        &program,
        &ill,
        &["--include-path", "/health", "--exclude-checks", "not_a_server_error"],
    );
    assert!(said.contains("1 selected / 11 total"), "{said}");
}

/// Has it try everything, and returns what it said of it.
fn tried(program: &Path, stage: &Stage, more: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(program)
        .args(["run", &stage.url("/api/openapi.json"), "--url", &stage.url("")])
        .args(["--checks", "all", "--max-examples", "30", "--seed", "1", "--no-color"])
        .args(more)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}
