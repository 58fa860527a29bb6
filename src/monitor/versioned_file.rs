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

/// Schema version that is read and written.
const SCHEMA: u64 = 1;

/// File whose content is a `C`.
pub struct VersionedFile<C> {
    shared: LockedFile,
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
    pub fn new(state_dir: &Path, name: &str) -> Self {
        Self::with_disk(Arc::new(RealDisk), state_dir, name)
    }

    /// Uses the file `name` on the given disk.
    #[must_use]
    pub fn with_disk(disk: Arc<dyn Disk>, state_dir: &Path, name: &str) -> Self {
        Self { shared: LockedFile::with_disk(disk, state_dir.join(name)), content: PhantomData }
    }

    /// Reads the content and changes nothing: `None` if there is no file yet, `Some(Err(why))` if
    /// the file is unusable.
    ///
    /// # Errors
    /// A storage failure.
    pub fn read(&self) -> Result<Option<Result<C, String>>, Failure> {
        self.shared.read(parse)
    }

    /// Reads the content, or the default if there is no file yet.
    ///
    /// # Errors
    /// One sentence with the reason, if the file cannot be read.
    pub fn read_or_default(&self) -> Result<C, String> {
        match self.read() {
            Ok(content) => content
                .unwrap_or_else(|| Ok(C::default()))
                .map_err(|why| format!("{} cannot be read: {why}", self.shared.path().display())),
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
        lasts: Durability,
        change: impl FnOnce(&mut C) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let changed = self.shared.update(lasts, parse, |standing| {
            let mut content = match standing {
                PreviousContent::Valid(content) => content,
                PreviousContent::Absent => C::default(),
                PreviousContent::Quarantined { quarantine_path: kept_as, reason: why } => {
                    let (path, kept_as) = (self.shared.path().display(), kept_as.display());
                    warn!("{path} cannot be read ({why}), is kept as {kept_as}, and begun anew");
                    C::default()
                }
            };
            let changed = change(&mut content);
            (changed.is_ok().then(|| serialize(content)), changed)
        });
        changed?
    }
}

impl<C> fmt::Debug for VersionedFile<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionedFile").field("path", &self.shared.path()).finish_non_exhaustive()
    }
}

fn parse<C: DeserializeOwned>(bytes: &[u8]) -> Result<C, String> {
    let wrong = |error: serde_json::Error| sanitize_line(&error.to_string());
    let DocumentSchema { schema } = serde_json::from_slice(bytes).map_err(wrong)?;
    if schema > SCHEMA {
        return Err(format!("a newer cynosure wrote it: schema {schema}, this one knows {SCHEMA}"));
    }
    let VersionedDocument { content, .. } = serde_json::from_slice(bytes).map_err(wrong)?;
    Ok(content)
}

/// Writes a single line, because pretty-printed lists of numbers take a line for each number.
fn serialize<C: Serialize>(content: C) -> Vec<u8> {
    // Serialization cannot fail: all keys are strings, and all numbers are finite.
    let mut json =
        serde_json::to_vec(&VersionedDocument { schema: SCHEMA, content }).unwrap_or_default();
    json.push(b'\n');
    json
}
