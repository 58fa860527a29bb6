//! Reads the session folders of an archive to rebuild a ledger. Changes nothing.

use std::path::{Path, PathBuf};

use cynosure_engine::{BlobId, DocumentId, Failure, ItemId};

use crate::archive::layout::{FolderName, parse_document_path, version_of_path};
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
    /// Length of the file, in bytes.
    pub length: u64,
    /// Hash from the manifest; `None` if the file must be [hashed](Self::compute_sha256).
    sha256: Option<[u8; 32]>,
    /// Path below the session folder.
    pub file: String,
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
        }
    }
}

impl FoundDocument {
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
    /// Reads the contents of a session folder.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(disk: &dyn Disk, root: &Path, folder: &FolderName) -> Result<Self, Failure> {
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
            if path_kind(disk, &path)? != Some(PathKind::Folder) {
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
                ) {
                    Ok(document) => contents.documents.push(document),
                    Err(reason) => contents.skipped.push((path, reason)),
                }
            }
        }
        Ok(contents)
    }
}

fn to_found_document(
    relative_path: &str,
    kind: Option<PathKind>,
    line: Option<&ManifestLine>,
) -> Result<FoundDocument, SkipReason> {
    let Some(PathKind::File { bytes }) = kind else { return Err(SkipReason::UnknownName) };
    let file = relative_path.to_owned();
    if let Some(line) = line {
        if line.length != bytes {
            return Err(SkipReason::WrongLength);
        }
        let (item, document) = line.ids();
        let (blob, size, sha256) = (Some(line.blob()), line.size, line.sha256());
        return Ok(FoundDocument { item, document, blob, size, length: bytes, sha256, file });
    }
    let (thread, name) = relative_path.split_once('/').unwrap_or_default();
    match parse_document_path(thread, name) {
        Some((item, document)) => Ok(FoundDocument {
            item,
            document,
            blob: None,
            size: None,
            length: bytes,
            sha256: None,
            file,
        }),
        None if relative_path.contains('~') => Err(SkipReason::NameTooLong),
        None => Err(SkipReason::UnknownName),
    }
}
