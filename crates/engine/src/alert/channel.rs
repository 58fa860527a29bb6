//! Types that describe alert channels.

/// Payload format of a webhook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WebhookFormat {
    /// All fields, as JSON in our own format.
    Json,
    /// `{"text": …}`, which other chat services also accept.
    Slack,
    /// Plain text, with a title and a priority in the headers.
    Ntfy,
}

/// TLS mode of an SMTP connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SmtpTls {
    /// TLS from the first byte.
    Implicit,
    /// TLS after the STARTTLS command; never without TLS.
    StartTls,
    /// No TLS; for a server on this host only.
    None,
}

/// Mail channel. `S` is the password, or the place where it is stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailChannel<S> {
    /// SMTP server.
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
    /// Returns the same channel with the password that `read` returns.
    ///
    /// # Errors
    /// Returns the error of `read`.
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
