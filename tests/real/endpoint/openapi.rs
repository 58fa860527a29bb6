//! Responses of the endpoint checked against its OpenAPI document: schemathesis generates the
//! requests from the document, and checks each response.

use std::path::Path;
use std::process::Command;

use cynosure_engine::health::HealthLevel;

use super::TestEndpoint;
use super::fake_data::full_snapshot;
use crate::prerequisites::skip;

#[test]
fn schemathesis_confirms_the_openapi_document() {
    let program =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real/schemathesis/bin/schemathesis");
    if !program.exists() {
        return skip("schemathesis, which `make setup` fetches").unwrap_or(());
    }
    let mut snapshot = full_snapshot();
    snapshot.health.level = HealthLevel::Warning;
    let degraded = TestEndpoint::serving(snapshot);
    let output = run_schemathesis(&program, &degraded, &[]);
    // All operations but the one that returns the document.
    assert!(output.contains("12 selected / 12 total"), "{output}");

    // A critical health is reported with 503, which that check would reject.
    let critical = TestEndpoint::serving(full_snapshot());
    let output = run_schemathesis(
        &program,
        &critical,
        &["--include-path", "/health", "--exclude-checks", "not_a_server_error"],
    );
    assert!(output.contains("1 selected / 12 total"), "{output}");
}

/// Runs schemathesis, all checks of which must pass, and returns its output.
fn run_schemathesis(program: &Path, endpoint: &TestEndpoint, extra_args: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(program)
        .args(["run", &endpoint.url("/api/openapi.json"), "--url", &endpoint.url("")])
        .args(["--checks", "all", "--max-examples", "30", "--seed", "1", "--no-color"])
        .args(extra_args)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .output()
        .expect("schemathesis starts");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    stdout
}
