//! A small made-up JMAP mailbox that follows the RFC, but for what a test bends.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use cynosure::source::credential::Credential;
use cynosure::source::http::{ProxyMode, Unlimited};
use cynosure::source::jmap::{AuthScheme, JmapOptions, JmapSource};
use cynosure::source::{MetricsHandle, ResponseRecorder};
use serde_json::{Value, json};

use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};
use crate::http::limits;

/// What takes the place of the mailbox's own answer to a method: its name and body.
type MethodOverride = Box<dyn FnMut(&str, &Value) -> Option<(String, Value)> + Send>;

/// The mailbox. Mails are named by their order of arrival.
pub(crate) struct FakeMailbox {
    pub(crate) emails: Vec<String>,
    /// Those that lie in the folder `old`; all others are in the inbox.
    pub(crate) in_old_folder: BTreeSet<String>,
    /// The blob id and the bytes of those mails that differ from all others, where these are "B" and
    /// the id, and the id.
    pub(crate) contents: BTreeMap<String, (String, String)>,
    /// What has happened to mails, in order; the state is how much.
    pub(crate) log: Vec<(EmailChange, String)>,
    /// Mails that are not found when they are asked for, and so many times yet.
    pub(crate) not_found_counts: BTreeMap<String, usize>,
    /// Whether it tells how many mails there are.
    pub(crate) reports_total: bool,
    /// Whose mail it is.
    pub(crate) account: &'static str,
    pub(crate) session: Value,
    pub(crate) session_state: String,
    pub(crate) token: &'static str,
    /// Answers a whole request in place of the mailbox, by path.
    pub(crate) request_override: Option<(&'static str, Vec<u8>)>,
    pub(crate) method_override: Option<MethodOverride>,
    /// It names all ids at once, however few are asked for.
    pub(crate) ignores_limits: bool,
    /// What each method call was, with its arguments.
    pub(crate) calls: Vec<(String, Value)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EmailChange {
    Created,
    Updated,
    Destroyed,
}

pub(crate) struct ServedMailbox {
    pub(crate) mailbox: Arc<Mutex<FakeMailbox>>,
    pub(crate) server: HostileServer,
}

impl FakeMailbox {
    pub(crate) fn with_emails(count: usize) -> Self {
        Self {
            emails: (0..count).map(|n| format!("M{n}")).collect(),
            in_old_folder: BTreeSet::new(),
            contents: BTreeMap::new(),
            log: Vec::new(),
            not_found_counts: BTreeMap::new(),
            reports_total: true,
            account: "alice",
            session: json!({
                "capabilities": {
                    "urn:ietf:params:jmap:core": {"maxObjectsInGet": 4},
                    "urn:ietf:params:jmap:mail": {},
                },
                "accounts": {"alice": {"accountCapabilities": null}},
                "primaryAccounts": {"urn:ietf:params:jmap:mail": "alice"},
                "apiUrl": "/jmap/",
                "downloadUrl": "/get/{accountId}/{blobId}/{name}?accept={type}",
                "state": "0",
            }),
            session_state: "0".to_owned(),
            token: "secret",
            request_override: None,
            method_override: None,
            ignores_limits: false,
            calls: Vec::new(),
        }
    }

    pub(crate) async fn serve(self) -> ServedMailbox {
        self.serve_with(|_| None).await
    }

    /// Serves the mailbox, but for the requests that `instead` answers.
    pub(crate) async fn serve_with(
        self,
        instead: impl Fn(&ReceivedRequest) -> Option<Vec<ConnectionAction>> + Send + Sync + 'static,
    ) -> ServedMailbox {
        let mailbox = Arc::new(Mutex::new(self));
        let shared = Arc::clone(&mailbox);
        let server = HostileServer::start(move |_, asked| {
            instead(asked).unwrap_or_else(|| {
                vec![ConnectionAction::Send(shared.lock().unwrap().respond(asked))]
            })
        })
        .await;
        ServedMailbox { mailbox, server }
    }

    /// Bends the answer to one method.
    pub(crate) fn override_method(
        &mut self,
        method: &'static str,
        mut answer: impl FnMut(&Value) -> Option<Value> + Send + 'static,
    ) {
        self.method_override = Some(Box::new(move |name, arguments| {
            let body = answer(arguments).filter(|_| name == method)?;
            let name = if body.get("type").is_some() { "error" } else { name };
            Some((name.to_owned(), body))
        }));
    }

    pub(crate) fn deliver(&mut self, id: &str) {
        self.insert(self.emails.len(), id);
    }

    /// Adds a mail, perhaps among older ones.
    pub(crate) fn insert(&mut self, at: usize, id: &str) {
        self.emails.insert(at, id.to_owned());
        self.log.push((EmailChange::Created, id.to_owned()));
    }

    /// Deletes mails for good.
    pub(crate) fn destroy(&mut self, is_doomed: impl Fn(&str) -> bool) {
        let doomed = self.emails.extract_if(.., |id| is_doomed(id));
        self.log.extend(doomed.map(|id| (EmailChange::Destroyed, id)));
    }

    /// Moves a mail from one folder to the other.
    pub(crate) fn move_to_other_folder(&mut self, id: &str) {
        if !self.in_old_folder.remove(id) {
            self.in_old_folder.insert(id.to_owned());
        }
        self.log.push((EmailChange::Updated, id.to_owned()));
    }

    /// Shows another account from now on.
    pub(crate) fn switch_account(&mut self, account: &'static str) {
        self.account = account;
        self.session["accounts"] = json!({account: {"accountCapabilities": null}});
        self.session["primaryAccounts"] = json!({"urn:ietf:params:jmap:mail": account});
    }

    pub(crate) fn respond(&mut self, asked: &ReceivedRequest) -> Vec<u8> {
        if let Some((path, answer)) = &self.request_override
            && asked.path().starts_with(path)
        {
            return answer.clone();
        }
        if !asked.head.to_ascii_lowercase().contains(&format!("bearer {}\r\n", self.token)) {
            return plain_response("401 Unauthorized", "", "");
        }
        let json = |value: &Value| {
            plain_response("200 OK", "Content-Type: application/json\r\n", value.to_string())
        };
        match asked.path() {
            "/.well-known/jmap" => plain_response("301 Moved", "Location: /jmap/session\r\n", ""),
            "/jmap/session" => json(&self.session),
            "/jmap/" => json(&self.call(&serde_json::from_slice(&asked.body).unwrap())),
            path => self.bytes(path),
        }
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        let blob = path.strip_prefix("/get/alice/").and_then(|rest| rest.split('/').next());
        let mut contents = self.emails.iter().map(|id| self.content(id));
        match contents.find(|(known, _)| Some(known.as_str()) == blob) {
            Some((_, bytes)) => {
                plain_response("200 OK", "Content-Type: application/octet-stream\r\n", bytes)
            }
            None => {
                plain_response("404 Not Found", "Content-Type: text/html\r\n", "<h1>Nothing</h1>")
            }
        }
    }

    /// The blob id and the bytes of a mail.
    fn content(&self, id: &str) -> (String, String) {
        let content = self.contents.get(id).cloned();
        content.unwrap_or_else(|| (format!("B{id}"), id.to_owned()))
    }

    /// Gives a mail another content under its id.
    pub(crate) fn replace(&mut self, id: &str, blob: &str, bytes: &str) {
        self.contents.insert(id.to_owned(), (blob.to_owned(), bytes.to_owned()));
    }

    fn call(&mut self, request: &Value) -> Value {
        let [method, arguments, id] = request["methodCalls"][0].as_array().unwrap().as_slice()
        else {
            panic!("not a method call: {request}");
        };
        let method = method.as_str().unwrap();
        self.calls.push((method.to_owned(), arguments.clone()));
        let is_known = arguments["accountId"] == self.account;
        let bent = self.method_override.as_mut().and_then(|bend| bend(method, arguments));
        let stranger = || ("error".to_owned(), json!({"type": "accountNotFound"}));
        let answer = || if is_known { self.method(method, arguments) } else { stranger() };
        let (name, body) = bent.unwrap_or_else(answer);
        json!({"methodResponses": [[name, body, id]], "sessionState": self.session_state})
    }

    fn method(&mut self, method: &str, arguments: &Value) -> (String, Value) {
        let body = match method {
            "Email/query" => self.query(arguments),
            "Email/get" => self.get(arguments),
            "Email/changes" => self.changes(arguments),
            "Mailbox/get" => json!({"list": [
                {"id": "in", "name": "Inbox", "parentId": null, "role": "inbox"},
                {"id": "old", "name": "Old", "parentId": "in", "role": null},
            ]}),
            other => json!({"type": "unknownMethod", "description": other}),
        };
        let name = if body.get("type").is_some() { "error" } else { method };
        (name.to_owned(), body)
    }

    /// Whether a query with this filter finds a mail. All are of one day.
    fn matches(&self, id: &str, filter: &Value) -> bool {
        let folder = filter["inMailbox"].as_str();
        folder.is_none_or(|folder| (folder == "old") == self.in_old_folder.contains(id))
    }

    fn query(&self, arguments: &Value) -> Value {
        let found: Vec<&String> =
            self.emails.iter().filter(|id| self.matches(id, &arguments["filter"])).collect();
        let from = match arguments["anchor"].as_str() {
            None => usize::try_from(arguments["position"].as_u64().unwrap()).unwrap(),
            Some(anchor) => match found.iter().position(|id| *id == anchor) {
                None => return json!({"type": "anchorNotFound"}),
                Some(at) => {
                    at + usize::try_from(arguments["anchorOffset"].as_u64().unwrap()).unwrap()
                }
            },
        };
        let limit = self.truncated_ids(&arguments["limit"]);
        let ids: Vec<&&String> = found.iter().skip(from).take(limit).collect();
        let mut body =
            json!({"ids": ids, "queryState": self.log.len().to_string(), "position": from});
        if arguments["calculateTotal"] == true && self.reports_total {
            body["total"] = json!(found.len());
        }
        body
    }

    fn truncated_ids(&self, limit: &Value) -> usize {
        let limit = usize::try_from(limit.as_u64().unwrap()).unwrap();
        if self.ignores_limits { usize::MAX } else { limit }
    }

    fn get(&mut self, arguments: &Value) -> Value {
        let asked = arguments["ids"].as_array().unwrap();
        if 4 < asked.len() {
            return json!({"type": "requestTooLarge"});
        }
        let (list, not_found): (Vec<&Value>, Vec<&Value>) = asked.iter().partition(|id| {
            let id = id.as_str().unwrap();
            let left = self.not_found_counts.get_mut(id).filter(|left| **left > 0);
            let is_hidden = left.is_some();
            left.into_iter().for_each(|left| *left -= 1);
            !is_hidden && self.emails.iter().any(|known| id == known)
        });
        let list: Vec<Value> = list
            .into_iter()
            .map(|id| {
                let id = id.as_str().unwrap();
                let folder = if self.in_old_folder.contains(id) { "old" } else { "in" };
                let (blob, bytes) = self.content(id);
                json!({"id": id, "blobId": blob, "threadId": format!("T{id}"),
                    "size": bytes.len(), "mailboxIds": {folder: true}, "receivedAt": "2024-05-01T00:00:00Z"})
            })
            .collect();
        json!({"state": self.log.len().to_string(), "list": list, "notFound": not_found})
    }

    fn changes(&self, arguments: &Value) -> Value {
        let Ok(since) = arguments["sinceState"].as_str().unwrap().parse::<usize>() else {
            return json!({"type": "invalidArguments", "arguments": ["sinceState"]});
        };
        if self.log.len() < since {
            return json!({"type": "cannotCalculateChanges"});
        }
        let max = self.truncated_ids(&arguments["maxChanges"]);
        let new = self.log.len().min(since.saturating_add(max));
        let entries = &self.log[since..new];
        let ids = |wanted: EmailChange| -> BTreeSet<&String> {
            entries.iter().filter(|(change, _)| *change == wanted).map(|(_, id)| id).collect()
        };
        let (created, destroyed) = (ids(EmailChange::Created), ids(EmailChange::Destroyed));
        let updated = ids(EmailChange::Updated);
        // As the RFC wants it: what came and went is not told of, what came and changed has come.
        let updated: Vec<_> = updated
            .iter()
            .filter(|id| !created.contains(*id) && !destroyed.contains(*id))
            .collect();
        let gone: Vec<_> = destroyed.iter().filter(|id| !created.contains(*id)).collect();
        let came: Vec<_> = created.iter().filter(|id| !destroyed.contains(*id)).collect();
        json!({"newState": new.to_string(), "hasMoreChanges": new < self.log.len(),
            "created": came, "updated": updated, "destroyed": gone})
    }
}

impl ServedMailbox {
    pub(crate) fn options(&self) -> JmapOptions {
        JmapOptions {
            name: "work".to_owned(),
            account: None,
            url: self.server.url.clone(),
            allowed_origins: Vec::new(),
            auth: AuthScheme::Bearer,
            mailboxes: Vec::new(),
            since: None,
            page_size_max: 500,
            concurrency: 2,
            request_limits: limits(),
            error_rules: Vec::new(),
            proxy_mode: ProxyMode::Direct,
            metrics: MetricsHandle::default(),
            recorder: ResponseRecorder::default(),
        }
    }

    pub(crate) fn source(&self) -> JmapSource {
        self.source_with(self.options())
    }

    pub(crate) fn source_with(&self, options: JmapOptions) -> JmapSource {
        let credential = Credential::new(|| Box::pin(async { Ok("secret".into()) }));
        JmapSource::new(options, credential, Rc::new(Unlimited)).unwrap()
    }

    pub(crate) fn with_mailbox(&self, change: impl FnOnce(&mut FakeMailbox)) {
        change(&mut self.mailbox.lock().unwrap());
    }

    /// The arguments of all calls of one method so far.
    pub(crate) fn calls(&self, method: &str) -> Vec<Value> {
        let mailbox = self.mailbox.lock().unwrap();
        let of_it = mailbox.calls.iter().filter(|(name, _)| name == method);
        of_it.map(|(_, arguments)| arguments.clone()).collect()
    }
}
