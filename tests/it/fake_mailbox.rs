//! Fake JMAP mailbox that follows the RFC, except for the responses that a test overrides.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use cynosure::limiter::Unlimited;
use cynosure::source::credential::Credential;
use cynosure::source::jmap::{AuthScheme, JmapOptions, JmapSource};
use serde_json::{Value, json};

use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};
use crate::http::{http_options, limits};

/// Override of the mailbox's response to a method: returns the name and body to send instead.
type MethodOverride = Box<dyn FnMut(&str, &Value) -> Option<(String, Value)> + Send>;

/// Fake mailbox.
pub(crate) struct FakeMailbox {
    /// Ids of the mails, in the order of their arrival.
    pub(crate) emails: Vec<String>,
    /// Mails in the folder `old`; all others are in the inbox.
    pub(crate) in_old_folder: BTreeSet<String>,
    /// Blob id and bytes of mails with a special content. By default, the blob id is "B" and the
    /// mail's id, and the bytes are the id.
    pub(crate) contents: BTreeMap<String, (String, Vec<u8>)>,
    /// Changes of mails, in order; the JMAP state is their number.
    pub(crate) change_log: Vec<(EmailChange, String)>,
    /// Number of the next requests that do not find a mail, by its id.
    pub(crate) not_found_counts: BTreeMap<String, usize>,
    /// True if queries return the total number of mails.
    pub(crate) reports_total: bool,
    /// Id of the account that owns the mails.
    pub(crate) account: &'static str,
    /// JMAP session object (RFC 8620 §2).
    pub(crate) session: Value,
    /// State of the session that the responses report.
    pub(crate) session_state: String,
    pub(crate) token: &'static str,
    /// Response to all requests with this path prefix, instead of the mailbox's own.
    pub(crate) request_override: Option<(&'static str, Vec<u8>)>,
    pub(crate) method_override: Option<MethodOverride>,
    /// True if it returns all ids at once, whatever limit is requested.
    pub(crate) ignores_limits: bool,
    /// Method name and arguments of each call.
    pub(crate) calls: Vec<(String, Value)>,
}

/// Kind of a change of a mail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EmailChange {
    Created,
    Updated,
    Destroyed,
}

/// Fake mailbox and the HTTP server in front of it.
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
            change_log: Vec::new(),
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

    /// Serves the mailbox, except for the requests for which `override_request` returns actions.
    pub(crate) async fn serve_with(
        self,
        override_request: impl Fn(&ReceivedRequest) -> Option<Vec<ConnectionAction>>
        + Send
        + Sync
        + 'static,
    ) -> ServedMailbox {
        let mailbox = Arc::new(Mutex::new(self));
        let shared = Arc::clone(&mailbox);
        let server = HostileServer::start(move |_, request| {
            override_request(request).unwrap_or_else(|| {
                vec![ConnectionAction::Send(shared.lock().unwrap().respond(request))]
            })
        })
        .await;
        ServedMailbox { mailbox, server }
    }

    /// Overrides the response to one method, where `respond` returns a body.
    pub(crate) fn override_method(
        &mut self,
        method: &'static str,
        mut respond: impl FnMut(&Value) -> Option<Value> + Send + 'static,
    ) {
        self.method_override = Some(Box::new(move |name, arguments| {
            let body = respond(arguments).filter(|_| name == method)?;
            let name = if body.get("type").is_some() { "error" } else { name };
            Some((name.to_owned(), body))
        }));
    }

    /// Adds a mail as the newest one.
    pub(crate) fn deliver(&mut self, id: &str) {
        self.insert(self.emails.len(), id);
    }

    /// Adds a mail at a position in the order of arrival.
    pub(crate) fn insert(&mut self, at: usize, id: &str) {
        self.emails.insert(at, id.to_owned());
        self.change_log.push((EmailChange::Created, id.to_owned()));
    }

    /// Destroys all mails for which `is_destroyed` returns true.
    pub(crate) fn destroy(&mut self, is_destroyed: impl Fn(&str) -> bool) {
        let destroyed = self.emails.extract_if(.., |id| is_destroyed(id));
        self.change_log.extend(destroyed.map(|id| (EmailChange::Destroyed, id)));
    }

    /// Moves a mail from one folder to the other.
    pub(crate) fn move_to_other_folder(&mut self, id: &str) {
        if !self.in_old_folder.remove(id) {
            self.in_old_folder.insert(id.to_owned());
        }
        self.change_log.push((EmailChange::Updated, id.to_owned()));
    }

    /// Replaces the account by another one.
    pub(crate) fn switch_account(&mut self, account: &'static str) {
        self.account = account;
        self.session["accounts"] = json!({account: {"accountCapabilities": null}});
        self.session["primaryAccounts"] = json!({"urn:ietf:params:jmap:mail": account});
    }

    pub(crate) fn respond(&mut self, request: &ReceivedRequest) -> Vec<u8> {
        if let Some((path, response)) = &self.request_override
            && request.path().starts_with(path)
        {
            return response.clone();
        }
        if !request.head.to_ascii_lowercase().contains(&format!("bearer {}\r\n", self.token)) {
            return plain_response("401 Unauthorized", "", "");
        }
        let json_response = |value: &Value| {
            plain_response("200 OK", "Content-Type: application/json\r\n", value.to_string())
        };
        match request.path() {
            "/.well-known/jmap" => plain_response("301 Moved", "Location: /jmap/session\r\n", ""),
            "/jmap/session" => json_response(&self.session),
            "/jmap/" => json_response(&self.call(&serde_json::from_slice(&request.body).unwrap())),
            path => self.download(path),
        }
    }

    fn download(&self, path: &str) -> Vec<u8> {
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

    /// Returns the blob id and the bytes of a mail.
    pub(crate) fn content(&self, id: &str) -> (String, Vec<u8>) {
        let content = self.contents.get(id).cloned();
        content.unwrap_or_else(|| (format!("B{id}"), id.as_bytes().to_vec()))
    }

    /// Replaces the content of a mail and keeps its id.
    pub(crate) fn replace(&mut self, id: &str, blob: &str, bytes: impl Into<Vec<u8>>) {
        self.contents.insert(id.to_owned(), (blob.to_owned(), bytes.into()));
    }

    fn call(&mut self, request: &Value) -> Value {
        let [method, arguments, id] = request["methodCalls"][0].as_array().unwrap().as_slice()
        else {
            panic!("not a method call: {request}");
        };
        let method = method.as_str().unwrap();
        self.calls.push((method.to_owned(), arguments.clone()));
        let is_own_account = arguments["accountId"] == self.account;
        let overridden =
            self.method_override.as_mut().and_then(|respond| respond(method, arguments));
        let (name, body) = overridden.unwrap_or_else(|| {
            if is_own_account {
                self.call_method(method, arguments)
            } else {
                ("error".to_owned(), json!({"type": "accountNotFound"}))
            }
        });
        json!({"methodResponses": [[name, body, id]], "sessionState": self.session_state})
    }

    fn call_method(&mut self, method: &str, arguments: &Value) -> (String, Value) {
        let body = match method {
            "Email/query" => self.query(arguments),
            "Email/get" => self.get(arguments),
            "Email/changes" => self.changes(arguments),
            "Mailbox/get" => {
                let (inbox, old) = (self.count_in("in"), self.count_in("old"));
                json!({"list": [
                    {"id": "in", "name": "Inbox", "parentId": null, "role": "inbox",
                        "totalEmails": inbox},
                    {"id": "old", "name": "Old", "parentId": "in", "role": null,
                        "totalEmails": old},
                ]})
            }
            other => json!({"type": "unknownMethod", "description": other}),
        };
        let name = if body.get("type").is_some() { "error" } else { method };
        (name.to_owned(), body)
    }

    /// Returns true if a query with this filter finds a mail. All mails have the same date.
    fn matches(&self, id: &str, filter: &Value) -> bool {
        let folder = filter["inMailbox"].as_str();
        folder.is_none_or(|folder| (folder == "old") == self.in_old_folder.contains(id))
    }

    /// Returns the number of mails in a folder.
    fn count_in(&self, folder: &str) -> usize {
        let filter = json!({"inMailbox": folder});
        self.emails.iter().filter(|id| self.matches(id, &filter)).count()
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
        let limit = self.effective_limit(&arguments["limit"]);
        let ids: Vec<&&String> = found.iter().skip(from).take(limit).collect();
        let mut body =
            json!({"ids": ids, "queryState": self.change_log.len().to_string(), "position": from});
        if arguments["calculateTotal"] == true && self.reports_total {
            body["total"] = json!(found.len());
        }
        body
    }

    fn effective_limit(&self, limit: &Value) -> usize {
        let limit = usize::try_from(limit.as_u64().unwrap()).unwrap();
        if self.ignores_limits { usize::MAX } else { limit }
    }

    fn get(&mut self, arguments: &Value) -> Value {
        let ids = arguments["ids"].as_array().unwrap();
        if 4 < ids.len() {
            return json!({"type": "requestTooLarge"});
        }
        let (list, not_found): (Vec<&Value>, Vec<&Value>) = ids.iter().partition(|id| {
            let id = id.as_str().unwrap();
            let count = self.not_found_counts.get_mut(id).filter(|count| **count > 0);
            let is_hidden = count.is_some();
            count.into_iter().for_each(|count| *count -= 1);
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
        json!({"state": self.change_log.len().to_string(), "list": list, "notFound": not_found})
    }

    fn changes(&self, arguments: &Value) -> Value {
        let Ok(since) = arguments["sinceState"].as_str().unwrap().parse::<usize>() else {
            return json!({"type": "invalidArguments", "arguments": ["sinceState"]});
        };
        if self.change_log.len() < since {
            return json!({"type": "cannotCalculateChanges"});
        }
        let max = self.effective_limit(&arguments["maxChanges"]);
        let new_state = self.change_log.len().min(since.saturating_add(max));
        let entries = &self.change_log[since..new_state];
        let ids = |kind: EmailChange| -> BTreeSet<&String> {
            entries.iter().filter(|(change, _)| *change == kind).map(|(_, id)| id).collect()
        };
        let (created, destroyed) = (ids(EmailChange::Created), ids(EmailChange::Destroyed));
        let updated = ids(EmailChange::Updated);
        // As the RFC requires: a mail that was created and destroyed is omitted, and one that was
        // created and updated is only listed as created.
        let updated: Vec<_> = updated
            .iter()
            .filter(|id| !created.contains(*id) && !destroyed.contains(*id))
            .collect();
        let only_destroyed: Vec<_> = destroyed.iter().filter(|id| !created.contains(*id)).collect();
        let only_created: Vec<_> = created.iter().filter(|id| !destroyed.contains(*id)).collect();
        json!({"newState": new_state.to_string(),
            "hasMoreChanges": new_state < self.change_log.len(),
            "created": only_created, "updated": updated, "destroyed": only_destroyed})
    }
}

impl ServedMailbox {
    pub(crate) fn options(&self) -> JmapOptions {
        JmapOptions {
            name: "work".to_owned(),
            account: None,
            url: self.server.url.clone(),
            auth: AuthScheme::Bearer,
            mailboxes: Vec::new(),
            since: None,
            page_size_max: 500,
            concurrency: 2,
            http: http_options(limits(), []),
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

    /// Returns the arguments of all calls of one method so far.
    pub(crate) fn calls(&self, method: &str) -> Vec<Value> {
        let mailbox = self.mailbox.lock().unwrap();
        let matching = mailbox.calls.iter().filter(|(name, _)| name == method);
        matching.map(|(_, arguments)| arguments.clone()).collect()
    }
}
