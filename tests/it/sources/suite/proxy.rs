//! HTTP proxy in front of a server, which replaces responses by faults.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use url::Url;

use super::fault::{Fault, FaultQueue, HttpForm};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest};

/// Reverse proxy of one server. It runs until the test's runtime ends.
pub(crate) struct FaultProxy {
    proxy: HostileServer,
    faults: FaultQueue,
    documents: ServedDocuments,
    document_prefix: &'static str,
}

/// API of the server behind a proxy.
#[derive(Clone, Copy)]
pub(crate) struct ProxiedApi {
    /// Path prefix of all documents.
    pub(crate) document_prefix: &'static str,
    pub(crate) form: HttpForm,
    /// Parameter with the size of a page, and the one that the server gets in its place, as if it
    /// allowed no larger pages.
    pub(crate) page_size: Option<(&'static str, &'static str)>,
}

/// Documents that the proxy serves itself, each in response to one request and its repetitions.
#[derive(Clone, Default)]
struct ServedDocuments(Arc<Mutex<DocumentsByRequest>>);

#[derive(Default)]
struct DocumentsByRequest {
    contents: Vec<Vec<u8>>,
    /// Path and body of each request, in the order of the contents.
    requests: Vec<(String, Vec<u8>)>,
}

impl FaultProxy {
    /// Starts a proxy in front of a server, whose documents have paths with this prefix.
    pub(crate) async fn start(server: SocketAddr, document_prefix: &'static str) -> Self {
        let api = ProxiedApi { document_prefix, form: HttpForm::OCTETS, page_size: None };
        Self::start_for(server, api).await
    }

    /// Starts a proxy in front of a server with this API.
    pub(crate) async fn start_for(server: SocketAddr, api: ProxiedApi) -> Self {
        let (faults, documents) = (FaultQueue::default(), ServedDocuments::default());
        let (queue, served) = (faults.clone(), documents.clone());
        let proxy = HostileServer::start(move |_, request| {
            let is_document = request.path().starts_with(api.document_prefix);
            let fault = if is_document { queue.next_actions(&api.form) } else { None };
            let document = if is_document { served.find(request) } else { None };
            match (fault, document) {
                (Some(actions), _) => actions,
                (None, Some(document)) => {
                    vec![ConnectionAction::Send((api.form.document)(&document))]
                }
                (None, None) => vec![api.forward(server, request), ConnectionAction::Close],
            }
        })
        .await;
        Self { proxy, faults, documents, document_prefix: api.document_prefix }
    }

    pub(crate) fn url(&self) -> &Url {
        &self.proxy.url
    }

    /// Replaces the response to the next request for a document by a fault.
    pub(crate) fn inject(&self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Serves these contents in place of the documents of the server, which has as many.
    pub(crate) fn serve_documents(&self, contents: Vec<Vec<u8>>) {
        self.documents.lock().contents = contents;
    }

    /// Returns the contents that are served in place of the documents of the server.
    pub(crate) fn served_documents(&self) -> Vec<Vec<u8>> {
        self.documents.lock().contents.clone()
    }

    /// Returns the number of requests for documents.
    pub(crate) fn request_count(&self) -> usize {
        let requests = self.proxy.requests();
        requests.iter().filter(|request| request.path().starts_with(self.document_prefix)).count()
    }
}

impl ProxiedApi {
    fn forward(&self, server: SocketAddr, request: &ReceivedRequest) -> ConnectionAction {
        let Some((requested, served)) = self.page_size else {
            return ConnectionAction::Forward(server);
        };
        let head = request.head.replacen(requested, served, 1);
        ConnectionAction::ForwardAs(server, ReceivedRequest { head, ..request.clone() })
    }
}

impl ServedDocuments {
    /// Returns the document for a request. Another request gets the next one.
    fn find(&self, request: &ReceivedRequest) -> Option<Vec<u8>> {
        let mut documents = self.lock();
        let key = (request.path().to_owned(), request.body.clone());
        let known = documents.requests.iter().position(|other| *other == key);
        let index = known.unwrap_or(documents.requests.len());
        let content = documents.contents.get(index)?.clone();
        if known.is_none() {
            documents.requests.push(key);
        }
        Some(content)
    }

    fn lock(&self) -> MutexGuard<'_, DocumentsByRequest> {
        self.0.lock().expect("no test panicked with the lock")
    }
}
