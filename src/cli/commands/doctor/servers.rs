//! Checks of the sources: connects to the server of each one and authenticates.

use std::time::Duration;

use cynosure_engine::{Cause, ErrorCategory, Status};

use tokio::task::LocalSet;

use crate::app::context::AppContext;
use crate::cli::commands::doctor::DoctorCheck;
use crate::config::{SourceAuth, SourceName, SourceSettings};
use crate::env::{Env, RealEnv};
use crate::ledger::{LedgerReader, SqliteLedger};
use crate::worker::{ProbeFailure, probe};

/// Time limit for one source: a server that needs longer does not work well.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn check_servers(context: &AppContext) -> Vec<DoctorCheck> {
    let sources = &context.loaded.settings.sources;
    let enabled = sources.iter().filter(|(_, source)| source.is_enabled);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return vec![DoctorCheck::note("sources", format!("cannot be checked: {error}"))];
        }
    };
    let checks = enabled
        .map(|(name, source)| {
            LocalSet::new().block_on(&runtime, check_source(context, name, source))
        })
        .collect();
    // A credential command that hangs must not delay the end of the program.
    runtime.shutdown_background();
    checks
}

async fn check_source(
    context: &AppContext,
    name: &SourceName,
    source: &SourceSettings,
) -> DoctorCheck {
    let subject = format!("{name}: server");
    let folder = context.state_folder().source(name.as_str());
    let state = folder.read_state();
    if state.execution_state().is_some_and(|state| state.status == Status::RateLimited) {
        return DoctorCheck::note(subject, "rate limited: not checked while the worker waits");
    }
    let started_at = RealEnv.now();
    let settings = &context.loaded.settings;
    // A damaged ledger is reported by the check of the archives.
    let ledger = SqliteLedger::open_read_only(&folder.ledger_file()).ok().flatten();
    let account = ledger.and_then(|ledger| ledger.bound_account().ok().flatten());
    let (environment, source_state_dir) = (&context.environment, folder.path());
    let request =
        probe(settings, (name, source), account, environment, source_state_dir, PROBE_TIMEOUT);
    match request.await {
        Ok(()) => {
            let millis = RealEnv.now().since(started_at).as_millis();
            let message = format!("authenticated at {} in {millis} ms", source.provider);
            DoctorCheck::ok(subject, message)
        }
        Err(ProbeFailure { failure, is_client_refused }) => {
            let remedy = match failure.cause.category() {
                ErrorCategory::Authentication if failure.cause == Cause::AccountChanged => {
                    "restore a credential of the first account, if that one is intended".to_owned()
                }
                ErrorCategory::Authentication if is_client_refused => {
                    "correct `auth` of the source".to_owned()
                }
                ErrorCategory::Authentication => refused_remedy(name, &source.auth),
                ErrorCategory::Local if failure.cause == Cause::Storage => {
                    "allow this user to write there, and check that the disk is not full".to_owned()
                }
                ErrorCategory::Temporary
                | ErrorCategory::Permanent
                | ErrorCategory::Local
                | ErrorCategory::Unknown => {
                    "check that this machine is online and that the url is correct".to_owned()
                }
            };
            DoctorCheck::failed(subject, failure.to_string(), remedy)
        }
    }
}

fn refused_remedy(name: &SourceName, auth: &SourceAuth) -> String {
    match auth {
        SourceAuth::SignIn { .. } => format!("sign in again with `cynosure auth {name}`"),
        SourceAuth::Application { .. } => {
            "let an administrator check what the application may do and for whom".to_owned()
        }
        SourceAuth::None => "configure `auth` of the source".to_owned(),
        SourceAuth::Basic { .. }
        | SourceAuth::Bearer { .. }
        | SourceAuth::Password { .. }
        | SourceAuth::OAuth2 { .. }
        | SourceAuth::Header { .. }
        | SourceAuth::Query { .. }
        | SourceAuth::Session { .. } => "replace the credential".to_owned(),
    }
}
