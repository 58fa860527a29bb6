//! Program that the units start.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::service::folders::{is_temporary, shell_word};

/// Files that name a folder whose content may be deleted at any time. By the first a folder says so
/// itself (Cache Directory Tagging Specification). Cargo writes it into the folder of a build only
/// where it creates that folder, and always locks the folder of a profile with the second.
const CACHE_MARKS: [&str; 2] = ["CACHEDIR.TAG", ".cargo-lock"];

/// Permission bits of which one lets somebody run a file.
const EXECUTE_BITS: u32 = 0o111;

/// Returns the program that the units start, without links: the one that is named, or else this
/// one, unless it is where it will not stay.
///
/// # Errors
/// A message with advice.
pub(super) fn find_program(named: Option<&Path>) -> Result<PathBuf, ProgramError> {
    let program = match named {
        Some(path) => resolve(path)?,
        None => {
            let own = std::env::current_exe()
                .map_err(|error| program_error(format!("cannot find this program: {error}")))?;
            let program = resolve(&own)?;
            check_stays(&program)?;
            program
        }
    };
    let metadata = fs_err::metadata(&program).map_err(|error| program_error(error.to_string()))?;
    if metadata.is_file() && metadata.permissions().mode() & EXECUTE_BITS != 0 {
        return Ok(program);
    }
    let message = format!("{} is not a program; name one with --binary PATH", program.display());
    Err(program_error(message))
}

fn resolve(path: &Path) -> Result<PathBuf, ProgramError> {
    fs_err::canonicalize(path)
        .map_err(|error| program_error(format!("{error}; name the program with --binary PATH")))
}

/// Checks that a program is not in a folder that is emptied from time to time.
fn check_stays(program: &Path) -> Result<(), ProgramError> {
    if !is_in_cache(program) && !is_temporary(program) {
        return Ok(());
    }
    Err(program_error(format!(
        "this program is {}, in a folder of a build or of temporary files, and the units would \
         start it there; install it first (`install -m 755 {} /usr/local/bin/cynosure`) and run \
         `cynosure service install` again, or confirm the place with --binary {}",
        program.display(),
        shell_word(program),
        shell_word(program)
    )))
}

fn is_in_cache(path: &Path) -> bool {
    path.ancestors().skip(1).any(|folder| CACHE_MARKS.iter().any(|mark| folder.join(mark).exists()))
}

fn program_error(message: String) -> ProgramError {
    ProgramError::new(ProgramExit::Other, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_the_folder_of_a_build_is_refused_unless_it_is_named() {
        for mark in ["CACHEDIR.TAG", "debug/.cargo-lock"] {
            let dir = tempfile::tempdir().unwrap();
            let program = dir.path().join("debug/cynosure");
            fs_err::create_dir(dir.path().join("debug")).unwrap();
            fs_err::write(dir.path().join(mark), "").unwrap();
            fs_err::write(&program, "").unwrap();
            fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

            let error = check_stays(&program).unwrap_err();

            assert!(is_in_cache(&program), "{mark}");
            assert!(error.message().contains("--binary"), "{error:?}");
            let found = find_program(Some(&program)).unwrap();
            assert_eq!(found, fs_err::canonicalize(&program).unwrap());
        }
        assert!(!is_in_cache(Path::new("/usr/local/bin/cynosure")));
        check_stays(Path::new("/usr/local/bin/cynosure")).unwrap();
    }

    #[test]
    fn a_named_file_must_be_a_program() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("file"), "").unwrap();

        for name in ["", "file", "missing"] {
            let error = find_program(Some(&dir.path().join(name))).unwrap_err();
            assert!(error.message().contains("--binary PATH"), "{error:?}");
        }
    }
}
