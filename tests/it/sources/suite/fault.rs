//! Faults of one request for a document, and their form over HTTP. `imap_proxy` has that over IMAP.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::hostile_server::{ConnectionAction, plain_response};

const DOCUMENT_TYPE: &str = "Content-Type: application/octet-stream\r\n";

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

/// Faults still to be applied, shared with the server that applies them.
#[derive(Clone, Default)]
pub(crate) struct FaultQueue(Arc<Mutex<VecDeque<Fault>>>);

impl FaultQueue {
    pub(crate) fn push(&self, fault: Fault) {
        self.0.lock().expect("no test panicked with the lock").push_back(fault);
    }

    /// Removes the next fault, and returns the actions that replace a response.
    pub(crate) fn next_actions(&self) -> Option<Vec<ConnectionAction>> {
        let fault = self.0.lock().expect("no test panicked with the lock").pop_front();
        fault.map(Fault::http_actions)
    }
}

impl Fault {
    fn http_actions(self) -> Vec<ConnectionAction> {
        match self {
            Self::RateLimited { retry_after } => {
                let header = retry_after.map(|wait| format!("Retry-After: {}\r\n", wait.as_secs()));
                let header = header.unwrap_or_default();
                vec![ConnectionAction::Send(plain_response("429 Too Many Requests", &header, ""))]
            }
            Self::Forbidden => {
                vec![ConnectionAction::Send(plain_response("403 Forbidden", "", ""))]
            }
            Self::CutBody { size } => {
                vec![ConnectionAction::Send(half_response(size)), ConnectionAction::Close]
            }
            Self::StalledBody { size } => {
                vec![ConnectionAction::Send(half_response(size)), ConnectionAction::StopResponding]
            }
            Self::WrongLength { size } => vec![ConnectionAction::Send(document_response(size))],
        }
    }
}

fn document_response(size: u64) -> Vec<u8> {
    let size = usize::try_from(size).expect("the document fits into memory");
    plain_response("200 OK", DOCUMENT_TYPE, vec![b'x'; size])
}

/// Returns a response that announces `size` bytes, and has half of them.
fn half_response(size: u64) -> Vec<u8> {
    let mut response = document_response(size);
    let missing = usize::try_from(size.div_ceil(2)).expect("the document fits into memory");
    response.truncate(response.len() - missing);
    response
}
