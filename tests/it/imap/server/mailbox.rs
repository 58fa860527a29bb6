//! Folders of the scripted server, and its answers where a test says nothing else.

use std::collections::BTreeMap;

use super::answer::Answer;
use super::command::{GREETING, ReceivedCommand};

pub(crate) const INBOX: &[u8] = b"INBOX";

/// UIDVALIDITY of a folder that was not made again.
pub(crate) const UID_VALIDITY: u32 = 7;

/// Folders by name.
pub(super) type ServedFolders = BTreeMap<Vec<u8>, ServedFolder>;

/// Folder with its messages.
#[derive(Clone, Debug)]
pub(crate) struct ServedFolder {
    /// Name as the server sends it: modified UTF-7, or any other bytes.
    pub(super) name: Vec<u8>,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: u32,
    /// Bytes of the messages, by UID.
    pub(crate) messages: BTreeMap<u32, Vec<u8>>,
}

impl ServedFolder {
    /// Creates a folder with messages of their own content.
    pub(crate) fn new(name: impl AsRef<[u8]>, uids: impl IntoIterator<Item = u32>) -> Self {
        let name = name.as_ref().to_vec();
        let messages: BTreeMap<u32, Vec<u8>> =
            uids.into_iter().map(|uid| (uid, message_bytes(&name, uid))).collect();
        let uid_next = messages.last_key_value().map_or(1, |(uid, _)| uid + 1);
        Self { name, uid_validity: UID_VALIDITY, uid_next, messages }
    }

    pub(crate) fn inbox(uids: impl IntoIterator<Item = u32>) -> Self {
        Self::new(INBOX, uids)
    }

    fn status_response(&self) -> Vec<u8> {
        let attributes = format!(
            " (MESSAGES {} UIDNEXT {} UIDVALIDITY {})\r\n",
            self.messages.len(),
            self.uid_next,
            self.uid_validity
        );
        [b"* STATUS ".as_slice(), &encode_name(&self.name), attributes.as_bytes()].concat()
    }

    fn examine_answer(&self) -> Answer {
        Answer::new()
            .line(&format!("* {} EXISTS", self.messages.len()))
            .line(&format!("* OK [UIDVALIDITY {}] valid", self.uid_validity))
            .line(&format!("* OK [UIDNEXT {}] next", self.uid_next))
            .tagged("OK [READ-ONLY] opened")
    }

    fn fetch_answer(&self, command: &ReceivedCommand) -> Answer {
        let has_bodies = command.text.contains("BODY");
        let mut bytes = Vec::new();
        for (uid, message) in
            command.uid_ranges().into_iter().flat_map(|range| self.messages.range(range))
        {
            bytes.extend(if has_bodies {
                message_response(*uid, message)
            } else {
                format!("* 1 FETCH (UID {uid} RFC822.SIZE {})\r\n", message.len()).into_bytes()
            });
        }
        Answer::new().bytes(bytes).tagged("OK done")
    }
}

/// Returns the bytes of a message. They look like responses, and are no text.
pub(crate) fn message_bytes(folder: &[u8], uid: u32) -> Vec<u8> {
    let subject = format!("Subject: {uid} in ");
    let body = b"\r\n\r\n\xff\0)\r\n* BYE {3}\r\nA1 OK done\nA2 NO no\r\n";
    [subject.as_bytes(), folder, body].concat()
}

/// Returns the response with a message.
pub(crate) fn message_response(uid: u32, message: &[u8]) -> Vec<u8> {
    let announcement = format!("* 1 FETCH (UID {uid} BODY[] {{{}}}\r\n", message.len());
    [announcement.as_bytes(), message, b")\r\n"].concat()
}

/// Answers a command as the protocol says. `open` is the folder that the connection has open.
pub(super) fn answer_properly(
    folders: &ServedFolders,
    capabilities: &str,
    command: &ReceivedCommand,
    open: &mut Option<Vec<u8>>,
) -> Answer {
    let welcome = || Answer::new().tagged(&format!("OK [CAPABILITY {capabilities}] welcome"));
    let missing = || Answer::new().tagged("NO [NONEXISTENT] there is no such folder");
    let named = command.arguments.first().and_then(|name| folders.get(name));
    match command.name() {
        GREETING | "LOGIN" => welcome(),
        "AUTHENTICATE" if command.arguments.len() == 1 => {
            let capabilities = format!("OK [CAPABILITY {capabilities}] welcome");
            Answer::new().line("+ ").read_line().tagged(&capabilities)
        }
        "AUTHENTICATE" => welcome(),
        "CAPABILITY" => {
            Answer::new().line(&format!("* CAPABILITY {capabilities}")).tagged("OK done")
        }
        "LIST" => list_answer(folders, command.text.contains("STATUS")),
        "STATUS" => named.map_or_else(missing, |folder| {
            Answer::new().bytes(folder.status_response()).tagged("OK done")
        }),
        "EXAMINE" => {
            *open = named.map(|folder| folder.name.clone());
            named.map_or_else(missing, ServedFolder::examine_answer)
        }
        "UID" => match open.as_ref().and_then(|name| folders.get(name)) {
            Some(folder) => folder.fetch_answer(command),
            None => Answer::new().tagged("BAD no folder is open"),
        },
        _ => Answer::new().tagged("OK done"),
    }
}

fn list_answer(folders: &ServedFolders, has_status: bool) -> Answer {
    let mut bytes = Vec::new();
    for folder in folders.values() {
        bytes.extend_from_slice(b"* LIST () \"/\" ");
        bytes.extend(encode_name(&folder.name));
        bytes.extend_from_slice(b"\r\n");
        if has_status {
            bytes.extend(folder.status_response());
        }
    }
    Answer::new().bytes(bytes).tagged("OK done")
}

/// Returns a name as a quoted string, or as a literal if no quoted string may contain it.
fn encode_name(name: &[u8]) -> Vec<u8> {
    if !name.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return [format!("{{{}}}\r\n", name.len()).as_bytes(), name].concat();
    }
    let mut quoted = vec![b'"'];
    for byte in name {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}
