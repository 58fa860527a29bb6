//! `reset`: forgets the progress of a source, and keeps its archive.

use std::io;
use std::path::{Path, PathBuf};

use crate::cli::args::{Common, ResetArgs};
use crate::cli::exit::Exit;
use crate::cli::place::{ledger_file, lock_file, state_file};
use crate::cli::print::show;
use crate::cli::sources::{chosen, ground};
use crate::cli::table::table;
use crate::cli::trouble::Trouble;
use crate::disk::{Disk, Lock, RealDisk, storage_failure};
use crate::engine::Failure;
use crate::state::FIGURES_FILE;

/// A file that is to go, and what is lost with it.
#[derive(Debug)]
struct Removal {
    path: PathBuf,
    what: &'static str,
}

pub(super) fn reset(common: &Common, args: &ResetArgs) -> Result<Exit, Trouble> {
    let ground = ground(common)?;
    for source in chosen(&ground, Some(&args.source))? {
        let dir = &source.dir;
        if !dir.exists() {
            show(format!("{} has never run: there is nothing to forget", source.name))?;
            continue;
        }
        // Held to the end, so that no worker starts in the middle.
        let _alone = Lock::acquire(&lock_file(dir))?;
        let plan = plan(dir)?;
        if plan.is_empty() {
            show(format!("{} is as if it had never run: there is nothing to forget", source.name))?;
            continue;
        }
        show(explain(&plan, dir))?;
        let archive = ground.loaded.settings.archive.dir.display();
        show(format!("The archive {archive} is kept."))?;
        if source.settings.is_some() {
            show("The next run lists and fetches everything anew, into a new folder.")?;
        }
        if args.yes {
            carry_out(&plan, dir)?;
            show(format!("{} is forgotten.", source.name))?;
        } else {
            show(format!(
                "Nothing is changed yet: `cynosure reset {} --yes` does it.",
                source.name
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// Finds what there is to remove, in the order of removal.
///
/// The state goes first: a ledger without one is a source that goes on as it was. The lock stays.
fn plan(dir: &Path) -> Result<Vec<Removal>, Failure> {
    let (state, figures, ledger) = (state_file(dir), dir.join(FIGURES_FILE), ledger_file(dir));
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
    let listed =
        RealDisk.list(dir).map_err(|error| storage_failure("read the folder", dir, &error))?;
    let mut plan = Vec::new();
    for (file, suffix, what) in known {
        let mut beginning = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        beginning.push_str(suffix);
        let is_it = |name: &&PathBuf| match suffix {
            ".unreadable-" | ".new" => name.to_string_lossy().starts_with(&beginning),
            _ => name.to_string_lossy() == beginning,
        };
        plan.extend(listed.iter().filter(is_it).map(|name| Removal { path: dir.join(name), what }));
    }
    Ok(plan)
}

fn explain(plan: &[Removal], dir: &Path) -> String {
    let rows: Vec<Vec<String>> = plan
        .iter()
        .map(|removal| {
            let name = removal.path.file_name().unwrap_or_default().to_string_lossy();
            vec![name.into_owned(), removal.what.to_owned()]
        })
        .collect();
    table(&[&format!("REMOVED FROM {}", dir.display()), "WITH IT GOES"], &rows)
}

fn carry_out(plan: &[Removal], dir: &Path) -> Result<(), Failure> {
    for Removal { path, .. } in plan {
        match RealDisk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(storage_failure("remove", path, &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    RealDisk.sync_dir(dir).map_err(|error| storage_failure("sync the folder", dir, &error))
}
