//! Server on the loopback interface with scripted responses, and a source for it, for tests.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cynosure_engine::rest::{
    FetchBody, FetchTable, JsonPath, ListTable, PageRule, Paging, ProfileErrorRule,
    RequestBodyTemplate, RequestTemplate, RestMethod, RestProfile, RestTables, RowListing,
    RowRules, TableName, Template,
};
use cynosure_engine::{BlobId, Cause, DocumentId, Failure, StatusRange};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::limiter::Unlimited;
use crate::retry::{BackoffConfig, RetryPolicy};
use crate::source::credential::Credential;
use crate::source::http::{HttpOptions, ProxyMode, QuotaRules, RequestLimits};
use crate::source::rest::options::{RestAuth, RestOptions};
use crate::source::rest::source::RestSource;
use crate::source::{DocumentRef, MetricsHandle, ResponseRecorder, Sink};

/// Server that answers each request as a function of its text, and keeps the requests.
pub(super) struct ScriptedHttpServer {
    pub(super) url: Url,
    requests: Arc<Mutex<Vec<String>>>,
}

impl ScriptedHttpServer {
    /// Starts a server. `respond` gets the head and the body of each request.
    pub(super) async fn start(respond: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let response = respond(&request);
                log.lock().unwrap().push(request);
                stream.write_all(&response).await.unwrap();
            }
        });
        Self { url, requests }
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns method and target of each request.
    pub(super) fn targets(&self) -> Vec<String> {
        let target = |request: &String| {
            let line = request.lines().next().unwrap_or_default();
            line.trim_end_matches(" HTTP/1.1").to_owned()
        };
        self.requests().iter().map(target).collect()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.parse::<usize>().unwrap())
            });
            if length.unwrap_or(0) <= body.len() {
                return text;
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await.unwrap() {
            0 => return text,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Returns a response with status and content type.
pub(super) fn response(status: &str, media_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Returns a response with JSON.
pub(super) fn json_response(status: &str, body: &str) -> Vec<u8> {
    response(status, "application/json", body)
}

/// Returns a GET request of a path.
pub(super) fn get(path: &str) -> RequestTemplate {
    RequestTemplate {
        method: RestMethod::Get,
        target: Template::parse(path).unwrap(),
        query: Vec::new(),
        body: RequestBodyTemplate::None,
    }
}

/// Returns named templates.
pub(super) fn named(templates: &[(&str, &str)]) -> Vec<(String, Template)> {
    let parse = |(name, text): &(&str, &str)| ((*name).to_owned(), Template::parse(text).unwrap());
    templates.iter().map(parse).collect()
}

/// Returns a list of one page, whose rows with an `id` are in `items`.
pub(super) fn listing(path: &str) -> RowListing {
    RowListing {
        request: get(path),
        rows: RowRules {
            items: JsonPath::parse("/items").unwrap(),
            is_optional: false,
            id: vec![JsonPath::parse("/id").unwrap()],
            document: Vec::new(),
            skip: None,
            keep: Vec::new(),
            labels: Vec::new(),
            folder: Vec::new(),
            size: None,
            size_estimate: None,
        },
        page: PageRule { paging: Paging::Single, may_be_empty: false },
    }
}

/// Returns a table for documents that are whole responses.
pub(super) fn bytes_table(path: &str) -> FetchTable {
    FetchTable {
        request: Some(get(path)),
        body: FetchBody::Bytes,
        empty: None,
        media_types: Vec::new(),
        must_start_with_header: false,
        folder: Vec::new(),
    }
}

/// Returns a profile that lists `/list`.
pub(super) fn profile(fetch: FetchTable) -> RestProfile {
    RestProfile {
        name: Some("test".to_owned()),
        options: BTreeMap::new(),
        headers: Vec::new(),
        query: Vec::new(),
        ok: None,
        tables: RestTables {
            account: None,
            pin: None,
            parts: None,
            folders: None,
            list: ListTable { listing: listing("/list"), total: None, cursor: None },
            documents: None,
            fetch,
            changes: None,
            sweep: None,
            again: None,
        },
        errors: Vec::new(),
        weights: BTreeMap::new(),
    }
}

pub(super) fn options(base_url: &Url, profile: RestProfile, auth: RestAuth) -> RestOptions {
    let backoff = BackoffConfig { max_attempts: 1, ..BackoffConfig::FAST };
    RestOptions {
        name: "work".to_owned(),
        account: None,
        account_name: "me@mail.example".to_owned(),
        base_url: base_url.clone(),
        profile,
        auth,
        concurrency: 4,
        http: HttpOptions {
            allowed_origins: Vec::new(),
            limits: RequestLimits {
                retry_policy: RetryPolicy::new("request", backoff),
                connect_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(10),
                total_timeout: Duration::from_secs(20),
                min_rate: 0,
                max_response: 1 << 20,
                max_document: 1 << 20,
            },
            proxy_mode: ProxyMode::Direct,
            quota_rules: QuotaRules::default(),
            error_rules: Vec::new(),
            metrics: MetricsHandle::default(),
            recorder: ResponseRecorder::default(),
        },
    }
}

/// Returns a source whose credential is this secret.
pub(super) fn source(options: RestOptions, secret: &'static str) -> RestSource {
    let credential =
        Credential::new(move || Box::pin(async move { Ok(SecretString::from(secret)) }));
    RestSource::new(options, credential, Rc::new(Unlimited)).unwrap()
}

/// Returns a source without a credential.
pub(super) fn open_source(server: &ScriptedHttpServer, profile: RestProfile) -> RestSource {
    source(options(&server.url, profile, RestAuth::None), "")
}

/// Returns a document whose blob id is its own id.
pub(super) fn document(id: &str) -> DocumentRef {
    DocumentRef::new(DocumentId::new(id), BlobId::new(id), None)
}

/// Sink that keeps a document in memory.
#[derive(Debug, Default)]
pub(super) struct MemoryDocument {
    pub(super) bytes: Vec<u8>,
}

impl Sink for MemoryDocument {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.bytes.clear();
        Ok(())
    }
}

/// Runs a future that waits for nothing.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Returns the rule that a 404 of a fetch means that the document is gone.
pub(super) fn gone_rule() -> ProfileErrorRule {
    ProfileErrorRule {
        tables: vec![TableName::Fetch],
        statuses: vec![StatusRange { first: 404, last: 404 }],
        values: Vec::new(),
        cause: Cause::NotFound,
        wait: None,
        message: None,
        reported_wait: None,
        location: String::new(),
    }
}
