//! HTTP server of one API: what all APIs have in common.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::api::{
    AcceptedCredentials, ApiRefusal, DemoAnswer, DemoApi, DemoApiResponse, DemoDownload,
    DownloadFormat,
};
use super::request::DemoRequest;
use crate::demo::accept::accept_connections;
use crate::demo::faults::ResponseFault;
use crate::demo::service::{
    BodyFraming, DemoService, DownloadRefusal, DropConnection, MailBody, RequestPurpose,
    RequestSlot, ResponseBody, ResponseResult, login_page, mail_response, with_slot,
};

/// Page of a gateway whose backend does not respond.
const GATEWAY_PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n\
                            <body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n";

/// Demo service with the API of a provider.
#[derive(Debug)]
pub(super) struct DemoRestServer {
    service: Arc<DemoService>,
    api: Box<dyn DemoApi>,
}

impl DemoRestServer {
    pub(super) fn new(service: Arc<DemoService>, api: Box<dyn DemoApi>) -> Self {
        Self { service, api }
    }

    /// Serves connections until it is cancelled.
    pub(super) async fn serve(self, listener: TcpListener) -> Infallible {
        let server = Arc::new(self);
        accept_connections(listener, |stream, peer| {
            Arc::clone(&server).serve_connection(stream, peer)
        })
        .await
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let service = service_fn(|request| Arc::clone(&self).respond(request));
        if let Err(error) =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
        {
            tracing::debug!(%error, %peer, "connection ended early");
        }
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> ResponseResult {
        if let Some(command) = request.uri().path().strip_prefix("/demo/") {
            return Ok(self.service.control(request.method(), command, request.uri().query()));
        }
        let request = DemoRequest::read(request).await;
        if let Some(response) = self.check(&request) {
            return response;
        }
        let Some(slot) = self.service.try_acquire_slot() else {
            return Ok(self.refuse(ApiRefusal::TooManyAtOnce));
        };
        let answer = self.api.answer(&mut self.service.lock_mailbox(), &request);
        match answer {
            DemoAnswer::Response(response) => Ok(with_slot(response.into_http(), slot)),
            DemoAnswer::Download(download) => self.download(download, slot).await,
        }
    }

    /// Counts a request. Returns the response that takes the place of the answer, if a fault is due
    /// or the credential is refused.
    fn check(&self, request: &DemoRequest) -> Option<ResponseResult> {
        if self.api.marks_as_read(request) {
            self.service.lock_state().count_mark_read();
        }
        let purpose = if self.api.is_download(request) {
            RequestPurpose::Download
        } else {
            RequestPurpose::Api
        };
        let fault = self.service.lock_state().on_api_request(purpose, Instant::now());
        if let Some(fault) = fault {
            return Some(self.fault_response(fault));
        }
        self.service.expire_token_if_due();
        if let Some(response) = self.check_credential(request) {
            return Some(Ok(response.into_http()));
        }
        match purpose {
            RequestPurpose::Download => None,
            RequestPurpose::Api => self.api_fault(request),
        }
    }

    fn check_credential(&self, request: &DemoRequest) -> Option<DemoApiResponse> {
        let token = self.service.lock_state().token().map(str::to_owned);
        let accepted = AcceptedCredentials {
            token: token.as_deref(),
            username: self.service.username(),
            password: self.service.password(),
        };
        let refused = self.api.check_credential(request, &accepted);
        self.service.lock_state().count_authorization(refused.is_none());
        refused
    }

    /// Returns the fault of a request that downloads no message, if one is due.
    fn api_fault(&self, request: &DemoRequest) -> Option<ResponseResult> {
        let fault = self.service.lock_state().api_fault();
        if let Some(fault) = fault {
            return Some(self.fault_response(fault));
        }
        let is_disturbed = self.api.is_further_page(request)
            && self.service.lock_state().take_listing_disturbance();
        if !is_disturbed {
            return None;
        }
        let response = self.api.disturb_listing(&mut self.service.lock_mailbox());
        response.map(|response| Ok(response.into_http()))
    }

    async fn download(&self, download: DemoDownload, slot: RequestSlot) -> ResponseResult {
        let DemoDownload { number, format } = download;
        let is_whole_item = self.api.is_whole_item(&self.service.lock_mailbox(), number);
        let pacing = match self.service.begin_download(number, is_whole_item).await {
            Ok(pacing) => pacing,
            Err(DownloadRefusal::Fault(fault)) => return self.fault_response(fault),
            Err(DownloadRefusal::Destroyed) => return Ok(self.refuse(ApiRefusal::Gone)),
        };
        let (message, size) = {
            let mailbox = self.service.lock_mailbox();
            (mailbox.message(number), mailbox.size(number))
        };
        Ok(match format {
            DownloadFormat::Octets { media_type, framing } => {
                let body = MailBody::octets(number, message, size, pacing);
                mail_response(body, framing, media_type, slot)
            }
            DownloadFormat::Json { head, tail } => {
                // Cut JSON is a complete response otherwise, which a client must notice by itself.
                let pacing = pacing.without_abort();
                let body = MailBody::json(number, message, size, pacing, (head, tail));
                let media_type = "application/json; charset=UTF-8";
                mail_response(body, BodyFraming::Chunked, media_type, slot)
            }
        })
    }

    fn fault_response(&self, fault: ResponseFault) -> ResponseResult {
        Ok(self.refuse(match fault {
            ResponseFault::RateLimited { retry_after } => ApiRefusal::RateLimited { retry_after },
            ResponseFault::Unavailable { retry_after } => {
                // Every second time it is a gateway that says so.
                if self.service.lock_state().unavailable_count().is_multiple_of(2) {
                    let response = DemoApiResponse::page(StatusCode::BAD_GATEWAY, GATEWAY_PAGE);
                    return Ok(response.with_retry_after(retry_after).into_http());
                }
                ApiRefusal::Unavailable { retry_after }
            }
            ResponseFault::ServerError => ApiRefusal::ServerError,
            ResponseFault::Html => return Ok(login_page()),
            ResponseFault::Drop => return Err(DropConnection),
        }))
    }

    fn refuse(&self, refusal: ApiRefusal) -> Response<ResponseBody> {
        self.api.refuse(refusal, now()).into_http()
    }
}

#[expect(clippy::disallowed_methods, reason = "the API tells its clients times of day")]
fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}
