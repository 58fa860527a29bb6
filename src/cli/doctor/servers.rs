//! Whether each source can be reached and lets us in.

use std::time::Duration;

use crate::cli::context::{AppContext, ledger_file, source_dir, state_file};
use crate::cli::doctor::DoctorCheck;
use crate::config::{SourceName, SourceSettings};
use crate::disk::RealDisk;
use crate::engine::{Cause, ErrorCategory, Status};
use crate::ledger::LedgerReader;
use crate::state::{StateFile as SourceStatus, read_state_file};
use crate::worker::{Env, RealEnv, probe};

/// How long one source may take: a server that needs longer is not one that works well.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn check_servers(ground: &AppContext) -> Vec<DoctorCheck> {
    let sources = &ground.loaded.settings.sources;
    let enabled = sources.iter().filter(|(_, source)| source.is_enabled);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return vec![DoctorCheck::note("sources", format!("cannot be asked: {error}"))];
        }
    };
    let found = enabled
        .map(|(name, source)| runtime.block_on(check_source(ground, name, source)))
        .collect();
    // A credential command that hangs must not hold up the end.
    runtime.shutdown_background();
    found
}

async fn check_source(
    ground: &AppContext,
    name: &SourceName,
    source: &SourceSettings,
) -> DoctorCheck {
    let what = format!("{name}: server");
    let dir = source_dir(&ground.state_dir, name.as_str());
    let state = read_state_file(&RealDisk, &state_file(&dir));
    if let Ok(SourceStatus::Read(state)) = state
        && state.status == Status::RateLimited
    {
        return DoctorCheck::note(what, "rate limited: it is not asked while the worker waits");
    }
    let began = RealEnv.now();
    let settings = &ground.loaded.settings;
    // A ledger that cannot be read is another check's to complain of.
    let ledger = LedgerReader::open(&ledger_file(&dir)).ok().flatten();
    let account = ledger.and_then(|ledger| ledger.bound_account().ok().flatten());
    match probe(settings, (name, source), account, &ground.environment, PROBE_TIMEOUT).await {
        Ok(()) => {
            let took = RealEnv.now().since(began).as_millis();
            DoctorCheck::ok(what, format!("{} lets us in, in {took} ms", source.provider))
        }
        Err(failure) => {
            let remedy = match failure.cause.category() {
                ErrorCategory::Authentication if failure.cause == Cause::AccountChanged => {
                    "put a credential of the first account in its place, if that one is meant"
                }
                ErrorCategory::Authentication => "put a fresh credential in its place",
                ErrorCategory::Temporary
                | ErrorCategory::Permanent
                | ErrorCategory::Local
                | ErrorCategory::Unknown => {
                    "see whether this machine is online, and the url is right"
                }
            };
            DoctorCheck::failed(what, failure.to_string(), remedy)
        }
    }
}
