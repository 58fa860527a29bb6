//! `requeue`: schedules failed items to be fetched again.
//!
//! It only makes rows of the ledger due, in one transaction each, so it can run at the same time
//! as the worker, which finds them at its next poll.

use cynosure_engine::{ItemId, Timestamp, sanitize_line};

use crate::app::archive_check::archive_problem;
use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::{SourceRef, select_sources};
use crate::cli::args::{CommonArgs, RequeueArgs};
use crate::cli::commands::requeue_damaged::requeue_damaged;
use crate::cli::print::{print_error, print_result};
use crate::cli::time_arg;
use crate::env::{Env, RealEnv};
use crate::human::pluralize;
use crate::ledger::{FailureFilter, Ledger, RequeueFilter, SqliteLedger};

pub(super) fn requeue(
    common: &CommonArgs,
    args: &RequeueArgs,
) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    let sources = select_sources(&context, args.source.as_deref())?;
    let source = only_source(&sources)?;
    let archive = &context.loaded.settings.archive.dir;
    // Opened read-only first, because opening for writing would create a missing ledger.
    let ledger = source.open_ledger()?;
    if let Some(failure) = archive_problem(archive, source.name.as_str(), ledger.as_deref())? {
        return Err(failure.into());
    }
    if ledger.is_none() {
        let message = format!("{} has never run: there is nothing to requeue", source.name);
        return Err(ProgramError::new(ProgramExit::Other, message));
    }
    let mut ledger = SqliteLedger::open(&source.folder.ledger_file())?;
    if args.damaged {
        return requeue_damaged(
            source,
            archive,
            &mut ledger,
            &next_step_text(source),
            RealEnv.now(),
        );
    }
    let (requeued, unmatched) = requeue_items(&mut ledger, args, RealEnv.now())?;

    if requeued > 0 {
        print_result(format!(
            "{} of {}: {}",
            pluralize(requeued, "item"),
            source.name,
            next_step_text(source)
        ))?;
    }
    let exit = if requeued > 0 && unmatched.is_empty() {
        ProgramExit::Success
    } else {
        ProgramExit::Other
    };
    for item in &unmatched {
        let item = sanitize_line(item);
        print_error(exit, format!("no item {item} of {} is quarantined or gone", source.name));
    }
    if requeued == 0 {
        let cause = args.cause.map(|cause| format!(" with the cause {cause}")).unwrap_or_default();
        let since = if args.since.is_some() { " that failed since then" } else { "" };
        let result = if unmatched.is_empty() {
            format!("{} has no quarantined items{cause}{since}", source.name)
        } else {
            "nothing was changed".to_owned()
        };
        let advice = format!("`cynosure failures {}` shows the failed items", source.name);
        print_error(exit, format!("{result}; {advice}"));
    }
    Ok(exit)
}

fn only_source(sources: &[SourceRef]) -> Result<&SourceRef, ProgramError> {
    match sources {
        [] => Err(ProgramError::new(
            ProgramExit::Configuration,
            "there is no source in the configuration",
        )),
        [source] => Ok(source),
        several => {
            let names: Vec<&str> = several.iter().map(|source| source.name.as_str()).collect();
            let message = format!("set --source to one of {}", names.join(", "));
            Err(ProgramError::Usage(message))
        }
    }
}

/// Returns the number of requeued items, and the requested items that could not be requeued.
fn requeue_items<'a>(
    ledger: &mut dyn Ledger,
    args: &'a RequeueArgs,
    now: Timestamp,
) -> Result<(u64, Vec<&'a str>), ProgramError> {
    let mut requeued = 0;
    let mut unmatched = Vec::new();
    if args.items.is_empty() {
        let since =
            args.since.as_deref().map(|since| time_arg::parse_time_arg(since, now)).transpose()?;
        let filter = RequeueFilter::Quarantined(FailureFilter { cause: args.cause, since });
        requeued = ledger.requeue(&filter, now)?;
    }
    for item in &args.items {
        match ledger.requeue(&RequeueFilter::Item(ItemId::new(item)), now)? {
            0 => unmatched.push(item.as_str()),
            count => requeued += count,
        }
    }
    Ok((requeued as u64, unmatched))
}

fn next_step_text(source: &SourceRef) -> String {
    if source.folder.read_state().is_running() {
        "fetched again at the worker's next poll".to_owned()
    } else {
        format!("fetched again by the next `cynosure run {}`", source.name)
    }
}
