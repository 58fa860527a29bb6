//! What a test needs from the machine, and what becomes of it where that is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where this variable is `1`, a test that can't run fails.
const REQUIRE_VAR: &str = "CYNOSURE_REQUIRE_REAL";

/// Gives up a test for want of something, in the one form that is counted as skipped.
pub(crate) fn skip<T>(needs: &str) -> Option<T> {
    #[expect(clippy::disallowed_methods, reason = "how strict a run is comes from the outside")]
    let required = std::env::var(REQUIRE_VAR).is_ok_and(|value| value == "1");
    assert!(!required, "needs {needs}, and {REQUIRE_VAR} is 1");

    #[expect(clippy::print_stdout, reason = "the line is what the tally reads")]
    {
        println!("SKIPPED: needs {needs}");
    }
    None
}

/// The folder into which `make setup` unpacks the packages of a server, laid out like `/`.
pub(crate) fn unpacked_root(server: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "target/real", server].iter().collect()
}

/// Copies what `make setup` unpacked of a server below `folder`: the user that the server runs as may
/// not be able to reach a checkout.
pub(crate) fn copy_unpacked(server: &str, folder: &Path) {
    let status = Command::new("cp").arg("-a").arg(unpacked_root(server)).arg(folder).status();
    assert!(status.expect("cp starts").success(), "cannot copy the programs of {server}");
}
