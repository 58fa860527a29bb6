//! Alert delivery: messages are kept in `outbox.json` until a channel accepts them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use cynosure_engine::alert::{
    AlertStore, MessagePayload, Notification, Observation, Outbox, QueuedMessage,
};
use cynosure_engine::health::Finding;
use cynosure_engine::{Failure, Timestamp};
use futures_util::future::join_all;
use secrecy::SecretString;

use crate::config::{AlertSettings, CredentialRef, EnvVars, UrlOrSecret};
use crate::disk::{
    Disk, Durability, FileLock, LockFileError, LockedFile, RealDisk, VersionedFile, ensure_folder,
    storage_failure,
};
use crate::monitor::health_files::{ALERTS_SCHEMA, change, single_line_file};
use crate::notify::{AlertMessage, Channel, DeliveryError, WebhookChannel, journal};

/// Name of the outbox file, in the state folder.
pub const OUTBOX_FILE: &str = "outbox.json";

/// Name of the lock that the delivering process holds.
const DELIVERY_LOCK: &str = "delivery.lock";

/// Channel of the ping, a URL that is only requested.
pub(super) const PING_CHANNEL: &str = "ping";

/// Channel of mail.
const MAIL_CHANNEL: &str = "mail";

/// Configuration and outbox that deliveries need.
#[derive(Clone, Debug)]
pub struct AlertDelivery {
    /// Disk that holds the outbox.
    pub disk: Arc<dyn Disk>,
    pub state_dir: PathBuf,
    pub alert_config: Arc<AlertSettings>,
    pub environment: Arc<EnvVars>,
    /// Host name of this machine.
    pub host_name: String,
    /// Sources whose completed sessions trigger a ping.
    pub sources: BTreeSet<String>,
}

/// Result of one attempt on one channel.
#[derive(Debug)]
pub struct DeliveryAttempt {
    pub channel: String,
    pub outcome: Result<(), DeliveryError>,
}

impl AlertDelivery {
    /// Returns the names of all configured channels; the journal is not among them.
    #[must_use]
    pub fn channel_names(&self) -> BTreeSet<String> {
        let AlertSettings { ping_url: ping, webhooks, mail, .. } = &*self.alert_config;
        let webhooks = webhooks.keys().map(|name| format!("webhook {name}"));
        let mail = mail.iter().map(|_| MAIL_CHANNEL.to_owned());
        webhooks.chain(mail).chain(ping.iter().map(|_| PING_CHANNEL.to_owned())).collect()
    }

    /// Returns the findings about the channels themselves.
    ///
    /// # Errors
    /// A storage failure.
    pub(super) fn channel_findings(&self, now: Timestamp) -> Result<Vec<Finding>, Failure> {
        let outbox = self.outbox_file().read()?.and_then(Result::ok).unwrap_or_default();
        let channels = self.channel_names();
        let findings = outbox.channel_findings(now).into_iter();
        Ok(findings.filter(|finding| channels.contains(&finding.subject)).collect())
    }

    /// Queues notifications for the channels that accept them, and a ping if a session was
    /// completed.
    ///
    /// # Errors
    /// A storage failure; then nothing is queued.
    pub(super) fn enqueue(
        &self,
        notifications: &[Notification],
        sessions_completed: &BTreeMap<String, u64>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let channels = self.channel_names();
        if channels.is_empty() {
            return Ok(());
        }
        let selected: Vec<&Notification> = notifications
            .iter()
            .filter(|notification| notification.alert.max_severity >= self.alert_config.severity)
            .collect();
        change(&self.outbox_file(), Durability::Durable, |outbox| {
            outbox.retain_configured(&channels, &self.sources);
            for notification in &selected {
                let accepts = |channel: &&String| {
                    *channel != PING_CHANNEL && !Outbox::is_about_channel(channel, notification)
                };
                let to = channels.iter().filter(accepts).cloned().collect();
                outbox.enqueue(
                    to,
                    MessagePayload::Notification(Box::new((*notification).clone())),
                    now,
                );
            }
            let mut has_new_session = false;
            for (source, count) in sessions_completed {
                has_new_session |= outbox.record_completed(source, *count);
            }
            if has_new_session && channels.contains(PING_CHANNEL) {
                outbox.enqueue(
                    [PING_CHANNEL.to_owned()].into(),
                    MessagePayload::SessionCompleted,
                    now,
                );
            }
            Ok(())
        })
    }

    /// Delivers due messages once and records the results. `None` if another process delivers.
    ///
    /// # Errors
    /// A storage failure.
    pub async fn deliver_once(
        &self,
        now: Timestamp,
    ) -> Result<Option<Vec<DeliveryAttempt>>, Failure> {
        let Some(_lock) = self.acquire_delivery_lock()? else { return Ok(None) };
        let deliveries =
            self.due_messages(now)?.into_iter().map(|(channel, messages)| async move {
                let outcome = self.deliver(&channel, &messages, now).await;
                (channel, messages, outcome)
            });
        let mut attempts = Vec::new();
        for (channel, messages, outcome) in join_all(deliveries).await {
            self.record_result(&channel, &messages, &outcome, now)?;
            attempts.push(DeliveryAttempt { channel, outcome });
        }
        Ok(Some(attempts))
    }

    /// Sends an alert immediately and bypasses the outbox, for a finding that prevents all other
    /// alerts. Each channel is tried once.
    pub async fn send_immediately(&self, finding: Finding, now: Timestamp) -> Vec<DeliveryAttempt> {
        let subjects = [finding.subject.clone()].into();
        let observation = Observation {
            findings: vec![finding],
            known_subjects: subjects,
            ..Observation::default()
        };
        let notifications = AlertStore::default().evaluate(&observation, now);
        notifications.iter().for_each(journal::log_notification);
        let channels = self.channel_names().into_iter().filter(|channel| channel != PING_CHANNEL);
        let attempts = channels.map(|channel| {
            let message = AlertMessage::new(&self.host_name, notifications.clone(), now);
            async move {
                let outcome = self.send(&channel, &message).await;
                DeliveryAttempt { channel, outcome }
            }
        });
        join_all(attempts).await
    }

    /// Sends a test message to every channel.
    pub async fn send_test(&self, now: Timestamp) -> Vec<DeliveryAttempt> {
        let attempts = self.channel_names().into_iter().map(|channel| async move {
            let outcome = self.send(&channel, &AlertMessage::new_test(&self.host_name, now)).await;
            DeliveryAttempt { channel, outcome }
        });
        join_all(attempts).await
    }

    pub(super) fn outbox_file(&self) -> VersionedFile<Outbox> {
        single_line_file(
            LockedFile::with_disk(Arc::clone(&self.disk), self.state_dir.join(OUTBOX_FILE)),
            ALERTS_SCHEMA,
        )
    }

    /// Acquires the delivery lock; `None` if another process holds it. With two delivering
    /// processes, every message would arrive twice.
    pub(super) fn acquire_delivery_lock(&self) -> Result<Option<FileLock>, Failure> {
        ensure_folder(&RealDisk, &self.state_dir)
            .map_err(|error| storage_failure("create the folder", &self.state_dir, &error))?;
        match FileLock::acquire(&self.state_dir.join(DELIVERY_LOCK)) {
            Ok(lock) => Ok(Some(lock)),
            Err(LockFileError::Held { .. }) => Ok(None),
            Err(LockFileError::Storage(failure)) => Err(failure),
        }
    }

    /// Drops expired messages, and returns those that may be delivered now, by channel.
    pub(super) fn due_messages(
        &self,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Vec<QueuedMessage>>, Failure> {
        let outbox = self.outbox_file();
        if outbox.read()?.is_none() {
            return Ok(BTreeMap::new());
        }
        change(&outbox, Durability::Visible, |outbox| {
            outbox.retain_configured(&self.channel_names(), &self.sources);
            outbox.drop_expired(self.alert_config.expire_after, now);
            Ok(outbox.due_messages(now))
        })
    }

    pub(super) async fn deliver(
        &self,
        channel: &str,
        messages: &[QueuedMessage],
        now: Timestamp,
    ) -> Result<(), DeliveryError> {
        let notifications = messages.iter().filter_map(|message| match &message.payload {
            MessagePayload::Notification(notification) => Some(Notification::clone(notification)),
            MessagePayload::SessionCompleted => None,
        });
        self.send(channel, &AlertMessage::new(&self.host_name, notifications.collect(), now)).await
    }

    pub(super) fn record_result(
        &self,
        channel: &str,
        messages: &[QueuedMessage],
        outcome: &Result<(), DeliveryError>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        change(&self.outbox_file(), Durability::Durable, |outbox| {
            match outcome {
                Ok(()) => outbox.on_delivered(channel, messages, now),
                Err(error) => outbox.on_failed(channel, &error.to_string(), now),
            }
            Ok(())
        })
    }

    async fn send(&self, name: &str, message: &AlertMessage) -> Result<(), DeliveryError> {
        // Reading a credential may run a program, and another channel must not wait for it.
        let (delivery, channel) = (self.clone(), name.to_owned());
        let read = tokio::task::spawn_blocking(move || delivery.resolve_channel(&channel)).await;
        let panicked = |_panic| DeliveryError::new("reading its credential failed unexpectedly");
        read.map_err(panicked)??.deliver(message, self.alert_config.timeout).await
    }

    /// Creates a channel; its secrets are read at each call.
    fn resolve_channel(&self, name: &str) -> Result<Channel, DeliveryError> {
        let unknown = || DeliveryError::new("it is not in the configuration");
        match name {
            PING_CHANNEL => {
                let address = self.alert_config.ping_url.as_ref().ok_or_else(unknown)?;
                Ok(Channel::Ping(self.resolve_address(address)?))
            }
            MAIL_CHANNEL => {
                let mail = self.alert_config.mail.as_ref().ok_or_else(unknown)?;
                Ok(Channel::Mail(mail.try_map_password(|password| self.read_secret(password))?))
            }
            _ => {
                let name = name.strip_prefix("webhook ").unwrap_or(name);
                let webhook = self.alert_config.webhooks.get(name).ok_or_else(unknown)?;
                let token =
                    webhook.token.as_ref().map(|token| self.read_secret(token)).transpose()?;
                let url = self.resolve_address(&webhook.url)?;
                Ok(Channel::Webhook(WebhookChannel { url, format: webhook.format, token }))
            }
        }
    }

    fn resolve_address(&self, address: &UrlOrSecret) -> Result<SecretString, DeliveryError> {
        match address {
            UrlOrSecret::Url(url) => Ok(SecretString::from(url.as_str())),
            UrlOrSecret::Secret(credential) => self.read_secret(credential),
        }
    }

    fn read_secret(&self, credential: &CredentialRef) -> Result<SecretString, DeliveryError> {
        credential.read(&self.environment).map_err(|error| DeliveryError::new(error.to_string()))
    }
}

/// Returns the host name of this machine.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
