//! What is described is what is answered: a public tool makes requests from the description and judges the replies.

use std::path::Path;
use std::process::Command;

use super::Stage;
use super::scene::storm;
use crate::requirement::skip;

#[test]
fn the_description_holds_for_whatever_schemathesis_tries() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin/schemathesis");
    if !program.exists() {
        return skip("schemathesis, which `make setup` fetches").unwrap_or(());
    }
    let stage = Stage::show(storm());
    let folder = tempfile::tempdir().expect("a temporary folder");

    let output = Command::new(program)
        .args(["run", &stage.url("/api/openapi.json"), "--url", &stage.url("")])
        .args(["--checks", "all", "--max-examples", "30", "--seed", "1", "--no-color"])
        // A request without a valid Host is refused as it should be, and the tool takes that for a finding.
        .args(["--suppress-health-check", "all"])
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .output()
        .expect("it starts");

    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("12 selected") || said.contains("12 total"), "all routes were tried: {said}");
}
