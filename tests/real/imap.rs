//! A small IMAP client (RFC 9051), enough to fill a mailbox and to change it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpStream};

/// Messages in one APPEND (MULTIAPPEND, RFC 3502): a round trip for each would be most of the time.
const APPEND_BATCH: usize = 200;

pub(crate) struct ImapSession {
    stream: BufReader<TcpStream>,
}

impl ImapSession {
    pub(crate) fn login(port: u16, user: &str, password: &str) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server accepts");
        stream.set_nodelay(true).expect("a connected socket has options");
        let mut imap = Self { stream: BufReader::new(stream) };
        imap.line();
        imap.command(&format!("LOGIN {user} {password}"));
        imap
    }

    pub(crate) fn create(&mut self, mailbox: &str) {
        self.command(&format!("CREATE {mailbox}"));
    }

    /// Makes a folder the one for `role`, such as `\Archive` (RFC 6154, RFC 5464).
    pub(crate) fn set_role(&mut self, folder: &str, role: &str) {
        let quoted = role.replace('\\', r"\\");
        self.command(&format!(r#"SETMETADATA {folder} (/private/specialuse "{quoted}")"#));
    }

    pub(crate) fn append(&mut self, folder: &str, mails: &[Vec<u8>]) {
        for batch in mails.chunks(APPEND_BATCH) {
            let mut command = format!("APPEND {folder}").into_bytes();
            for mail in batch {
                // Literals the server is not asked about first (RFC 7888). Cyrus takes a bare LF only in
                // one that is said to be binary (RFC 3516), in which it rewrites some other mails.
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

    /// The UIDs of the selected folder, oldest first.
    pub(crate) fn uids(&mut self) -> Vec<u32> {
        let answer = self.command("UID SEARCH ALL");
        let found = answer.iter().find_map(|line| line.strip_prefix("* SEARCH"));
        let words = found.expect("a search is answered").split_whitespace();
        words.map(|uid| uid.parse().expect("UIDs are numbers")).collect()
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

    /// Sends one command and returns the untagged lines of its answer.
    fn send(&mut self, command: &[u8]) -> Vec<String> {
        let whole = [b"a ", command, b"\r\n"].concat();
        self.stream.get_mut().write_all(&whole).expect("the server reads");
        let mut untagged = Vec::new();
        loop {
            let line = self.line();
            if let Some(verdict) = line.strip_prefix("a ") {
                assert!(
                    verdict.starts_with("OK"),
                    "{} was answered {verdict}",
                    response_summary(command)
                );
                return untagged;
            }
            untagged.push(line);
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line).expect("the server answers in ASCII");
        assert!(length > 0, "the server hung up");
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

fn response_summary(command: &[u8]) -> String {
    String::from_utf8_lossy(&command[..command.len().min(60)]).into_owned()
}
