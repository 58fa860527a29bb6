//! Small IMAP client (RFC 9051), sufficient to fill, change and read a mailbox, and independent of
//! the code under test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

/// Messages per APPEND (MULTIAPPEND, RFC 3502). A round trip for each message would take most of
/// the time.
const APPEND_BATCH: usize = 200;

pub(crate) struct ImapSession {
    stream: BufReader<TcpStream>,
}

/// Response to a command: its text, and the literals that are left out there.
#[derive(Default)]
struct UntaggedResponse {
    text: String,
    literals: Vec<Vec<u8>>,
}

impl ImapSession {
    pub(crate) fn login(port: u16, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server accepts");
        stream.set_nodelay(true).expect("a connected socket has options");
        let mut imap = Self { stream: BufReader::new(stream) };
        imap.read_line();
        imap.command(&format!("LOGIN {user} {password}"));
        imap
    }

    /// Creates a folder. Its name is the one of the protocol, in modified UTF-7.
    pub(crate) fn create(&mut self, folder: &str) {
        self.command(&format!("CREATE {}", quoted(folder)));
    }

    pub(crate) fn rename(&mut self, folder: &str, new_name: &str) {
        self.command(&format!("RENAME {} {}", quoted(folder), quoted(new_name)));
    }

    /// Deletes a folder that is not open, with its messages.
    pub(crate) fn delete_folder(&mut self, folder: &str) {
        self.command(&format!("DELETE {}", quoted(folder)));
    }

    /// Assigns a role to a folder, such as `\Archive` (RFC 6154, RFC 5464).
    pub(crate) fn set_role(&mut self, folder: &str, role: &str) {
        let (folder, role) = (quoted(folder), quoted(role));
        self.command(&format!("SETMETADATA {folder} (/private/specialuse {role})"));
    }

    pub(crate) fn append(&mut self, folder: &str, mails: &[Vec<u8>]) {
        for batch in mails.chunks(APPEND_BATCH) {
            let mut command = format!("APPEND {}", quoted(folder)).into_bytes();
            for mail in batch {
                // Non-synchronizing literals (RFC 7888). Cyrus accepts a bare LF only in a literal
                // that is declared binary (RFC 3516). Other mails are not, because Cyrus rewrites
                // some of them in a binary literal.
                let binary = if has_bare_lf(mail) { "~" } else { "" };
                let literal = format!(" {binary}{{{}+}}\r\n", mail.len());
                command.extend_from_slice(literal.as_bytes());
                command.extend_from_slice(mail);
            }
            self.send(&command);
        }
    }

    pub(crate) fn select(&mut self, folder: &str) {
        self.command(&format!("SELECT {}", quoted(folder)));
    }

    /// Returns the bytes of each message of a folder as the server sends them, oldest first.
    pub(crate) fn messages(&mut self, folder: &str) -> Vec<Vec<u8>> {
        let fetched = self.examine_and_fetch(folder, "BODY.PEEK[]");
        fetched.into_iter().flat_map(|response| response.literals).collect()
    }

    /// Returns the number of messages of a folder that are marked as read.
    pub(crate) fn seen_count(&mut self, folder: &str) -> usize {
        let fetched = self.examine_and_fetch(folder, "FLAGS");
        fetched.iter().filter(|response| response.text.contains(r"\Seen")).count()
    }

    /// Returns the UIDs of the selected folder, oldest first.
    pub(crate) fn uids(&mut self) -> Vec<u32> {
        let responses = self.command("UID SEARCH ALL");
        let found = responses.iter().find_map(|response| response.text.strip_prefix("* SEARCH"));
        let numbers = found.expect("a search has a result").split_whitespace();
        numbers.map(|uid| uid.parse().expect("UIDs are numbers")).collect()
    }

    pub(crate) fn flag(&mut self, uids: &[u32]) {
        self.command(&format!(r"UID STORE {} +FLAGS (\Flagged \Seen)", uid_set(uids)));
    }

    pub(crate) fn copy(&mut self, uids: &[u32], folder: &str) {
        self.command(&format!("UID COPY {} {}", uid_set(uids), quoted(folder)));
    }

    pub(crate) fn move_to(&mut self, uids: &[u32], folder: &str) {
        self.command(&format!("UID MOVE {} {}", uid_set(uids), quoted(folder)));
    }

    pub(crate) fn delete(&mut self, uids: &[u32]) {
        self.command(&format!(r"UID STORE {} +FLAGS (\Deleted)", uid_set(uids)));
        self.command("EXPUNGE");
    }

    /// Ends the session, and waits until the server has confirmed it.
    pub(crate) fn log_out(mut self) {
        self.command("LOGOUT");
    }

    /// Returns an attribute of all messages of a folder, which is opened for reading only.
    fn examine_and_fetch(&mut self, folder: &str, attribute: &str) -> Vec<UntaggedResponse> {
        self.command(&format!("EXAMINE {}", quoted(folder)));
        self.command(&format!("UID FETCH 1:* ({attribute})"))
    }

    fn command(&mut self, command: &str) -> Vec<UntaggedResponse> {
        self.send(command.as_bytes())
    }

    /// Sends one command and returns the untagged responses to it.
    fn send(&mut self, command: &[u8]) -> Vec<UntaggedResponse> {
        let tagged = [b"a ", command, b"\r\n"].concat();
        self.stream.get_mut().write_all(&tagged).expect("the server reads");
        let mut untagged = Vec::new();
        loop {
            let response = self.read_response();
            if let Some(status) = response.text.strip_prefix("a ") {
                assert!(
                    status.starts_with("OK"),
                    "the response to {} is {status}",
                    command_prefix(command)
                );
                return untagged;
            }
            untagged.push(response);
        }
    }

    fn read_response(&mut self) -> UntaggedResponse {
        let mut response = UntaggedResponse::default();
        loop {
            let line = self.read_line();
            response.text.push_str(&line);
            let Some(length) = literal_length(&line) else { return response };
            let mut literal = vec![0; length];
            self.stream.read_exact(&mut literal).expect("the server sends the whole literal");
            response.literals.push(literal);
        }
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).expect("the server responds in ASCII");
        assert!(length > 0, "the server closed the connection");
        line.truncate(line.trim_end().len());
        line
    }
}

/// Returns the length of the literal that follows a line (RFC 9051 §4.3), if one does.
fn literal_length(line: &str) -> Option<usize> {
    let (_, length) = line.strip_suffix('}')?.rsplit_once('{')?;
    length.parse().ok()
}

/// Returns the quoted form of a text (RFC 9051 §4.3).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

fn has_bare_lf(mail: &[u8]) -> bool {
    mail.split_inclusive(|&byte| byte == b'\n')
        .any(|line| line.ends_with(b"\n") && !line.ends_with(b"\r\n"))
}

fn uid_set(uids: &[u32]) -> String {
    uids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn command_prefix(command: &[u8]) -> String {
    String::from_utf8_lossy(&command[..command.len().min(60)]).into_owned()
}
