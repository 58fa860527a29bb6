//! Verification of the archive against the ledger. Changes nothing.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use cynosure_engine::{DocumentId, Failure, ItemId};
use sha2::{Digest, Sha256};

use crate::archive::layout::{FolderName, parse_document_path};
use crate::archive::line_file::{LINES_FILE, RecordedLines, parse_line_place};
use crate::archive::manifest::MANIFEST_FILE;
use crate::archive::recover::ArchiveLocation;
use crate::disk::{Disk, PathKind, storage_failure};

/// Size of the read buffer, in bytes. Any size would do.
const CHUNK_BYTES: usize = 64 * 1024;

/// Result of checking one stored document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FileCheck {
    /// Length and hash match those that were stored.
    Intact,
    Missing,
    /// The path exists but is not a plain file.
    NotAFile,
    /// The file was truncated or has grown. Lengths are in bytes.
    WrongLength {
        expected: u64,
        found: u64,
    },
    /// The length matches, the bytes do not.
    WrongHash,
    /// Reading the file failed.
    Unreadable {
        reason: String,
    },
}

impl FileCheck {
    /// Returns the name of the result in JSON and messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Missing => "missing",
            Self::NotAFile => "not_a_file",
            Self::WrongLength { .. } => "wrong_length",
            Self::WrongHash => "wrong_bytes",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

/// Compares a stored document with its recorded length, in bytes, and SHA-256. `file` is its path
/// below the session folder, or its line there.
#[must_use]
pub fn check_document(
    disk: &dyn Disk,
    session_path: &Path,
    file: &str,
    length: u64,
    sha256: &[u8; 32],
) -> FileCheck {
    match parse_line_place(file) {
        Some(offset) => check_line(disk, &session_path.join(LINES_FILE), (offset, length), sha256),
        None => check_file(disk, &session_path.join(file), length, sha256),
    }
}

/// Compares a file with the recorded length, in bytes, and SHA-256.
pub(super) fn check_file(
    disk: &dyn Disk,
    path: &Path,
    length: u64,
    sha256: &[u8; 32],
) -> FileCheck {
    match disk.path_kind(path) {
        Ok(Some(PathKind::File { bytes })) if bytes == length => {}
        Ok(Some(PathKind::File { bytes })) => {
            return FileCheck::WrongLength { expected: length, found: bytes };
        }
        Ok(Some(PathKind::Folder | PathKind::Other)) => return FileCheck::NotAFile,
        Ok(None) => return FileCheck::Missing,
        Err(error) => return FileCheck::Unreadable { reason: error.to_string() },
    }
    match hash_file(disk, path) {
        Ok(found) if found == *sha256 => FileCheck::Intact,
        Ok(_) => FileCheck::WrongHash,
        Err(error) => FileCheck::Unreadable { reason: error.to_string() },
    }
}

/// Compares a line, given by its first byte and the length of its document, with the recorded
/// SHA-256.
fn check_line(
    disk: &dyn Disk,
    path: &Path,
    (offset, length): (u64, u64),
    sha256: &[u8; 32],
) -> FileCheck {
    match disk.path_kind(path) {
        Ok(Some(PathKind::File { bytes })) => match bytes.saturating_sub(offset) {
            0 => return FileCheck::Missing,
            found if found < length => {
                return FileCheck::WrongLength { expected: length, found };
            }
            _ => {}
        },
        Ok(Some(PathKind::Folder | PathKind::Other)) => return FileCheck::NotAFile,
        Ok(None) => return FileCheck::Missing,
        Err(error) => return FileCheck::Unreadable { reason: error.to_string() },
    }
    match hash_line(disk, path, offset, length) {
        Ok(Some(found)) if found == *sha256 => FileCheck::Intact,
        Ok(_) => FileCheck::WrongHash,
        Err(error) => FileCheck::Unreadable { reason: error.to_string() },
    }
}

/// Lists at most `limit` files and lines in a session folder that the ledger does not know. It has
/// the `lines` there.
///
/// A document whose id is too long to be encoded in a name is assumed to be known.
///
/// # Errors
/// A storage failure, or an error of `is_stored`.
pub fn list_orphans(
    disk: &dyn Disk,
    root: &Path,
    folder: &FolderName,
    lines: &RecordedLines,
    limit: usize,
    is_stored: impl Fn(&ItemId, &DocumentId, &ArchiveLocation) -> Result<bool, Failure>,
) -> Result<Vec<PathBuf>, Failure> {
    let session_path = root.join(folder.as_str());
    let mut orphans = Vec::new();
    for thread in list_sorted(disk, &session_path)? {
        let path = session_path.join(&thread);
        if thread == Path::new(MANIFEST_FILE) {
            continue;
        }
        if thread == Path::new(LINES_FILE) && !lines.is_empty() {
            let limit = limit.saturating_sub(orphans.len());
            orphans.extend(lines.gaps().take(limit).map(|place| session_path.join(place)));
            continue;
        }
        if path_kind(disk, &path)? != Some(PathKind::Folder) {
            orphans.push(path);
            continue;
        }
        for file in list_sorted(disk, &path)? {
            if orphans.len() >= limit {
                return Ok(orphans);
            }
            if !is_known(folder, &thread, &file, &is_stored)? {
                orphans.push(path.join(file));
            }
        }
    }
    orphans.truncate(limit);
    Ok(orphans)
}

fn is_known(
    folder: &FolderName,
    thread: &Path,
    file: &Path,
    is_stored: impl Fn(&ItemId, &DocumentId, &ArchiveLocation) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let (thread, file) = (thread.to_string_lossy(), file.to_string_lossy());
    match parse_document_path(&thread, &file) {
        Some((item, document)) => {
            let (folder, file) = (folder.as_str().to_owned(), format!("{thread}/{file}"));
            is_stored(&item, &document, &ArchiveLocation { folder, file })
        }
        None => Ok(thread.contains('~') || file.contains('~')),
    }
}

/// Lists the names in a folder, sorted.
pub(super) fn list_sorted(disk: &dyn Disk, path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut names = disk.list_dir(path).map_err(|error| storage_failure("list", path, &error))?;
    names.sort();
    Ok(names)
}

pub(super) fn path_kind(disk: &dyn Disk, path: &Path) -> Result<Option<PathKind>, Failure> {
    disk.path_kind(path).map_err(|error| storage_failure("access", path, &error))
}

pub(super) fn hash_file(disk: &dyn Disk, path: &Path) -> io::Result<[u8; 32]> {
    let mut file = disk.open_file(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => hash.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes the document of a line. `None` if it is not the whole line.
fn hash_line(
    disk: &dyn Disk,
    path: &Path,
    offset: u64,
    length: u64,
) -> io::Result<Option<[u8; 32]>> {
    // Begins with the line break of the line before.
    let mut file = BufReader::new(disk.open_file_at(path, offset.saturating_sub(1))?);
    let mut before = [b'\n'];
    if offset > 0 {
        file.read_exact(&mut before)?;
    }
    let mut hash = Sha256::new();
    let mut last = b'\n';
    let mut document = file.by_ref().take(length);
    loop {
        let chunk = document.fill_buf()?;
        let Some(byte) = chunk.last() else { break };
        last = *byte;
        hash.update(chunk);
        let count = chunk.len();
        document.consume(count);
    }
    // The last line of a file may have lost its line break.
    let ends_line = last == b'\n' || matches!(file.fill_buf()?, [] | [b'\n', ..]);
    Ok((before == *b"\n" && ends_line).then(|| hash.finalize().into()))
}
