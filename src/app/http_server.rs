//! Lifecycle of the monitor's HTTP endpoint: start, restart after a change of its settings, and
//! shutdown.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use cynosure_engine::Timestamp;
use secrecy::ExposeSecret;
use tracing::{error, info, warn};

use crate::app::context::AppContext;
use crate::app::dashboard_data::DashboardProvider;
use crate::config::{self, CredentialRef, EnvVars};
use crate::endpoint::{EndpointConfig, HttpServer, Listeners, Token};

/// Manager of the HTTP endpoint, which runs only if it is configured.
#[derive(Debug)]
pub(super) struct EndpointManager {
    data_provider: Arc<DashboardProvider>,
    state: Arc<Mutex<EndpointState>>,
    /// Locked by a background task while it runs, so that two of them never run at once.
    trend_writer: Arc<Mutex<TrendWriter>>,
}

#[derive(Debug, Default)]
struct TrendWriter {
    /// True if the last write failed, so that a series of failures is logged once.
    has_logged_error: bool,
}

#[derive(Debug)]
struct EndpointState {
    data_provider: Arc<DashboardProvider>,
    /// Sockets passed by systemd, which outlive every server that uses them.
    systemd_listeners: Option<Arc<Listeners>>,
    running: Option<RunningEndpoint>,
    /// Last logged error, so that a repeated one is logged once.
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
    /// Creates a manager without a running server.
    #[must_use]
    pub(super) fn new(context: &AppContext) -> Self {
        let (systemd_listeners, last_error) = match Listeners::from_systemd() {
            Ok(listeners) => (listeners.map(Arc::new), None),
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(error) = &last_error {
            error!(%error, "cannot serve the endpoint on the sockets of systemd");
        }
        let data_provider = Arc::new(DashboardProvider::new(context));
        let state = EndpointState {
            data_provider: Arc::clone(&data_provider),
            systemd_listeners,
            running: None,
            last_error,
        };
        Self { data_provider, state: Arc::new(Mutex::new(state)), trend_writer: Arc::default() }
    }

    /// Returns the background task of a monitor cycle. It applies the endpoint settings and, while
    /// the endpoint is served, records the current values for the trends of the last day.
    ///
    /// The task blocks, for up to half a minute if the token is provided by a command. It does
    /// nothing while the previous task is still running. An error is logged once, and the next task
    /// retries.
    pub(super) fn background_task(
        &self,
        context: &AppContext,
        now: Timestamp,
    ) -> impl FnOnce() + Send + 'static {
        self.data_provider.update_config(context);
        let (data_provider, state) = (Arc::clone(&self.data_provider), Arc::clone(&self.state));
        let trend_writer = Arc::clone(&self.trend_writer);
        let settings = context.loaded.settings.endpoint.clone();
        let environment = context.environment.clone();
        move || {
            let mut trend_writer = match trend_writer.try_lock() {
                Ok(trend_writer) => trend_writer,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.apply_config(&settings, &environment);
            let is_served = state.running.is_some();
            drop(state);
            if is_served {
                trend_writer.record_trends(&data_provider, now);
            }
        }
    }

    /// Shuts the server down; responses in progress get a moment to finish. A server that a
    /// background task is just starting has no requests yet, and is not waited for.
    pub(super) fn shut_down(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            state.shut_down();
        }
    }
}

impl TrendWriter {
    fn record_trends(&mut self, data_provider: &DashboardProvider, now: Timestamp) {
        let recorded = data_provider.record_trends(now);
        if let Err(error) = &recorded
            && !self.has_logged_error
        {
            warn!(error = %error.message(), "cannot record the trends of the last day");
        }
        self.has_logged_error = recorded.is_err();
    }
}

impl EndpointState {
    fn apply_config(&mut self, settings: &config::EndpointSettings, environment: &EnvVars) {
        self.running.take_if(|running| running.server.has_stopped());
        let applied = self.restart_if_changed(settings, environment);
        if let Err(error) = &applied
            && self.last_error.as_ref() != Some(error)
        {
            error!(%error, "cannot apply the endpoint settings");
        }
        self.last_error = applied.err();
    }

    /// Replaces the server if its settings or its token have changed. The new server starts before
    /// the old one is shut down.
    fn restart_if_changed(
        &mut self,
        settings: &config::EndpointSettings,
        environment: &EnvVars,
    ) -> Result<(), String> {
        let current = self.running.as_ref().filter(|running| running.settings == *settings);
        if current.is_some() && should_read_token_once(settings.token.as_ref()) {
            return Ok(());
        }
        let listeners = match self.listeners_for(settings) {
            Ok(Some(listeners)) => listeners,
            Ok(None) => {
                self.shut_down();
                return Ok(());
            }
            Err(error) => return Err(self.keep_previous(settings, &error)),
        };
        let token = match read_token(settings.token.as_ref(), environment) {
            Ok(token) => token,
            Err(error) if current.is_some() => {
                return Err(format!("still served with the previous token: {error}"));
            }
            Err(error) => {
                self.shut_down();
                return Err(format!("not served: {error}"));
            }
        };
        if current.is_some_and(|running| running.token == token) {
            return Ok(());
        }
        let endpoint_config = EndpointConfig {
            data: Arc::clone(&self.data_provider) as _,
            token: token.clone(),
            requests_per_minute: settings.requests_per_minute,
        };
        let started = HttpServer::start(&listeners, endpoint_config);
        self.shut_down();
        let server = started.map_err(|error| format!("not served: {error}"))?;
        for address in listeners.addresses() {
            let url = format!("http://{address}/");
            info!(%url, "endpoint listening");
        }
        self.running =
            Some(RunningEndpoint { settings: settings.clone(), token, listeners, server });
        Ok(())
    }

    /// Returns the sockets for these settings: those of systemd, those of the running server if its
    /// address is unchanged, or new ones. `None` if no address is configured.
    fn listeners_for(
        &self,
        settings: &config::EndpointSettings,
    ) -> Result<Option<Arc<Listeners>>, String> {
        if let Some(listeners) = &self.systemd_listeners {
            return Ok(Some(Arc::clone(listeners)));
        }
        let Some(address) = settings.listen else { return Ok(None) };
        match &self.running {
            Some(running) if running.settings.listen == settings.listen => {
                Ok(Some(Arc::clone(&running.listeners)))
            }
            Some(_) | None => {
                let listeners = Listeners::bind(address).map_err(|error| error.to_string())?;
                Ok(Some(Arc::new(listeners)))
            }
        }
    }

    /// Keeps the server at its old address after an error, and returns the message. Shuts it down
    /// if the token setting has changed, because the old token must no longer be accepted.
    fn keep_previous(&mut self, settings: &config::EndpointSettings, error: &str) -> String {
        match &self.running {
            Some(running) if running.settings.token == settings.token => {
                let addresses = running.listeners.addresses();
                let urls: Vec<String> =
                    addresses.iter().map(|address| format!("http://{address}/")).collect();
                format!("still served at {}: {error}", urls.join(", "))
            }
            Some(_) | None => {
                self.shut_down();
                format!("not served: {error}")
            }
        }
    }

    fn shut_down(&mut self) {
        if let Some(running) = self.running.take() {
            running.server.shut_down();
        }
    }
}

/// True if the token is not read again while the settings are the same. A command may take long
/// and prompt for input, and a missing token cannot change.
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
    let secret = secret.map_err(|error| error.to_string())?;
    Ok(secret.map(|secret| Token::new(secret.expose_secret())))
}
