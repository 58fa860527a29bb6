//! Folders: LIST (RFC 3501, RFC 5258, RFC 5819, RFC 6154), STATUS, and the folder that is open.

use std::sync::Arc;

use super::command::DemoArgument;
use super::faults::DemoRefusal;
use crate::demo::mailbox::{
    Folder, GeneratedMailbox, MessageFilter, MessageNumber, MessageQuery, SortOrder,
};

/// Folder that a session has open, as the client knows it.
#[derive(Debug)]
pub(super) struct SelectedFolder {
    folder: Folder,
    /// The messages by sequence number, minus one. They ascend.
    messages: Arc<[MessageNumber]>,
    /// State of the mailbox that the client knows.
    change_count: usize,
}

/// Arguments of LIST.
struct ListRequest<'a> {
    patterns: Vec<String>,
    is_special_only: bool,
    status_items: Option<&'a [DemoArgument]>,
}

/// Executes LIST. Returns its untagged lines.
pub(super) fn list(
    mailbox: &mut GeneratedMailbox,
    arguments: &[DemoArgument],
) -> Result<String, DemoRefusal> {
    let request = ListRequest::parse(arguments).ok_or(DemoRefusal::INVALID_ARGUMENTS)?;
    if request.patterns == [""] {
        return Ok("* LIST (\\Noselect) \"/\" \"\"\r\n".to_owned());
    }
    let mut lines = String::new();
    for folder in Folder::ALL {
        let special_use = special_use(folder);
        let is_listed = request.patterns.iter().any(|pattern| matches_pattern(folder, pattern));
        if !is_listed || request.is_special_only && special_use.is_empty() {
            continue;
        }
        let name = name(folder);
        lines.push_str(&format!("* LIST (\\HasNoChildren{special_use}) \"/\" {name}\r\n"));
        if let Some(items) = request.status_items {
            lines.push_str(&status_line(mailbox, folder, items)?);
        }
    }
    Ok(lines)
}

/// Executes STATUS. Returns its untagged line.
pub(super) fn status(
    mailbox: &mut GeneratedMailbox,
    arguments: &[DemoArgument],
) -> Result<String, DemoRefusal> {
    let [DemoArgument::Word(name), DemoArgument::List(items)] = arguments else {
        return Err(DemoRefusal::INVALID_ARGUMENTS);
    };
    let folder = find(name).ok_or(DemoRefusal::UNKNOWN_FOLDER)?;
    status_line(mailbox, folder, items)
}

impl SelectedFolder {
    /// Executes EXAMINE or SELECT. Returns the folder, and the untagged lines.
    pub(super) fn open(
        mailbox: &mut GeneratedMailbox,
        arguments: &[DemoArgument],
    ) -> Result<(Self, String), DemoRefusal> {
        // Parameters, such as `(CONDSTORE)`, change nothing.
        let [DemoArgument::Word(name), ..] = arguments else {
            return Err(DemoRefusal::INVALID_ARGUMENTS);
        };
        let folder = find(name).ok_or(DemoRefusal::UNKNOWN_FOLDER)?;
        let messages = folder_messages(mailbox, folder);
        let lines = format!(
            "* FLAGS (\\Seen)\r\n* OK [PERMANENTFLAGS ()] Read-only.\r\n* {} EXISTS\r\n\
             * 0 RECENT\r\n* OK [UIDVALIDITY {}] Valid.\r\n* OK [UIDNEXT {}] Next.\r\n\
             * OK [HIGHESTMODSEQ {}] Highest.\r\n",
            messages.len(),
            mailbox.uid_validity(folder),
            uid_next(mailbox),
            highest_mod_seq(mailbox),
        );
        Ok((Self { folder, messages, change_count: mailbox.change_count() }, lines))
    }

    pub(super) fn messages(&self) -> &[MessageNumber] {
        &self.messages
    }

    /// Takes the changes since the client's state over, and returns the untagged lines that
    /// announce them (RFC 3501 §7.3.1, §7.4.1).
    pub(super) fn update(&mut self, mailbox: &mut GeneratedMailbox) -> String {
        let mut lines = String::new();
        if self.change_count == mailbox.change_count() {
            return lines;
        }
        self.change_count = mailbox.change_count();
        let messages = folder_messages(mailbox, self.folder);
        // From the last one on, because each removal shifts the numbers of those that follow.
        for (index, message) in self.messages.iter().enumerate().rev() {
            if messages.binary_search(message).is_err() {
                lines.push_str(&format!("* {} EXPUNGE\r\n", index + 1));
            }
        }
        lines.push_str(&format!("* {} EXISTS\r\n", messages.len()));
        self.messages = messages;
        lines
    }
}

impl<'a> ListRequest<'a> {
    /// Parses `[(selection)] reference pattern [RETURN (options)]`.
    fn parse(arguments: &'a [DemoArgument]) -> Option<Self> {
        let (selection, arguments) = match arguments {
            [DemoArgument::List(selection), rest @ ..] => (selection.as_slice(), rest),
            _ => (Default::default(), arguments),
        };
        let [DemoArgument::Word(reference), patterns, rest @ ..] = arguments else { return None };
        let options: &[DemoArgument] = match rest {
            [] => &[],
            [word, DemoArgument::List(options)] if word.is_word("RETURN") => options,
            _ => return None,
        };
        let status = options.iter().position(|option| option.is_word("STATUS"));
        let status_items = match status.map(|position| options.get(position + 1)) {
            None => None,
            Some(Some(DemoArgument::List(items))) => Some(items.as_slice()),
            Some(_) => return None,
        };
        let patterns = patterns.words()?;
        Some(Self {
            patterns: patterns.into_iter().map(|pattern| format!("{reference}{pattern}")).collect(),
            is_special_only: selection.iter().any(|option| option.is_word("SPECIAL-USE")),
            status_items,
        })
    }
}

fn status_line(
    mailbox: &mut GeneratedMailbox,
    folder: Folder,
    items: &[DemoArgument],
) -> Result<String, DemoRefusal> {
    let mut values = Vec::new();
    for item in items {
        let item = item.as_word().map(str::to_ascii_uppercase).unwrap_or_default();
        let value = match item.as_str() {
            "MESSAGES" => folder_messages(mailbox, folder).len().to_string(),
            "RECENT" | "UNSEEN" => "0".to_owned(),
            "UIDNEXT" => uid_next(mailbox).to_string(),
            "UIDVALIDITY" => mailbox.uid_validity(folder).to_string(),
            "HIGHESTMODSEQ" => highest_mod_seq(mailbox).to_string(),
            _ => return Err(DemoRefusal::INVALID_ARGUMENTS),
        };
        values.push(format!("{item} {value}"));
    }
    Ok(format!("* STATUS {} ({})\r\n", name(folder), values.join(" ")))
}

fn folder_messages(mailbox: &mut GeneratedMailbox, folder: Folder) -> Arc<[MessageNumber]> {
    mailbox.query(&MessageQuery {
        filter: MessageFilter::InFolder(folder),
        order: SortOrder::OldestFirst,
        collapse_threads: false,
    })
}

/// Returns the UID that is above that of every message, in whichever folder.
fn uid_next(mailbox: &GeneratedMailbox) -> u32 {
    mailbox.messages_total() + 1
}

fn highest_mod_seq(mailbox: &GeneratedMailbox) -> usize {
    mailbox.change_count() + 1
}

fn find(name: &str) -> Option<Folder> {
    Folder::ALL.into_iter().find(|folder| match folder {
        Folder::Inbox => name.eq_ignore_ascii_case("INBOX"),
        Folder::Archive | Folder::Sent | Folder::Trash => name == folder.name(),
    })
}

fn name(folder: Folder) -> &'static str {
    match folder {
        Folder::Inbox => "INBOX",
        Folder::Archive | Folder::Sent | Folder::Trash => folder.name(),
    }
}

/// Returns the attribute for the use of a folder (RFC 6154), after a space; empty without one.
fn special_use(folder: Folder) -> &'static str {
    match folder {
        Folder::Inbox => "",
        Folder::Archive => " \\Archive",
        Folder::Sent => " \\Sent",
        Folder::Trash => " \\Trash",
    }
}

/// True if a LIST pattern is the name or a single wildcard. No client of a demo needs other ones.
fn matches_pattern(folder: Folder, pattern: &str) -> bool {
    matches!(pattern, "*" | "%") || find(pattern) == Some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::imap::command::DemoCommand;

    fn command(text: &str) -> Vec<DemoArgument> {
        DemoCommand::parse(text.as_bytes()).unwrap().arguments
    }

    /// Lists the folders of a mailbox with 64 messages.
    fn listed(arguments: &str) -> Result<String, DemoRefusal> {
        list(&mut GeneratedMailbox::new(1, 40), &command(&format!("a LIST {arguments}\r\n")))
    }

    #[test]
    fn folders_are_listed_by_pattern_and_by_use() {
        let count = |arguments| listed(arguments).unwrap().lines().count();

        assert_eq!([count("\"\" *"), count("\"\" %"), count("(SPECIAL-USE) \"\" *")], [4, 4, 3]);
        assert_eq!([count("\"\" inbox"), count("\"\" sent"), count("Arch ive")], [1, 0, 1]);
        assert_eq!(count("\"\" (Sent INBOX)"), 2);
        assert_eq!(listed("\"\" \"\"").unwrap(), "* LIST (\\Noselect) \"/\" \"\"\r\n");
    }

    #[test]
    fn status_can_be_returned_with_the_list() {
        let lines = listed("\"\" Sent RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT))").unwrap();

        let [list, status] = lines.lines().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(list, "* LIST (\\HasNoChildren \\Sent) \"/\" Sent");
        assert!(status.starts_with("* STATUS Sent (MESSAGES "), "{status}");
        assert!(status.ends_with(" UIDNEXT 65)"), "{status}");
    }

    #[test]
    fn malformed_and_unknown_arguments_are_refused() {
        for arguments in ["", "\"\"", "\"\" * RETURN", "\"\" * RETURN (STATUS)", "\"\" ((a))"] {
            assert_eq!(listed(arguments).unwrap_err(), DemoRefusal::INVALID_ARGUMENTS);
        }
        let mut mailbox = GeneratedMailbox::new(1, 5);
        let unknown = status(&mut mailbox, &command("a STATUS Drafts (MESSAGES)\r\n"));
        assert_eq!(unknown.unwrap_err(), DemoRefusal::UNKNOWN_FOLDER);
    }

    #[test]
    fn an_open_folder_learns_of_new_and_destroyed_messages() {
        let mut mailbox = GeneratedMailbox::new(1, 50);
        let arguments = command("a EXAMINE inbox (CONDSTORE)\r\n");
        let (mut folder, lines) = SelectedFolder::open(&mut mailbox, &arguments).unwrap();
        let before = folder.messages().to_vec();
        assert!(lines.contains(&format!("* {} EXISTS\r\n", before.len())), "{lines}");
        assert_eq!(folder.update(&mut mailbox), "");

        mailbox.destroy_message(before[3]);
        mailbox.destroy_message(before[7]);

        let exists = before.len() - 2;
        let lines = format!("* 8 EXPUNGE\r\n* 4 EXPUNGE\r\n* {exists} EXISTS\r\n");
        assert_eq!(folder.update(&mut mailbox), lines);
        assert_eq!(folder.messages().len(), exists);
        mailbox.deliver(20);
        assert!(!folder.update(&mut mailbox).contains("EXPUNGE"));
        assert!(exists < folder.messages().len());
    }

    #[test]
    fn expired_states_and_other_mail_have_other_uid_validities() {
        let mut mailbox = GeneratedMailbox::new(1, 50);
        let first = Folder::ALL.map(|folder| mailbox.uid_validity(folder));
        assert_eq!(first, Folder::ALL.map(|folder| mailbox.uid_validity(folder)));

        mailbox.deliver(1);
        assert_eq!(mailbox.uid_validity(Folder::Inbox), first[0]);
        mailbox.expire_states();

        assert!(first[0] < mailbox.uid_validity(Folder::Inbox));
        assert_ne!(GeneratedMailbox::new(2, 50).uid_validity(Folder::Inbox), first[0]);
        assert_ne!(GeneratedMailbox::new(1, 51).uid_validity(Folder::Inbox), first[0]);
    }
}
