//! Small IMAP client (RFC 9051), sufficient to fill and change a mailbox.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};

/// Messages per APPEND (MULTIAPPEND, RFC 3502). A round trip for each message would take most of
/// the time.
const APPEND_BATCH: usize = 200;

pub(crate) struct ImapSession {
    stream: BufReader<TcpStream>,
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

    pub(crate) fn create(&mut self, mailbox: &str) {
        self.command(&format!("CREATE {mailbox}"));
    }

    /// Assigns a role to a folder, such as `\Archive` (RFC 6154, RFC 5464).
    pub(crate) fn set_role(&mut self, folder: &str, role: &str) {
        let quoted = role.replace('\\', r"\\");
        self.command(&format!(r#"SETMETADATA {folder} (/private/specialuse "{quoted}")"#));
    }

    pub(crate) fn append(&mut self, folder: &str, mails: &[Vec<u8>]) {
        for batch in mails.chunks(APPEND_BATCH) {
            let mut command = format!("APPEND {folder}").into_bytes();
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
        self.command(&format!("SELECT {folder}"));
    }

    /// Returns the UIDs of the selected folder, oldest first.
    pub(crate) fn uids(&mut self) -> Vec<u32> {
        let lines = self.command("UID SEARCH ALL");
        let found = lines.iter().find_map(|line| line.strip_prefix("* SEARCH"));
        let numbers = found.expect("a search has a result").split_whitespace();
        numbers.map(|uid| uid.parse().expect("UIDs are numbers")).collect()
    }

    pub(crate) fn flag(&mut self, uids: &[u32]) {
        self.command(&format!(r"UID STORE {} +FLAGS (\Flagged \Seen)", uid_set(uids)));
    }

    pub(crate) fn copy(&mut self, uids: &[u32], folder: &str) {
        self.command(&format!("UID COPY {} {folder}", uid_set(uids)));
    }

    pub(crate) fn move_to(&mut self, uids: &[u32], folder: &str) {
        self.command(&format!("UID MOVE {} {folder}", uid_set(uids)));
    }

    pub(crate) fn delete(&mut self, uids: &[u32]) {
        self.command(&format!(r"UID STORE {} +FLAGS (\Deleted)", uid_set(uids)));
        self.command("EXPUNGE");
    }

    fn command(&mut self, command: &str) -> Vec<String> {
        self.send(command.as_bytes())
    }

    /// Sends one command and returns the untagged lines of its response.
    fn send(&mut self, command: &[u8]) -> Vec<String> {
        let tagged = [b"a ", command, b"\r\n"].concat();
        self.stream.get_mut().write_all(&tagged).expect("the server reads");
        let mut untagged = Vec::new();
        loop {
            let line = self.read_line();
            if let Some(status) = line.strip_prefix("a ") {
                assert!(
                    status.starts_with("OK"),
                    "the response to {} is {status}",
                    command_prefix(command)
                );
                return untagged;
            }
            untagged.push(line);
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
