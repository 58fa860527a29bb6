//! Calls of `systemctl` and `loginctl`.

use std::io;
use std::process::{Command, Stdio};

use cynosure_engine::sanitize_lines;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::systemd::ManagerScope;

/// Service manager, called through `systemctl`.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemctlClient {
    scope: ManagerScope,
}

impl SystemctlClient {
    #[must_use]
    pub(super) fn new(scope: ManagerScope) -> Self {
        Self { scope }
    }

    /// Checks that there is a service manager.
    ///
    /// # Errors
    /// A message with advice.
    pub(super) fn check_available(self) -> Result<(), ProgramError> {
        let advice = match self.scope {
            ManagerScope::System => {
                "this command needs systemd as the init process; without it, start `cynosure run` \
                 and `cynosure monitor` the way other services are started here"
            }
            ManagerScope::User => {
                "this command needs the service manager of your user: log in as that user, not \
                 with su or sudo, or run it as root, which installs units of the system"
            }
        };
        let reason = match self.run(&["show", "--property=Version", "--value"]) {
            // In a chroot every call succeeds and does nothing.
            Ok(version) if version.trim().is_empty() => {
                "`systemctl` reaches no service manager".to_owned()
            }
            Ok(_) => return Ok(()),
            Err(error) => error.message(),
        };
        Err(ProgramError::new(ProgramExit::Other, format!("{reason}; {advice}")))
    }

    /// Runs one command of `systemctl`, and returns its standard output. It limits its waits by
    /// itself: for a response of the service manager, and for a start or a stop to the time limit
    /// of the unit.
    ///
    /// # Errors
    /// A message with the error of `systemctl`.
    pub(super) fn run(self, args: &[&str]) -> Result<String, ProgramError> {
        let scope: &[&str] = match self.scope {
            ManagerScope::System => &[],
            ManagerScope::User => &["--user"],
        };
        run_program("systemctl", &[scope, args].concat())
            .map_err(|message| ProgramError::new(ProgramExit::Other, message))
    }

    /// Returns the active state of a unit, such as `active` or `failed`.
    ///
    /// # Errors
    /// A message with the error of `systemctl`.
    pub(super) fn active_state(self, unit: &str) -> Result<String, ProgramError> {
        let output = self.run(&["show", "--property=ActiveState", "--value", unit])?;
        Ok(sanitize_lines(&output).concat())
    }

    /// Returns the option of `systemctl` and `journalctl` for this service manager, with a space
    /// behind it; nothing for that of the system.
    #[must_use]
    pub(super) fn option_text(self) -> &'static str {
        match self.scope {
            ManagerScope::System => "",
            ManagerScope::User => "--user ",
        }
    }
}

/// Runs a program to its end, and returns its standard output. The error is one sentence with what
/// it wrote to standard error.
pub(super) fn run_program(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            format!("the program `{program}` is not installed")
        } else {
            format!("cannot run `{program}`: {error}")
        }
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = sanitize_lines(String::from_utf8_lossy(&output.stderr).trim()).join(" ");
    let reason = if stderr.is_empty() { output.status.to_string() } else { stderr };
    Err(format!("`{}` failed: {reason}", [&[program][..], args].concat().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_or_the_error_of_a_program_is_returned() {
        assert_eq!(run_program("echo", &["a", "b c"]).as_deref(), Ok("a b c\n"));
        assert_eq!(
            run_program("sh", &["-c", "printf 'one\\ntwo \\033[1m' >&2; exit 1"]),
            Err(concat!(
                "`sh -c printf 'one\\ntwo \\033[1m' >&2; exit 1` failed: ",
                "one two \\u{1b}[1m"
            )
            .to_owned())
        );
        assert_eq!(
            run_program("no-such-program-of-cynosure", &[]),
            Err("the program `no-such-program-of-cynosure` is not installed".to_owned())
        );
    }

    #[test]
    fn a_failure_without_text_has_its_exit_status() {
        let error = run_program("false", &[]).unwrap_err();

        assert_eq!(error, "`false` failed: exit status: 1");
    }
}
