//! Messages that a mailbox is filled with.

/// Returns a short message, which differs from those with other numbers.
pub(super) fn ordinary_message(number: usize) -> Vec<u8> {
    format!(
        "From: a@example.com\r\nTo: b@example.com\r\nSubject: message {number}\r\n\
         Message-ID: <{number}@example.com>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n\
         Message {number}.\r\n"
    )
    .into_bytes()
}
