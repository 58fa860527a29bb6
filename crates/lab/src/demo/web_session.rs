//! Session of a person at the website of mail.ru: what a browser sends with each request.

use serde_json::{Map, Value, json};

use super::base64;

/// Prefix of the secrets of [`super::credential`].
const SECRET_PREFIX: &str = "demo-";

/// Names of the cookies that a request must have.
const COOKIES: [&str; 3] = ["Mpop", "sdcs", "ssdc"];

/// Session that is accepted, as the client sends it.
#[derive(Debug)]
pub(super) struct WebSession {
    pub(super) email: String,
    pub(super) token: String,
    cookies: [String; COOKIES.len()],
}

impl WebSession {
    /// Returns the session of a secret that is issued. Its parts have the characters of real ones.
    pub(super) fn from_secret(secret: &str, email: &str) -> Self {
        let secret = secret.strip_prefix(SECRET_PREFIX).unwrap_or(secret);
        let claims = json!({ "nonce": secret, "time": "1700000000", "type": "csrf" });
        let claims = base64::encode(claims.to_string().as_bytes());
        Self {
            email: email.to_owned(),
            token: format!("{secret}{secret}:{claims}"),
            cookies: [
                format!("1700000000:{secret}:{email}:"),
                format!("{secret}.sdcs"),
                base64::encode(secret.as_bytes()),
            ],
        }
    }

    /// Returns the session whose token and cookies are the password.
    pub(super) fn from_password(password: &str, email: &str) -> Self {
        let part = || password.to_owned();
        Self { email: email.to_owned(), token: part(), cookies: [part(), part(), part()] }
    }

    /// Returns the cookies, each with its name.
    pub(super) fn cookies(&self) -> impl Iterator<Item = (&'static str, &str)> {
        COOKIES.into_iter().zip(self.cookies.iter().map(String::as_str))
    }

    /// Returns the text of the file with the session, on one line.
    pub(super) fn to_json(&self, host: &str) -> String {
        let cookies: Map<String, Value> =
            self.cookies().map(|(name, value)| (name.to_owned(), value.into())).collect();
        json!({
            "host": host,
            "email": self.email,
            "token": self.token,
            "cookies": cookies,
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_file_has_the_parts_of_a_request() {
        let session = WebSession::from_secret("demo-0123456789abcdef", "me@example.com");

        let file: Value = serde_json::from_str(&session.to_json("e.mail.ru")).unwrap();

        let (start, claims) = session.token.split_once(':').unwrap();
        assert_eq!((start.len(), file["token"].as_str()), (32, Some(session.token.as_str())));
        assert!(claims.ends_with('='), "{claims}");
        assert_eq!(file["email"], "me@example.com");
        assert_eq!(file["host"], "e.mail.ru");
        assert_eq!(file["cookies"]["Mpop"], "1700000000:0123456789abcdef:me@example.com:");
        assert_eq!(file["cookies"].as_object().unwrap().len(), 3);
        assert!(file["user_agent"].as_str().unwrap().starts_with("Mozilla/"));
    }
}
