//! HTTP proxy in front of a server, which replaces responses by faults.

use std::net::SocketAddr;

use url::Url;

use super::fault::{Fault, FaultQueue};
use crate::hostile_server::{ConnectionAction, HostileServer};

/// Reverse proxy of one server. It runs until the test's runtime ends.
pub(crate) struct FaultProxy {
    proxy: HostileServer,
    faults: FaultQueue,
    document_prefix: &'static str,
}

impl FaultProxy {
    /// Starts a proxy in front of a server, whose documents have paths with this prefix.
    pub(crate) async fn start(server: SocketAddr, document_prefix: &'static str) -> Self {
        let faults = FaultQueue::default();
        let queue = faults.clone();
        let proxy = HostileServer::start(move |_, request| {
            let is_document = request.path().starts_with(document_prefix);
            let fault = if is_document { queue.next_actions() } else { None };
            fault
                .unwrap_or_else(|| vec![ConnectionAction::Forward(server), ConnectionAction::Close])
        })
        .await;
        Self { proxy, faults, document_prefix }
    }

    pub(crate) fn url(&self) -> &Url {
        &self.proxy.url
    }

    /// Replaces the response to the next request for a document by a fault.
    pub(crate) fn inject(&self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Returns the number of requests for documents.
    pub(crate) fn request_count(&self) -> usize {
        let requests = self.proxy.requests();
        requests.iter().filter(|request| request.path().starts_with(self.document_prefix)).count()
    }
}
