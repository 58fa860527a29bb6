//! Discovery of the provider of a domain over the network.
//!
//! All lookups run at the same time, within one time limit. They are trusted in this order: the
//! servers that receive the mail of the domain, if a known provider operates them; a JMAP service;
//! an IMAP server that the domain names. No answer is authenticated, so each result names the host
//! that it is about.

mod resolv_conf;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use cynosure_engine::{format_duration, sanitize_line};
use futures_util::future::join_all;
use tokio::time::timeout;
use url::Url;

use self::resolv_conf::system_name_servers;
use super::access::{
    AccessOption, ProviderGuide, ServerAddress, ServerSecurity, SignInMethod, jmap_session_url,
};
use super::address::MailAddress;
use super::autoconfig::{AutoconfigServer, autoconfig_urls, read_autoconfig};
use super::dns::{DnsClient, ServiceRecord};
use super::guides::{OWN_SERVER_NAME, guide_to, own_imap_option, own_jmap_option};
use super::host_name::is_in_domain;
use super::known_provider::{KnownMailbox, find_by_server};
use super::web_client::{JmapService, WebClient};

/// Time of all lookups together. A person waits for it.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Result of a discovery over the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Discovery {
    /// The network names the provider or a server.
    Found {
        guide: ProviderGuide,
        /// A sentence without its end, such as "its mail is received by aspmx.l.google.com". Safe
        /// for a terminal.
        evidence: String,
    },
    /// The network answered, and names no provider.
    Unknown,
    /// One sentence: no network, or no answer within the time limit.
    NoNetwork(String),
}

/// Servers that a discovery asks.
#[derive(Clone, Debug)]
pub struct DiscoveryOptions {
    /// Name servers, the preferred one first.
    pub name_servers: Vec<SocketAddr>,
    /// Time of all lookups together.
    pub time_limit: Duration,
    /// `None` for https at the domain itself. A URL stands for the origin of every host, in tests.
    pub autoconfig_base: Option<Url>,
}

impl DiscoveryOptions {
    /// Returns the options with the name servers of `/etc/resolv.conf`.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self { name_servers: system_name_servers(), time_limit: TIME_LIMIT, autoconfig_base: None }
    }
}

/// Answers to the lookups of servers. An error is one sentence: there is no answer.
struct FoundServers {
    /// Service records of JMAP (RFC 8620, section 2.2).
    jmap_records: Result<Vec<ServiceRecord>, String>,
    jmap_service: Result<Option<JmapService>, String>,
    autoconfig: Result<Option<AutoconfigServer>, String>,
    /// Service records of IMAP with TLS from the first byte (RFC 6186).
    tls_records: Result<Vec<ServiceRecord>, String>,
    /// Service records of IMAP with STARTTLS (RFC 6186).
    starttls_records: Result<Vec<ServiceRecord>, String>,
}

/// IMAP server that a domain names.
struct FoundMailServer {
    host: String,
    address: ServerAddress,
    /// `None` if it is the address, or not known.
    username: Option<String>,
    evidence: String,
}

/// Asks the network for the provider of a domain. No credential is sent.
pub async fn discover(address: &MailAddress, options: &DiscoveryOptions) -> Discovery {
    let dns = DnsClient::new(&options.name_servers, options.time_limit);
    let web = WebClient::new(options.autoconfig_base.as_ref());
    let mut receiving = pin!(within(options.time_limit, dns.mail_exchangers(address.domain())));
    let mut serving = pin!(find_servers(address, &dns, &web, options.time_limit));
    let (exchangers, servers) = tokio::select! {
        exchangers = &mut receiving => match find_receiving_provider(&exchangers) {
            // Nothing else is trusted more.
            Some(found) => return found,
            None => (exchangers, serving.await),
        },
        servers = &mut serving => (receiving.await, servers),
    };
    if let Some(found) = find_receiving_provider(&exchangers) {
        return found;
    }
    if let Some(found) = servers.find_known_provider(address) {
        return found;
    }
    if let Some(found) = servers.own_servers(address) {
        return found;
    }
    match (exchangers, servers.has_answer()) {
        (Err(problem), false) => Discovery::NoNetwork(format!(
            "the network gives no answer: {}; check the connection of this machine",
            sanitize_line(&problem)
        )),
        (Ok(_) | Err(_), _) => Discovery::Unknown,
    }
}

async fn find_servers(
    address: &MailAddress,
    dns: &DnsClient<'_>,
    web: &Result<WebClient, String>,
    time_limit: Duration,
) -> FoundServers {
    let domain = address.domain();
    let jmap_name = format!("_jmap._tcp.{domain}");
    let tls_name = format!("_imaps._tcp.{domain}");
    let starttls_name = format!("_imap._tcp.{domain}");
    let (jmap_records, jmap_service, autoconfig, tls_records, starttls_records) = tokio::join!(
        within(time_limit, dns.services(&jmap_name)),
        within(time_limit, find_jmap_service(web, domain)),
        within(time_limit, find_autoconfig(web, address)),
        within(time_limit, dns.services(&tls_name)),
        within(time_limit, dns.services(&starttls_name)),
    );
    FoundServers { jmap_records, jmap_service, autoconfig, tls_records, starttls_records }
}

async fn within<T>(
    time_limit: Duration,
    lookup: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match timeout(time_limit, lookup).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(format!("nothing arrived within {}", format_duration(time_limit))),
    }
}

async fn find_jmap_service(
    web: &Result<WebClient, String>,
    domain: &str,
) -> Result<Option<JmapService>, String> {
    match web {
        Ok(web) => web.find_jmap(domain).await,
        Err(problem) => Err(problem.clone()),
    }
}

/// Requests the files of both addresses at the same time. The first address is preferred.
async fn find_autoconfig(
    web: &Result<WebClient, String>,
    address: &MailAddress,
) -> Result<Option<AutoconfigServer>, String> {
    let web = web.as_ref().map_err(Clone::clone)?;
    let urls = autoconfig_urls(address.domain());
    let answers = join_all(urls.iter().map(|url| web.get(url))).await;
    let mut problem = None;
    let mut is_answered = false;
    for answer in answers {
        match answer {
            Ok(answer) => {
                is_answered = true;
                let server = answer.text().and_then(|text| read_autoconfig(text, address));
                if server.is_some() {
                    return Ok(server);
                }
            }
            Err(error) => problem = Some(error),
        }
    }
    match problem {
        Some(problem) if !is_answered => Err(problem),
        Some(_) | None => Ok(None),
    }
}

/// Returns the guide to the provider that receives the mail of the domain.
fn find_receiving_provider(exchangers: &Result<Vec<String>, String>) -> Option<Discovery> {
    let exchangers = exchangers.as_ref().ok()?;
    let known = exchangers.iter().find_map(|host| Some((host, find_by_server(host)?)));
    let (host, mailbox) = known?;
    Some(found_provider(mailbox, format!("its mail is received by {host}")))
}

fn found_provider(mailbox: KnownMailbox, evidence: String) -> Discovery {
    Discovery::Found { guide: guide_to(mailbox), evidence }
}

impl FoundServers {
    /// True if the network answered any lookup.
    fn has_answer(&self) -> bool {
        self.jmap_records.is_ok()
            || self.jmap_service.is_ok()
            || self.autoconfig.is_ok()
            || self.tls_records.is_ok()
            || self.starttls_records.is_ok()
    }

    /// Returns the guide to a known provider that operates one of the servers.
    fn find_known_provider(&self, address: &MailAddress) -> Option<Discovery> {
        if let Some((service, evidence)) = self.jmap_service(address)
            && let Some(mailbox) = service.url.host_str().and_then(find_by_server)
        {
            return Some(found_provider(mailbox, evidence));
        }
        let server = self.mail_server(address)?;
        let mailbox = find_by_server(&server.host)?;
        Some(found_provider(mailbox, server.evidence))
    }

    /// Returns the servers of the domain that no known provider operates.
    fn own_servers(&self, address: &MailAddress) -> Option<Discovery> {
        let mut options = Vec::new();
        let mut evidence = Vec::new();
        let account = || address.as_str().to_owned();
        if let Some((service, sentence)) = self.jmap_service(address) {
            let method =
                if service.needs_token { SignInMethod::Token } else { SignInMethod::Password };
            let option = own_jmap_option(ServerAddress::Url(service.url), method);
            options.push(AccessOption { username: Some(account()), ..option });
            evidence.push(sentence);
        }
        if let Some(server) = self.mail_server(address) {
            let username = Some(server.username.unwrap_or_else(account));
            options.push(AccessOption { username, ..own_imap_option(server.address) });
            evidence.push(server.evidence);
        }
        if options.is_empty() {
            return None;
        }
        let guide = ProviderGuide { name: OWN_SERVER_NAME.to_owned(), options };
        Some(Discovery::Found { guide, evidence: evidence.join("; ") })
    }

    /// Returns the JMAP service with its evidence. A service record names its server, and the
    /// service at the domain itself answered.
    fn jmap_service(&self, address: &MailAddress) -> Option<(JmapService, String)> {
        let records = self.jmap_records.as_ref().ok();
        if let Some(record) = records.and_then(|records| records.first())
            && let Some(url) = record_url(record)
        {
            let host = described_host(&record.host, address);
            let evidence = format!("its service record names the JMAP server {host}");
            return Some((JmapService { url, needs_token: false }, evidence));
        }
        let service = self.jmap_service.as_ref().ok()?.clone()?;
        let host = described_host(service.url.host_str().unwrap_or_default(), address);
        Some((service, format!("it has a JMAP service at {host}")))
    }

    /// Returns the IMAP server. Its file of automatic configuration also knows the user name.
    fn mail_server(&self, address: &MailAddress) -> Option<FoundMailServer> {
        if let Ok(Some(server)) = &self.autoconfig {
            let AutoconfigServer { host, port, security, username } = server;
            let shown = described_host(host, address);
            let mut evidence = format!("its automatic configuration names the IMAP server {shown}");
            if let Some(username) = username {
                evidence.push_str(&format!(", and the user name {}", sanitize_line(username)));
            }
            let found = FoundMailServer::new(host, *port, *security, evidence);
            return Some(FoundMailServer { username: username.clone(), ..found });
        }
        let first = |records: &Result<Vec<ServiceRecord>, String>| {
            records.as_ref().ok().and_then(|records| records.first()).cloned()
        };
        let (record, security) = match (first(&self.tls_records), first(&self.starttls_records)) {
            (Some(record), _) => (record, ServerSecurity::Tls),
            (None, Some(record)) => (record, ServerSecurity::StartTls),
            (None, None) => return None,
        };
        let host = described_host(&record.host, address);
        let evidence = format!("its service record names the IMAP server {host}");
        Some(FoundMailServer::new(&record.host, record.port, security, evidence))
    }
}

impl FoundMailServer {
    fn new(host: &str, port: u16, security: ServerSecurity, evidence: String) -> Self {
        let host = host.to_owned();
        let address = ServerAddress::Imap { host: host.clone(), port, security };
        Self { host, address, username: None, evidence }
    }
}

/// Returns the URL of the session at the server of a service record.
fn record_url(record: &ServiceRecord) -> Option<Url> {
    let ServiceRecord { host, port } = record;
    jmap_session_url(&format!("{host}:{port}"))
}

/// Returns a host, with a remark if it is outside of the domain of the address. A forged answer
/// would name such a host, and a person has to judge it.
fn described_host(host: &str, address: &MailAddress) -> String {
    let domain = address.domain();
    let host = sanitize_line(host);
    if is_in_domain(&host, domain) { host } else { format!("{host}, which is outside of {domain}") }
}
