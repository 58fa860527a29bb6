//! End of `init`: what was written, the sign-in with a browser, and the next commands.

use std::path::Path;

use crate::app::context::{AppContext, ConfigLocation};
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::args::AuthArgs;
use crate::cli::commands::auth::{is_on_desktop, sign_in_and_log_in};
use crate::cli::commands::config_probe::probe_once;
use crate::cli::commands::init::InitSession;
use crate::cli::commands::init::next_steps::TypedProgram;
use crate::cli::commands::run_summary::refused_credential_remedy;
use crate::cli::print::print_best_effort;
use crate::config::SourceAuth;
use crate::onboarding::{AccessKind, NewSource};

/// Next commands after a source works.
const NEXT_STEPS: [(&str, &str); 5] = [
    ("run --once", "copy the mail that is there now"),
    ("status", "show what was copied, and what happens next"),
    ("verify", "check every file against the ledger, byte for byte"),
    ("service install", "run it as a service, which copies new mail as it arrives"),
    ("export --help", "copy the archive into the format of a mail program"),
];

/// Next commands for the configuration of the package.
const PACKAGE_STEPS: &str = "Next steps:\n  \
    systemctl enable --now cynosure cynosure-monitor  start the service\n  \
    systemctl restart cynosure                        start it again, if it runs already\n  \
    cynosure --state-dir /var/lib/cynosure status     show what was copied, and what happens next";

impl InitSession<'_> {
    /// Prints the files that were written. `archive` is `None` if the configuration existed.
    pub(super) fn print_written(
        &self,
        source: &NewSource,
        credential: Option<&Path>,
        archive: Option<&str>,
    ) {
        print_best_effort("");
        if let Some(path) = credential {
            let shown = self.target.shown.with_file_name(path.file_name().unwrap_or_default());
            print_best_effort(format!(
                "Wrote {}: the credential, which only its owner can read.",
                shown.display()
            ));
        }
        let (shown, name) = (self.target.shown.display(), &source.name);
        print_best_effort(match archive {
            Some(archive) => format!("Wrote {shown}: source {name}, with the archive {archive}."),
            None => format!("Added source {name} to {shown}."),
        });
    }

    /// Returns the next commands to try.
    #[must_use]
    pub(super) fn next_steps_text(&self) -> String {
        if self.target.is_of_package() {
            return format!("\n{PACKAGE_STEPS}");
        }
        format!("\n{}", self.typed_program().next_steps(&NEXT_STEPS))
    }

    /// Signs in to a source that was written, and tries it.
    ///
    /// # Errors
    /// If the sign-in or the try fails. The error says how to sign in again.
    pub(super) fn sign_in(&self, source: &NewSource) -> Result<ProgramExit, ProgramError> {
        let location = ConfigLocation {
            config_file: Some(self.target.path.clone()),
            state_dir: self.common.state_dir.clone(),
        };
        let context = AppContext::load(&location)?;
        let written = context.loaded.settings.find_source(&source.name)?;
        let has_device = matches!(
            &written.1.auth, SourceAuth::SignIn { client, .. } if client.device_url.is_some()
        );
        let is_local = source.kind == AccessKind::Gmail && is_on_desktop(&self.environment);
        let args = AuthArgs {
            source: source.name.clone(),
            paste: !has_device && !is_local,
            device: has_device,
            no_browser: false,
        };
        if self.target.is_of_package() {
            // The service reads the token in its own state folder.
            let form = if has_device { "--device" } else { "--paste" };
            print_best_effort(format!(
                "\nSign in for the service:\n  sudo -u cynosure cynosure --config {} --state-dir \
                 /var/lib/cynosure auth {} {form}\n{PACKAGE_STEPS}",
                self.target.shown.display(),
                source.name
            ));
            return Ok(ProgramExit::Success);
        }
        print_best_effort("");
        let signed_in = sign_in_and_log_in(&context, &args).and_then(|_| {
            let remedy = refused_credential_remedy(written.0, Some(&written.1.auth));
            probe_once(&context, written, &remedy)
        });
        signed_in.map_err(|error| self.with_sign_in_command(error, &args))?;
        print_best_effort(self.next_steps_text());
        Ok(ProgramExit::Success)
    }

    /// Adds to an error that the source is written, and the command that signs in.
    fn with_sign_in_command(&self, error: ProgramError, args: &AuthArgs) -> ProgramError {
        match error {
            ProgramError::Message { exit, message } => {
                let form = if args.device { " --device" } else { "" };
                let form = if args.paste { " --paste" } else { form };
                let command = self.typed_program().command(&format!("auth {}{form}", args.source));
                let message = format!("{message}; the source is written: sign in with `{command}`");
                ProgramError::new(exit, message)
            }
            other @ (ProgramError::Usage(_) | ProgramError::StdoutFailed(_)) => other,
        }
    }

    fn typed_program(&self) -> TypedProgram {
        let config = Some(self.target.shown.as_path()).filter(|_| !self.target.is_default);
        TypedProgram::new(&self.environment, config)
    }
}
