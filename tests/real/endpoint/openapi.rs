//! What is described is what is answered: a public tool makes requests from the description and judges the replies.

use std::path::Path;
use std::process::Command;

use cynosure::endpoint::view::Snapshot;
use cynosure::engine::watch::HealthLevel;

use super::BrowserTestEndpoint;
use super::fake_data::full_snapshot;
use crate::prerequisites::skip;

#[test]
fn schemathesis_confirms_the_openapi_document() {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin/schemathesis");
    if !program.exists() {
        return skip("schemathesis, which `make setup` fetches").unwrap_or(());
    }
    let well =
        BrowserTestEndpoint::serving(Snapshot { level: HealthLevel::Warning, ..full_snapshot() });
    let said = run_schemathesis(&program, &well, &[]);
    // All but the one it has read the description from.
    assert!(said.contains("11 selected / 11 total"), "{said}");

    // What is critical is told by 503, which it would take for a fault.
    let ill = BrowserTestEndpoint::serving(full_snapshot());
    let said = run_schemathesis(
        &program,
        &ill,
        &["--include-path", "/health", "--exclude-checks", "not_a_server_error"],
    );
    assert!(said.contains("1 selected / 11 total"), "{said}");
}

/// Has it try everything, and returns what it said of it.
fn run_schemathesis(program: &Path, stage: &BrowserTestEndpoint, more: &[&str]) -> String {
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
