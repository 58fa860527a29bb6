//! Ids of folders, threads and messages.

use crate::demo::mailbox::{Folder, GeneratedMailbox, MessageNumber, ThreadNumber};
use crate::demo::rest::hex_id::{from_hex, to_hex};

/// Digits of the number at the end of the id of a message. The Unix second before it has ten, too.
const NUMBER_DIGITS: usize = 10;

pub(super) fn folder_id(folder: Folder) -> u32 {
    match folder {
        Folder::Inbox => 0,
        Folder::Archive => 1,
        Folder::Sent => 500_000,
        Folder::Trash => 500_002,
    }
}

pub(super) fn find_folder(id: &str) -> Option<Folder> {
    Folder::ALL.into_iter().find(|folder| folder_id(*folder).to_string() == id)
}

/// Returns the id of a thread. It contains the folder that it is listed in.
pub(super) fn thread_id(
    mailbox: &GeneratedMailbox,
    thread: ThreadNumber,
    folder: Folder,
) -> String {
    format!("1:{}:{}", to_hex(&mailbox.thread_id(thread)), folder_id(folder))
}

/// Finds a thread by its id in whichever folder.
pub(super) fn find_thread(mailbox: &GeneratedMailbox, id: &str) -> Option<ThreadNumber> {
    let (hex, folder) = id.strip_prefix("1:")?.split_once(':')?;
    find_folder(folder)?;
    mailbox.find_thread(&from_hex(hex)?)
}

pub(super) fn message_id(mailbox: &GeneratedMailbox, message: MessageNumber) -> String {
    format!("{}{:010}", mailbox.received_at(message), message.0)
}

pub(super) fn find_message(mailbox: &GeneratedMailbox, id: &str) -> Option<MessageNumber> {
    let number = id.split_at_checked(id.len().checked_sub(NUMBER_DIGITS)?)?.1.parse().ok()?;
    let message = Some(MessageNumber(number)).filter(|message| mailbox.exists(*message))?;
    (message_id(mailbox, message) == id).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_back_to_what_they_name() {
        let mut mailbox = GeneratedMailbox::new(1, 20);
        for folder in Folder::ALL {
            assert_eq!(find_folder(&folder_id(folder).to_string()), Some(folder));
        }
        let message = MessageNumber(17);
        let thread = mailbox.thread_of(message);
        let id = message_id(&mailbox, message);
        assert_eq!((id.len(), find_message(&mailbox, &id)), (20, Some(message)));
        let in_trash = thread_id(&mailbox, thread, Folder::Trash);
        assert!(in_trash.starts_with("1:18c5") && in_trash.ends_with(":500002"), "{in_trash}");
        assert_eq!(find_thread(&mailbox, &in_trash), Some(thread));

        mailbox.destroy(32);

        assert_eq!(find_message(&mailbox, &id), None);
        assert_eq!(find_thread(&mailbox, &in_trash), None);
        for wrong in ["", "1", "00000000000000000017", "x"] {
            assert_eq!(find_message(&mailbox, wrong), None, "{wrong}");
        }
    }
}
