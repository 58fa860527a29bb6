//! The command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    cynosure::cli::main()
}
