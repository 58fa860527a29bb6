//! Headless Chromium, controlled over pipes with the Chrome DevTools Protocol.
#![expect(clippy::panic, reason = "test helpers panic on failure")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use serde_json::{Value, json};

use crate::prerequisites::skip;
use crate::process_sandbox::ProcessSandbox;

/// Longest wait for a response of the browser, on a busy machine.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Shell script that starts the browser. It communicates over the file descriptors 3 and 4, which
/// the shell connects to the pipes of standard input and output.
const LAUNCH_SCRIPT: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

pub(crate) struct ChromeBrowser {
    child: Child,
    writer: ChildStdin,
    reader: Receiver<Value>,
    last_id: u64,
    session: Option<String>,
    events: Vec<Value>,
    _profile: ProcessSandbox,
}

/// Size and colour scheme in which a page is shown.
#[derive(Clone, Copy)]
pub(crate) struct Viewport {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) scheme: &'static str,
}

impl ChromeBrowser {
    /// Starts the browser with one empty page; `None` if it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let version = Command::new("chromium").arg("--version").output();
        if version.is_err() {
            return skip("Debian's package chromium");
        }
        Some(Self::launch())
    }

    fn launch() -> Self {
        let profile = ProcessSandbox::new();
        let mut child = Command::new("sh")
            .args([
                "-c",
                LAUNCH_SCRIPT,
                "sh",
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
            ])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--mute-audio"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args([
                "--disable-extensions",
                "--no-proxy-server",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .env("TMPDIR", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let writer = child.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).split(0);
        let (sender, reader) = channel();
        thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                let message = serde_json::from_slice(&line).expect("the browser sends JSON");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            child,
            writer,
            reader,
            last_id: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        browser.open_page();
        browser
    }

    fn open_page(&mut self) {
        let page = self.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let session = self.call("Target.attachToTarget", &attach);
        self.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log", "Accessibility"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
    }

    /// Calls a method, and returns its result. Events that arrive meanwhile are kept.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.writer.write_all(&bytes).expect("the browser reads");
        loop {
            let message = self.reader.recv_timeout(RESPONSE_TIMEOUT);
            let mut message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == json!(self.last_id) {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            if message["method"].is_string() {
                self.events.push(message);
            }
        }
    }

    /// Waits for the next event of this kind.
    pub(crate) fn wait_for(&mut self, method: &str) {
        loop {
            let event = self.reader.recv_timeout(RESPONSE_TIMEOUT);
            let event = event.unwrap_or_else(|error| panic!("{method} never came: {error}"));
            let is_expected = event["method"] == method;
            self.events.push(event);
            if is_expected {
                return;
            }
        }
    }

    /// Loads a page, and returns when it is loaded.
    pub(crate) fn navigate(&mut self, url: &str) {
        let before = self.load_count();
        self.call("Page.navigate", &json!({ "url": url }));
        self.wait_for_load_after(before);
    }

    /// Clicks an element that leads to another page, and returns when that is loaded.
    pub(crate) fn follow(&mut self, selector: &str) {
        let before = self.load_count();
        self.click(selector);
        self.wait_for_load_after(before);
    }

    /// Waits until more than this number of pages are loaded.
    fn wait_for_load_after(&mut self, before: usize) {
        while self.load_count() == before {
            self.wait_for("Page.loadEventFired");
        }
    }

    fn load_count(&self) -> usize {
        self.events.iter().filter(|event| event["method"] == "Page.loadEventFired").count()
    }

    /// Evaluates an expression. A promise is awaited.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut response = self.call("Runtime.evaluate", &params);
        assert!(response["exceptionDetails"].is_null(), "{expression}: {response}");
        response["result"]["value"].take()
    }

    /// Waits until an expression is true. It is evaluated whenever the page changes.
    pub(crate) fn wait_until(&mut self, condition: &str) {
        self.evaluate(&format!(
            "new Promise((resolve) => {{
                const check = () => {{ if ({condition}) {{ observer.disconnect(); resolve(true); }} }};
                const observer = new MutationObserver(check);
                observer.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
                check();
            }})"
        ));
    }

    /// Waits until another page than the one with this time origin is loaded.
    pub(crate) fn wait_until_loaded_after(&mut self, origin: &Value) {
        while self.evaluate("document.readyState === 'complete' && performance.timeOrigin")
            == *origin
            || self.evaluate("document.readyState") != "complete"
        {
            self.wait_for("Page.loadEventFired");
        }
    }

    pub(crate) fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector({selector:?})?.innerText ?? ''"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Returns the address of the page, also that of one that cannot be opened.
    pub(crate) fn address(&mut self) -> String {
        let history = self.call("Page.getNavigationHistory", &json!({}));
        let current = history["currentIndex"].as_u64().expect("a page is open");
        let current = usize::try_from(current).expect("the history is short");
        history["entries"][current]["url"].as_str().expect("a page has an address").to_owned()
    }

    /// Clicks in the middle of an element, as a mouse does.
    pub(crate) fn click(&mut self, selector: &str) {
        let middle = self.evaluate(&format!(
            "(() => {{
                const box = document.querySelector({selector:?}).getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({
                "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", &params);
        }
    }

    /// Enters a text into a field.
    pub(crate) fn enter(&mut self, selector: &str, text: &str) {
        self.click(selector);
        self.call("Input.insertText", &json!({ "text": text }));
    }

    pub(crate) fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => panic!("the key {key} is not supported yet"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        let mut params =
            json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if !text.is_empty() {
            params["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", &params);
        params["type"] = json!("keyUp");
        self.call("Input.dispatchKeyEvent", &params);
    }

    pub(crate) fn set_viewport(&mut self, viewport: Viewport) {
        let Viewport { width, height, scheme } = viewport;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Saves a screenshot of the whole page.
    pub(crate) fn screenshot(&mut self, path: &Path) {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let screenshot = self.call("Page.captureScreenshot", &params);
        let png = STANDARD
            .decode(screenshot["data"].as_str().expect("it is text"))
            .expect("it is base64");
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("it can be made");
        fs::write(path, png).expect("it can be written");
    }

    /// Returns the errors of the page: exceptions, errors on the console, and violations of its
    /// content security policy.
    pub(crate) fn page_errors(&self) -> Vec<&Value> {
        let is_error = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.events.iter().filter(is_error).collect()
    }

    /// Returns every URL that the page requested.
    pub(crate) fn requests(&self) -> Vec<&str> {
        let sent =
            self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| event["params"]["request"]["url"].as_str()).collect()
    }
}

impl Drop for ChromeBrowser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
