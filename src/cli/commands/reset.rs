//! `reset`: deletes the progress of a source, and keeps its archive.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cynosure_engine::Failure;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::select_sources;
use crate::archive::ArchiveMarker;
use crate::cli::args::{CommonArgs, ResetArgs};
use crate::cli::print::print_result;
use crate::cli::table::table;
use crate::disk::{Disk, FileLock, RealDisk, parent_folder, storage_failure};
use crate::state::SourceFolder;

/// File to delete, and its content.
#[derive(Debug)]
struct PlannedDeletion {
    path: PathBuf,
    content: &'static str,
}

pub(super) fn reset(common: &CommonArgs, args: &ResetArgs) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    for source in select_sources(&context, Some(&args.source))? {
        let (folder, archive) = (&source.folder, &context.loaded.settings.archive.dir);
        let dir = folder.path();
        let marker = ArchiveMarker::new(Arc::new(RealDisk), archive, source.name.as_str());
        if !dir.exists() && !marker.path().exists() {
            print_result(format!("{} has never run: there is nothing to delete", source.name))?;
            continue;
        }
        // Held until the end, so that no worker starts during the deletion.
        let locks =
            [(dir.exists(), folder.lock_file()), (marker.path().exists(), marker.lock_file())];
        let locks = locks.into_iter().filter(|(exists, _)| *exists);
        let _locks =
            locks.map(|(_, path)| FileLock::acquire(&path)).collect::<Result<Vec<_>, _>>()?;
        let plan = plan_deletions(folder, &marker)?;
        if plan.is_empty() {
            print_result(format!("{} has no progress: there is nothing to delete", source.name))?;
            continue;
        }
        print_result(format_plan(&plan, dir))?;
        print_result(format!("The documents in the archive {} are kept.", archive.display()))?;
        if source.settings.is_some() {
            print_result("The next run lists and fetches everything again, into a new folder.")?;
        }
        if args.yes {
            delete_files(&plan)?;
            print_result(format!("The progress of {} is deleted.", source.name))?;
        } else {
            print_result(format!(
                "Nothing was deleted. Run `cynosure reset {} --yes` to delete it.",
                source.name
            ))?;
        }
    }
    Ok(ProgramExit::Success)
}

/// Returns the files to delete, in the order of deletion.
///
/// The state file is first, because a source with a ledger and no state file continues as before.
/// The lock file stays. The archive marker is last, because a new ledger is rejected as long as the
/// marker names the old one.
fn plan_deletions(
    folder: &SourceFolder,
    marker: &ArchiveMarker,
) -> Result<Vec<PlannedDeletion>, Failure> {
    let dir = folder.path();
    let (state, metrics, ledger) =
        (folder.state_file(), folder.metrics_file(), folder.ledger_file());
    let candidates = [
        (&state, "", "the current state and its reason"),
        (&state, ".unreadable-", "an unreadable state file"),
        (&metrics, "", "metrics of requests, items and durations"),
        (&metrics, ".unreadable-", "unreadable metrics"),
        (&ledger, "-wal", "the last changes of the ledger"),
        (&ledger, "-shm", "an index of these changes"),
        (&ledger, ".new", "an incomplete new ledger"),
        (&ledger, "", "the listed, stored and failed items, and the history"),
    ];
    let listed = match RealDisk.list_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|error| storage_failure("read the folder", dir, &error))?,
    };
    let mut plan = Vec::new();
    for (file, suffix, content) in candidates {
        let mut prefix = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        prefix.push_str(suffix);
        let is_match = |name: &&PathBuf| match suffix {
            ".unreadable-" | ".new" => name.to_string_lossy().starts_with(&prefix),
            _ => name.to_string_lossy() == prefix,
        };
        plan.extend(
            listed
                .iter()
                .filter(is_match)
                .map(|name| PlannedDeletion { path: dir.join(name), content }),
        );
    }
    if marker.path().exists() {
        let content = "the link between the archive and its ledger";
        plan.push(PlannedDeletion { path: marker.path(), content });
    }
    Ok(plan)
}

fn format_plan(plan: &[PlannedDeletion], dir: &Path) -> String {
    let rows: Vec<Vec<String>> = plan
        .iter()
        .map(|deletion| {
            let name = deletion.path.strip_prefix(dir).unwrap_or(&deletion.path);
            vec![name.display().to_string(), deletion.content.to_owned()]
        })
        .collect();
    table(&[&format!("DELETED FROM {}", dir.display()), "CONTENT"], &rows)
}

fn delete_files(plan: &[PlannedDeletion]) -> Result<(), Failure> {
    for PlannedDeletion { path, .. } in plan {
        match RealDisk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(storage_failure("remove", path, &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let folders: BTreeSet<&Path> =
        plan.iter().map(|deletion| parent_folder(&deletion.path)).collect();
    folders.into_iter().try_for_each(|folder| {
        RealDisk
            .sync_dir(folder)
            .map_err(|error| storage_failure("sync the folder", folder, &error))
    })
}
