//! `requeue`: has failed items fetched again.
//!
//! It only makes rows of the ledger due, in one transaction each, so that it works beside a
//! running worker, which finds them at its next look.

use crate::cli::archive::examine;
use crate::cli::args::{Common, RequeueArgs};
use crate::cli::damaged::requeue_damaged;
use crate::cli::exit::Exit;
use crate::cli::place::ledger_file;
use crate::cli::print::{fail, show};
use crate::cli::since;
use crate::cli::sources::{Known, chosen, ground};
use crate::cli::standing::{Seen, Worker, look};
use crate::cli::trouble::Trouble;
use crate::engine::{ItemId, Timestamp, sanitize_line};
use crate::human::pluralize;
use crate::ledger::{FailureFilter, Ledger, RequeueFilter};
use crate::worker::{Env, RealEnv};

pub(super) fn requeue(common: &Common, args: &RequeueArgs) -> Result<Exit, Trouble> {
    let ground = ground(common)?;
    let sources = chosen(&ground, args.source.as_deref())?;
    let source = the_one(&sources)?;
    let archive = &ground.loaded.settings.archive.dir;
    // Opening it for writing would make one where there is none.
    let ledger = source.ledger()?;
    if let Some(failure) = examine(archive, source.name.as_str(), ledger.as_ref())? {
        return Err(failure.into());
    }
    if ledger.is_none() {
        let why = format!("{} has never run: there is nothing to requeue", source.name);
        return Err(Trouble::new(Exit::Other, why));
    }
    let mut ledger = Ledger::open(&ledger_file(&source.dir))?;
    if args.damaged {
        return requeue_damaged(source, archive, &mut ledger, &outlook(source), RealEnv.now());
    }
    let (due, missed) = make_due(&mut ledger, args, RealEnv.now())?;

    if due > 0 {
        show(format!("{} of {}: {}", pluralize(due, "item"), source.name, outlook(source)))?;
    }
    let exit = if due > 0 && missed.is_empty() { Exit::Done } else { Exit::Other };
    for item in &missed {
        let item = sanitize_line(item);
        fail(exit, format!("no item {item} of {} is quarantined or gone", source.name));
    }
    if due == 0 {
        let cause = args.cause.map(|cause| format!(" for the cause {cause}")).unwrap_or_default();
        let since = if args.since.is_some() { " that failed since then" } else { "" };
        let nothing = format!("nothing of {}{since} is quarantined{cause}", source.name);
        let nothing = if missed.is_empty() { nothing } else { "nothing was changed".to_owned() };
        fail(exit, format!("{nothing}; `cynosure failures {}` shows what has failed", source.name));
    }
    Ok(exit)
}

fn the_one(sources: &[Known]) -> Result<&Known, Trouble> {
    match sources {
        [] => Err(Trouble::new(Exit::Configuration, "there is no source in the configuration")),
        [source] => Ok(source),
        several => {
            let names: Vec<&str> = several.iter().map(|source| source.name.as_str()).collect();
            Err(Trouble::Usage(format!("--source says which of {}", names.join(", "))))
        }
    }
}

/// Returns how many are due now, and the items that were named and are not.
fn make_due<'a>(
    ledger: &mut Ledger,
    args: &'a RequeueArgs,
    now: Timestamp,
) -> Result<(u64, Vec<&'a str>), Trouble> {
    let mut due = 0;
    let mut missed = Vec::new();
    if args.items.is_empty() {
        let since = args.since.as_deref().map(|since| since::read(since, now)).transpose()?;
        let which = RequeueFilter::Quarantined(FailureFilter { cause: args.cause, since });
        due = ledger.requeue(&which, now)?;
    }
    for item in &args.items {
        match ledger.requeue(&RequeueFilter::Item(ItemId::new(item)), now)? {
            0 => missed.push(item.as_str()),
            found => due += found,
        }
    }
    Ok((due as u64, missed))
}

fn outlook(source: &Known) -> String {
    match look(source).seen {
        Seen::State(_, Worker::Running) => "fetched again at the worker's next look".to_owned(),
        Seen::State(..) | Seen::NeverRun | Seen::Untold(_) => {
            format!("fetched again by the next `cynosure run {}`", source.name)
        }
    }
}
