//! Manifest of a session folder: one line of JSON for each document that was put there.
//!
//! A ledger can be rebuilt from it. It does not prove that a document is stored: a line is written
//! before its document is published, and stays if a crash makes recovery remove the document. So a
//! line counts only if the file exists with the recorded length. The last of several lines for one
//! path counts, and a truncated line is skipped.

use std::collections::BTreeMap;

use cynosure_engine::{BlobId, DocumentId, ItemId};
use serde::{Deserialize, Serialize};

use crate::archive::FolderName;

/// File name of a manifest. No thread folder can have it, because dots in ids are encoded.
pub(super) const MANIFEST_FILE: &str = "manifest.jsonl";

/// Manifest line of one document.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ManifestLine {
    #[serde(rename = "item")]
    item_id: String,
    #[serde(rename = "id")]
    document_id: String,
    blob: String,
    /// Size announced by the server, in bytes; absent if it announced none.
    #[serde(default)]
    pub(super) size: Option<u64>,
    /// Length of the file, in bytes.
    pub(super) length: u64,
    /// In hex.
    sha256: String,
    /// Path below the session folder.
    pub(super) path: String,
    /// Names and values that the source lists with the document, for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    /// Names of the folders that contained the document when it was stored, if its source names
    /// them without numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) folders: Vec<String>,
}

/// State of the manifest that is being written.
#[derive(Debug, Default)]
pub(super) enum ManifestState {
    /// An earlier process may have written it, so its last line may be truncated.
    #[default]
    Unknown,
    /// The manifest of this folder ends with a complete line.
    Complete(FolderName),
    /// A write or a sync of the manifest failed.
    WriteFailed,
}

impl ManifestLine {
    pub(super) fn new(
        (item, document, blob): (&ItemId, &DocumentId, &BlobId),
        size: Option<u64>,
        (length, sha256): (u64, [u8; 32]),
        path: String,
    ) -> Self {
        Self {
            item_id: item.to_string(),
            document_id: document.to_string(),
            blob: blob.to_string(),
            size,
            length,
            sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
            path,
            labels: BTreeMap::new(),
            folders: Vec::new(),
        }
    }

    pub(super) fn with_labels(self, labels: &[(String, String)]) -> Self {
        Self { labels: labels.iter().cloned().collect(), ..self }
    }

    pub(super) fn with_folders(self, folders: &[String]) -> Self {
        Self { folders: folders.to_vec(), ..self }
    }

    pub(super) fn ids(&self) -> (ItemId, DocumentId) {
        (ItemId::new(&*self.item_id), DocumentId::new(&*self.document_id))
    }

    pub(super) fn blob(&self) -> BlobId {
        BlobId::new(&*self.blob)
    }

    /// Parses the SHA-256. `None` unless it is 64 hex digits.
    pub(super) fn sha256(&self) -> Option<[u8; 32]> {
        let digits = self.sha256.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(bytes)
    }
}

/// Serializes lines as JSON, each with a line break.
pub(super) fn to_json_lines(lines: impl Iterator<Item = ManifestLine>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        // A line has only strings and numbers, so its serialization can't fail.
        bytes.extend(serde_json::to_vec(&line).unwrap_or_default());
        bytes.push(b'\n');
    }
    bytes
}

/// Parses a manifest into its lines, keyed by path. Lines that are not valid are skipped.
pub(super) fn parse_manifest(bytes: &[u8]) -> BTreeMap<String, ManifestLine> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| serde_json::from_slice::<ManifestLine>(line).ok());
    lines.map(|line| (line.path.clone(), line)).collect()
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    fn any_line(path: &str, length: u64) -> ManifestLine {
        let ids = (&ItemId::new("T\u{1f}"), &DocumentId::new("m\n\"1"), &BlobId::new("b"));
        ManifestLine::new(ids, Some(length), (length, [0xa5; 32]), path.to_owned())
    }

    proptest! {
        #[test]
        fn a_truncated_manifest_loses_one_line(
            lengths in proptest::collection::vec(any::<u64>(), 1..5),
            cut in any::<proptest::sample::Index>(),
        ) {
            let lines = || lengths.iter().enumerate().map(|(number, length)| any_line(&format!("t/{number}.eml"), *length));
            let intact = to_json_lines(lines());
            let truncated = &intact[..cut.index(intact.len())];
            let complete = truncated.iter().filter(|byte| **byte == b'\n').count();

            let mut bytes = truncated.to_vec();
            bytes.push(b'\n');
            bytes.extend(to_json_lines(std::iter::once(any_line("t/next.eml", 7))));
            let read = parse_manifest(&bytes);

            prop_assert!(read.len() == complete + 1 || read.len() == complete + 2);
            prop_assert!(read.contains_key("t/next.eml"));
            for expected in lines().take(complete) {
                prop_assert_eq!(&read[&expected.path], &expected);
            }
        }
    }

    #[test]
    fn labels_are_kept_and_left_out_if_there_are_none() {
        let labels = [("subject", "\"Grüße\"\n"), ("from", "a@example.com")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let lines = [any_line("t/a.eml", 1), any_line("t/b.eml", 2).with_labels(&labels)];

        let bytes = to_json_lines(lines.clone().into_iter());

        assert_eq!(String::from_utf8_lossy(&bytes).matches("labels").count(), 1);
        let read = parse_manifest(&bytes);
        assert_eq!((&read["t/a.eml"], &read["t/b.eml"]), (&lines[0], &lines[1]));
    }

    #[test]
    fn folders_are_kept_and_left_out_if_there_are_none() {
        let folders = ["Inbox", "Work/\"2024\""].map(str::to_owned);
        let lines = [any_line("t/a.eml", 1), any_line("t/b.eml", 2).with_folders(&folders)];

        let bytes = to_json_lines(lines.clone().into_iter());

        assert_eq!(String::from_utf8_lossy(&bytes).matches("folders").count(), 1);
        let read = parse_manifest(&bytes);
        assert_eq!((&read["t/a.eml"], &read["t/b.eml"]), (&lines[0], &lines[1]));
    }

    #[test]
    fn the_last_line_of_a_path_wins() {
        let bytes = to_json_lines([any_line("t/a.eml", 1), any_line("t/a.eml", 2)].into_iter());

        let read = parse_manifest(&bytes);

        assert_eq!(read["t/a.eml"].length, 2);
        assert_eq!(read["t/a.eml"].sha256(), Some([0xa5; 32]));
    }
}
