//! IMAP server that follows the protocol, except for the answers that a test gives instead. It
//! records each command, and fails a test that sends one which could change the mailbox.

mod answer;
mod command;
mod mailbox;

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};

pub(crate) use self::answer::Answer;
pub(crate) use self::command::{GREETING, ReceivedCommand};
pub(crate) use self::mailbox::{
    INBOX, ServedFolder, UID_VALIDITY, message_bytes, message_response,
};
use self::mailbox::{ServedFolders, answer_properly};

/// Capabilities of a server that reports the status of all folders at once.
pub(crate) const CAPABILITIES: &str =
    "IMAP4rev1 SASL-IR AUTH=PLAIN LIST-EXTENDED LIST-STATUS SPECIAL-USE";

type ClientStream = BufReader<TcpStream>;

/// Server on the loopback interface. It listens until the test's runtime ends.
pub(crate) struct ScriptedServer {
    pub(crate) port: u16,
    state: Arc<Mutex<ScriptState>>,
}

/// Behaviour of the server, and its records.
struct ScriptState {
    capabilities: &'static str,
    folders: ServedFolders,
    rules: Vec<AnswerRule>,
    /// Beginning of the commands after whose answers the connection is closed.
    closed_after: Option<&'static str>,
    commands: Vec<ReceivedCommand>,
    connection_count: usize,
}

/// Function that answers a command, or leaves it to the mailbox.
type Respond = Box<dyn Fn(&ReceivedCommand) -> Option<Answer> + Send>;

/// Answer to all commands that begin with a text.
struct AnswerRule {
    prefix: &'static str,
    /// Number of commands that it still applies to; `None` without a limit.
    uses: Option<usize>,
    respond: Respond,
}

impl ScriptedServer {
    pub(crate) async fn start(folders: impl IntoIterator<Item = ServedFolder>) -> Self {
        Self::start_with(CAPABILITIES, folders).await
    }

    pub(crate) async fn start_with(
        capabilities: &'static str,
        folders: impl IntoIterator<Item = ServedFolder>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let folders = folders.into_iter().map(|folder| (folder.name.clone(), folder)).collect();
        let state = Arc::new(Mutex::new(ScriptState {
            capabilities,
            folders,
            rules: Vec::new(),
            closed_after: None,
            commands: Vec::new(),
            connection_count: 0,
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _address)) = listener.accept().await else { return };
                let state = Arc::clone(&shared);
                state.lock().unwrap().connection_count += 1;
                tokio::spawn(async move { serve(stream, connection, &state).await });
            }
        });
        Self { port, state }
    }

    /// Answers commands with this beginning by `answer`. A later rule comes before an earlier one.
    pub(crate) fn answer_always(&self, prefix: &'static str, answer: Answer) {
        self.answer_with(prefix, move |_command| Some(answer.clone()));
    }

    /// Answers the next command with this beginning by `answer`.
    pub(crate) fn answer_once(&self, prefix: &'static str, answer: Answer) {
        let respond = Box::new(move |_command: &ReceivedCommand| Some(answer.clone()));
        self.state().rules.push(AnswerRule { prefix, uses: Some(1), respond });
    }

    /// Answers commands with this beginning by what `respond` returns, if it returns something.
    pub(crate) fn answer_with(
        &self,
        prefix: &'static str,
        respond: impl Fn(&ReceivedCommand) -> Option<Answer> + Send + 'static,
    ) {
        let respond = Box::new(respond);
        self.state().rules.push(AnswerRule { prefix, uses: None, respond });
    }

    /// Closes the connection after the answer to a command with this beginning.
    pub(crate) fn close_after(&self, prefix: &'static str) {
        self.state().closed_after = Some(prefix);
    }

    /// Changes a folder.
    pub(crate) fn change_folder(&self, name: &[u8], change: impl FnOnce(&mut ServedFolder)) {
        change(self.state().folders.get_mut(name).expect("the folder exists"));
    }

    /// Returns the commands of all connections, in the order of their arrival.
    pub(crate) fn commands(&self) -> Vec<ReceivedCommand> {
        self.state().commands.clone()
    }

    /// Returns the number of commands with this beginning.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let state = self.state();
        state.commands.iter().filter(|command| command.text.starts_with(prefix)).count()
    }

    /// Returns the number of connections so far.
    pub(crate) fn connection_count(&self) -> usize {
        self.state().connection_count
    }

    fn state(&self) -> MutexGuard<'_, ScriptState> {
        self.state.lock().unwrap()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        if !thread::panicking() {
            for command in self.commands() {
                assert!(command.is_harmless(), "a backup must not send \"{}\"", command.text);
            }
        }
    }
}

impl ScriptState {
    fn answer(&mut self, command: ReceivedCommand, open: &mut Option<Vec<u8>>) -> Answer {
        let scripted = self.rules.iter_mut().rev().find_map(|rule| rule.answer(&command));
        let answer = scripted
            .unwrap_or_else(|| answer_properly(&self.folders, self.capabilities, &command, open));
        if command.text == GREETING {
            return answer;
        }
        let is_last = self.closed_after.is_some_and(|prefix| command.text.starts_with(prefix));
        self.commands.push(command);
        if is_last { answer.close() } else { answer }
    }
}

impl AnswerRule {
    fn answer(&mut self, command: &ReceivedCommand) -> Option<Answer> {
        if self.uses == Some(0) || !command.text.starts_with(self.prefix) {
            return None;
        }
        let answer = (self.respond)(command)?;
        self.uses = self.uses.map(|uses| uses - 1);
        Some(answer)
    }
}

async fn serve(stream: TcpStream, connection: usize, state: &Mutex<ScriptState>) {
    let mut stream = BufReader::new(stream);
    let mut open = None;
    let mut next = Some(ReceivedCommand::greeting(connection));
    while let Some(command) = next {
        let tag = command.tag.clone();
        let answer = state.lock().unwrap().answer(command, &mut open);
        if !answer.perform(&tag, &mut stream).await {
            return;
        }
        next = ReceivedCommand::read(&mut stream, connection).await;
    }
}
