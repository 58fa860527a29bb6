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

/// File whose content is a `C`.
pub struct VersionedFile<C> {
    shared: LockedFile,
    /// Schema version that is written. Earlier ones are still read.
    schema: u64,
    content: PhantomData<fn() -> C>,
}

#[derive(Deserialize, Serialize)]
struct VersionedDocument<C> {
    schema: u64,
    #[serde(flatten)]
    content: C,
}

/// Schema number, the only key that every version has.
#[derive(Deserialize)]
struct DocumentSchema {
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
        let shared = LockedFile::with_disk(disk, state_dir.join(name));
        Self { shared, schema, content: PhantomData }
    }

    /// Reads the content and changes nothing: `None` if there is no file yet, `Some(Err(reason))` if
    /// the file is unusable.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(&self) -> Result<Option<Result<C, String>>, Failure> {
        self.shared.read(|bytes| parse(bytes, self.schema))
    }

    /// Reads the content, or the default if there is no file yet.
    ///
    /// # Errors
    /// One sentence with the reason, if the file cannot be read.
    pub fn read_or_default(&self) -> Result<C, String> {
        match self.read() {
            Ok(content) => content.unwrap_or_else(|| Ok(C::default())).map_err(|reason| {
                format!("{} cannot be read: {reason}", self.shared.path().display())
            }),
            Err(failure) => Err(sanitize_line(&failure.message)),
        }
    }

    /// Changes the content and writes it, unless `change` fails. An unusable file is moved aside,
    /// and a new one is written.
    ///
    /// # Errors
    /// A storage failure, or that of `change`.
    pub(super) fn change<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut C) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let changed = self.shared.update(durability, |bytes| parse(bytes, self.schema), |previous| {
            let mut content = match previous {
                PreviousContent::Valid(content) => content,
                PreviousContent::Absent => C::default(),
                PreviousContent::Quarantined { quarantine_path, reason } => {
                    let path = self.shared.path().display();
                    let moved_to = quarantine_path.display();
                    warn!(%path, %moved_to, reason, "unreadable file moved aside, starting with an empty one");
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
        f.debug_struct("VersionedFile").field("path", &self.shared.path()).finish_non_exhaustive()
    }
}

fn parse<C: DeserializeOwned>(bytes: &[u8], known: u64) -> Result<C, String> {
    let invalid = |error: serde_json::Error| sanitize_line(&error.to_string());
    let DocumentSchema { schema } = serde_json::from_slice(bytes).map_err(invalid)?;
    if schema > known {
        return Err(format!("a newer cynosure wrote it: schema {schema}, this one knows {known}"));
    }
    let VersionedDocument { content, .. } = serde_json::from_slice(bytes).map_err(invalid)?;
    Ok(content)
}

/// Writes a single line, because pretty-printed lists of numbers take a line for each number.
fn serialize<C: Serialize>(content: C, schema: u64) -> Vec<u8> {
    // Serialization cannot fail: all keys are strings, and all numbers are finite.
    let mut json = serde_json::to_vec(&VersionedDocument { schema, content }).unwrap_or_default();
    json.push(b'\n');
    json
}
