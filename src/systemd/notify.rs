//! Notifications to the service manager, as datagrams over the socket in `NOTIFY_SOCKET`
//! (sd_notify(3)).
//!
//! The crate sd-notify sends the same datagrams, but without a time limit: a service manager that
//! does not read would stop the work.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cynosure_engine::sanitize_line;
use tracing::{debug, warn};

/// Maximum duration of one notification, because a service manager that does not read must not
/// delay the work.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum length of a status, in characters: one line of `systemctl status`.
const STATUS_CHARS_MAX: usize = 500;

/// State sent to the service manager.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotifyState<'a> {
    /// The start or the reload is complete.
    Ready,
    /// Status text for `systemctl status`.
    Status(&'a str),
    /// The configuration is being reloaded since this uptime of the machine.
    Reloading {
        uptime: Duration,
    },
    Stopping,
    /// Keep-alive for the watchdog.
    Watchdog,
    /// The start or the stop needs this much more time, counted from now.
    ExtendTimeout(Duration),
}

/// Client of the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    has_warned: AtomicBool,
}

impl Notifier {
    /// Opens the socket named by the value of `NOTIFY_SOCKET`. Without a valid socket, all
    /// notifications are discarded.
    #[must_use]
    pub fn new(socket: Option<&OsStr>) -> Self {
        let socket = match socket.filter(|name| !name.is_empty()).map(open_socket).transpose() {
            Ok(socket) => socket,
            Err(error) => {
                warn!(%error, "cannot use NOTIFY_SOCKET; systemd is not notified");
                None
            }
        };
        if socket.is_none() {
            debug!("no service manager to notify");
        }
        Self { socket, has_warned: AtomicBool::new(false) }
    }

    /// True if there is a service manager to notify.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Sends all states in one datagram. A failure is only logged, the first time as a warning.
    pub fn notify(&self, states: &[NotifyState<'_>]) {
        let Some((socket, address)) = &self.socket else { return };
        let message = states.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let Err(error) = socket.send_to_addr(message.as_bytes(), address) else { return };
        if self.has_warned.swap(true, Ordering::Relaxed) {
            debug!(%error, "cannot notify systemd");
        } else {
            warn!(%error, "cannot notify systemd");
        }
    }
}

impl fmt::Display for NotifyState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            Self::Status(text) => {
                let line: String = sanitize_line(text).chars().take(STATUS_CHARS_MAX).collect();
                write!(f, "STATUS={line}")
            }
            Self::Reloading { uptime } => {
                write!(f, "RELOADING=1\nMONOTONIC_USEC={}", uptime.as_micros())
            }
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Watchdog => f.write_str("WATCHDOG=1"),
            Self::ExtendTimeout(by) => write!(f, "EXTEND_TIMEOUT_USEC={}", by.as_micros()),
        }
    }
}

/// Returns the maximum interval between two keep-alives, from the values of `WATCHDOG_USEC` and
/// `WATCHDOG_PID` (sd_watchdog_enabled(3)); `None` if none are expected of process `pid`.
#[must_use]
pub fn watchdog_interval(
    usec: Option<&OsStr>,
    watchdog_pid: Option<&OsStr>,
    pid: u32,
) -> Option<Duration> {
    let number = |value: &OsStr| value.to_str()?.parse::<u64>().ok();
    if watchdog_pid.is_some_and(|value| number(value) != Some(u64::from(pid))) {
        return None;
    }
    usec.and_then(number).filter(|usec| *usec > 0).map(Duration::from_micros)
}

fn open_socket(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            let message = format!("{} is neither a path nor an abstract name", name.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn notifications_reach_path_and_abstract_sockets() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notify");
        let name = format!("@{}", path.display());
        let abstract_name = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (name.into(), UnixDatagram::bind_addr(&abstract_name).unwrap()),
        ];
        for (name, socket) in sockets {
            Notifier::new(Some(&name))
                .notify(&[NotifyState::Ready, NotifyState::Status("all\nis well")]);

            assert_eq!(receive(&socket), "READY=1\nSTATUS=all\\u{a}is well", "{name:?}");
        }
    }

    #[test]
    fn an_absent_invalid_or_full_socket_does_not_block() {
        let home = tempfile::tempdir().unwrap();
        let full = home.path().join("full");
        let _unread_socket = UnixDatagram::bind(&full).unwrap();
        for name in [None, Some(""), Some("notify"), Some("/nowhere/notify")] {
            Notifier::new(name.map(OsStr::new)).notify(&[NotifyState::Watchdog]);
        }

        // The socket queues some hundred datagrams at most; after that, each send would block
        // forever.
        let notifier = Notifier::new(Some(full.as_os_str()));
        if let Some((socket, _)) = &notifier.socket {
            socket.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        }
        for _ in 0..1000 {
            notifier.notify(&[NotifyState::Watchdog]);
        }
        assert!(notifier.has_warned.load(Ordering::Relaxed));
    }

    #[test]
    fn the_watchdog_applies_only_to_its_process() {
        let interval = |usec: &str, watchdog_pid: Option<&str>| {
            watchdog_interval(Some(usec.as_ref()), watchdog_pid.map(OsStr::new), 4711)
        };

        assert_eq!(interval("30000000", None), Some(Duration::from_secs(30)));
        assert_eq!(interval("30000000", Some("4711")), Some(Duration::from_secs(30)));
        assert_eq!(interval("30000000", Some("4712")), None);
        assert_eq!(interval("30000000", Some("self")), None);
        assert_eq!([interval("0", None), interval("soon", None)], [None, None]);
        assert_eq!(watchdog_interval(None, None, 4711), None);
    }

    #[test]
    fn each_state_is_written_as_sd_notify_expects() {
        let states = [
            NotifyState::Reloading { uptime: Duration::from_secs(2) },
            NotifyState::Stopping,
            NotifyState::Watchdog,
            NotifyState::ExtendTimeout(Duration::from_secs(60)),
        ];

        let text = states.map(|state| state.to_string()).join("; ");
        assert_eq!(
            text,
            "RELOADING=1\nMONOTONIC_USEC=2000000; STOPPING=1; WATCHDOG=1; \
             EXTEND_TIMEOUT_USEC=60000000"
        );
    }
}
