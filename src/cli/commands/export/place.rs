//! Place of the target folder of an export.

use std::io;
use std::path::{Path, PathBuf};

use cynosure_engine::sanitize_line;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;

/// Returns the path of the target folder, which may not exist, without links.
///
/// # Errors
/// The folder is in the archive or in the state folder; its path cannot be resolved.
pub(super) fn find_target(
    dir: &Path,
    archive: &Path,
    state_dir: &Path,
) -> Result<PathBuf, ProgramError> {
    let target = resolve(dir)?;
    for (place, name) in [(archive, "the archive"), (state_dir, "the state folder")] {
        if target.starts_with(resolve(place)?) {
            let message = format!(
                "{} is in {name} {}; choose a folder outside of it",
                sanitize_line(&target.to_string_lossy()),
                sanitize_line(&place.to_string_lossy())
            );
            return Err(ProgramError::new(ProgramExit::Other, message));
        }
    }
    Ok(target)
}

/// Returns the absolute path, without links in the part of it that exists.
fn resolve(path: &Path) -> Result<PathBuf, ProgramError> {
    let to_error = |error: &io::Error| {
        let path = sanitize_line(&path.to_string_lossy());
        let message = format!("cannot use the folder {path}: {error}; choose another one");
        ProgramError::new(ProgramExit::Other, message)
    };
    let absolute = std::path::absolute(path).map_err(|error| to_error(&error))?;
    let mut existing = absolute.as_path();
    let mut missing = Vec::new();
    loop {
        let error = match existing.canonicalize() {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path, name| path.join(name))),
            Err(error) => error,
        };
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(name);
                existing = parent;
            }
            _ => return Err(to_error(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_target_in_the_archive_is_refused_also_through_a_link() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap();
        let (archive, state) = (root.join("archive"), root.join("state"));
        fs::create_dir(&archive).unwrap();
        symlink(&archive, root.join("link")).unwrap();
        let find = |name: &str| find_target(&root.join(name), &archive, &state);

        assert_eq!(find("new/deep").unwrap(), root.join("new/deep"));
        assert_eq!(find("archive2").unwrap(), root.join("archive2"));
        for name in ["archive", "archive/out", "link/new/out", "state", "state/out"] {
            let error = find(name).unwrap_err().message();
            assert!(error.contains("; choose a folder outside of it"), "{name}: {error}");
        }
    }

    #[test]
    fn a_path_through_a_missing_folder_and_back_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("missing/../out");
        let error = resolve(&path).unwrap_err().message();
        assert!(error.starts_with("cannot use the folder "), "{error}");
    }
}
