//! Bytes of a stored document, checked against the ledger before anything is written.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cynosure_engine::{Cause, Failure, sanitize_line};
use sha2::{Digest, Sha256};

use crate::archive::verify::FileCheck;
use crate::archive::{LINES_FILE, parse_line_place};
use crate::disk::{Disk, PathKind};
use crate::export::line_ends::LineEndConverter;
use crate::export::message_time::HEADER_BYTES_MAX;
use crate::export::options::LineEnds;
use crate::ledger::ExportVersion;

/// Longest document that is kept in memory, in bytes. A longer one is read once to check it, and
/// again each time it is written.
const MEMORY_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Size of the chunks in which documents are read and written, in bytes. Any size would do.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Place of a document in the archive: a file, or a part of one.
#[derive(Clone, Debug, Eq, PartialEq)]
struct DocumentExtent {
    path: PathBuf,
    /// First byte.
    offset: u64,
    length: u64,
    sha256: [u8; 32],
}

/// Stored document with the length and the SHA-256 that the ledger has.
#[derive(Debug)]
pub(super) struct VerifiedContent {
    extent: DocumentExtent,
    /// The whole document, or the beginning of a long one.
    beginning: Vec<u8>,
}

/// Path of a stored version, for people: the file, or the file and the line in it.
#[must_use]
pub(super) fn version_path(archive: &Path, version: &ExportVersion) -> PathBuf {
    archive.join(&version.session_folder).join(&version.file)
}

/// Reads the beginning of a stored version without checking it; `None` if that is impossible.
#[must_use]
pub(super) fn read_beginning(
    disk: &dyn Disk,
    archive: &Path,
    version: &ExportVersion,
) -> Option<Vec<u8>> {
    let extent = DocumentExtent::new(archive, version);
    let mut beginning = Vec::new();
    let bytes = extent.length.min(HEADER_BYTES_MAX as u64);
    disk.open_file_at(&extent.path, extent.offset)
        .and_then(|file| file.take(bytes).read_to_end(&mut beginning))
        .ok()?;
    Some(beginning)
}

/// Reads a stored version and checks its length and its SHA-256.
///
/// # Errors
/// The damage: never [`FileCheck::Intact`].
pub(super) fn read_verified(
    disk: &dyn Disk,
    archive: &Path,
    version: &ExportVersion,
) -> Result<VerifiedContent, FileCheck> {
    let extent = DocumentExtent::new(archive, version);
    check_length(disk, &extent, parse_line_place(&version.file).is_some())?;
    let unreadable = |error: io::Error| FileCheck::Unreadable { reason: error.to_string() };
    let is_short = extent.length <= MEMORY_BYTES_MAX;
    let kept = if is_short { extent.length } else { HEADER_BYTES_MAX as u64 };
    let mut file = extent.open(disk).map_err(unreadable)?;
    let mut beginning = Vec::with_capacity(usize::try_from(kept).unwrap_or_default());
    file.by_ref().take(kept).read_to_end(&mut beginning).map_err(unreadable)?;
    let mut hash = Sha256::new();
    hash.update(&beginning);
    let mut length = beginning.len() as u64;
    if !is_short {
        length += hash_rest(&mut file, &mut hash).map_err(unreadable)?;
    }
    if length != extent.length {
        return Err(FileCheck::WrongLength { expected: extent.length, found: length });
    }
    let found: [u8; 32] = hash.finalize().into();
    if found != extent.sha256 {
        return Err(FileCheck::WrongHash);
    }
    Ok(VerifiedContent { extent, beginning })
}

impl VerifiedContent {
    /// Length in bytes, as archived.
    #[must_use]
    pub(super) fn length(&self) -> u64 {
        self.extent.length
    }

    /// Returns the beginning of the document, at least its first [`HEADER_BYTES_MAX`] bytes.
    #[must_use]
    pub(super) fn beginning(&self) -> &[u8] {
        &self.beginning
    }

    /// Passes the document with converted line ends to `consume`, in chunks.
    ///
    /// # Errors
    /// That of `consume`; a failure to read a long document again, or its bytes have changed.
    pub(super) fn for_each_chunk(
        &self,
        disk: &dyn Disk,
        line_ends: LineEnds,
        mut consume: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut converter = LineEndConverter::new(line_ends);
        let mut converted = Vec::new();
        let mut convert = |bytes: &[u8]| {
            converted.clear();
            converter.convert(bytes, &mut converted);
            consume(&converted)
        };
        if self.beginning.len() as u64 == self.extent.length {
            self.beginning.chunks(CHUNK_BYTES).try_for_each(&mut convert)?;
        } else {
            self.read_again(disk, &mut convert)?;
        }
        let mut end = Vec::new();
        converter.finish(&mut end);
        if end.is_empty() { Ok(()) } else { consume(&end) }
    }

    /// Reads a long document again, and checks it again.
    fn read_again(
        &self,
        disk: &dyn Disk,
        consume: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let path = &self.extent.path;
        let to_failure = |error: io::Error| read_failure(path, &error.to_string());
        let mut file = self.extent.open(disk).map_err(to_failure)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let bytes = read_chunk(&mut file, &mut chunk).map_err(to_failure)?;
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            consume(bytes)?;
        }
        let found: [u8; 32] = hash.finalize().into();
        if found == self.extent.sha256 {
            Ok(())
        } else {
            Err(read_failure(path, "it changed while it was read"))
        }
    }
}

impl DocumentExtent {
    fn new(archive: &Path, version: &ExportVersion) -> Self {
        let folder = archive.join(&version.session_folder);
        let (path, offset) = match parse_line_place(&version.file) {
            Some(offset) => (folder.join(LINES_FILE), offset),
            None => (folder.join(&version.file), 0),
        };
        Self { path, offset, length: version.length, sha256: version.sha256 }
    }

    fn open(&self, disk: &dyn Disk) -> io::Result<io::Take<Box<dyn Read + Send>>> {
        Ok(disk.open_file_at(&self.path, self.offset)?.take(self.length))
    }
}

fn check_length(disk: &dyn Disk, extent: &DocumentExtent, is_line: bool) -> Result<(), FileCheck> {
    let available = match disk.path_kind(&extent.path) {
        Ok(Some(PathKind::File { bytes })) => bytes.saturating_sub(extent.offset),
        Ok(Some(PathKind::Folder | PathKind::Other)) => return Err(FileCheck::NotAFile),
        Ok(None) => return Err(FileCheck::Missing),
        Err(error) => return Err(FileCheck::Unreadable { reason: error.to_string() }),
    };
    let is_complete = if is_line { available >= extent.length } else { available == extent.length };
    if is_complete {
        Ok(())
    } else {
        Err(FileCheck::WrongLength { expected: extent.length, found: available })
    }
}

/// Hashes the bytes up to the end, and returns their number.
fn hash_rest(file: &mut impl Read, hash: &mut Sha256) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut length = 0;
    loop {
        let bytes = read_chunk(file, &mut chunk)?;
        if bytes.is_empty() {
            return Ok(length);
        }
        hash.update(bytes);
        length += bytes.len() as u64;
    }
}

/// Reads the next bytes; empty at the end.
pub(super) fn read_chunk<'c>(file: &mut impl Read, chunk: &'c mut [u8]) -> io::Result<&'c [u8]> {
    loop {
        match file.read(chunk) {
            Ok(count) => return Ok(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn read_failure(path: &Path, reason: &str) -> Failure {
    let path = sanitize_line(&path.to_string_lossy());
    let message = format!(
        "cannot read {path}: {reason}; run the same command again, which continues the export"
    );
    Failure::new(Cause::Storage, message)
}

#[cfg(test)]
mod tests {
    use cynosure_engine::Timestamp;

    use super::*;
    use crate::disk::MemoryDisk;

    const ARCHIVE: &str = "/archive";

    /// Returns an archive with one file, and the version in it with this place, length and hash.
    fn archive_with(
        bytes: &[u8],
        (file, length): (&str, u64),
        hashed: &[u8],
    ) -> (MemoryDisk, ExportVersion) {
        let disk = MemoryDisk::default();
        for folder in [ARCHIVE, "/archive/session"] {
            disk.create_dir(Path::new(folder)).unwrap();
        }
        let name = file.split('@').next().unwrap();
        let path = Path::new(ARCHIVE).join("session").join(name);
        disk.create_file(&path).unwrap().append(bytes).unwrap();
        let version = ExportVersion {
            session_folder: "session".to_owned(),
            file: file.to_owned(),
            length,
            sha256: Sha256::digest(hashed).into(),
            session_started_at: Timestamp(0),
        };
        (disk, version)
    }

    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn read_all(disk: &MemoryDisk, version: &ExportVersion) -> Result<Vec<u8>, FileCheck> {
        let content = read_verified(disk, Path::new(ARCHIVE), version)?;
        let mut bytes = Vec::new();
        let collect = |chunk: &[u8]| {
            bytes.extend_from_slice(chunk);
            Ok(())
        };
        content.for_each_chunk(disk, LineEnds::Lf, collect).unwrap();
        assert_eq!(content.length(), version.length);
        Ok(bytes)
    }

    #[test]
    fn an_intact_file_is_passed_on_with_converted_line_ends() {
        let (disk, version) = archive_with(b"a\r\nb\r", ("m.eml", 5), b"a\r\nb\r");

        assert_eq!(read_all(&disk, &version).unwrap(), b"a\nb\r");
        let beginning = read_beginning(&disk, Path::new(ARCHIVE), &version);
        assert_eq!(beginning.unwrap(), b"a\r\nb\r");
    }

    #[test]
    fn a_line_is_read_without_its_neighbours() {
        let (disk, version) =
            archive_with(b"{\"a\":1}\n{\"b\":2}\n", ("records.jsonl@8", 7), b"{\"b\":2}");

        assert_eq!(read_all(&disk, &version).unwrap(), b"{\"b\":2}");
    }

    #[test]
    fn a_long_document_is_read_twice_and_never_kept() {
        let long = b"0123456789\r\n".repeat(900_000);
        let length = long.len() as u64;
        let (disk, version) = archive_with(&long, ("m.eml", length), &long);
        let content = read_verified(&disk, Path::new(ARCHIVE), &version).unwrap();
        assert_eq!(content.beginning().len(), HEADER_BYTES_MAX);

        assert_eq!(read_all(&disk, &version).unwrap(), b"0123456789\n".repeat(900_000));
        let path = Path::new("/archive/session/m.eml");
        let mut file = disk.open_append(path).unwrap();
        file.truncate(length - 1).unwrap();
        file.append(b"x").unwrap();

        let failure = content.for_each_chunk(&disk, LineEnds::Keep, |_| Ok(())).unwrap_err();

        assert!(failure.message.contains("it changed while it was read"), "{failure}");
        assert_eq!(read_all(&disk, &version).unwrap_err(), FileCheck::WrongHash);
    }

    #[test]
    fn damage_is_found() {
        let check = |bytes: &[u8], place, hashed: &[u8]| {
            let (disk, version) = archive_with(bytes, place, hashed);
            read_all(&disk, &version).unwrap_err()
        };

        assert_eq!(check(b"abcd", ("m.eml", 4), b"abce"), FileCheck::WrongHash);
        let short = FileCheck::WrongLength { expected: 4, found: 3 };
        assert_eq!(check(b"abc", ("m.eml", 4), b"abcd"), short);
        let long = FileCheck::WrongLength { expected: 4, found: 5 };
        assert_eq!(check(b"abcde", ("m.eml", 4), b"abcd"), long);
        let cut = FileCheck::WrongLength { expected: 4, found: 2 };
        assert_eq!(check(b"{}\n{}", ("records.jsonl@3", 4), b"{\"\"}"), cut);
        let behind = FileCheck::WrongLength { expected: 2, found: 0 };
        assert_eq!(check(b"{}\n{}", ("records.jsonl@9", 2), b"{}"), behind);

        let (disk, mut version) = archive_with(b"abcd", ("m.eml", 4), b"abcd");
        version.file = "other.eml".to_owned();
        assert_eq!(read_all(&disk, &version).unwrap_err(), FileCheck::Missing);
        version.session_folder = String::new();
        version.file = "session".to_owned();
        assert_eq!(read_all(&disk, &version).unwrap_err(), FileCheck::NotAFile);
    }
}
