//! Server with the folders of a test, which may change before any command.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// Capabilities that every login needs.
const LOGIN_CAPABILITIES: &str = "IMAP4rev1 SASL-IR AUTH=PLAIN";

/// Folder of the server.
#[derive(Clone, Debug)]
pub(super) struct ServerFolder {
    pub(super) name: String,
    pub(super) attributes: &'static str,
    pub(super) uid_validity: u32,
    pub(super) uid_next: u32,
    pub(super) uids: BTreeSet<u32>,
    /// Messages that a list leaves out.
    pub(super) unlisted: BTreeSet<u32>,
    /// Number of messages that the status reports, if it is wrong.
    pub(super) reported_messages: Option<usize>,
    /// Number of the last change; 0 if changes are not numbered.
    pub(super) mod_seq: u64,
    /// Lines of the answer about vanished messages. The last one is the status.
    pub(super) vanished: Vec<String>,
    /// Reply to commands about the folder, if these are refused; a `BYE` comes without their tag.
    pub(super) refusal: Option<&'static str>,
}

/// Change of the folders before a command.
type FolderChange = Box<dyn FnMut(&str, &mut Vec<ServerFolder>)>;

/// Folders and behaviour of the server.
pub(super) struct ListingScript {
    pub(super) capabilities: &'static str,
    pub(super) folders: Vec<ServerFolder>,
    /// Further attributes of a message in a list.
    pub(super) row: fn(u32) -> String,
    /// Responses before those of a list.
    pub(super) unsolicited: &'static [&'static str],
    pub(super) before_command: FolderChange,
    logins: usize,
    commands: Vec<String>,
    open_folder: String,
}

/// Server that listens until the test's runtime ends.
pub(super) struct ListingServer {
    pub(super) port: u16,
    script: Rc<RefCell<ListingScript>>,
}

impl ServerFolder {
    pub(super) fn new(name: &str, uids: impl IntoIterator<Item = u32>) -> Self {
        let uids: BTreeSet<u32> = uids.into_iter().collect();
        Self {
            name: name.to_owned(),
            attributes: "",
            uid_validity: 3,
            uid_next: uids.last().map_or(1, |last| last + 1),
            uids,
            unlisted: BTreeSet::new(),
            reported_messages: None,
            mod_seq: 0,
            vanished: vec!["OK done".to_owned()],
            refusal: None,
        }
    }

    /// Adds a message with the next UID.
    pub(super) fn deliver(&mut self) {
        self.uids.insert(self.uid_next);
        self.uid_next += 1;
    }

    fn status_line(&self) -> String {
        let Self { name, uid_next, uid_validity, mod_seq, .. } = self;
        let messages = self.reported_messages.unwrap_or(self.uids.len());
        let mut numbers =
            format!("MESSAGES {messages} UIDNEXT {uid_next} UIDVALIDITY {uid_validity}");
        if *mod_seq > 0 {
            numbers.push_str(&format!(" HIGHESTMODSEQ {mod_seq}"));
        }
        format!("* STATUS \"{name}\" ({numbers})")
    }
}

impl ListingServer {
    /// Starts a server with these capabilities beside those of the login.
    pub(super) async fn start(
        capabilities: &'static str,
        folders: impl IntoIterator<Item = ServerFolder>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Rc::new(RefCell::new(ListingScript {
            capabilities,
            folders: folders.into_iter().collect(),
            row: |_uid| String::new(),
            unsolicited: &[],
            before_command: Box::new(|_command, _folders| {}),
            logins: 0,
            commands: Vec::new(),
            open_folder: String::new(),
        }));
        let served = Rc::clone(&script);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(serve(stream, Rc::clone(&served)));
            }
        });
        Self { port, script }
    }

    /// Changes the server.
    pub(super) fn change(&self, change: impl FnOnce(&mut ListingScript)) {
        change(&mut self.script.borrow_mut());
    }

    /// Returns the commands after the login, and forgets them.
    pub(super) fn take_commands(&self) -> Vec<String> {
        std::mem::take(&mut self.script.borrow_mut().commands)
    }

    pub(super) fn logins(&self) -> usize {
        self.script.borrow().logins
    }
}

async fn serve(stream: TcpStream, script: Rc<RefCell<ListingScript>>) {
    let (reader, mut writer) = stream.into_split();
    let greeting = format!("* OK [CAPABILITY {LOGIN_CAPABILITIES}] ready\r\n");
    let mut is_open = writer.write_all(greeting.as_bytes()).await.is_ok();
    let mut lines = BufReader::new(reader).lines();
    while is_open && let Ok(Some(line)) = lines.next_line().await {
        let (tag, command) = line.split_once(' ').unwrap();
        let mut answer = script.borrow_mut().answer(command);
        let status = answer.pop().unwrap();
        let tag = if status.starts_with("BYE ") { "*" } else { tag };
        answer.push(format!("{tag} {status}"));
        answer.push(String::new());
        is_open = writer.write_all(answer.join("\r\n").as_bytes()).await.is_ok();
    }
}

impl ListingScript {
    /// Returns the lines of an answer. The last one is the status.
    fn answer(&mut self, command: &str) -> Vec<String> {
        let capabilities = format!("CAPABILITY {LOGIN_CAPABILITIES} {}", self.capabilities);
        if command.starts_with("AUTHENTICATE ") {
            self.logins += 1;
            return vec![format!("OK [{capabilities}] done")];
        }
        if command == "CAPABILITY" {
            return vec![format!("* {capabilities}"), "OK done".to_owned()];
        }
        self.commands.push(command.to_owned());
        (self.before_command)(command, &mut self.folders);
        if command == "NOOP" || command == "ENABLE QRESYNC" {
            return vec!["OK done".to_owned()];
        }
        if command.starts_with("LIST ") {
            return self.list(command.contains("STATUS ("));
        }
        if let Some(arguments) = command.strip_prefix("STATUS ") {
            return self.access(folder_name(arguments), |folder| vec![folder.status_line()]);
        }
        if let Some(arguments) = command.strip_prefix("EXAMINE ") {
            folder_name(arguments).clone_into(&mut self.open_folder);
            return self.access(folder_name(arguments), |folder| {
                vec![
                    format!("* {} EXISTS", folder.uids.len()),
                    format!("* OK [UIDVALIDITY {}] valid", folder.uid_validity),
                    format!("* OK [UIDNEXT {}] next", folder.uid_next),
                ]
            });
        }
        match command.strip_prefix("UID FETCH ") {
            Some(arguments) => self.fetch(arguments),
            None => vec!["BAD unknown command".to_owned()],
        }
    }

    fn list(&self, has_status: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for folder in &self.folders {
            lines.push(format!("* LIST ({}) \"/\" \"{}\"", folder.attributes, folder.name));
            if has_status && folder.refusal.is_none() {
                lines.push(folder.status_line());
            }
        }
        lines.push("OK done".to_owned());
        lines
    }

    fn access(&self, name: &str, answer: impl FnOnce(&ServerFolder) -> Vec<String>) -> Vec<String> {
        let Some(folder) = self.folders.iter().find(|folder| folder.name == name) else {
            return vec![format!("NO Mailbox doesn't exist: {name}")];
        };
        if let Some(refusal) = folder.refusal {
            return vec![refusal.to_owned()];
        }
        [answer(folder), vec!["OK done".to_owned()]].concat()
    }

    fn fetch(&self, arguments: &str) -> Vec<String> {
        if arguments.ends_with(" VANISHED)") {
            let mut folders = self.folders.iter();
            let open = folders.find(|folder| folder.name == self.open_folder);
            return open.map_or_else(Vec::new, |folder| folder.vanished.clone());
        }
        let (first, last) = arguments.split(' ').next().unwrap().split_once(':').unwrap();
        let range = first.parse::<u32>().unwrap()..=last.parse().unwrap();
        let (row, unsolicited) = (self.row, self.unsolicited);
        self.access(&self.open_folder, |folder| {
            let listed = folder.uids.range(range).filter(|uid| !folder.unlisted.contains(uid));
            let rows = listed.map(|uid| format!("* {uid} FETCH (UID {uid}{})", row(*uid)));
            unsolicited.iter().map(|&line| line.to_owned()).chain(rows).collect()
        })
    }
}

/// Returns the name at the start of the arguments, without quotes.
fn folder_name(arguments: &str) -> &str {
    match arguments.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap(),
        None => arguments.split(' ').next().unwrap(),
    }
}
