//! The endpoint beside the monitor: begun, begun anew when its settings change, and ended.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use secrecy::ExposeSecret;
use tracing::{error, info, warn};

use crate::cli::context::AppContext;
use crate::cli::dashboard_data::DashboardProvider;
use crate::config::{self, CredentialRef, EnvVars};
use crate::endpoint::{EndpointConfig, HttpServer, Listeners, Token};
use crate::engine::Timestamp;

/// What is served, if anything is.
#[derive(Debug)]
pub(super) struct EndpointManager {
    data_provider: Arc<DashboardProvider>,
    state: Arc<Mutex<EndpointState>>,
    /// Held by what is done beside a round, so that a slow one is not met by the next.
    trend_writer: Arc<Mutex<TrendWriter>>,
}

#[derive(Debug, Default)]
struct TrendWriter {
    /// Whether it was told that the lines of the day have a gap, so that a log has it once.
    has_logged_gap: bool,
}

#[derive(Debug)]
struct EndpointState {
    data_provider: Arc<DashboardProvider>,
    /// What systemd handed over, which outlives every server on it.
    systemd_listeners: Option<Arc<Listeners>>,
    running: Option<RunningEndpoint>,
    /// What was last complained of, so that a log has it once.
    last_error: Option<String>,
}

#[derive(Debug)]
struct RunningEndpoint {
    settings: config::EndpointSettings,
    token: Option<Token>,
    listeners: Arc<Listeners>,
    server: HttpServer,
}

impl EndpointManager {
    /// Serves nothing yet.
    #[must_use]
    pub(super) fn new(ground: &AppContext) -> Self {
        let (inherited, complaint) = match Listeners::from_systemd() {
            Ok(inherited) => (inherited.map(Arc::new), None),
            Err(why) => (None, Some(why.to_string())),
        };
        if let Some(why) = &complaint {
            error!("the endpoint is not served there: {why}");
        }
        let board = Arc::new(DashboardProvider::new(ground));
        let served = EndpointState {
            data_provider: Arc::clone(&board),
            systemd_listeners: inherited,
            running: None,
            last_error: complaint,
        };
        Self {
            data_provider: board,
            state: Arc::new(Mutex::new(served)),
            trend_writer: Arc::default(),
        }
    }

    /// Returns what is to be done beside a round: it has the endpoint served as a configuration says, and
    /// writes down the figures of the day for whoever looks at their lines. That blocks, for half a minute
    /// where a token is given by a command, and does nothing while the one before is still at it. What
    /// does not work is complained of once, and tried again the next time.
    pub(super) fn background_task(
        &self,
        ground: &AppContext,
        now: Timestamp,
    ) -> impl FnOnce() + Send + 'static {
        self.data_provider.update_config(ground);
        let (board, served) = (Arc::clone(&self.data_provider), Arc::clone(&self.state));
        let beside = Arc::clone(&self.trend_writer);
        let settings = ground.loaded.settings.endpoint.clone();
        let environment = ground.environment.clone();
        move || {
            let mut beside = match beside.try_lock() {
                Ok(beside) => beside,
                Err(TryLockError::Poisoned(left)) => left.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
            served.apply_config(&settings, &environment);
            let is_served = served.running.is_some();
            drop(served);
            if is_served {
                beside.record_day(&board, now);
            }
        }
    }

    /// Ends it: what is being answered has a moment to finish. One that is just being begun answers nobody yet.
    pub(super) fn shut_down(&self) {
        if let Ok(mut served) = self.state.try_lock() {
            served.shut_down();
        }
    }
}

impl TrendWriter {
    fn record_day(&mut self, board: &DashboardProvider, now: Timestamp) {
        let noted = board.record_day(now);
        if let Err(trouble) = &noted
            && !self.has_logged_gap
        {
            warn!("the lines of the day have a gap: {}", trouble.message());
        }
        self.has_logged_gap = noted.is_err();
    }
}

impl EndpointState {
    fn apply_config(&mut self, settings: &config::EndpointSettings, environment: &EnvVars) {
        self.running.take_if(|at_work| at_work.server.has_stopped());
        let followed = self.restart_if_changed(settings, environment);
        if let Err(why) = &followed
            && self.last_error.as_ref() != Some(why)
        {
            error!("the endpoint {why}");
        }
        self.last_error = followed.err();
    }

    /// Replaces what is at work where something changed, the new before the old is let go.
    fn restart_if_changed(
        &mut self,
        settings: &config::EndpointSettings,
        environment: &EnvVars,
    ) -> Result<(), String> {
        let kept = self.running.as_ref().filter(|at_work| at_work.settings == *settings);
        if kept.is_some() && should_read_token_once(settings.token.as_ref()) {
            return Ok(());
        }
        let listening = match self.listeners_for(settings) {
            Ok(Some(listening)) => listening,
            Ok(None) => {
                self.shut_down();
                return Ok(());
            }
            Err(why) => return Err(self.keep_previous(settings, &why)),
        };
        let token = match read_token(settings.token.as_ref(), environment) {
            Ok(token) => token,
            Err(why) if kept.is_some() => {
                return Err(format!("goes on with the token it has: {why}"));
            }
            Err(why) => {
                self.shut_down();
                return Err(format!("is not served: {why}"));
            }
        };
        if kept.is_some_and(|at_work| at_work.token == token) {
            return Ok(());
        }
        let offer = EndpointConfig {
            data: Arc::clone(&self.data_provider) as _,
            token: token.clone(),
            requests_per_minute: settings.requests_per_minute,
        };
        let started = HttpServer::start(&listening, offer);
        self.shut_down();
        let server = started.map_err(|why| format!("is not served: {why}"))?;
        for address in listening.addresses() {
            info!("the endpoint listens on http://{address}/");
        }
        self.running = Some(RunningEndpoint {
            settings: settings.clone(),
            token,
            listeners: listening,
            server,
        });
        Ok(())
    }

    /// Where it is to listen: an address that is listened on already is kept.
    fn listeners_for(
        &self,
        settings: &config::EndpointSettings,
    ) -> Result<Option<Arc<Listeners>>, String> {
        if let Some(inherited) = &self.systemd_listeners {
            return Ok(Some(Arc::clone(inherited)));
        }
        let Some(address) = settings.listen else { return Ok(None) };
        match &self.running {
            Some(at_work) if at_work.settings.listen == settings.listen => {
                Ok(Some(Arc::clone(&at_work.listeners)))
            }
            Some(_) | None => {
                let own = Listeners::bind(address).map_err(|why| why.to_string())?;
                Ok(Some(Arc::new(own)))
            }
        }
    }

    /// What was served goes on at its old address, unless whoever may ask is to know another token.
    fn keep_previous(&mut self, settings: &config::EndpointSettings, why: &str) -> String {
        match &self.running {
            Some(at_work) if at_work.settings.token == settings.token => {
                let addresses = at_work.listeners.addresses();
                let old: Vec<String> =
                    addresses.iter().map(|address| format!("http://{address}/")).collect();
                format!("stays at {}: {why}", old.join(", "))
            }
            Some(_) | None => {
                self.shut_down();
                format!("is not served: {why}")
            }
        }
    }

    fn shut_down(&mut self) {
        if let Some(at_work) = self.running.take() {
            at_work.server.shut_down();
        }
    }
}

/// A command may take long and ask a person, and what is no credential never changes.
fn should_read_token_once(token: Option<&CredentialRef>) -> bool {
    match token {
        None | Some(CredentialRef::Command(_)) => true,
        Some(CredentialRef::File(_) | CredentialRef::Env(_) | CredentialRef::Systemd(_)) => false,
    }
}

fn read_token(
    token: Option<&CredentialRef>,
    environment: &EnvVars,
) -> Result<Option<Token>, String> {
    let secret = token.map(|token| token.read(environment)).transpose();
    let secret = secret.map_err(|why| why.to_string())?;
    Ok(secret.map(|secret| Token::new(secret.expose_secret())))
}
