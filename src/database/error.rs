//! Errors of the database, and what follows from an answer of its servers.

use std::error::Error;
use std::{fmt, io};

use tokio_postgres::error::{DbError, Severity};

/// SQLSTATE codes of a failed login that passes only when a person changes something, each with the
/// problem and the remedy.
const LOGIN_REFUSALS: [(&str, &str, &str); 3] = [
    ("28P01", "the password is wrong", "check user and password in its URL"),
    ("28000", "the login is not allowed", "check the user in its URL and pg_hba.conf"),
    ("3D000", "the database does not exist", "create it, or check its name in the URL"),
];

/// SQLSTATE codes of a statement that succeeds when it is repeated: a serialization failure, a
/// deadlock, a lock that another session had for too long, and too many connections.
const REPEATABLE_STATES: [&str; 4] = ["40001", "40P01", "55P03", "53300"];

/// SQLSTATE codes after which the connection is of no more use: a server that shuts down, has
/// crashed or is starting, one that has become a standby, and a transaction that a script left
/// open.
const LOST_CONNECTION_STATES: [&str; 5] = ["57P01", "57P02", "57P03", "25006", "25P02"];

/// Class of the SQLSTATE codes of a broken connection.
const CONNECTION_CLASS: &str = "08";

/// Error of a call to the database.
///
/// [`Refused`](Self::Refused), [`NotSupported`](Self::NotSupported) and
/// [`NotStarted`](Self::NotStarted) stay until a person changes something, so a call ends with them
/// at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DatabaseError {
    /// No primary server was reached, or none answered, until the call gave up. The statement may
    /// have been carried out.
    Unreachable { database: String, reason: String },
    /// Every host refuses the connection: a wrong password, a missing database, or a certificate
    /// that is not trusted.
    Refused { database: String, reason: String },
    /// The server is too old.
    NotSupported { database: String, reason: String },
    /// The server refused the statement.
    Statement { sql_state: String, message: String },
    /// The answer does not have the expected form, or the parameters do not fit the statement.
    Unexpected { message: String },
    /// The connection cannot be set up on this host: the thread or the trusted certificates.
    NotStarted { reason: String },
    /// The thread of the connection has ended.
    Stopped,
}

impl DatabaseError {
    /// Returns the error of an answer that the program cannot read.
    #[must_use]
    pub fn unexpected(message: String) -> Self {
        Self::Unexpected { message }
    }

    /// Returns the SQLSTATE code of a refused statement.
    #[must_use]
    pub fn sql_state(&self) -> Option<&str> {
        match self {
            Self::Statement { sql_state, .. } => Some(sql_state),
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::NotSupported { .. }
            | Self::Unexpected { .. }
            | Self::NotStarted { .. }
            | Self::Stopped => None,
        }
    }

    /// Returns the message of the server about a refused statement; empty for other errors.
    #[must_use]
    pub fn statement_message(&self) -> &str {
        match self {
            Self::Statement { message, .. } => message,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::NotSupported { .. }
            | Self::Unexpected { .. }
            | Self::NotStarted { .. }
            | Self::Stopped => "",
        }
    }

    /// True if another attempt fails in the same way until a person changes something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::NotSupported { .. }
            | Self::NotStarted { .. }
            | Self::Stopped => true,
            Self::Unreachable { .. } | Self::Statement { .. } | Self::Unexpected { .. } => false,
        }
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { database, reason } => write!(
                f,
                "the database {database} cannot be reached; check its servers and the network: \
                 {reason}"
            ),
            Self::Refused { database, reason } => {
                write!(f, "the database {database} refuses the connection: {reason}")
            }
            Self::NotSupported { database, reason } => {
                write!(f, "the database {database} cannot be used: {reason}")
            }
            Self::Statement { sql_state, message } => write!(
                f,
                "the database refused a statement: {message} (SQLSTATE {sql_state}); check the log \
                 of its server"
            ),
            Self::Unexpected { message } => {
                write!(f, "the database returned an unexpected answer: {message}")
            }
            Self::NotStarted { reason } => {
                write!(f, "cannot set up the connection to the database: {reason}")
            }
            Self::Stopped => {
                f.write_str("the connection to the database has stopped; restart the program")
            }
        }
    }
}

impl Error for DatabaseError {}

/// Reason why a host is not used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HostFailure {
    pub(super) reason: String,
    /// True if it stays until a person changes something.
    pub(super) is_permanent: bool,
}

impl HostFailure {
    /// Returns a reason that passes by itself, such as a host that is down.
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_permanent: false }
    }

    /// Returns the reason of a connection that was not established.
    pub(super) fn of_connect(error: &tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            return login_failure(answer.code().code(), answer.message());
        }
        if error_chain(error).any(is_untrusted_certificate) {
            let reason = format!(
                "the certificate is not trusted: {}; check the name of the host and sslrootcert",
                root_cause(error)
            );
            return Self { reason, is_permanent: true };
        }
        // The rest without an I/O error are decisions of the client, such as a missing password or
        // a server without TLS.
        let is_decision = !error.is_closed()
            && error.source().is_some()
            && !error_chain(error).any(|link| link.is::<io::Error>());
        Self { reason: root_cause(error), is_permanent: is_decision }
    }
}

fn login_failure(sql_state: &str, message: &str) -> HostFailure {
    match LOGIN_REFUSALS.iter().find(|(state, ..)| *state == sql_state) {
        Some((_, problem, remedy)) => HostFailure {
            reason: format!("{problem}: {message} (SQLSTATE {sql_state}); {remedy}"),
            is_permanent: true,
        },
        None => HostFailure::passing(format!("{message} (SQLSTATE {sql_state})")),
    }
}

/// Consequence of a failed statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum StatementFailure {
    /// It may succeed when it is sent again.
    Repeat(DatabaseError),
    /// The connection is of no more use. The reason is for people.
    LostConnection(String),
    /// It fails in the same way again.
    Final(DatabaseError),
}

impl StatementFailure {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        if let Some(answer) = error.as_db_error() {
            return Self::of_answer(answer);
        }
        // Bytes that cannot be sent, such as a parameter that is too large.
        let is_invalid_input = |link: &(dyn Error + 'static)| {
            link.downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::InvalidInput)
        };
        let is_io = error_chain(error).any(|link| link.is::<io::Error>())
            && !error_chain(error).any(is_invalid_input);
        if error.is_closed() || is_io {
            return Self::LostConnection(root_cause(error));
        }
        Self::Final(DatabaseError::unexpected(format!("{error}: {}", root_cause(error))))
    }

    fn of_answer(answer: &DbError) -> Self {
        let is_fatal = matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        Self::of_state(answer.code().code(), answer.message(), is_fatal)
    }

    /// `is_fatal` is true if the server has ended the connection.
    fn of_state(sql_state: &str, message: &str, is_fatal: bool) -> Self {
        if is_fatal
            || sql_state.starts_with(CONNECTION_CLASS)
            || LOST_CONNECTION_STATES.contains(&sql_state)
        {
            return Self::LostConnection(format!("{message} (SQLSTATE {sql_state})"));
        }
        let error = DatabaseError::Statement {
            sql_state: sql_state.to_owned(),
            message: message.to_owned(),
        };
        if REPEATABLE_STATES.contains(&sql_state) {
            Self::Repeat(error)
        } else {
            Self::Final(error)
        }
    }
}

/// Returns the innermost message: the outer ones only say that an inner operation failed.
fn root_cause(error: &tokio_postgres::Error) -> String {
    error_chain(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Returns the error and all its sources. `source` of an I/O error skips the error that it wraps.
fn error_chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&link| {
        let wrapped = link.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => link.source(),
        }
    })
}

fn is_untrusted_certificate(link: &(dyn Error + 'static)) -> bool {
    matches!(link.downcast_ref::<rustls::Error>(), Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_stays_and_says_the_remedy() {
        let password = login_failure("28P01", "password authentication failed for user \"u\"");
        assert!(password.is_permanent);
        assert_eq!(
            password.reason,
            "the password is wrong: password authentication failed for user \"u\" (SQLSTATE \
             28P01); check user and password in its URL"
        );
        assert!(login_failure("3D000", "database \"x\" does not exist").is_permanent);
        assert!(login_failure("28000", "no pg_hba.conf entry").is_permanent);
        assert_eq!(
            login_failure("57P03", "the database system is starting up"),
            HostFailure::passing("the database system is starting up (SQLSTATE 57P03)")
        );
    }

    #[test]
    fn each_state_of_a_statement_has_its_consequence() {
        for state in ["40001", "40P01", "55P03", "53300"] {
            let failure = StatementFailure::of_state(state, "m", false);
            assert!(matches!(failure, StatementFailure::Repeat(_)), "{state}");
        }
        for state in ["57P01", "57P02", "57P03", "25006", "25P02", "08006"] {
            let failure = StatementFailure::of_state(state, "m", false);
            assert_eq!(failure, StatementFailure::LostConnection(format!("m (SQLSTATE {state})")));
        }
        for state in ["CY001", "CY002", "CY003", "23505", "42601", "57014"] {
            let failure = StatementFailure::of_state(state, "m", false);
            assert!(matches!(failure, StatementFailure::Final(_)), "{state}");
        }
        let ended = StatementFailure::of_state("25P03", "idle in transaction", true);
        assert!(matches!(ended, StatementFailure::LostConnection(_)));
    }

    #[test]
    fn only_a_refused_statement_has_a_state() {
        let error = DatabaseError::Statement {
            sql_state: "CY002".to_owned(),
            message: "a row was changed".to_owned(),
        };
        assert_eq!(error.sql_state(), Some("CY002"));
        assert_eq!(error.statement_message(), "a row was changed");
        assert_eq!(DatabaseError::Stopped.sql_state(), None);
        assert_eq!(DatabaseError::unexpected("no row".to_owned()).statement_message(), "");
    }
}
