//! Runs the sources: waits for an event, decides, performs the effects.
//!
//! [`run_event_loop`] is the event loop of one source; [`run_source`] supervises it over its
//! restarts. Everything that the loop needs from outside can be replaced by a test: [`Env`](crate::env::Env)(crate::env::Env) for
//! clock, randomness and threads, `Source` for the server, `Disk` and the ledger behind [`Store`].

mod application_credential;
mod archive_binding;
mod breakers;
mod commit_batch;
mod contents_in_flight;
mod credential_context;
mod document_writer;
mod downloads;
mod event_loop;
mod heartbeat;
mod last_credential;
mod ledger_updates;
mod limiter_config;
mod load;
mod mailbox_probe;
mod probe;
mod probed_document;
mod proxy_pool;
mod reconcile;
mod request_result;
mod retry_policies;
mod source_context;
mod source_credential;
mod source_progress;
mod source_run;
mod start_error;
mod state_mapping;
mod store;
mod supervisor;
mod tasks;
mod throughput;
mod tracer;
mod watchdog;

pub use self::archive_binding::{ArchiveConfig, document_format, ledger_claim};
pub use self::breakers::{
    ARCHIVE, BreakerStates, BreakerStore, Breakers, BreakersFile, CommandResult, LEDGER,
    SourceBreakers, apply_command,
};
pub use self::event_loop::{
    Dependencies, EventLoopConfig, ITERATION_SPAN, LoopExit, LoopPolicy, LoopResult, Observers,
    RunMode, StartMode, StopSignal, run_event_loop,
};
pub use self::heartbeat::{Heartbeat, HeartbeatRegistry};
pub use self::last_credential::LastCredential;
pub use self::limiter_config::limiter_config;
pub use self::mailbox_probe::{MessageProbe, ProbeContext, ProbedMailbox};
pub use self::probe::{ProbeFailure, probe};
pub use self::probed_document::ProbedDocument;
pub use self::proxy_pool::ProxyPoolProvider;
pub use self::retry_policies::RetryPolicies;
pub use self::source_context::{ConfigVersion, ProcessContext, SourceContext, Supervision};
pub use self::source_credential::{oauth_client, token_file};
pub use self::source_progress::SourceProgress;
pub use self::source_run::new_ledger_id;
pub use self::start_error::StartError;
pub use self::state_mapping::SourceInfo;
pub use self::store::{OpenedStore, Store};
pub use self::supervisor::{SourceOutcome, run_source};
pub use self::tasks::StoreHandle;
pub use self::tracer::Tracer;
pub use self::watchdog::{RestartRequester, WatchdogConfig, run_runtime_heartbeat, spawn_watchdog};
