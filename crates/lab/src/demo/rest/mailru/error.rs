//! Errors of the API of mail.ru.

use serde_json::{Value, json};

/// Error that takes the place of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum MailruError {
    /// There is no such method; the website answers with a page.
    UnknownMethod,
    /// Status and body of the envelope.
    Status { status: u16, body: Value },
}

impl MailruError {
    /// Returns the error of a field of the request.
    pub(super) fn field(name: &str, error: &str, value: &str) -> Self {
        let status = if error == "not_exist" { 404 } else { 400 };
        Self::Status { status, body: json!({ name: { "error": error, "value": value } }) }
    }
}
