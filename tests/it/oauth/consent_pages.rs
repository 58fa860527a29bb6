//! Pages of the authorization server, on which a user decides in a browser.

use url::Url;

use super::{RequestFields, USER_CODE};

/// Buttons of a form, by which its user decides.
const BUTTONS: &str = "<button name=\"decision\" value=\"allow\">Allow</button> \
                       <button name=\"decision\" value=\"deny\">Deny</button>";

/// Pages for a browser in which a user is signed in, and the decisions on them.
pub(super) struct ConsentPages {
    pub(super) user: String,
    /// Address of the page for the code of a device.
    pub(super) activation_url: Url,
    /// Requests for authorization, by the numbers on their pages.
    requests: Vec<RequestFields>,
    device_decision: Option<UserDecision>,
}

/// Decision of a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UserDecision {
    Allowed,
    Denied,
}

impl ConsentPages {
    pub(super) fn new(user: &str, activation_url: Url) -> Self {
        Self { user: user.to_owned(), activation_url, requests: Vec::new(), device_decision: None }
    }

    /// Returns the page that asks for the access of a request for authorization.
    pub(super) fn consent_page(&mut self, request: RequestFields) -> String {
        let number = self.requests.len();
        let content = format!(
            "<h1>Allow access?</h1>\
             <p>{} wants to read the mail of {}.</p>\
             <form method=\"post\" action=\"/consent\">\
             <input type=\"hidden\" name=\"request\" value=\"{number}\">{BUTTONS}</form>",
            request["client_id"], self.user
        );
        self.requests.push(request);
        page(&content)
    }

    /// Returns the request that a form decides, and the decision.
    pub(super) fn decided_request(
        &self,
        form: &RequestFields,
    ) -> Option<(RequestFields, UserDecision)> {
        let number: usize = form.get("request")?.parse().ok()?;
        Some((self.requests.get(number)?.clone(), decision(form)?))
    }

    /// Returns the page for the code of a device. A form with the right code decides.
    pub(super) fn activation_page(&mut self, form: &RequestFields) -> String {
        let text = match form.get("user_code") {
            None => "Enter the code that your device shows.",
            Some(code) if code == USER_CODE => {
                self.device_decision = decision(form);
                return page("<p>Continue on your device.</p>");
            }
            Some(_) => "No device shows this code.",
        };
        page(&format!(
            "<h1>Connect a device</h1><p>{text}</p>\
             <form method=\"post\"><input name=\"user_code\"> {BUTTONS}</form>"
        ))
    }

    /// Returns the error of a poll by the device; `None` once the user has allowed the access.
    pub(super) fn device_error(&self) -> Option<&'static str> {
        match self.device_decision {
            None => Some("authorization_pending"),
            Some(UserDecision::Denied) => Some("access_denied"),
            Some(UserDecision::Allowed) => None,
        }
    }
}

fn decision(form: &RequestFields) -> Option<UserDecision> {
    match form.get("decision")?.as_str() {
        "allow" => Some(UserDecision::Allowed),
        "deny" => Some(UserDecision::Denied),
        _ => None,
    }
}

fn page(content: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sign-in server</title>\
         {content}</html>\n"
    )
}
