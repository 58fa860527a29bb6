//! Export of all selected sources into one folder, from the beginning or from where it stopped.

use std::path::{Path, PathBuf};

use cynosure_engine::{Failure, Timestamp};

use crate::disk::{Disk, write_durable};
use crate::export::failure::{ExportFailure, write_failure};
use crate::export::maildir::MaildirWriter;
use crate::export::mbox::MboxWriter;
use crate::export::options::{ExportFormat, ExportOptions};
use crate::export::readme::{README_FILE, readme_text};
use crate::export::source_export::{
    ExportHost, ExportInput, ExportProgress, GroupSize, MAIL_EXTENSION, SourceEnd, SourceExport,
};
use crate::export::state::{ExportCounts, ExportState, ExportedSource, ZipLengths};
use crate::export::writer::{ExportWriter, create_folders};
use crate::export::zip::ZipWriter;
use crate::ledger::{DocumentRowId, LedgerReports};

/// Source to export.
#[derive(Debug)]
pub struct ExportSource {
    pub name: String,
    pub account: Option<String>,
    pub ledger: Box<dyn LedgerReports>,
    /// File that shows that the archive is there; `None` if it has none.
    pub marker: Option<PathBuf>,
}

/// Export into a folder that was prepared, by its only process.
#[derive(Debug)]
pub struct ExportJob<'a> {
    pub disk: &'a dyn Disk,
    /// Target folder.
    pub dir: &'a Path,
    pub archive: &'a Path,
    pub options: ExportOptions,
    pub sources: Vec<ExportSource>,
    /// Size from which on a group is made durable; [`GroupSize::MAX`] except in tests.
    pub group_max: GroupSize,
}

/// Control of an export by the program that runs it.
pub trait ExportControl {
    fn now(&self) -> Timestamp;

    /// True if the user wants the export to stop.
    fn should_stop(&self) -> bool;

    fn show_progress(&mut self, progress: &ExportProgress<'_>);
}

/// Result of an export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExportOutcome {
    Complete(ExportState),
    /// It was complete before, and nothing was changed.
    AlreadyComplete(ExportState),
    /// The user stopped it. Another run continues it.
    Stopped(ExportState),
}

/// State of the export while a source is exported.
struct JobHost<'j> {
    disk: &'j dyn Disk,
    dir: &'j Path,
    control: &'j mut dyn ExportControl,
    state: ExportState,
    /// Position of the source in the state.
    index: usize,
}

impl ExportJob<'_> {
    /// Exports everything, or the rest of it.
    ///
    /// # Errors
    /// An [`ExportFailure`]. After one of storage, the same export can be continued.
    pub fn run(&self, control: &mut dyn ExportControl) -> Result<ExportOutcome, ExportFailure> {
        let state = match ExportState::read(self.disk, self.dir)? {
            Some(state) => {
                state.check_options(&self.options)?;
                state
            }
            None => self.begin(control.now())?,
        };
        if state.completed_at.is_some() {
            return Ok(ExportOutcome::AlreadyComplete(state));
        }
        let (count, options) = (state.sources.len(), state.options.clone());
        let mut host = JobHost { disk: self.disk, dir: self.dir, control, state, index: 0 };
        for index in 0..count {
            host.index = index;
            if self.run_source(&mut host, &options, count == 1)? == SourceEnd::Stopped {
                return Ok(ExportOutcome::Stopped(host.state));
            }
        }
        let completed_at = host.control.now();
        let mut state = host.state;
        let readme = self.dir.join(README_FILE);
        write_durable(self.disk, &readme, readme_text(&state, completed_at).as_bytes())
            .map_err(|error| write_failure("write", &readme, &error))?;
        state.completed_at = Some(completed_at);
        state.write(self.disk, self.dir)?;
        Ok(ExportOutcome::Complete(state))
    }

    /// Writes the state of a new export.
    fn begin(&self, now: Timestamp) -> Result<ExportState, ExportFailure> {
        let mut sources = Vec::new();
        for source in &self.sources {
            self.check_has_mail(source)?;
            let newest = source.ledger.newest_document()?;
            sources.push(ExportedSource {
                name: source.name.clone(),
                account: source.account.clone(),
                ledger: ledger_id(&*source.ledger)?,
                newest_row: newest.map_or(0, |DocumentRowId(row)| row),
                last_row: 0,
                is_complete: false,
                counts: ExportCounts::default(),
                damaged: Vec::new(),
                folders: Vec::new(),
                zip: ZipLengths::default(),
            });
        }
        let state = ExportState::new(self.options.clone(), now, sources);
        state.write(self.disk, self.dir)?;
        Ok(state)
    }

    /// Returns an error if the format holds nothing of what the source has stored.
    fn check_has_mail(&self, source: &ExportSource) -> Result<(), ExportFailure> {
        let ExportSource { name, ledger, .. } = source;
        let format = self.options.format;
        if !format.is_for_mail_only() || ledger.has_files_with_extension(MAIL_EXTENSION)? {
            return Ok(());
        }
        if ledger.documents_to_export(None, None, 1)?.is_empty() {
            return Ok(());
        }
        Err(ExportFailure::Refused(format!(
            "the documents of {name} are no messages, and `--format {}` holds messages only; \
             export them with `--format zip`, or another source with `--source NAME`",
            format.name()
        )))
    }

    fn run_source(
        &self,
        host: &mut JobHost<'_>,
        options: &ExportOptions,
        is_only_source: bool,
    ) -> Result<SourceEnd, ExportFailure> {
        let Some(exported) = host.state.sources.get(host.index).cloned() else {
            return Ok(SourceEnd::Complete);
        };
        if exported.is_complete {
            return Ok(SourceEnd::Complete);
        }
        let source = self.find_source(&exported)?;
        let root = if is_only_source {
            self.dir.to_owned()
        } else {
            create_folders(self.disk, self.dir, Path::new(&exported.name))?;
            self.dir.join(&exported.name)
        };
        let mut writer = self.new_writer(options, root)?;
        let input = ExportInput {
            disk: self.disk,
            archive: self.archive,
            ledger: &*source.ledger,
            marker: source.marker.as_deref(),
        };
        let rules = (options, self.group_max);
        SourceExport::new(input, rules, host, writer.as_mut(), exported).run()
    }

    /// Finds a source whose export has begun, with the same ledger.
    fn find_source(&self, exported: &ExportedSource) -> Result<&ExportSource, ExportFailure> {
        let name = &exported.name;
        let refused = |reason: &str| {
            ExportFailure::Refused(format!(
                "{name} {reason} since this export began; choose an empty or new folder"
            ))
        };
        let source = self.sources.iter().find(|source| source.name == *name);
        let source = source.ok_or_else(|| refused("was removed"))?;
        if ledger_id(&*source.ledger)? == exported.ledger {
            Ok(source)
        } else {
            Err(refused("has another ledger"))
        }
    }

    fn new_writer(
        &self,
        options: &ExportOptions,
        root: PathBuf,
    ) -> Result<Box<dyn ExportWriter + '_>, Failure> {
        Ok(match options.format {
            ExportFormat::Maildir => {
                Box::new(MaildirWriter::new(self.disk, self.dir, root, options.layout)?)
            }
            ExportFormat::Mbox => Box::new(MboxWriter::new(self.disk, self.dir, root)?),
            ExportFormat::Zip => Box::new(ZipWriter::new(self.disk, self.dir, &root)?),
        })
    }
}

impl ExportHost for JobHost<'_> {
    fn should_stop(&self) -> bool {
        self.control.should_stop()
    }

    fn show_progress(&mut self, progress: &ExportProgress<'_>) {
        self.control.show_progress(progress);
    }

    fn save(&mut self, source: &ExportedSource) -> Result<(), ExportFailure> {
        if let Some(saved) = self.state.sources.get_mut(self.index) {
            saved.clone_from(source);
        }
        self.state.write(self.disk, self.dir)
    }
}

/// Returns the id of a ledger as text; `None` if it has none.
fn ledger_id(ledger: &dyn LedgerReports) -> Result<Option<String>, Failure> {
    Ok(ledger.identity()?.id.map(|id| id.as_str().to_owned()))
}
