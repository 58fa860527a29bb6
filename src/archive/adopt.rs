//! Reads the folders of an archive back, for a ledger that does not know them. Changes nothing.

use std::path::{Path, PathBuf};

use crate::archive::layout::{FolderName, ids_of};
use crate::archive::manifest::{MANIFEST_FILE, ManifestLine, parse};
use crate::archive::verify::hash;
use crate::disk::{Disk, PathKind, storage_failure};
use crate::engine::{BlobId, DocumentId, Failure, ItemId};

/// A document that can be taken over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundDocument {
    pub item: ItemId,
    pub document: DocumentId,
    /// `None` in folders of version 0.1.0, which have no manifest.
    pub blob: Option<BlobId>,
    /// As the server announced it.
    pub size: Option<u64>,
    /// In bytes.
    pub length: u64,
    /// `None` where the file is still to be [hashed](Self::hashed).
    sha256: Option<[u8; 32]>,
    /// Below the session's folder.
    pub file: String,
}

/// The reason why a file is left alone.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum LeftAlone {
    /// It does not have a name that this program gives.
    NotOurs,
    /// Its id was too long to be spelled out, and no manifest names it.
    NameTooLong,
    /// It does not have the length that its manifest names.
    WrongLength,
}

/// The contents of one session's folder.
#[derive(Debug, Default)]
pub struct FolderContents {
    /// The earlier versions of a document before the later ones.
    pub documents: Vec<FoundDocument>,
    pub left_alone: Vec<(PathBuf, LeftAlone)>,
}

impl LeftAlone {
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotOurs => "not a name of a document",
            Self::NameTooLong => "a name too long to be read back, and not in a manifest",
            Self::WrongLength => "another length than in the manifest",
        }
    }
}

impl FoundDocument {
    /// The SHA-256 of the file: that of the manifest, or what the bytes have.
    ///
    /// # Errors
    /// A storage failure.
    pub fn hashed(
        &self,
        disk: &dyn Disk,
        root: &Path,
        folder: &FolderName,
    ) -> Result<[u8; 32], Failure> {
        let path = root.join(folder.as_str()).join(&self.file);
        match self.sha256 {
            Some(known) => Ok(known),
            None => hash(disk, &path).map_err(|error| storage_failure("read", &path, &error)),
        }
    }
}

impl FolderContents {
    /// Reads what is in a session's folder.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(disk: &dyn Disk, root: &Path, folder: &FolderName) -> Result<Self, Failure> {
        let session = root.join(folder.as_str());
        let path = session.join(MANIFEST_FILE);
        let manifest = match kind(disk, &path)? {
            Some(PathKind::File { .. }) => {
                let bytes = disk.read(&path);
                parse(&bytes.map_err(|error| storage_failure("read", &path, &error))?)
            }
            Some(PathKind::Folder | PathKind::Other) | None => parse(&[]),
        };
        let mut contents = Self::default();
        for thread in list(disk, &session)? {
            let path = session.join(&thread);
            if thread == Path::new(MANIFEST_FILE) {
                continue;
            }
            if kind(disk, &path)? != Some(PathKind::Folder) {
                contents.left_alone.push((path, LeftAlone::NotOurs));
                continue;
            }
            let mut files = list(disk, &path)?;
            files.sort_by_key(|file| version(&file.to_string_lossy()));
            for file in files {
                let path = path.join(&file);
                let below = format!("{}/{}", thread.to_string_lossy(), file.to_string_lossy());
                match found(&below, kind(disk, &path)?, manifest.get(&below)) {
                    Ok(document) => contents.documents.push(document),
                    Err(why) => contents.left_alone.push((path, why)),
                }
            }
        }
        Ok(contents)
    }
}

fn found(
    below: &str,
    kind: Option<PathKind>,
    line: Option<&ManifestLine>,
) -> Result<FoundDocument, LeftAlone> {
    let Some(PathKind::File { bytes }) = kind else { return Err(LeftAlone::NotOurs) };
    let file = below.to_owned();
    if let Some(line) = line {
        if line.length != bytes {
            return Err(LeftAlone::WrongLength);
        }
        let (item, document) = line.ids();
        let (blob, size, sha256) = (Some(line.blob()), line.size, line.sha256());
        return Ok(FoundDocument { item, document, blob, size, length: bytes, sha256, file });
    }
    let (thread, name) = below.split_once('/').unwrap_or_default();
    match ids_of(thread, name) {
        Some((item, document)) => Ok(FoundDocument {
            item,
            document,
            blob: None,
            size: None,
            length: bytes,
            sha256: None,
            file,
        }),
        None if below.contains('~') => Err(LeftAlone::NameTooLong),
        None => Err(LeftAlone::NotOurs),
    }
}

/// The number in the name of a later version; 1 in that of a first one.
fn version(file: &str) -> u32 {
    let number = file.rsplit('.').nth(1).and_then(|number| number.parse().ok());
    number.filter(|_| file.matches('.').count() > 1).unwrap_or(1)
}

fn list(disk: &dyn Disk, path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut names = disk.list(path).map_err(|error| storage_failure("list", path, &error))?;
    names.sort();
    Ok(names)
}

fn kind(disk: &dyn Disk, path: &Path) -> Result<Option<PathKind>, Failure> {
    disk.kind(path).map_err(|error| storage_failure("look at", path, &error))
}
