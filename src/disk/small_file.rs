//! Reading of a small file, up to a maximum size.

use std::io;
use std::path::Path;

use crate::disk::{Disk, PathKind};

/// Reads a plain file of at most `bytes_max` bytes. `None` if it does not exist,
/// `Some(Err(reason))` if it is larger or not a plain file.
///
/// # Errors
/// An error of the disk, without the path.
pub fn read_small_file(
    disk: &dyn Disk,
    path: &Path,
    bytes_max: u64,
) -> io::Result<Option<Result<Vec<u8>, String>>> {
    Ok(match disk.path_kind(path)? {
        None => None,
        Some(PathKind::File { bytes }) if bytes <= bytes_max => match disk.read_file(path) {
            Ok(bytes) => Some(Ok(bytes)),
            // It was removed or renamed since its size was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        },
        Some(PathKind::File { bytes }) => {
            Some(Err(format!("it has {bytes} bytes, more than {bytes_max}")))
        }
        Some(PathKind::Folder | PathKind::Other) => Some(Err("it is not a plain file".to_owned())),
    })
}
