//! Prerequisites of tests on this machine. A test without them is skipped, or fails on request.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable. If it is `1`, a test that cannot run fails.
const REQUIRE_VAR: &str = "CYNOSURE_REQUIRE_REAL";

/// Reports a test as skipped for lack of a prerequisite, in the form that `tally.awk` counts.
pub(crate) fn skip<T>(prerequisite: &str) -> Option<T> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the environment decides whether a skipped test fails"
    )]
    let required = std::env::var(REQUIRE_VAR).is_ok_and(|value| value == "1");
    assert!(!required, "needs {prerequisite}, and {REQUIRE_VAR} is 1");

    #[expect(clippy::print_stdout, reason = "tally.awk reads this line")]
    {
        println!("SKIPPED: needs {prerequisite}");
    }
    None
}

/// Returns the folder into which `make setup` puts a server. Packages of Debian are only unpacked
/// there, so it is laid out like `/`.
pub(crate) fn unpacked_root(server: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "target/real", server].iter().collect()
}

/// Copies the unpacked files of a server into `folder`, because the user that the server runs as
/// may not have access to a checkout.
pub(crate) fn copy_unpacked(server: &str, folder: &Path) {
    let status = Command::new("cp").arg("-a").arg(unpacked_root(server)).arg(folder).status();
    assert!(status.expect("cp starts").success(), "cannot copy the programs of {server}");
}
