//! A small made-up JMAP mailbox that follows the RFC, but for what a test bends.

use std::rc::Rc;
use std::sync::{Arc, Mutex};

use cynosure::source::credential::Credential;
use cynosure::source::http::{Egress, OpenGate};
use cynosure::source::jmap::{Auth, Jmap, Options};
use cynosure::source::{Meter, Recorder};
use serde_json::{Value, json};

use crate::hostile::{Act, Asked, Hostile, plain};
use crate::http::limits;

/// What takes the place of the mailbox's own answer to a method: its name and body.
type Bend = Box<dyn FnMut(&str, &Value) -> Option<(String, Value)> + Send>;

/// The mailbox. Mails are named by their order of arrival.
pub(crate) struct Mailbox {
    pub(crate) emails: Vec<String>,
    /// Ids created, in order; the state is how many.
    pub(crate) created: Vec<String>,
    pub(crate) session: Value,
    pub(crate) session_state: String,
    pub(crate) token: &'static str,
    /// Answers a whole request in place of the mailbox, by path.
    pub(crate) instead: Option<(&'static str, Vec<u8>)>,
    pub(crate) bend: Option<Bend>,
    /// What each method call was, with its arguments.
    pub(crate) calls: Vec<(String, Value)>,
}

pub(crate) struct Served {
    pub(crate) mailbox: Arc<Mutex<Mailbox>>,
    pub(crate) server: Hostile,
}

impl Mailbox {
    pub(crate) fn of(count: usize) -> Self {
        Self {
            emails: (0..count).map(|n| format!("M{n}")).collect(),
            created: Vec::new(),
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
            instead: None,
            bend: None,
            calls: Vec::new(),
        }
    }

    pub(crate) async fn serve(self) -> Served {
        self.serve_with(|_| None).await
    }

    /// Serves the mailbox, but for the requests that `instead` answers.
    pub(crate) async fn serve_with(
        self,
        instead: impl Fn(&Asked) -> Option<Vec<Act>> + Send + Sync + 'static,
    ) -> Served {
        let mailbox = Arc::new(Mutex::new(self));
        let shared = Arc::clone(&mailbox);
        let server = Hostile::start(move |_, asked| {
            instead(asked).unwrap_or_else(|| vec![Act::Send(shared.lock().unwrap().answer(asked))])
        })
        .await;
        Served { mailbox, server }
    }

    /// Bends the answer to one method.
    pub(crate) fn bend(
        &mut self,
        method: &'static str,
        mut answer: impl FnMut(&Value) -> Option<Value> + Send + 'static,
    ) {
        self.bend = Some(Box::new(move |name, arguments| {
            let body = answer(arguments).filter(|_| name == method)?;
            let name = if body.get("type").is_some() { "error" } else { name };
            Some((name.to_owned(), body))
        }));
    }

    pub(crate) fn arrive(&mut self, id: &str) {
        self.emails.push(id.to_owned());
        self.created.push(id.to_owned());
    }

    pub(crate) fn answer(&mut self, asked: &Asked) -> Vec<u8> {
        if let Some((path, answer)) = &self.instead
            && asked.path().starts_with(path)
        {
            return answer.clone();
        }
        if !asked.head.to_ascii_lowercase().contains(&format!("bearer {}\r\n", self.token)) {
            return plain("401 Unauthorized", "", "");
        }
        let json = |value: &Value| {
            plain("200 OK", "Content-Type: application/json\r\n", value.to_string())
        };
        match asked.path() {
            "/.well-known/jmap" => plain("301 Moved", "Location: /jmap/session\r\n", ""),
            "/jmap/session" => json(&self.session),
            "/jmap/" => json(&self.call(&serde_json::from_slice(&asked.body).unwrap())),
            path => self.bytes(path),
        }
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        let blob = path.strip_prefix("/get/alice/").and_then(|rest| rest.split('/').next());
        match self.emails.iter().find(|id| Some(format!("B{id}").as_str()) == blob) {
            Some(id) => plain("200 OK", "Content-Type: application/octet-stream\r\n", id),
            None => plain("404 Not Found", "Content-Type: text/html\r\n", "<h1>Nothing</h1>"),
        }
    }

    fn call(&mut self, request: &Value) -> Value {
        let [method, arguments, id] = request["methodCalls"][0].as_array().unwrap().as_slice()
        else {
            panic!("not a method call: {request}");
        };
        let method = method.as_str().unwrap();
        assert_eq!(arguments["accountId"], "alice");
        self.calls.push((method.to_owned(), arguments.clone()));
        let bent = self.bend.as_mut().and_then(|bend| bend(method, arguments));
        let (name, body) = bent.unwrap_or_else(|| self.method(method, arguments));
        json!({"methodResponses": [[name, body, id]], "sessionState": self.session_state})
    }

    fn method(&self, method: &str, arguments: &Value) -> (String, Value) {
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

    fn query(&self, arguments: &Value) -> Value {
        let from = match arguments["anchor"].as_str() {
            None => usize::try_from(arguments["position"].as_u64().unwrap()).unwrap(),
            Some(anchor) => match self.emails.iter().position(|id| id == anchor) {
                None => return json!({"type": "anchorNotFound"}),
                Some(at) => {
                    at + usize::try_from(arguments["anchorOffset"].as_u64().unwrap()).unwrap()
                }
            },
        };
        let limit = usize::try_from(arguments["limit"].as_u64().unwrap()).unwrap();
        let ids: Vec<&String> = self.emails.iter().skip(from).take(limit).collect();
        let mut body =
            json!({"ids": ids, "queryState": self.emails.len().to_string(), "position": 0});
        if arguments["calculateTotal"] == true {
            body["total"] = json!(self.emails.len());
        }
        body
    }

    fn get(&self, arguments: &Value) -> Value {
        let asked = arguments["ids"].as_array().unwrap();
        if 4 < asked.len() {
            return json!({"type": "requestTooLarge"});
        }
        let (list, not_found): (Vec<&Value>, Vec<&Value>) =
            asked.iter().partition(|id| self.emails.iter().any(|known| *id == known));
        let list: Vec<Value> = list
            .into_iter()
            .map(|id| {
                let id = id.as_str().unwrap();
                json!({"id": id, "blobId": format!("B{id}"), "threadId": format!("T{id}"),
                    "size": id.len(), "mailboxIds": {"in": true}, "receivedAt": "2024-05-01T00:00:00Z"})
            })
            .collect();
        json!({"state": self.created.len().to_string(), "list": list, "notFound": not_found})
    }

    fn changes(&self, arguments: &Value) -> Value {
        let Ok(since) = arguments["sinceState"].as_str().unwrap().parse::<usize>() else {
            return json!({"type": "invalidArguments", "arguments": ["sinceState"]});
        };
        if self.created.len() < since {
            return json!({"type": "cannotCalculateChanges"});
        }
        let max = usize::try_from(arguments["maxChanges"].as_u64().unwrap()).unwrap();
        let created: Vec<&String> = self.created.iter().skip(since).take(max).collect();
        let new = since + created.len();
        json!({"newState": new.to_string(), "hasMoreChanges": new < self.created.len(),
            "created": created, "updated": [], "destroyed": []})
    }
}

impl Served {
    pub(crate) fn options(&self) -> Options {
        Options {
            url: self.server.url.clone(),
            allowed_origins: Vec::new(),
            auth: Auth::Bearer,
            mailboxes: Vec::new(),
            since: None,
            page_size_max: 500,
            concurrency: 2,
            limits: limits(),
            error_rules: Vec::new(),
            egress: Egress::Direct,
            meter: Meter::default(),
            recorder: Recorder::default(),
        }
    }

    pub(crate) fn source(&self) -> Jmap {
        self.source_with(self.options())
    }

    pub(crate) fn source_with(&self, options: Options) -> Jmap {
        let credential = Credential::new(|| Box::pin(async { Ok("secret".into()) }));
        Jmap::new(options, credential, Rc::new(OpenGate)).unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Mailbox)) {
        change(&mut self.mailbox.lock().unwrap());
    }

    /// The arguments of all calls of one method so far.
    pub(crate) fn calls(&self, method: &str) -> Vec<Value> {
        let mailbox = self.mailbox.lock().unwrap();
        let of_it = mailbox.calls.iter().filter(|(name, _)| name == method);
        of_it.map(|(_, arguments)| arguments.clone()).collect()
    }
}
