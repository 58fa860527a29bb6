//! Search for the primary among the hosts of a database.
//!
//! All hosts are asked at once, and the primary with the highest timeline wins. PostgreSQL starts a
//! new timeline whenever a standby becomes the primary, so an outdated primary has a lower one.
//!
//! The first host that accepts writes may be such a primary. A server that was frozen, and replaced
//! meanwhile, accepts connections again as soon as it runs, until its failover manager stops it.
//! Each commit there waits for standbys that have left. Clients that took the first such host stood
//! still for as long as it lived, 60 s and 66 s in two runs. Clients that compared the timelines did
//! not.

use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

use cynosure_engine::format_duration;
use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_postgres::{Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::info;

use super::error::{DatabaseError, HostFailure};
use super::open_connection::OpenConnection;
use super::settings::DatabaseSettings;
use super::tls::tls_connector;

/// Role, timeline and version of a server. The first 8 digits of the name of a WAL file are the
/// timeline, in hexadecimal.
const SELECT_ROLE: &str = "SELECT pg_is_in_recovery(), \
     CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END, \
     current_setting('server_version_num')::INT";

/// Oldest version of PostgreSQL whose features suffice, as `server_version_num` has it.
const VERSION_MIN: i32 = 150_000;

/// Number of digits of a timeline in the name of a WAL file.
const TIMELINE_DIGITS: usize = 8;

/// Finds the primary of a database, and remembers its timeline.
#[derive(Debug)]
pub(super) struct PrimaryFinder {
    settings: DatabaseSettings,
    /// `None` if no host uses TLS.
    tls: Option<TlsConnector>,
    /// Highest timeline of a primary that was ever seen.
    highest_timeline: u32,
}

/// Encrypts connections.
#[derive(Clone)]
struct TlsConnector(MakeRustlsConnect);

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

/// Role and version of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct ServerAnswer {
    role: ServerRole,
    version: i32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ServerRole {
    Primary { timeline: u32 },
    Standby,
}

impl PrimaryFinder {
    /// Reads the trusted certificates if a host needs them.
    ///
    /// # Errors
    /// [`DatabaseError::NotStarted`] if there are none.
    pub(super) fn new(settings: DatabaseSettings) -> Result<Self, DatabaseError> {
        let tls = if settings.hosts().iter().any(|host| host.may_use_tls()) {
            let connector = tls_connector(settings.root_certificates());
            Some(TlsConnector(connector.map_err(|reason| DatabaseError::NotStarted { reason })?))
        } else {
            None
        };
        Ok(Self { settings, tls, highest_timeline: 0 })
    }

    /// Connects to all hosts, and returns the connection to the primary.
    ///
    /// # Errors
    /// A permanent error if every host refuses the connection or the primary is too old.
    /// [`DatabaseError::Unreachable`] if no host is the primary now.
    pub(super) async fn connect(&mut self) -> Result<OpenConnection, DatabaseError> {
        let wait_max = self.settings.host_wait_max();
        let greetings: Vec<_> = self
            .settings
            .hosts()
            .iter()
            .map(|host| {
                let tls = self.tls.clone().filter(|_| host.may_use_tls());
                greet(self.settings.connection_config(host), tls, wait_max)
            })
            .collect();
        let mut connections = Vec::new();
        let mut answers = Vec::new();
        for greeting in join_all(greetings).await {
            let (connection, answer) = match greeting {
                Ok((connection, answer)) => (Some(connection), Ok(answer)),
                Err(failure) => (None, Err(failure)),
            };
            connections.push(connection);
            answers.push(answer);
        }
        let chosen = self.choose(&answers);
        let mut primary = None;
        for (index, connection) in connections.into_iter().enumerate() {
            match connection {
                Some(connection) if chosen == Ok(index) => primary = Some(connection),
                Some(connection) => drop(tokio::spawn(connection.close())),
                None => {}
            }
        }
        let index = chosen?;
        primary.ok_or_else(|| self.unreachable(&format!("host {index} is not connected")))
    }

    /// Returns the index of the primary among the answers of the hosts.
    fn choose(
        &mut self,
        answers: &[Result<ServerAnswer, HostFailure>],
    ) -> Result<usize, DatabaseError> {
        let Some((index, timeline, version)) = newest_primary(answers, self.highest_timeline)
        else {
            return Err(self.no_primary(answers));
        };
        let host = self.settings.hosts().get(index).map(ToString::to_string).unwrap_or_default();
        if version < VERSION_MIN {
            let reason = format!(
                "{host} runs PostgreSQL {}; version {} or newer is needed",
                version / 10_000,
                VERSION_MIN / 10_000
            );
            return Err(DatabaseError::NotSupported { database: self.settings.name(), reason });
        }
        self.highest_timeline = timeline;
        info!(host, timeline, "connected to the database");
        Ok(index)
    }

    /// Returns the error of a search without a result: each host with its reason.
    fn no_primary(&self, answers: &[Result<ServerAnswer, HostFailure>]) -> DatabaseError {
        let reasons: Vec<String> = self
            .settings
            .hosts()
            .iter()
            .zip(answers)
            .map(|(host, answer)| format!("{host}: {}", reason(answer, self.highest_timeline)))
            .collect();
        let reason = reasons.join("; ");
        // A host that is down may be the one that would accept the login.
        let is_refused =
            answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.is_permanent));
        if is_refused {
            DatabaseError::Refused { database: self.settings.name(), reason }
        } else {
            self.unreachable(&reason)
        }
    }

    fn unreachable(&self, reason: &str) -> DatabaseError {
        DatabaseError::Unreachable { database: self.settings.name(), reason: reason.to_owned() }
    }
}

/// Connects to one host and asks for its role.
async fn greet(
    config: Config,
    tls: Option<TlsConnector>,
    wait_max: Duration,
) -> Result<(OpenConnection, ServerAnswer), HostFailure> {
    let tls = tls.map(|TlsConnector(connector)| connector);
    let greeting = async {
        let connection = OpenConnection::open(&config, tls)
            .await
            .map_err(|error| HostFailure::of_connect(&error))?;
        let rows = connection.query_once(SELECT_ROLE).await;
        let rows = rows.map_err(|error| HostFailure::of_connect(&error))?;
        let answer = rows.first().and_then(read_answer);
        let answer =
            answer.ok_or_else(|| HostFailure::passing("the server does not tell its role"))?;
        Ok((connection, answer))
    };
    match timeout(wait_max, greeting).await {
        Ok(result) => result,
        Err(_elapsed) => {
            Err(HostFailure::passing(format!("no answer within {}", format_duration(wait_max))))
        }
    }
}

fn read_answer(row: &Row) -> Option<ServerAnswer> {
    let is_standby = row.try_get::<_, bool>(0).ok()?;
    let wal_file = row.try_get::<_, Option<String>>(1).ok()?;
    let version = row.try_get::<_, i32>(2).ok()?;
    let role = if is_standby {
        ServerRole::Standby
    } else {
        ServerRole::Primary { timeline: timeline(&wal_file?)? }
    };
    Some(ServerAnswer { role, version })
}

/// Returns the timeline in the name of a WAL file.
fn timeline(wal_file: &str) -> Option<u32> {
    let digits = wal_file.get(..TIMELINE_DIGITS)?;
    // The parser accepts a sign.
    let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_number)
}

/// Returns index, timeline and version of the primary with the highest timeline, the first one
/// among equals; `None` if there is none, or only older ones.
fn newest_primary(
    answers: &[Result<ServerAnswer, HostFailure>],
    highest_timeline: u32,
) -> Option<(usize, u32, i32)> {
    let primaries = answers.iter().enumerate().filter_map(|(index, answer)| match answer {
        Ok(ServerAnswer { role: ServerRole::Primary { timeline }, version }) => {
            Some((index, *timeline, *version))
        }
        Ok(ServerAnswer { role: ServerRole::Standby, .. }) | Err(_) => None,
    });
    primaries
        .filter(|(_, timeline, _)| *timeline >= highest_timeline)
        .max_by_key(|(index, timeline, _)| (*timeline, Reverse(*index)))
}

/// Returns the reason why a host is not the primary.
fn reason(answer: &Result<ServerAnswer, HostFailure>, highest_timeline: u32) -> String {
    match answer {
        Ok(ServerAnswer { role: ServerRole::Primary { timeline }, .. }) => format!(
            "an outdated primary, of timeline {timeline}, while {highest_timeline} was seen; if \
             the database was replaced, restart the program"
        ),
        Ok(ServerAnswer { role: ServerRole::Standby, .. }) => "a standby".to_owned(),
        Err(failure) => failure.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDBY: Result<ServerAnswer, HostFailure> =
        Ok(ServerAnswer { role: ServerRole::Standby, version: 160_003 });

    #[expect(clippy::unnecessary_wraps, reason = "the answer of a host")]
    fn primary(timeline: u32) -> Result<ServerAnswer, HostFailure> {
        Ok(ServerAnswer { role: ServerRole::Primary { timeline }, version: 160_003 })
    }

    fn failed(is_permanent: bool) -> Result<ServerAnswer, HostFailure> {
        Err(HostFailure { reason: "no".to_owned(), is_permanent })
    }

    fn finder() -> PrimaryFinder {
        let url = "postgres://me@127.0.0.1:1,127.0.0.1:2/mail";
        PrimaryFinder::new(DatabaseSettings::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn a_timeline_is_read_from_the_name_of_a_wal_file() {
        assert_eq!(timeline("000000010000000000000001"), Some(1));
        assert_eq!(timeline("0000001F00000002000000FF"), Some(31));
        for wrong in ["", "0000001", "+0000001", "0000000g0000", "äöüäöü"] {
            assert_eq!(timeline(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_primary_with_the_highest_timeline_wins() {
        let index = |answers: &[_], seen| newest_primary(answers, seen).map(|(index, ..)| index);

        assert_eq!(index(&[primary(3), primary(5), STANDBY], 0), Some(1));
        assert_eq!(index(&[primary(5), primary(3)], 5), Some(0));
        assert_eq!(index(&[STANDBY, primary(2), primary(2)], 0), Some(1));
        assert_eq!(index(&[failed(false), primary(4)], 4), Some(1));
        assert_eq!(index(&[primary(4), STANDBY], 5), None);
        assert_eq!(index(&[STANDBY, failed(true)], 0), None);
    }

    #[test]
    fn an_older_primary_than_the_last_one_is_refused() {
        let mut finder = finder();

        assert_eq!(finder.choose(&[STANDBY, primary(5)]), Ok(1));
        let error = finder.choose(&[primary(4), failed(false)]).unwrap_err();
        assert!(!error.is_permanent());
        let text = error.to_string();
        assert!(text.contains("127.0.0.1:1: an outdated primary, of timeline 4"), "{text}");
        assert!(text.contains("; 127.0.0.1:2: no"), "{text}");
        assert_eq!(finder.choose(&[primary(6), STANDBY]), Ok(0));
    }

    #[test]
    fn an_error_is_permanent_if_every_host_refuses() {
        let mut finder = finder();
        let mut is_permanent = |answers: &[_]| finder.choose(answers).unwrap_err().is_permanent();

        assert!(is_permanent(&[failed(true), failed(true)]));
        assert!(!is_permanent(&[failed(true), failed(false)]));
        assert!(!is_permanent(&[failed(true), STANDBY]));
    }

    #[test]
    fn an_old_server_is_not_used() {
        let role = ServerRole::Primary { timeline: 1 };
        let old = Ok(ServerAnswer { role, version: 140_011 });

        let error = finder().choose(&[STANDBY, old]).unwrap_err();
        assert!(error.is_permanent());
        assert!(
            error.to_string().contains("127.0.0.1:2 runs PostgreSQL 14; version 15"),
            "{error}"
        );
    }
}
