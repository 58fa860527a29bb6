//! Faults of one request for a document, and their form over HTTP. `imap_proxy` has that over IMAP.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::hostile_server::{ConnectionAction, plain_response};

/// Beginning of every document, because some clients accept only what begins like a message.
const DOCUMENT_START: &[u8] = b"Subject: ";

/// Fault of one request for a document. A size is in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Refusal because of too many requests, with the time to wait if the server reports it.
    RateLimited { retry_after: Option<Duration> },
    /// Refusal without a sign of a rate limit.
    Forbidden,
    /// Document of this size whose connection ends halfway.
    CutBody { size: u64 },
    /// Document of this size whose connection stays open and silent halfway.
    StalledBody { size: u64 },
    /// Complete response with a document of this size, which is not the listed one.
    WrongLength { size: u64 },
}

/// Form of the faults at a server over HTTP.
#[derive(Clone, Copy)]
pub(crate) struct HttpForm {
    /// Returns a response with a document.
    pub(crate) document: fn(&[u8]) -> Vec<u8>,
    /// Returns a complete response with a document that has not the length it should have.
    pub(crate) wrong_length: fn(&[u8]) -> Vec<u8>,
    /// Returns a refusal of a document without a sign of a rate limit.
    pub(crate) forbidden: fn() -> Vec<u8>,
    /// Returns a refusal because of too many requests.
    pub(crate) rate_limited: fn(Option<Duration>) -> Vec<u8>,
}

/// Faults still to be applied, shared with the server that applies them.
#[derive(Clone, Default)]
pub(crate) struct FaultQueue(Arc<Mutex<VecDeque<Fault>>>);

impl FaultQueue {
    pub(crate) fn push(&self, fault: Fault) {
        self.0.lock().expect("no test panicked with the lock").push_back(fault);
    }

    /// Removes the next fault, and returns the actions that replace a response.
    pub(crate) fn next_actions(&self, form: &HttpForm) -> Option<Vec<ConnectionAction>> {
        let fault = self.0.lock().expect("no test panicked with the lock").pop_front();
        fault.map(|fault| fault.http_actions(form))
    }
}

impl HttpForm {
    /// Form of servers whose documents are whole responses.
    pub(crate) const OCTETS: Self = Self {
        document: octets,
        wrong_length: octets,
        forbidden: || plain_response("403 Forbidden", "", ""),
        rate_limited: |retry_after| {
            plain_response("429 Too Many Requests", &retry_after_header(retry_after), "")
        },
    };
}

impl Fault {
    fn http_actions(self, form: &HttpForm) -> Vec<ConnectionAction> {
        match self {
            Self::RateLimited { retry_after } => {
                vec![ConnectionAction::Send((form.rate_limited)(retry_after))]
            }
            Self::Forbidden => vec![ConnectionAction::Send((form.forbidden)())],
            Self::CutBody { size } => {
                vec![ConnectionAction::Send(half_response(form, size)), ConnectionAction::Close]
            }
            Self::StalledBody { size } => {
                let response = half_response(form, size);
                vec![ConnectionAction::Send(response), ConnectionAction::StopResponding]
            }
            Self::WrongLength { size } => {
                vec![ConnectionAction::Send((form.wrong_length)(&made_up_document(size)))]
            }
        }
    }
}

/// Returns the header with a wait, or nothing.
pub(crate) fn retry_after_header(retry_after: Option<Duration>) -> String {
    let header = retry_after.map(|wait| format!("Retry-After: {}\r\n", wait.as_secs()));
    header.unwrap_or_default()
}

fn octets(document: &[u8]) -> Vec<u8> {
    plain_response("200 OK", "Content-Type: application/octet-stream\r\n", document)
}

fn made_up_document(size: u64) -> Vec<u8> {
    let mut document = DOCUMENT_START.to_vec();
    document.resize(to_usize(size), b'x');
    document
}

/// Returns a response with a document of this size that ends halfway.
fn half_response(form: &HttpForm, size: u64) -> Vec<u8> {
    let mut response = (form.document)(&made_up_document(size));
    response.truncate(response.len() - to_usize(size.div_ceil(2)));
    response
}

fn to_usize(size: u64) -> usize {
    usize::try_from(size).expect("the document fits into memory")
}
