//! JSON file with a schema number, shared by processes.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use cynosure_engine::{Failure, sanitize_line};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::disk::{Durability, LockedFile, PreviousContent};

/// File with a schema number and a content of type `C`, changed under a lock.
pub struct VersionedFile<C> {
    file: LockedFile,
    /// Schema version that is written. Earlier ones are still read.
    schema: u64,
    layout: JsonLayout,
    content: PhantomData<fn() -> C>,
}

/// Layout of the JSON that is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JsonLayout {
    /// Indented, for people.
    Indented,
    /// A single line, because indenting puts each number of a list on its own line.
    SingleLine,
}

/// File that could not be used, and was renamed when it was next changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuarantinedFile {
    /// New path of the file.
    pub path: PathBuf,
    pub reason: String,
}

#[derive(Deserialize, Serialize)]
struct VersionedContent<C> {
    schema: u64,
    #[serde(flatten)]
    content: C,
}

/// Header of the file: the one key that every version has.
#[derive(Deserialize)]
struct FileHeader {
    schema: u64,
}

impl<C: Default + DeserializeOwned + Serialize> VersionedFile<C> {
    /// Uses a file that has this schema version when it is written.
    #[must_use]
    pub fn new(file: LockedFile, schema: u64, layout: JsonLayout) -> Self {
        Self { file, schema, layout, content: PhantomData }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads the content and changes nothing: `None` if there is no file yet,
    /// `Some(Err(reason))` if the file is unusable.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(&self) -> Result<Option<Result<C, String>>, Failure> {
        self.file.read(|bytes| self.parse(bytes))
    }

    /// Reads the content, or the default if there is no file yet.
    ///
    /// # Errors
    /// One sentence with the reason, if the file cannot be read.
    pub fn read_or_default(&self) -> Result<C, String> {
        match self.read() {
            Ok(content) => content
                .unwrap_or_else(|| Ok(C::default()))
                .map_err(|reason| format!("{} cannot be read: {reason}", self.path().display())),
            Err(failure) => Err(sanitize_line(&failure.message)),
        }
    }

    /// Changes the content and writes it, unless `change` fails. An unusable file is quarantined
    /// and returned, and the change starts with the default.
    ///
    /// # Errors
    /// A storage failure, or that of `change`.
    pub fn update<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut C) -> Result<T, Failure>,
    ) -> Result<(T, Option<QuarantinedFile>), Failure> {
        let parse = |bytes: &[u8]| self.parse(bytes);
        let (result, quarantined) = self.file.update(durability, parse, |previous| {
            let (mut content, quarantined) = match previous {
                PreviousContent::Valid(content) => (content, None),
                PreviousContent::Absent => (C::default(), None),
                PreviousContent::Quarantined { quarantine_path: path, reason } => {
                    (C::default(), Some(QuarantinedFile { path, reason }))
                }
            };
            let result = change(&mut content);
            (result.is_ok().then(|| self.serialize(content)), (result, quarantined))
        })?;
        Ok((result?, quarantined))
    }

    fn parse(&self, bytes: &[u8]) -> Result<C, String> {
        let known = self.schema;
        let to_reason = |error: serde_json::Error| sanitize_line(&error.to_string());
        let FileHeader { schema } = serde_json::from_slice(bytes).map_err(to_reason)?;
        if schema > known {
            return Err(format!(
                "a newer cynosure wrote it: schema {schema}, this one knows {known}"
            ));
        }
        let VersionedContent { content, .. } = serde_json::from_slice(bytes).map_err(to_reason)?;
        Ok(content)
    }

    fn serialize(&self, content: C) -> Vec<u8> {
        let content = VersionedContent { schema: self.schema, content };
        let json = match self.layout {
            JsonLayout::Indented => serde_json::to_vec_pretty(&content),
            JsonLayout::SingleLine => serde_json::to_vec(&content),
        };
        // Serialization cannot fail: all keys are strings, and all numbers are finite.
        let mut json = json.unwrap_or_default();
        json.push(b'\n');
        json
    }
}

impl<C> fmt::Debug for VersionedFile<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionedFile").field("path", &self.file.path()).finish_non_exhaustive()
    }
}
