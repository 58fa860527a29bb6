//! Connections that are logged in: their commands, and the folder that is open.
//!
//! Several commands may be in flight, because a round trip takes longer than a command. Each needs
//! a permit, and the limiter may grant none before an earlier command has ended. So
//! [`Connection::start`] is for the first one, and [`Connection::try_start`] for those after it: a
//! task that waits for a permit reads no replies.

mod account;
mod capabilities;
mod channel;
mod command;
mod open_folder;
mod reply_history;
mod request;
mod response_timer;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::{Cause, Failure, ImapPhase, ImapReply, ImapStatus, sanitize_line};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

pub(super) use self::account::{ConnectionGeneration, ImapAccount};
pub(super) use self::capabilities::CapabilitySet;
pub(super) use self::channel::CommandChannel;
pub(super) use self::command::CommandInFlight;
use self::command::PendingCommand;
pub(super) use self::open_folder::OpenFolder;
pub(super) use self::request::CommandAttempt;
use self::request::ImapRequest;
pub(super) use self::slots::ConnectionSlot;
use crate::source::imap::wire::{BodySink, Command, FolderName, NoBodies, Response};

/// Maximum number of folders of an account. Their names and status take about 1 kB each, so that a
/// list of them takes 100 MB at most.
const FOLDERS_MAX: usize = 100_000;

/// Maximum number of responses that one command holds in memory: name and status of each folder,
/// and other responses besides.
const RESPONSES_MAX: usize = 2 * FOLDERS_MAX + FOLDERS_MAX / 10;

/// Maximum number of responses that an idle connection may have waiting. More is no mail server.
const IDLE_RESPONSES_MAX: usize = 100;

/// Longest pause after a reply that asks for a lower pace.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Connection that is logged in.
#[derive(Debug)]
pub(super) struct Connection {
    channel: CommandChannel,
    account: Rc<ImapAccount>,
    generation: ConnectionGeneration,
    /// Commands without their reply, in the order of sending.
    commands: VecDeque<PendingCommand>,
    open_folder: Option<(FolderName, OpenFolder)>,
    /// True if the server may have a folder open, which `open_folder` may have forgotten.
    has_selected_folder: bool,
    enabled_extensions: BTreeSet<&'static str>,
    /// End of the pause before the next command.
    paused_until: Option<Instant>,
    /// True once a reply was a rate limit.
    is_throttled: bool,
    is_usable: bool,
}

impl Connection {
    pub(super) fn new(
        channel: CommandChannel,
        account: Rc<ImapAccount>,
        generation: ConnectionGeneration,
    ) -> Self {
        Self {
            channel,
            account,
            generation,
            commands: VecDeque::new(),
            open_folder: None,
            has_selected_folder: false,
            enabled_extensions: BTreeSet::new(),
            paused_until: None,
            is_throttled: false,
            is_usable: true,
        }
    }

    /// Returns true if the server advertises the capability with this upper-case name.
    pub(super) fn has_capability(&self, name: &str) -> bool {
        self.channel.capabilities().contains(name)
    }

    /// True if another task may use the connection: nothing is in flight, and nothing has failed.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_usable && self.commands.is_empty() && self.generation == self.account.generation()
    }

    /// Reads what the server has sent while nothing was asked. Returns false if the connection has
    /// ended.
    pub(super) fn is_alive(&mut self) -> bool {
        for _ in 0..IDLE_RESPONSES_MAX {
            let has_unparsed = self.channel.has_unparsed_data();
            match self.read_next(&mut NoBodies).now_or_never() {
                Some(Ok(_response)) => {}
                Some(Err(failure)) => {
                    debug!(host = self.account.host(), error = %failure, "idle connection ended");
                    return false;
                }
                // Data that are no whole response are lost with the dropped read.
                None => return !has_unparsed && self.channel.first_data_at().is_none(),
            }
        }
        false
    }

    /// Waits for a permit, and sends a command that fetches no messages.
    ///
    /// # Errors
    /// Returns the errors of [`start_attempt`](Self::start_attempt).
    pub(super) async fn start(
        &mut self,
        command: &Command,
        phase: ImapPhase,
    ) -> Result<CommandInFlight, Failure> {
        self.start_attempt(command, phase, CommandAttempt::FIRST).await
    }

    /// Waits for a permit, and sends a command.
    ///
    /// # Errors
    /// Returns [`Cause::RateLimit`] if the limiter is blocked; the connection is as before. After
    /// any other error it is unusable.
    pub(super) async fn start_attempt(
        &mut self,
        command: &Command,
        phase: ImapPhase,
        attempt: CommandAttempt,
    ) -> Result<CommandInFlight, Failure> {
        self.check_usable()?;
        if let Some(until) = self.paused_until {
            sleep_until(until).await;
            self.paused_until = None;
        }
        let request = self.account.acquire_request(attempt).await?;
        self.send(command, phase, request).await
    }

    /// Sends a command that fetches no messages if there is a permit at once. Otherwise nothing is
    /// sent.
    ///
    /// # Errors
    /// Returns the errors of [`start_attempt`](Self::start_attempt).
    pub(super) async fn try_start(
        &mut self,
        command: &Command,
        phase: ImapPhase,
    ) -> Result<Option<CommandInFlight>, Failure> {
        self.try_start_attempt(command, phase, CommandAttempt::FIRST).await
    }

    /// Sends a command if there is a permit at once. Otherwise nothing is sent.
    ///
    /// # Errors
    /// Returns the errors of [`start_attempt`](Self::start_attempt).
    pub(super) async fn try_start_attempt(
        &mut self,
        command: &Command,
        phase: ImapPhase,
        attempt: CommandAttempt,
    ) -> Result<Option<CommandInFlight>, Failure> {
        self.check_usable()?;
        if self.paused_until.is_some() {
            return Ok(None);
        }
        match self.account.try_acquire_request(attempt)? {
            Some(request) => self.send(command, phase, request).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads the next response. Bodies in it go to `bodies`.
    ///
    /// # Errors
    /// A `BYE`, a broken or slow connection and an error of `bodies` are failures, and the
    /// connection is unusable after them.
    pub(super) async fn read(&mut self, bodies: &mut impl BodySink) -> Result<Response, Failure> {
        loop {
            if let Some(response) = self.read_next(bodies).await? {
                return Ok(response);
            }
        }
    }

    /// Reads the next response; `None` if it is the reply to a command of the login.
    async fn read_next(&mut self, bodies: &mut impl BodySink) -> Result<Option<Response>, Failure> {
        self.check_usable()?;
        let result = self.channel.read(bodies).await;
        if result.as_ref().is_ok_and(|response| self.channel.is_unawaited(response)) {
            return Ok(None);
        }
        self.record_data(result.is_ok());
        match result {
            Ok(Response::Status(reply)) if reply.status == ImapStatus::Bye => {
                Err(self.on_bye(&reply))
            }
            Ok(response) => Ok(Some(response)),
            Err(failure) => Err(self.on_broken(failure)),
        }
    }

    /// Records that the server has sent a row of a listing, or a message that was asked for, so that
    /// the time for the next begins.
    pub(super) fn record_progress(&self) {
        self.channel.record_progress();
    }

    /// Ends a command with its tagged reply.
    ///
    /// # Errors
    /// Returns the failure that the reply means. The connection remains usable.
    pub(super) fn finish(
        &mut self,
        command: CommandInFlight,
        reply: &ImapReply,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        let (tag, phase, request) = command.into_parts();
        self.commands.retain(|pending| pending.tag != tag);
        if let Some(next) = self.commands.front() {
            next.record_turn(now);
        }
        let (verdict, failure) = self.account.judge(reply, phase);
        let Some(request) = request else { return failure.map_or(Ok(()), Err) };
        match failure {
            None => {
                if verdict.should_slow_down {
                    // A pause as long as the command halves the pace. For the rate limiter it would
                    // be a block, which ends only with a success that the server does not delay.
                    self.paused_until = Some(now + request.elapsed().min(PAUSE_MAX));
                }
                request.succeed();
                Ok(())
            }
            Some(failure) => {
                self.is_throttled |= failure.cause == Cause::RateLimit;
                Err(request.refuse(failure))
            }
        }
    }

    /// Runs a command to its end and returns the untagged responses. No other may be in flight.
    ///
    /// # Errors
    /// Returns the errors of [`start`](Self::start), [`read`](Self::read) and
    /// [`finish`](Self::finish).
    pub(super) async fn run(
        &mut self,
        command: &Command,
        phase: ImapPhase,
    ) -> Result<Vec<Response>, Failure> {
        let in_flight = self.start(command, phase).await?;
        let mut responses = Vec::new();
        loop {
            match self.read(&mut NoBodies).await? {
                Response::Tagged { tag, reply } if tag == in_flight.tag() => {
                    self.finish(in_flight, &reply)?;
                    return Ok(responses);
                }
                Response::Tagged { tag, .. } => {
                    let message =
                        format!("{} replied to {tag}, which is not in flight", self.account.host());
                    return Err(self.on_broken(Failure::new(Cause::Server, message)));
                }
                response @ (Response::Status(_) | Response::Data { .. }) => {
                    responses.push(response);
                }
                Response::Continuation(_text) => {}
            }
            if RESPONSES_MAX < responses.len() {
                let host = self.account.host();
                let message = format!(
                    "{host} sent more than {RESPONSES_MAX} responses to one command; if the \
                     account has more than {FOLDERS_MAX} folders, use a login that sees fewer"
                );
                return Err(self.on_broken(Failure::new(Cause::TooLarge, message)));
            }
        }
    }

    /// Opens a folder for reading, unless it is open already.
    ///
    /// # Errors
    /// [`Cause::NotFound`] if there is no such folder. No folder is open after an error.
    pub(super) async fn open_folder(&mut self, folder: &FolderName) -> Result<OpenFolder, Failure> {
        if let Some(open) = self.already_open(folder) {
            return Ok(open);
        }
        self.open_folder = None;
        self.has_selected_folder = true;
        let command = Command::new("EXAMINE").folder(folder);
        let result = self.run(&command, ImapPhase::Select).await;
        let opened = result.and_then(|responses| {
            OpenFolder::parse(&responses).ok_or_else(|| {
                Failure::new(Cause::Server, "the server gives no UIDVALIDITY for it")
            })
        });
        let opened = opened.map_err(|failure| {
            let message = format!("folder \"{}\": {}", folder.as_text(), failure.message);
            Failure { message: sanitize_line(&message), ..failure }
        })?;
        self.open_folder = Some((folder.clone(), opened));
        Ok(opened)
    }

    /// Returns the state of a folder that is open, maybe since an earlier task.
    pub(super) fn already_open(&self, folder: &FolderName) -> Option<OpenFolder> {
        let (name, open) = self.open_folder.as_ref()?;
        (name == folder).then_some(*open)
    }

    /// Makes [`open_folder`](Self::open_folder) open the folder again: the server need not show
    /// what has changed since, and another folder may have its name.
    pub(super) fn forget_folder(&mut self) {
        self.open_folder = None;
    }

    /// Leaves the folder that is open. Until then a server may report its status as it was when it
    /// was opened (RFC 3501 §6.3.10); Dovecot does.
    ///
    /// # Errors
    /// Returns the failure of the command.
    pub(super) async fn leave_folder(&mut self) -> Result<(), Failure> {
        self.open_folder = None;
        if !self.has_selected_folder {
            return Ok(());
        }
        let can_unselect = self.has_capability("UNSELECT");
        // Without UNSELECT (RFC 3691) the state is brought up to date. CLOSE deletes messages.
        let command = Command::new(if can_unselect { "UNSELECT" } else { "NOOP" });
        match self.run(&command, ImapPhase::Listing).await {
            Ok(_responses) => self.has_selected_folder = !can_unselect,
            // No folder is selected, because the server refused to open the last one.
            Err(failure) if failure.cause == Cause::Server && self.is_usable => {
                self.has_selected_folder = false;
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Turns on an extension of the server, unless it is on already. Leaves the folder that is
    /// open, because a server need not allow the command in one (RFC 5161 §3.1).
    ///
    /// # Errors
    /// Returns the failure of the command.
    pub(super) async fn enable(&mut self, extension: &'static str) -> Result<(), Failure> {
        if !self.enabled_extensions.contains(extension) {
            self.leave_folder().await?;
            let command = Command::new("ENABLE").text(extension);
            self.run(&command, ImapPhase::Listing).await?;
            self.enabled_extensions.insert(extension);
        }
        Ok(())
    }

    async fn send(
        &mut self,
        command: &Command,
        phase: ImapPhase,
        request: ImapRequest,
    ) -> Result<CommandInFlight, Failure> {
        // Unusable if the future is dropped in the middle of the command.
        self.is_usable = false;
        let tag = self.channel.next_tag();
        if let Err(failure) = self.channel.send(&tag, command.parts()).await {
            request.abort(&failure, self.account.host());
            return Err(failure);
        }
        self.is_usable = true;
        let pending = PendingCommand::new(tag, phase, request);
        let in_flight = pending.to_in_flight();
        self.commands.push_back(pending);
        Ok(in_flight)
    }

    fn check_usable(&self) -> Result<(), Failure> {
        if self.is_usable {
            return Ok(());
        }
        let message = format!("the connection to {} has ended", self.account.host());
        Err(Failure::new(Cause::Connection, message))
    }

    /// Records the arrival of data for the oldest command.
    fn record_data(&mut self, is_response: bool) {
        let arrived_at = self.channel.first_data_at();
        let arrived_at = arrived_at.or_else(|| is_response.then(Instant::now));
        if let (Some(at), Some(oldest)) = (arrived_at, self.commands.front()) {
            oldest.record_data(at);
        }
    }

    fn on_bye(&mut self, reply: &ImapReply) -> Failure {
        let phase = self.commands.front().map_or(ImapPhase::Idle, |oldest| oldest.phase);
        let failure = if self.is_throttled {
            // It belongs to the rate limit: Microsoft 365 closes the connection after it.
            let message = format!("{} ended the connection", self.account.host());
            Failure::new(Cause::Connection, message)
        } else {
            self.account.judge_bye(reply, phase)
        };
        match self.end() {
            Some(request) => request.refuse(failure),
            None => failure,
        }
    }

    fn on_broken(&mut self, failure: Failure) -> Failure {
        if let Some(request) = self.end() {
            request.abort(&failure, self.account.host());
        }
        failure
    }

    /// Makes the connection unusable. Returns the oldest request in flight: the failure counts
    /// once, and the others as cancelled.
    fn end(&mut self) -> Option<ImapRequest> {
        self.is_usable = false;
        self.commands.front()?.take_request()
    }
}
