//! File of the monitor in the state folder, with a schema number.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::disk::{Disk, Durability, LockedFile, PreviousContent, RealDisk};
use crate::engine::{Failure, sanitize_line};

/// File with a schema number and a content of type `C`.
pub struct VersionedFile<C> {
    file: LockedFile,
    /// Schema version that is written. Earlier ones are still read.
    schema: u64,
    content: PhantomData<fn() -> C>,
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
    /// Uses the file `name` in a state folder of this machine.
    #[must_use]
    pub fn new(state_dir: &Path, name: &str, schema: u64) -> Self {
        Self::with_disk(Arc::new(RealDisk), state_dir, name, schema)
    }

    /// Uses the file `name` on the given disk.
    #[must_use]
    pub fn with_disk(disk: Arc<dyn Disk>, state_dir: &Path, name: &str, schema: u64) -> Self {
        let file = LockedFile::with_disk(disk, state_dir.join(name));
        Self { file, schema, content: PhantomData }
    }

    /// Reads the content and changes nothing: `None` if there is no file yet,
    /// `Some(Err(reason))` if the file is unusable.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(&self) -> Result<Option<Result<C, String>>, Failure> {
        self.file.read(|bytes| parse(bytes, self.schema))
    }

    /// Reads the content, or the default if there is no file yet.
    ///
    /// # Errors
    /// One sentence with the reason, if the file cannot be read.
    pub fn read_or_default(&self) -> Result<C, String> {
        match self.read() {
            Ok(content) => content.unwrap_or_else(|| Ok(C::default())).map_err(|reason| {
                format!("{} cannot be read: {reason}", self.file.path().display())
            }),
            Err(failure) => Err(sanitize_line(&failure.message)),
        }
    }

    /// Changes the content and writes it, unless `change` fails. An unusable file is quarantined,
    /// and a new one is written.
    ///
    /// # Errors
    /// A storage failure, or that of `change`.
    pub(super) fn change<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut C) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let changed = self.file.update(durability, |bytes| parse(bytes, self.schema), |previous| {
            let mut content = match previous {
                PreviousContent::Valid(content) => content,
                PreviousContent::Absent => C::default(),
                PreviousContent::Quarantined { quarantine_path, reason } => {
                    let path = self.file.path().display();
                    let quarantine_path = quarantine_path.display();
                    warn!(%path, %quarantine_path, reason, "unreadable file quarantined, starting with an empty one");
                    C::default()
                }
            };
            let changed = change(&mut content);
            (changed.is_ok().then(|| serialize(content, self.schema)), changed)
        });
        changed?
    }
}

impl<C> fmt::Debug for VersionedFile<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionedFile").field("path", &self.file.path()).finish_non_exhaustive()
    }
}

fn parse<C: DeserializeOwned>(bytes: &[u8], schema_max: u64) -> Result<C, String> {
    let to_reason = |error: serde_json::Error| sanitize_line(&error.to_string());
    let FileHeader { schema } = serde_json::from_slice(bytes).map_err(to_reason)?;
    if schema > schema_max {
        return Err(format!(
            "a newer cynosure wrote it: schema {schema}, this one knows {schema_max}"
        ));
    }
    let VersionedContent { content, .. } = serde_json::from_slice(bytes).map_err(to_reason)?;
    Ok(content)
}

/// Serializes as a single line, because pretty-printing puts each number of a list on its own line.
fn serialize<C: Serialize>(content: C, schema: u64) -> Vec<u8> {
    // Serialization cannot fail: all keys are strings, and all numbers are finite.
    let mut json = serde_json::to_vec(&VersionedContent { schema, content }).unwrap_or_default();
    json.push(b'\n');
    json
}
