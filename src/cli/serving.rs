//! The endpoint beside the monitor: begun, begun anew when its settings change, and ended.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use secrecy::ExposeSecret;
use tracing::{error, info, warn};

use crate::cli::board::Board;
use crate::cli::place::Ground;
use crate::config::{self, CredentialRef, EnvVars};
use crate::endpoint::{EndpointConfig, HttpServer, Listeners, Token};
use crate::engine::Timestamp;

/// What is served, if anything is.
#[derive(Debug)]
pub(super) struct Serving {
    board: Arc<Board>,
    served: Arc<Mutex<Served>>,
    /// Held by what is done beside a round, so that a slow one is not met by the next.
    beside: Arc<Mutex<Beside>>,
}

#[derive(Debug, Default)]
struct Beside {
    /// Whether it was told that the lines of the day have a gap, so that a log has it once.
    has_told_of_gap: bool,
}

#[derive(Debug)]
struct Served {
    board: Arc<Board>,
    /// What systemd handed over, which outlives every server on it.
    inherited: Option<Arc<Listeners>>,
    at_work: Option<AtWork>,
    /// What was last complained of, so that a log has it once.
    complaint: Option<String>,
}

#[derive(Debug)]
struct AtWork {
    settings: config::EndpointSettings,
    token: Option<Token>,
    listening: Arc<Listeners>,
    server: HttpServer,
}

impl Serving {
    /// Serves nothing yet.
    #[must_use]
    pub(super) fn new(ground: &Ground) -> Self {
        let (inherited, complaint) = match Listeners::from_systemd() {
            Ok(inherited) => (inherited.map(Arc::new), None),
            Err(why) => (None, Some(why.to_string())),
        };
        if let Some(why) = &complaint {
            error!("the endpoint is not served there: {why}");
        }
        let board = Arc::new(Board::new(ground));
        let served = Served { board: Arc::clone(&board), inherited, at_work: None, complaint };
        Self { board, served: Arc::new(Mutex::new(served)), beside: Arc::default() }
    }

    /// Returns what is to be done beside a round: it has the endpoint served as a configuration says, and
    /// writes down the figures of the day for whoever looks at their lines. That blocks, for half a minute
    /// where a token is given by a command, and does nothing while the one before is still at it. What
    /// does not work is complained of once, and tried again the next time.
    pub(super) fn beside(&self, ground: &Ground, now: Timestamp) -> impl FnOnce() + Send + 'static {
        self.board.follow(ground);
        let (board, served) = (Arc::clone(&self.board), Arc::clone(&self.served));
        let beside = Arc::clone(&self.beside);
        let settings = ground.loaded.settings.endpoint.clone();
        let environment = ground.environment.clone();
        move || {
            let mut beside = match beside.try_lock() {
                Ok(beside) => beside,
                Err(TryLockError::Poisoned(left)) => left.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
            served.follow(&settings, &environment);
            let is_served = served.at_work.is_some();
            drop(served);
            if is_served {
                beside.note_day(&board, now);
            }
        }
    }

    /// Ends it: what is being answered has a moment to finish. One that is just being begun answers nobody yet.
    pub(super) fn stop(&self) {
        if let Ok(mut served) = self.served.try_lock() {
            served.stop();
        }
    }
}

impl Beside {
    fn note_day(&mut self, board: &Board, now: Timestamp) {
        let noted = board.note_day(now);
        if let Err(trouble) = &noted
            && !self.has_told_of_gap
        {
            warn!("the lines of the day have a gap: {}", trouble.why());
        }
        self.has_told_of_gap = noted.is_err();
    }
}

impl Served {
    fn follow(&mut self, settings: &config::EndpointSettings, environment: &EnvVars) {
        self.at_work.take_if(|at_work| at_work.server.has_stopped());
        let followed = self.serve(settings, environment);
        if let Err(why) = &followed
            && self.complaint.as_ref() != Some(why)
        {
            error!("the endpoint {why}");
        }
        self.complaint = followed.err();
    }

    /// Replaces what is at work where something changed, the new before the old is let go.
    fn serve(
        &mut self,
        settings: &config::EndpointSettings,
        environment: &EnvVars,
    ) -> Result<(), String> {
        let kept = self.at_work.as_ref().filter(|at_work| at_work.settings == *settings);
        if kept.is_some() && is_read_once(settings.token.as_ref()) {
            return Ok(());
        }
        let listening = match self.listening(settings) {
            Ok(Some(listening)) => listening,
            Ok(None) => {
                self.stop();
                return Ok(());
            }
            Err(why) => return Err(self.stay(settings, &why)),
        };
        let token = match read(settings.token.as_ref(), environment) {
            Ok(token) => token,
            Err(why) if kept.is_some() => {
                return Err(format!("goes on with the token it has: {why}"));
            }
            Err(why) => {
                self.stop();
                return Err(format!("is not served: {why}"));
            }
        };
        if kept.is_some_and(|at_work| at_work.token == token) {
            return Ok(());
        }
        let offer = EndpointConfig {
            data: Arc::clone(&self.board) as _,
            token: token.clone(),
            requests_per_minute: settings.requests_per_minute,
        };
        let started = HttpServer::start(&listening, offer);
        self.stop();
        let server = started.map_err(|why| format!("is not served: {why}"))?;
        for address in listening.addresses() {
            info!("the endpoint listens on http://{address}/");
        }
        self.at_work = Some(AtWork { settings: settings.clone(), token, listening, server });
        Ok(())
    }

    /// Where it is to listen: an address that is listened on already is kept.
    fn listening(
        &self,
        settings: &config::EndpointSettings,
    ) -> Result<Option<Arc<Listeners>>, String> {
        if let Some(inherited) = &self.inherited {
            return Ok(Some(Arc::clone(inherited)));
        }
        let Some(address) = settings.listen else { return Ok(None) };
        match &self.at_work {
            Some(at_work) if at_work.settings.listen == settings.listen => {
                Ok(Some(Arc::clone(&at_work.listening)))
            }
            Some(_) | None => {
                let own = Listeners::bind(address).map_err(|why| why.to_string())?;
                Ok(Some(Arc::new(own)))
            }
        }
    }

    /// What was served goes on at its old address, unless whoever may ask is to know another token.
    fn stay(&mut self, settings: &config::EndpointSettings, why: &str) -> String {
        match &self.at_work {
            Some(at_work) if at_work.settings.token == settings.token => {
                let addresses = at_work.listening.addresses();
                let old: Vec<String> =
                    addresses.iter().map(|address| format!("http://{address}/")).collect();
                format!("stays at {}: {why}", old.join(", "))
            }
            Some(_) | None => {
                self.stop();
                format!("is not served: {why}")
            }
        }
    }

    fn stop(&mut self) {
        if let Some(at_work) = self.at_work.take() {
            at_work.server.shut_down();
        }
    }
}

/// A command may take long and ask a person, and what is no credential never changes.
fn is_read_once(token: Option<&CredentialRef>) -> bool {
    match token {
        None | Some(CredentialRef::Command(_)) => true,
        Some(CredentialRef::File(_) | CredentialRef::Env(_) | CredentialRef::Systemd(_)) => false,
    }
}

fn read(token: Option<&CredentialRef>, environment: &EnvVars) -> Result<Option<Token>, String> {
    let secret = token.map(|token| token.read(environment)).transpose();
    let secret = secret.map_err(|why| why.to_string())?;
    Ok(secret.map(|secret| Token::new(secret.expose_secret())))
}
