//! Context in which one source runs, and the part of it that all sources of the process share.

use std::path::PathBuf;
use std::rc::Rc;

use tokio::sync::watch;

use crate::config::{EnvVars, Settings, SourceName};
use crate::env::RealEnv;
use crate::limiter::RateLimiters;
use crate::oauth::RefreshesInFlight;
use crate::source::ResponseRecorder;
use crate::worker::breakers::Breakers;
use crate::worker::event_loop::RunMode;
use crate::worker::heartbeat::Heartbeat;
use crate::worker::last_credential::LastCredential;
use crate::worker::proxy_pool::ProxyPoolProvider;
use crate::worker::tracer::Tracer;
use crate::worker::watchdog::RestartRequester;

/// Process in which sources run: its mode, its files, and what its sources share.
#[derive(Debug)]
pub struct ProcessContext {
    pub config_file: PathBuf,
    pub state_dir: PathBuf,
    /// Systemd unit of the process. Watchdog and monitor count the restarts that they request under
    /// its name.
    pub unit: Option<String>,
    pub environment: EnvVars,
    pub mode: RunMode,
    pub supervision: Supervision,
    /// Absent if the process must not be restarted, or no service manager would do it.
    pub restart_requester: Option<RestartRequester>,
    pub rate_limiters: Rc<RateLimiters<RealEnv>>,
    /// All sources use the same proxies, and share which of them work.
    pub proxy_pools: ProxyPoolProvider,
    pub breakers: Rc<Breakers>,
    /// Refreshes of access tokens in flight, which the end of the process waits for.
    pub refreshes: RefreshesInFlight,
    pub recorder: ResponseRecorder,
}

/// Context in which one source runs.
#[derive(Clone, Debug)]
pub struct SourceContext {
    pub name: SourceName,
    pub process: Rc<ProcessContext>,
    /// Receives each version of the configuration that is loaded for all sources.
    pub config_versions: watch::Receiver<ConfigVersion>,
    /// Announces the number of the configuration version that the source runs with.
    pub opened_version: watch::Sender<u64>,
    pub heartbeat: Heartbeat,
    pub last_credential: LastCredential,
    pub tracer: Tracer,
}

/// Version of the configuration, loaded for all sources at the start and at each reload.
#[derive(Clone, Debug)]
pub struct ConfigVersion {
    /// Counts from 1.
    pub number: u64,
    pub settings: Rc<Settings>,
}

/// Supervisor that restarts the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Supervision {
    /// None: the worker restarts the source within this process.
    InPlace,
    /// A service manager, when the process exits with the exit code for it.
    SoleSource,
    /// A service manager as well, but a restart would interrupt other sources in the process.
    SharedProcess,
}

impl SourceContext {
    /// Returns the folder with the state of the source.
    pub(super) fn source_state_dir(&self) -> PathBuf {
        self.process.state_dir.join(self.name.as_str())
    }

    /// Announces that the source runs with the current version of the configuration.
    pub(super) fn announce_opened_version(&self) {
        self.opened_version.send_replace(self.config_versions.borrow().number);
    }
}
