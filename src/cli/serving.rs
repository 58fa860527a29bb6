//! The endpoint beside the monitor: begun, begun anew when its settings change, and ended.

use std::sync::{Arc, Mutex, PoisonError};

use secrecy::ExposeSecret;
use tracing::{error, info, warn};

use crate::cli::board::Board;
use crate::cli::place::Ground;
use crate::config::{self, Environment};
use crate::endpoint::{Listening, Offer, Server, Token};
use crate::engine::Moment;

/// What is served, if anything is.
#[derive(Debug)]
pub(super) struct Serving {
    board: Arc<Board>,
    served: Arc<Mutex<Served>>,
}

#[derive(Debug)]
struct Served {
    board: Arc<Board>,
    /// What systemd handed over, which outlives every server on it.
    inherited: Option<Listening>,
    server: Option<(config::Endpoint, Server)>,
    /// What was last complained of, so that a log has it once.
    complaint: Option<String>,
}

impl Serving {
    /// Serves nothing yet.
    #[must_use]
    pub(super) fn new(ground: &Ground) -> Self {
        let (inherited, complaint) = match Listening::inherited() {
            Ok(inherited) => (inherited, None),
            Err(why) => (None, Some(why.to_string())),
        };
        if let Some(why) = &complaint {
            error!("the endpoint is not served there: {why}");
        }
        let board = Arc::new(Board::new(ground));
        let served = Served { board: Arc::clone(&board), inherited, server: None, complaint };
        Self { board, served: Arc::new(Mutex::new(served)) }
    }

    /// Returns what has it served as a configuration says; that blocks, where a token is given by a
    /// command. What does not work is complained of once, and tried again the next time.
    pub(super) fn following(&self, ground: &Ground) -> impl FnOnce() + Send + 'static {
        self.board.follow(ground);
        let served = Arc::clone(&self.served);
        let settings = ground.loaded.settings.endpoint.clone();
        let environment = ground.environment.clone();
        move || {
            served.lock().unwrap_or_else(PoisonError::into_inner).follow(settings, &environment);
        }
    }

    /// Writes down the figures of the day, for whoever looks at their lines.
    pub(super) fn note_day(&self, now: Moment) {
        let is_served = self.served.lock().unwrap_or_else(PoisonError::into_inner).server.is_some();
        if is_served && let Err(trouble) = self.board.note_day(now) {
            warn!("the lines of the day have a gap: {}", trouble.why());
        }
    }

    /// Ends it: what is being answered has a moment to finish. One that is just being begun answers nobody yet.
    pub(super) fn stop(&self) {
        if let Ok(mut served) = self.served.try_lock()
            && let Some((_, server)) = served.server.take()
        {
            server.stop();
        }
    }
}

impl Served {
    fn follow(&mut self, settings: config::Endpoint, environment: &Environment) {
        let is_served = self
            .server
            .as_ref()
            .is_some_and(|(served, server)| *served == settings && !server.has_ended());
        if is_served {
            return;
        }
        if let Some((_, server)) = self.server.take() {
            server.stop();
        }
        match self.start(&settings, environment) {
            Ok(server) => {
                self.server = server.map(|server| (settings, server));
                self.complaint = None;
            }
            Err(why) => {
                if self.complaint.as_ref() != Some(&why) {
                    error!("the endpoint is not served: {why}");
                }
                self.complaint = Some(why);
            }
        }
    }

    fn start(
        &self,
        settings: &config::Endpoint,
        environment: &Environment,
    ) -> Result<Option<Server>, String> {
        let own;
        let listening = match (&self.inherited, settings.listen) {
            (Some(inherited), _) => inherited,
            (None, Some(address)) => {
                own = Listening::on(address).map_err(|why| why.to_string())?;
                &own
            }
            (None, None) => return Ok(None),
        };
        let token = settings.token.as_ref().map(|token| token.read(environment)).transpose();
        let token = token.map_err(|why| why.to_string())?;
        let offer = Offer {
            lookout: Arc::clone(&self.board) as _,
            token: token.map(|token| Token::new(token.expose_secret())),
            requests_per_minute: settings.requests_per_minute,
        };
        let server = Server::start(listening, offer).map_err(|why| why.to_string())?;
        for address in listening.addresses() {
            info!("the endpoint listens on http://{address}/");
        }
        Ok(Some(server))
    }
}
