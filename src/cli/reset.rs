//! `reset`: forgets the progress of a source, and keeps its archive.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive::ArchiveMarker;
use crate::cli::args::{CommonArgs, ResetArgs};
use crate::cli::context::{ledger_file, lock_file, state_file};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::print::print_result;
use crate::cli::sources::{load_context, select_sources};
use crate::cli::table::table;
use crate::disk::{Disk, FileLock, RealDisk, parent_folder, storage_failure};
use crate::engine::Failure;
use crate::state::METRICS_FILE;

/// A file that is to go, and what is lost with it.
#[derive(Debug)]
struct PlannedDeletion {
    path: PathBuf,
    consequence: &'static str,
}

pub(super) fn reset(common: &CommonArgs, args: &ResetArgs) -> Result<ProgramExit, CliError> {
    let ground = load_context(common)?;
    for source in select_sources(&ground, Some(&args.source))? {
        let (dir, archive) = (&source.dir, &ground.loaded.settings.archive.dir);
        let marker = ArchiveMarker::new(Arc::new(RealDisk), archive, source.name.as_str());
        if !dir.exists() && !marker.path().exists() {
            print_result(format!("{} has never run: there is nothing to forget", source.name))?;
            continue;
        }
        // Held to the end, so that no worker starts in the middle.
        let locks = [(dir.exists(), lock_file(dir)), (marker.path().exists(), marker.lock_file())];
        let locks = locks.into_iter().filter(|(is_there, _)| *is_there);
        let _alone =
            locks.map(|(_, path)| FileLock::acquire(&path)).collect::<Result<Vec<_>, _>>()?;
        let plan = plan_deletions(dir, &marker)?;
        if plan.is_empty() {
            print_result(format!(
                "{} is as if it had never run: there is nothing to forget",
                source.name
            ))?;
            continue;
        }
        print_result(print_plan(&plan, dir))?;
        print_result(format!("The documents in the archive {} are kept.", archive.display()))?;
        if source.settings.is_some() {
            print_result("The next run lists and fetches everything anew, into a new folder.")?;
        }
        if args.yes {
            delete_files(&plan)?;
            print_result(format!("{} is forgotten.", source.name))?;
        } else {
            print_result(format!(
                "Nothing is changed yet: `cynosure reset {} --yes` does it.",
                source.name
            ))?;
        }
    }
    Ok(ProgramExit::Success)
}

/// Finds what there is to remove, in the order of removal.
///
/// The state goes first: a ledger without one is a source that goes on as it was. The lock stays.
/// The archive's marker goes last: a new ledger is refused as long as the marker names the old one.
fn plan_deletions(dir: &Path, marker: &ArchiveMarker) -> Result<Vec<PlannedDeletion>, Failure> {
    let (state, figures, ledger) = (state_file(dir), dir.join(METRICS_FILE), ledger_file(dir));
    let known = [
        (&state, "", "what it was doing, and why"),
        (&state, ".unreadable-", "a broken state file that was kept"),
        (&figures, "", "its counts of requests, items and durations"),
        (&figures, ".unreadable-", "broken counts that were kept"),
        (&ledger, "-wal", "the ledger's last changes"),
        (&ledger, "-shm", "an index of those"),
        (&ledger, ".new", "a ledger that was never finished"),
        (&ledger, "", "what is listed, stored and failed, and the history"),
    ];
    let listed = match RealDisk.list_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|error| storage_failure("read the folder", dir, &error))?,
    };
    let mut plan = Vec::new();
    for (file, suffix, what) in known {
        let mut beginning = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        beginning.push_str(suffix);
        let is_it = |name: &&PathBuf| match suffix {
            ".unreadable-" | ".new" => name.to_string_lossy().starts_with(&beginning),
            _ => name.to_string_lossy() == beginning,
        };
        plan.extend(
            listed
                .iter()
                .filter(is_it)
                .map(|name| PlannedDeletion { path: dir.join(name), consequence: what }),
        );
    }
    if marker.path().exists() {
        let what = "the bond between the archive and its ledger";
        plan.push(PlannedDeletion { path: marker.path(), consequence: what });
    }
    Ok(plan)
}

fn print_plan(plan: &[PlannedDeletion], dir: &Path) -> String {
    let rows: Vec<Vec<String>> = plan
        .iter()
        .map(|removal| {
            let name = removal.path.strip_prefix(dir).unwrap_or(&removal.path);
            vec![name.display().to_string(), removal.consequence.to_owned()]
        })
        .collect();
    table(&[&format!("REMOVED FROM {}", dir.display()), "WITH IT GOES"], &rows)
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
        plan.iter().map(|removal| parent_folder(&removal.path)).collect();
    folders.into_iter().try_for_each(|folder| {
        RealDisk
            .sync_dir(folder)
            .map_err(|error| storage_failure("sync the folder", folder, &error))
    })
}
