//! What channels are like.

/// What a webhook understands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WebhookFormat {
    /// All there is to know, as JSON of our own.
    Json,
    /// `{"text": …}`, which other chats understand as well.
    Slack,
    /// Plain text, with a title and a priority in the headers.
    Ntfy,
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SmtpTls {
    /// TLS from the first byte.
    Implicit,
    /// TLS after a word in the clear; never without.
    StartTls,
    /// None, to this machine itself only.
    None,
}

/// Somebody who is told by mail. `S` is the password, or where it is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailChannel<S> {
    /// The server that takes it.
    pub server: String,
    pub port: u16,
    pub tls: SmtpTls,
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
    /// User name and password.
    pub login: Option<(String, S)>,
}

impl<S> MailChannel<S> {
    /// The same, with what `read` makes of the password.
    ///
    /// # Errors
    /// That of `read`.
    pub fn try_map_password<T, E>(
        &self,
        read: impl FnOnce(&S) -> Result<T, E>,
    ) -> Result<MailChannel<T>, E> {
        let login = self.login.as_ref().map(|(name, password)| Ok((name.clone(), read(password)?)));
        Ok(MailChannel {
            server: self.server.clone(),
            port: self.port,
            tls: self.tls,
            from: self.from.clone(),
            to: self.to.clone(),
            login: login.transpose()?,
        })
    }
}
