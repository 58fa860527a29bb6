//! Settings of the database, read from its URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cynosure_engine::is_loopback_host;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode};

/// Prefixes of the URL.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Port of a host without one.
const DEFAULT_PORT: u16 = 5432;

/// Maximum number of hosts. All are asked at once.
const HOSTS_MAX: usize = 16;

/// Time for a host to accept a connection and to tell its role. `connect_timeout` replaces it.
const HOST_WAIT_DEFAULT: Duration = Duration::from_secs(2);

/// Longest `connect_timeout`. A dial waits for the slowest host, and a call for the dial.
const HOST_WAIT_MAX: Duration = Duration::from_secs(15);

/// Name by which the server shows the connections of this program.
const APPLICATION_NAME: &str = "cynosure";

/// Settings of each session. A statement waits a short time for a lock, and no transaction waits
/// for a client that has gone.
const SESSION_OPTIONS: &str = "-c lock_timeout=3s -c idle_in_transaction_session_timeout=5s \
     -c plan_cache_mode=force_custom_plan -c jit=off";

/// Idle time after which the system tests whether the server is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);

/// Longest time for which sent bytes are not acknowledged.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// Place and login of a database. The password is never shown.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    hosts: Vec<DatabaseHost>,
    user: String,
    password: Option<SecretString>,
    database: String,
    session: SessionParameters,
    root_certificates: Option<PathBuf>,
    host_wait_max: Duration,
}

/// Facts about itself that a connection sends to the server.
#[derive(Clone, Debug)]
struct SessionParameters {
    application_name: String,
    options: String,
    channel_binding: ChannelBinding,
}

/// Server of a database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DatabaseHost {
    address: Host,
    port: u16,
    tls: TlsRequirement,
}

/// Use of TLS. The certificate and its name are always verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TlsRequirement {
    Never,
    IfSupported,
    Always,
}

/// Parameters of the URL that the library of the protocol does not read.
#[derive(Debug, Default)]
struct OwnParameters {
    tls: Option<TlsRequirement>,
    root_certificates: Option<PathBuf>,
}

impl DatabaseSettings {
    /// Reads a URL:
    /// `postgres://user[:password]@host[:port][,host[:port]…]/name[?parameter=value&…]`.
    ///
    /// Parameters are `sslmode`, `sslrootcert`, `connect_timeout` in seconds, `application_name`,
    /// `channel_binding`, `options`, `host` and `port`. `target_session_attrs` is accepted and has
    /// no effect, because the primary is always found. The `sslmode` is `verify-full` unless the
    /// host is this machine.
    ///
    /// # Errors
    /// One sentence about the problem. It does not quote the URL, which may contain a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (base, query) = split_query(url)?;
        let (own, query) = read_query(query)?;
        let config = format!("{base}{query}");
        let config = config.parse::<Config>().map_err(|error| invalid(&error))?;
        let user = config.get_user().filter(|user| !user.is_empty());
        let user = user.ok_or("the URL of the database names no user")?;
        let database = config
            .get_dbname()
            .ok_or("the URL of the database names no database: write postgres://user@host/name")?;
        let password = config.get_password().map(|password| {
            let password = str::from_utf8(password).map(SecretString::from);
            password.map_err(|_invalid| "the password in the URL of the database is not UTF-8")
        });
        let options = config.get_options().map(|options| format!("{SESSION_OPTIONS} {options}"));
        Ok(Self {
            hosts: hosts(&config, own.tls)?,
            user: user.to_owned(),
            password: password.transpose()?,
            database: database.to_owned(),
            session: SessionParameters {
                application_name: config
                    .get_application_name()
                    .unwrap_or(APPLICATION_NAME)
                    .to_owned(),
                options: options.unwrap_or_else(|| SESSION_OPTIONS.to_owned()),
                channel_binding: config.get_channel_binding(),
            },
            root_certificates: own.root_certificates,
            host_wait_max: host_wait_max(&config)?,
        })
    }

    /// Returns the hosts and the name of the database, for messages.
    pub(super) fn name(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        format!("{}/{}", hosts.join(","), self.database)
    }

    pub(super) fn hosts(&self) -> &[DatabaseHost] {
        &self.hosts
    }

    /// Returns the PEM file with the trusted certificates; `None` for those of the system.
    pub(super) fn root_certificates(&self) -> Option<&Path> {
        self.root_certificates.as_deref()
    }

    /// Returns the time for a host to accept a connection and to tell its role.
    pub(super) fn host_wait_max(&self) -> Duration {
        self.host_wait_max
    }

    /// Returns the configuration of a connection to one host.
    pub(super) fn connection_config(&self, host: &DatabaseHost) -> Config {
        let mut config = Config::new();
        match &host.address {
            Host::Tcp(name) => config.host(name),
            Host::Unix(path) => config.host_path(path),
        };
        config
            .port(host.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name(&self.session.application_name)
            .options(&self.session.options)
            .channel_binding(self.session.channel_binding)
            .ssl_mode(host.tls.ssl_mode())
            .keepalives_idle(KEEPALIVE_IDLE)
            .tcp_user_timeout(UNACKNOWLEDGED_MAX)
            // A name may have several addresses, and the first may not answer.
            .connect_timeout(self.host_wait_max / 2);
        if let Some(password) = &self.password {
            config.password(password.expose_secret());
        }
        config
    }

    #[cfg(test)]
    pub(super) fn with_host_wait_max(self, host_wait_max: Duration) -> Self {
        Self { host_wait_max, ..self }
    }
}

impl DatabaseHost {
    /// True if the host may be asked for TLS.
    pub(super) fn may_use_tls(&self) -> bool {
        self.tls != TlsRequirement::Never
    }
}

impl fmt::Display for DatabaseHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Host::Tcp(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp(name) => write!(f, "{name}:{}", self.port),
            Host::Unix(path) => write!(f, "{}:{}", path.display(), self.port),
        }
    }
}

impl TlsRequirement {
    /// Reads an `sslmode` of libpq. Modes that verify less there verify everything here.
    fn parse(mode: &str) -> Result<Self, String> {
        match mode {
            "disable" => Ok(Self::Never),
            "prefer" => Ok(Self::IfSupported),
            "require" | "verify-ca" | "verify-full" => Ok(Self::Always),
            _ => Err("the sslmode in the URL of the database is unknown: use disable, prefer, \
                      require, verify-ca or verify-full"
                .to_owned()),
        }
    }

    fn ssl_mode(self) -> SslMode {
        match self {
            Self::Never => SslMode::Disable,
            Self::IfSupported => SslMode::Prefer,
            Self::Always => SslMode::Require,
        }
    }
}

/// Splits a URL before the question mark. One in the password is part of the password.
fn split_query(url: &str) -> Result<(&str, &str), String> {
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Err("the URL of the database must begin with postgres://".to_owned());
    }
    let no_user = "the URL of the database names no user: write postgres://user@host/name";
    let (login, rest) = url.split_once('@').ok_or(no_user)?;
    let login = login.split_once("://").map_or(login, |(_, login)| login);
    if login.split(':').next().is_some_and(|user| user.contains(['/', '?'])) {
        return Err(no_user.to_owned());
    }
    // The part after the first one may be the end of the password, so it is not quoted.
    if rest.contains('@') {
        return Err("the URL of the database has two @: write all but the one before the host as \
                    %40"
        .to_owned());
    }
    let query_start = rest.find('?').unwrap_or(rest.len());
    Ok(url.split_at(url.len() - rest.len() + query_start))
}

/// Returns the parameters that the library does not read, and the query without them.
fn read_query(query: &str) -> Result<(OwnParameters, String), String> {
    let mut own = OwnParameters::default();
    let mut kept = String::new();
    for pair in query.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or("a parameter in the URL of the database has no value: write name=value")?;
        match key {
            "sslmode" => own.tls = Some(TlsRequirement::parse(&decode(key, value)?)?),
            "sslrootcert" => {
                let path = decode(key, value)?;
                own.root_certificates = (path != "system").then(|| PathBuf::from(path));
            }
            "target_session_attrs" => {}
            "application_name" | "channel_binding" | "connect_timeout" | "host" | "options"
            | "port" => {
                kept.push(if kept.is_empty() { '?' } else { '&' });
                kept.push_str(pair);
            }
            "user" | "password" => {
                return Err(format!(
                    "the {key} belongs before the host: write postgres://user:password@host/name"
                ));
            }
            _ => {
                return Err(format!(
                    "the parameter {key} in the URL of the database is unknown: use sslmode, \
                     sslrootcert, connect_timeout, application_name, channel_binding, options, \
                     host or port"
                ));
            }
        }
    }
    Ok((own, kept))
}

fn decode(key: &str, value: &str) -> Result<String, String> {
    let decoded = percent_decode_str(value).decode_utf8();
    let decoded =
        decoded.map_err(|_invalid| format!("the {key} in the URL of the database is not UTF-8"))?;
    Ok(decoded.into_owned())
}

fn invalid(error: &tokio_postgres::Error) -> String {
    let reason = std::error::Error::source(error).unwrap_or(error);
    format!("the URL of the database is not valid: {reason}")
}

fn hosts(config: &Config, tls: Option<TlsRequirement>) -> Result<Vec<DatabaseHost>, String> {
    let addresses = config.get_hosts();
    let is_empty = |host: &Host| matches!(host, Host::Tcp(name) if name.is_empty());
    if addresses.is_empty() || addresses.iter().any(is_empty) {
        return Err("the URL of the database names no host, or an empty one".to_owned());
    }
    if addresses.len() > HOSTS_MAX {
        return Err(format!("the URL of the database names more than {HOSTS_MAX} hosts"));
    }
    let ports = config.get_ports();
    if ports.len() > 1 && ports.len() != addresses.len() {
        return Err("the URL of the database must name one port, or one for each host".to_owned());
    }
    let port =
        |index: usize| ports.get(index).or_else(|| ports.first()).copied().unwrap_or(DEFAULT_PORT);
    let hosts = addresses.iter().enumerate().map(|(index, address)| DatabaseHost {
        address: address.clone(),
        port: port(index),
        tls: tls_requirement(address, tls),
    });
    Ok(hosts.collect())
}

fn tls_requirement(address: &Host, chosen: Option<TlsRequirement>) -> TlsRequirement {
    match address {
        // PostgreSQL has no TLS on these sockets.
        Host::Unix(_) => TlsRequirement::Never,
        Host::Tcp(name) if is_loopback_host(name) => chosen.unwrap_or(TlsRequirement::Never),
        Host::Tcp(_) => chosen.unwrap_or(TlsRequirement::Always),
    }
}

fn host_wait_max(config: &Config) -> Result<Duration, String> {
    let wait = config.get_connect_timeout().copied().unwrap_or(HOST_WAIT_DEFAULT);
    if wait > HOST_WAIT_MAX {
        return Err(format!(
            "the connect_timeout in the URL of the database must be at most {} seconds",
            HOST_WAIT_MAX.as_secs()
        ));
    }
    Ok(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> DatabaseSettings {
        DatabaseSettings::parse(url).unwrap_or_else(|problem| panic!("{url}: {problem}"))
    }

    #[test]
    fn a_url_names_hosts_user_and_database() {
        let settings = parse("postgres://me:p%40ss@db1:6432,db2,[2001:db8::1]:7/mail");

        assert_eq!(settings.name(), "db1:6432,db2:5432,[2001:db8::1]:7/mail");
        assert_eq!(settings.host_wait_max(), HOST_WAIT_DEFAULT);
        let config = settings.connection_config(&settings.hosts()[1]);
        assert_eq!(config.get_hosts(), [Host::Tcp("db2".to_owned())]);
        assert_eq!(config.get_ports(), [5432]);
        assert_eq!(config.get_user(), Some("me"));
        assert_eq!(config.get_password(), Some(&b"p@ss"[..]));
        assert_eq!(config.get_dbname(), Some("mail"));
        assert_eq!(config.get_application_name(), Some("cynosure"));
        assert_eq!(config.get_options(), Some(SESSION_OPTIONS));
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn parameters_are_read() {
        let settings = parse(
            "postgresql://me@db/mail?sslmode=prefer&sslrootcert=%2Fetc%2Fca.pem&connect_timeout=5\
             &application_name=w%2D1&target_session_attrs=read-write&options=-c%20jit%3Doff",
        );

        assert_eq!(settings.root_certificates(), Some(Path::new("/etc/ca.pem")));
        assert_eq!(settings.host_wait_max(), Duration::from_secs(5));
        let config = settings.connection_config(&settings.hosts()[0]);
        assert_eq!(config.get_application_name(), Some("w-1"));
        assert_eq!(config.get_options(), Some(&*format!("{SESSION_OPTIONS} -c jit=off")));
        assert_eq!(config.get_ssl_mode(), SslMode::Prefer);
        let system = parse("postgres://me@db/mail?sslrootcert=system");
        assert_eq!(system.root_certificates(), None);
    }

    #[test]
    fn only_this_machine_is_reached_without_tls_by_default() {
        let tls = |url: &str| parse(url).hosts().iter().map(|host| host.tls).collect::<Vec<_>>();

        assert_eq!(
            tls("postgres://me@127.0.0.1,localhost,[::1],%2Frun%2Fpostgresql,db/mail"),
            [
                TlsRequirement::Never,
                TlsRequirement::Never,
                TlsRequirement::Never,
                TlsRequirement::Never,
                TlsRequirement::Always
            ]
        );
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://me@localhost,%2Frun/mail?sslmode={mode}");
            assert_eq!(tls(&url), [TlsRequirement::Always, TlsRequirement::Never]);
        }
        assert_eq!(tls("postgres://me@db/mail?sslmode=disable"), [TlsRequirement::Never]);
    }

    #[test]
    fn each_wrong_url_has_its_sentence() {
        for (url, problem) in [
            ("mysql://me@db/mail", "must begin with postgres://"),
            ("", "must begin with postgres://"),
            ("postgres://db/mail", "names no user"),
            ("postgres://@db/mail", "names no user"),
            ("postgres://db/mail?application_name=a@b", "names no user"),
            ("postgres://me:pa@ss@db/mail", "two @"),
            ("postgres://me@db", "names no database"),
            ("postgres://me@db/", "names no database"),
            ("postgres://me@/mail", "names no host"),
            ("postgres://me@db1,,db2/mail", "names no host, or an empty one"),
            ("postgres://me@db:port/mail", "is not valid: invalid value for option `port`"),
            ("postgres://me@db1,db2,db3/mail?port=1", "one port, or one for each host"),
            ("postgres://me:%ff@db/mail", "password in the URL of the database is not UTF-8"),
            (
                "postgres://me@db/mail?sslmode=allow",
                "sslmode in the URL of the database is unknown",
            ),
            ("postgres://me@db/mail?sslmode", "has no value"),
            ("postgres://me@db/mail?sslrootcert=%ff", "the sslrootcert in the URL"),
            ("postgres://me@db/mail?connect_timeout=x", "is not valid"),
            ("postgres://me@db/mail?connect_timeout=60", "at most 15 seconds"),
            ("postgres://me@db/mail?channel_binding=maybe", "is not valid"),
            ("postgres://me@db/mail?password=secret", "the password belongs before the host"),
            ("postgres://me@db/mail?colour=red", "the parameter colour"),
        ] {
            let error = DatabaseSettings::parse(url).unwrap_err();
            assert!(error.contains(problem), "{url}: {error}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        let settings = parse("postgres://me:s3cret@db/mail");
        let config = settings.connection_config(&settings.hosts()[0]);

        assert!(!format!("{settings:?} {config:?}").contains("s3cret"));
        let problem = DatabaseSettings::parse("postgres://me:s3@cret@db/mail").unwrap_err();
        assert!(!problem.contains("cret"), "{problem}");
    }
}
