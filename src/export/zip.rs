//! Writer of a ZIP file. Its central directory, with an entry for each file in it, is a file of its
//! own until everything is exported, so that it takes no memory.

use std::io;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use cynosure_engine::Failure;

use crate::archive::layout::{FIRST_VERSION, document_path};
use crate::archive::{FileExtension, parse_line_place};
use crate::disk::{Disk, DiskFile, Filesystem};
use crate::export::content::{CHUNK_BYTES, read_chunk};
use crate::export::failure::write_failure;
use crate::export::folder_names::ExportedFolder;
use crate::export::state::{ExportedSource, ZipLengths};
use crate::export::target::work_folder;
use crate::export::writer::{ExportEntry, ExportWriter, cut_back, remove_if_present};
use crate::export::zip_format::{ZipEntry, end_of_file};

/// Name of the ZIP file in the folder of a source.
pub(super) const ZIP_FILE: &str = "mail.zip";

/// Central directory, in the work folder.
const DIRECTORY_FILE: &str = "directory";

/// Extension of documents that are lines in the archive.
const LINE_EXTENSION: &str = "json";

/// Writer of one source as a ZIP file.
#[derive(Debug)]
pub(super) struct ZipWriter<'a> {
    disk: &'a dyn Disk,
    archive_path: PathBuf,
    directory_path: PathBuf,
    filesystem: Box<dyn Filesystem>,
    /// Both files; `None` until the first entry.
    files: Option<ZipFiles>,
    lengths: ZipLengths,
}

/// ZIP file and its central directory, open for appending.
#[derive(Debug)]
struct ZipFiles {
    archive: Box<dyn DiskFile>,
    directory: Box<dyn DiskFile>,
}

impl<'a> ZipWriter<'a> {
    /// Creates the writer of a source below `root`, which exists, in an export into `dir`.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn new(disk: &'a dyn Disk, dir: &Path, root: &Path) -> Result<Self, Failure> {
        let filesystem =
            disk.open_filesystem(root).map_err(|error| write_failure("access", root, &error))?;
        Ok(Self {
            disk,
            archive_path: root.join(ZIP_FILE),
            directory_path: work_folder(dir).join(DIRECTORY_FILE),
            filesystem,
            files: None,
            lengths: ZipLengths::default(),
        })
    }

    /// Opens both files, and creates those that do not exist.
    fn files(&mut self) -> Result<&mut ZipFiles, Failure> {
        let open = |path: &Path| {
            let file = self.disk.open_append(path);
            file.map_err(|error| write_failure("create", path, &error))
        };
        let files = match self.files.take() {
            Some(files) => files,
            None => ZipFiles {
                archive: open(&self.archive_path)?,
                directory: open(&self.directory_path)?,
            },
        };
        Ok(self.files.insert(files))
    }

    /// Appends bytes to the ZIP file, and counts them.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let outcome = self.files()?.archive.append(bytes);
        outcome.map_err(|error| write_failure("write", &self.archive_path, &error))?;
        self.lengths.archive += bytes.len() as u64;
        Ok(())
    }

    fn add_to(
        &mut self,
        entry: &ExportEntry<'_>,
        folder: &ExportedFolder,
        (crc, size): (u32, u64),
    ) -> Result<(), Failure> {
        let disk = self.disk;
        let zip_entry = ZipEntry {
            name: format!("{}/{}", folder.path, entry_path(entry)),
            crc,
            size,
            offset: self.lengths.archive,
            time: entry.time,
        };
        self.append(&zip_entry.local_header())?;
        entry.content.for_each_chunk(disk, entry.line_ends, |chunk| self.append(chunk))?;
        let header = zip_entry.directory_header();
        let outcome = self.files()?.directory.append(&header);
        outcome.map_err(|error| write_failure("write", &self.directory_path, &error))?;
        self.lengths.directory += header.len() as u64;
        self.lengths.entries += 1;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Failure> {
        let path = &self.archive_path;
        self.filesystem.sync().map_err(|error| write_failure("sync", path, &error))
    }
}

impl ExportWriter for ZipWriter<'_> {
    fn recover(&mut self, source: &ExportedSource) -> Result<(), Failure> {
        cut_back(self.disk, &self.archive_path, source.zip.archive)?;
        cut_back(self.disk, &self.directory_path, source.zip.directory)?;
        self.lengths = source.zip;
        Ok(())
    }

    fn add(
        &mut self,
        _source: &ExportedSource,
        entry: &ExportEntry<'_>,
        folders: &[(usize, &ExportedFolder)],
    ) -> Result<(), Failure> {
        // The header comes first, so the bytes are read once more for it.
        let (mut hasher, mut size) = (Hasher::new(), 0);
        entry.content.for_each_chunk(self.disk, entry.line_ends, |chunk| {
            hasher.update(chunk);
            size += chunk.len() as u64;
            Ok(())
        })?;
        let crc = hasher.finalize();
        folders.iter().try_for_each(|(_, folder)| self.add_to(entry, folder, (crc, size)))
    }

    fn commit(&mut self, source: &mut ExportedSource) -> Result<(), Failure> {
        if self.lengths == source.zip {
            return Ok(());
        }
        self.sync()?;
        source.zip = self.lengths;
        Ok(())
    }

    /// Appends the central directory. An interrupted export cuts it off first.
    fn finish(&mut self, source: &ExportedSource) -> Result<(), Failure> {
        let ZipLengths { archive, directory, entries } = source.zip;
        if directory > 0 {
            let path = self.directory_path.clone();
            let to_failure = |error: io::Error| write_failure("read", &path, &error);
            let mut file = self.disk.open_file(&path).map_err(to_failure)?;
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                let bytes = read_chunk(&mut file, &mut chunk).map_err(to_failure)?;
                if bytes.is_empty() {
                    break;
                }
                self.append(bytes)?;
            }
        }
        self.append(&end_of_file(entries, archive, directory))?;
        self.sync()
    }

    fn clean_up(&mut self) -> Result<(), Failure> {
        self.files = None;
        remove_if_present(self.disk, &self.directory_path)
    }
}

/// Returns the path of an entry below its folder, as in the archive. The newest version of a
/// document has no number.
fn entry_path(entry: &ExportEntry<'_>) -> String {
    let version = match entry.is_earlier {
        true => u32::try_from(entry.version).unwrap_or(u32::MAX),
        false => FIRST_VERSION,
    };
    let extension = match parse_line_place(entry.file) {
        Some(_) => FileExtension::parse(LINE_EXTENSION),
        None => entry.file.rsplit_once('.').and_then(|(_, text)| FileExtension::parse(text)),
    };
    let document = entry.document;
    document_path(&document.item, &document.document, version, &extension.unwrap_or_default())
}
