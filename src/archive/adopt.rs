//! Reads the session folders of an archive to rebuild a ledger. Changes nothing.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use cynosure_engine::{BlobId, DocumentId, Failure, ItemId};
use sha2::{Digest, Sha256};

use crate::archive::format::FileExtension;
use crate::archive::layout::{FolderName, parse_document_path, version_of_path};
use crate::archive::line_file::{LINES_FILE, line_place};
use crate::archive::manifest::{MANIFEST_FILE, ManifestLine, parse_manifest};
use crate::archive::verify::{hash_file, list_sorted, path_kind};
use crate::disk::{Disk, PathKind, storage_failure};

/// Document in a session folder that can be added to a ledger.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundDocument {
    pub item: ItemId,
    pub document: DocumentId,
    /// `None` in folders of version 0.1.0, which have no manifest.
    pub blob: Option<BlobId>,
    /// Size announced by the server, in bytes.
    pub size: Option<u64>,
    /// Length of the document, in bytes.
    pub length: u64,
    /// Hash from the manifest; `None` if the file must be [hashed](Self::compute_sha256).
    sha256: Option<[u8; 32]>,
    /// Path below the session folder, or line of the file there.
    pub file: String,
    /// Labels from the manifest.
    pub labels: Vec<(String, String)>,
    /// Folders from the manifest.
    pub folders: Vec<String>,
}

/// Reason why a file is skipped.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SkipReason {
    /// This program does not produce such a name.
    UnknownName,
    /// The id was too long to be encoded in the name, and no manifest lists the file.
    NameTooLong,
    /// The length differs from the one in the manifest.
    WrongLength,
    /// The manifest has no line with these bytes at this place.
    UnknownLine,
}

/// Contents of one session folder.
#[derive(Debug, Default)]
pub struct FolderContents {
    /// Documents. Earlier versions of a document come before later ones.
    pub documents: Vec<FoundDocument>,
    pub skipped: Vec<(PathBuf, SkipReason)>,
}

impl SkipReason {
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::UnknownName => "not the file name of a document",
            Self::NameTooLong => "name too long to be decoded, and not in the manifest",
            Self::WrongLength => "length differs from the one in the manifest",
            Self::UnknownLine => "not a line that is in the manifest, or changed since",
        }
    }
}

impl FoundDocument {
    fn from_manifest(line: &ManifestLine, file: String) -> Self {
        let (item, document) = line.ids();
        Self {
            item,
            document,
            blob: Some(line.blob()),
            size: line.size,
            length: line.length,
            sha256: line.sha256(),
            file,
            labels: line.labels.clone().into_iter().collect(),
            folders: line.folders.clone(),
        }
    }

    /// Returns the SHA-256 recorded in the manifest, or else computes it from the file.
    ///
    /// # Errors
    /// A storage failure.
    pub fn compute_sha256(
        &self,
        disk: &dyn Disk,
        root: &Path,
        folder: &FolderName,
    ) -> Result<[u8; 32], Failure> {
        let path = root.join(folder.as_str()).join(&self.file);
        match self.sha256 {
            Some(known) => Ok(known),
            None => hash_file(disk, &path).map_err(|error| storage_failure("read", &path, &error)),
        }
    }
}

impl FolderContents {
    /// Reads the contents of a session folder. Files that are in no manifest are documents if they
    /// have this extension.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(
        disk: &dyn Disk,
        root: &Path,
        folder: &FolderName,
        extension: &FileExtension,
    ) -> Result<Self, Failure> {
        let session_path = root.join(folder.as_str());
        let path = session_path.join(MANIFEST_FILE);
        let manifest = match path_kind(disk, &path)? {
            Some(PathKind::File { .. }) => {
                let bytes = disk.read_file(&path);
                parse_manifest(&bytes.map_err(|error| storage_failure("read", &path, &error))?)
            }
            Some(PathKind::Folder | PathKind::Other) | None => parse_manifest(&[]),
        };
        let mut contents = Self::default();
        for thread in list_sorted(disk, &session_path)? {
            let path = session_path.join(&thread);
            if thread == Path::new(MANIFEST_FILE) {
                continue;
            }
            let kind = path_kind(disk, &path)?;
            if thread == Path::new(LINES_FILE) && matches!(kind, Some(PathKind::File { .. })) {
                // Read below, because a later version of a document may be a line.
                continue;
            }
            if kind != Some(PathKind::Folder) {
                contents.skipped.push((path, SkipReason::UnknownName));
                continue;
            }
            let mut files = list_sorted(disk, &path)?;
            files.sort_by_key(|file| version_of_path(&file.to_string_lossy()));
            for file in files {
                let path = path.join(&file);
                let relative_path =
                    format!("{}/{}", thread.to_string_lossy(), file.to_string_lossy());
                match to_found_document(
                    &relative_path,
                    path_kind(disk, &path)?,
                    manifest.get(&relative_path),
                    extension,
                ) {
                    Ok(document) => contents.documents.push(document),
                    Err(reason) => contents.skipped.push((path, reason)),
                }
            }
        }
        let path = session_path.join(LINES_FILE);
        if let Some(PathKind::File { .. }) = path_kind(disk, &path)? {
            let read = contents.read_lines(disk, &session_path, &manifest);
            read.map_err(|error| storage_failure("read", &path, &error))?;
        }
        Ok(contents)
    }

    /// Reads the lines of a session folder. A document is one that the manifest has with the same
    /// bytes at the same place: after a crash it may have lines that were cut off.
    fn read_lines(
        &mut self,
        disk: &dyn Disk,
        session_path: &Path,
        manifest: &BTreeMap<String, ManifestLine>,
    ) -> io::Result<()> {
        let mut file = BufReader::new(disk.open_file(&session_path.join(LINES_FILE))?);
        let mut offset = 0;
        while let Some(line) = HashedLine::read(&mut file)? {
            let place = line_place(offset);
            offset += line.length + 1;
            let found = manifest.get(&place).filter(|in_manifest| line.is_document(in_manifest));
            match found {
                Some(in_manifest) => {
                    self.documents.push(FoundDocument::from_manifest(in_manifest, place));
                }
                None if line.length == 0 => {}
                None => {
                    self.skipped.push((session_path.join(place), SkipReason::UnknownLine));
                }
            }
        }
        Ok(())
    }
}

/// Line of a file, without its bytes.
struct HashedLine {
    /// Length without the line break, in bytes.
    length: u64,
    /// SHA-256 without the line break.
    sha256: [u8; 32],
    /// SHA-256 with the line break; `None` if it is missing, at the end of the file.
    sha256_with_break: Option<[u8; 32]>,
}

impl HashedLine {
    /// Reads the next line; `None` at the end of the file.
    fn read(file: &mut impl BufRead) -> io::Result<Option<Self>> {
        let (mut length, mut hash) = (0, Sha256::new());
        let mut has_break = false;
        while !has_break {
            let chunk = file.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            hash.update(part);
            length += part.len() as u64;
            has_break = end.is_some();
            let count = part.len() + usize::from(has_break);
            file.consume(count);
        }
        if length == 0 && !has_break {
            return Ok(None);
        }
        let sha256 = hash.clone().finalize().into();
        hash.update(b"\n");
        let sha256_with_break = has_break.then(|| hash.finalize().into());
        Ok(Some(Self { length, sha256, sha256_with_break }))
    }

    /// True if this is the line of a document in the manifest, which may include the line break.
    fn is_document(&self, in_manifest: &ManifestLine) -> bool {
        let own_sha256 = match in_manifest.length.checked_sub(self.length) {
            Some(0) => Some(self.sha256),
            Some(1) => self.sha256_with_break,
            Some(_) | None => None,
        };
        own_sha256.is_some() && own_sha256 == in_manifest.sha256()
    }
}

fn to_found_document(
    relative_path: &str,
    kind: Option<PathKind>,
    line: Option<&ManifestLine>,
    extension: &FileExtension,
) -> Result<FoundDocument, SkipReason> {
    let Some(PathKind::File { bytes }) = kind else { return Err(SkipReason::UnknownName) };
    let file = relative_path.to_owned();
    if let Some(line) = line {
        if line.length != bytes {
            return Err(SkipReason::WrongLength);
        }
        return Ok(FoundDocument::from_manifest(line, file));
    }
    let (thread, name) = relative_path.split_once('/').unwrap_or_default();
    let ids = parse_document_path(thread, name);
    match ids.filter(|_| FileExtension::of_path(name).as_ref() == Some(extension)) {
        Some((item, document)) => Ok(FoundDocument {
            item,
            document,
            blob: None,
            size: None,
            length: bytes,
            sha256: None,
            file,
            labels: Vec::new(),
            folders: Vec::new(),
        }),
        None if relative_path.contains('~') => Err(SkipReason::NameTooLong),
        None => Err(SkipReason::UnknownName),
    }
}
