//! `init`: asks for a mail address, tries to read its mailbox, and writes a configuration for it.
//!
//! Nothing is written before the credential has worked, or the user wants it in spite of a failure.
//! First comes the file with the credential, then the configuration: after a crash in between, the
//! first one is not used by anything.

pub(in crate::cli) mod args;
mod console;
mod credential;
mod finish;
mod interruption;
pub(in crate::cli::commands) mod next_steps;
mod probe;
mod provider;
mod server;
mod target;
mod writing;

use std::path::{Path, PathBuf};

use self::args::InitArgs;
use self::console::{DefaultAnswer, DialogConsole, DialogQuestion};
use self::credential::{
    AuthForm, CredentialDialog, NewAuth, SecretInput, absolute_file, typed_path,
};
use self::interruption::{NOTHING_WRITTEN, SignalCleanup};
use self::probe::{SourceTrial, TrialResult};
use self::provider::{MailProvider, choose_access, find_provider, steps_text};
use self::server::choose_server;
use self::target::ConfigTarget;
use self::writing::{added_lines, free_path, write_config, write_credential};
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::progress::{ProgressBars, ShowProgress};
use crate::cli::args::CommonArgs;
use crate::cli::print::{print_best_effort, print_note};
use crate::config::{EnvVars, SourceName};
use crate::disk::{Disk, RealDisk};
use crate::onboarding::{
    AccessOption, MailAddress, NewSource, ServerAddress, SignInMethod, add_source, new_config,
    suggest_source_name,
};

/// Number of credentials that are tried. Servers lock out those who go on guessing.
const CREDENTIALS_MAX: u32 = 3;

/// Folder of the archive beside a new configuration.
const DEFAULT_ARCHIVE: &str = "downloads";

/// Remedies for a credential that is refused.
const RETRY_REMEDY: &str = "check the user name and the steps at the provider, and type it again";
const LAST_REMEDY: &str =
    "nothing was written; check the user name and the steps at the provider, and run `init` again";

/// Dialog of one run.
#[derive(Debug)]
struct InitSession<'a> {
    common: &'a CommonArgs,
    args: &'a InitArgs,
    environment: EnvVars,
    target: ConfigTarget,
    console: DialogConsole,
    cleanup: SignalCleanup,
}

/// Mailbox and its server, as far as they are decided before the credential.
#[derive(Debug)]
struct PlannedSource {
    name: String,
    address: MailAddress,
    provider: MailProvider,
    access: AccessOption,
    server: ServerAddress,
}

pub(super) fn init(common: &CommonArgs, args: &InitArgs) -> Result<ProgramExit, ProgramError> {
    let environment = EnvVars::from_process();
    let target = ConfigTarget::find(&common.config_location(), &environment)?;
    check_options(args, &target)?;
    log::start(common.log_options(), &environment, &ProgressBars::new(ShowProgress::No));
    let cleanup = SignalCleanup::start()?;
    let console = DialogConsole::new(args.yes);
    InitSession { common, args, environment, target, console, cleanup }.run()
}

/// Checks the options that need no question.
fn check_options(args: &InitArgs, target: &ConfigTarget) -> Result<(), ProgramError> {
    let shown = target.shown.display();
    if let (Some(archive), Some(existing)) = (&args.archive, &target.existing) {
        return Err(ProgramError::Usage(format!(
            "--archive {}: {shown} has the archive {} for all of its sources; leave the option out",
            archive.display(),
            existing.loaded.settings.archive.dir.display()
        )));
    }
    let Some(name) = &args.name else { return Ok(()) };
    if let Err(problem) = name.parse::<SourceName>() {
        return Err(ProgramError::Usage(format!("--name {name}: {problem}")));
    }
    if target.source_names().contains(name) {
        return Err(ProgramError::Usage(format!(
            "--name {name}: {shown} has a source of this name; write another"
        )));
    }
    Ok(())
}

impl InitSession<'_> {
    fn run(&self) -> Result<ProgramExit, ProgramError> {
        let plan = self.plan()?;
        print_best_effort(steps_text(&plan.provider.guide.name, &plan.access));
        let dialog = CredentialDialog {
            console: self.console,
            args: self.args,
            environment: &self.environment,
            provider: &plan.provider,
            access: &plan.access,
        };
        let method = dialog.choose_method()?;
        let auth = dialog.read_auth(method, &plan.address)?;
        let archive = self.choose_archive()?;
        let source = NewSource {
            name: plan.name.clone(),
            account: plan.address.as_str().to_owned(),
            kind: plan.access.kind,
            server: plan.server.clone(),
            auth: auth.written_auth(None),
        };
        let auth = match auth.form {
            AuthForm::Browser { .. } => {
                print_best_effort(
                    "The sign-in is stored in the state folder, so the source is written first, \
                     and tried after the sign-in.",
                );
                auth
            }
            AuthForm::Password { .. } | AuthForm::Token | AuthForm::SessionFile => {
                self.try_until_accepted(dialog, method, &source, auth)?
            }
        };
        let credential = self.write(&source, &auth, archive.as_deref())?;
        self.print_written(&source, credential.as_deref(), archive.as_deref());
        match auth.form {
            AuthForm::Browser { .. } => self.sign_in(&source),
            AuthForm::Password { .. } | AuthForm::Token | AuthForm::SessionFile => {
                print_best_effort(self.next_steps_text());
                Ok(ProgramExit::Success)
            }
        }
    }

    /// Asks for the address, the way to read the mailbox and the server.
    fn plan(&self) -> Result<PlannedSource, ProgramError> {
        let (args, console) = (self.args, self.console);
        let address = self.ask_address()?;
        self.confirm_account(&address)?;
        let name = args.name.clone();
        let name =
            name.unwrap_or_else(|| suggest_source_name(&address, &self.target.source_names()));
        let provider = find_provider(args, &address)?;
        let access = choose_access(console, args, &provider, &address)?;
        let server = choose_server(console, args, &provider, &access, &address)?;
        Ok(PlannedSource { name, address, provider, access, server })
    }

    fn ask_address(&self) -> Result<MailAddress, ProgramError> {
        if let Some(text) = &self.args.account {
            return MailAddress::parse(text)
                .map_err(|problem| ProgramError::Usage(format!("--account: {problem}")));
        }
        let question = DialogQuestion { text: "Mail address", option: "--account" };
        self.console.ask(question, None, MailAddress::parse)
    }

    /// Asks for a consent if the account has a source already.
    fn confirm_account(&self, address: &MailAddress) -> Result<(), ProgramError> {
        let Some(name) = self.target.source_of_account(address.as_str()) else { return Ok(()) };
        let problem = format!(
            "{} has {} already, as source {name}",
            self.target.shown.display(),
            address.as_str()
        );
        let text = format!("{problem}; add another source of it");
        let question = DialogQuestion { text: &text, option: "--account" };
        let is_wanted =
            self.console.is_interactive() && self.console.confirm(question, DefaultAnswer::No)?;
        if is_wanted {
            return Ok(());
        }
        Err(ProgramError::new(ProgramExit::Other, format!("{problem}; {NOTHING_WRITTEN}")))
    }

    /// Returns the folder of the archive, as a new configuration has it. `None` if there is a
    /// configuration, which has one.
    fn choose_archive(&self) -> Result<Option<String>, ProgramError> {
        if self.target.existing.is_some() {
            return Ok(None);
        }
        let path = match &self.args.archive {
            Some(dir) => absolute_file(dir)?,
            None => {
                let question =
                    DialogQuestion { text: "Folder of the archive", option: "--archive" };
                self.console
                    .ask(question, Some(DEFAULT_ARCHIVE), |answer| self.typed_folder(answer))?
            }
        };
        self.target.written_path(&path).map(Some)
    }

    /// Returns the absolute path of a folder that is typed, relative to that of the configuration.
    fn typed_folder(&self, answer: &str) -> Result<PathBuf, String> {
        if answer.starts_with("~/") || Path::new(answer).is_absolute() {
            return typed_path(answer, &self.environment);
        }
        Ok(self.target.folder().join(answer))
    }

    /// Tries the source, and asks for the credential again if it is refused.
    fn try_until_accepted(
        &self,
        dialog: CredentialDialog<'_>,
        method: SignInMethod,
        source: &NewSource,
        mut auth: NewAuth,
    ) -> Result<NewAuth, ProgramError> {
        print_best_effort("\nTrying it, and storing nothing:");
        let existing = self.target.existing.as_ref().map(|existing| &existing.loaded);
        let trial = SourceTrial {
            environment: &self.environment,
            cleanup: &self.cleanup,
            source,
            existing,
        };
        let mut tried = 0;
        loop {
            tried += 1;
            let is_last = tried == CREDENTIALS_MAX || auth.typed_secret().is_none();
            let remedy = if is_last { LAST_REMEDY } else { RETRY_REMEDY };
            match trial.run(&auth, remedy)? {
                TrialResult::Works => return Ok(auth),
                TrialResult::Failed(error) => {
                    return self.confirm_failure(error).map(|()| auth);
                }
                TrialResult::Refused(message) if is_last => {
                    return Err(ProgramError::new(ProgramExit::Authentication, message));
                }
                TrialResult::Refused(message) => {
                    print_note(message);
                    auth.secret = Some(dialog.ask_again(method)?);
                }
            }
        }
    }

    /// Asks whether a source that does not work yet is written.
    fn confirm_failure(&self, error: ProgramError) -> Result<(), ProgramError> {
        if !self.console.is_interactive() {
            return Err(match error {
                ProgramError::Message { exit, message } => {
                    ProgramError::new(exit, format!("{message}; {NOTHING_WRITTEN}"))
                }
                other @ (ProgramError::Usage(_) | ProgramError::StdoutFailed(_)) => other,
            });
        }
        print_note(error.message());
        let question =
            DialogQuestion { text: "Write the configuration all the same", option: "--yes" };
        if self.console.confirm(question, DefaultAnswer::Yes)? {
            return Ok(());
        }
        Err(ProgramError::new(ProgramExit::Other, NOTHING_WRITTEN))
    }

    /// Writes the credential, if it was typed, and the configuration. Returns the path of the file
    /// with the credential.
    fn write(
        &self,
        source: &NewSource,
        auth: &NewAuth,
        archive: Option<&str>,
    ) -> Result<Option<PathBuf>, ProgramError> {
        let folder = self.target.folder();
        let new_file = match auth.typed_secret() {
            Some(secret) => Some((free_path(folder, &source.name, auth.file_ending())?, secret)),
            None => None,
        };
        let secret_path = match (&new_file, &auth.secret) {
            (Some((path, _)), _) | (None, Some(SecretInput::File(path))) => Some(path.as_path()),
            (None, Some(SecretInput::Typed(_)) | None) => None,
        };
        let file = secret_path.map(|path| self.target.written_path(path)).transpose()?;
        let source = NewSource { auth: auth.written_auth(file), ..source.clone() };
        let text = self.new_text(&source, archive)?;
        self.cleanup.run_uninterrupted(|| {
            if let Some((path, secret)) = &new_file {
                write_credential(&self.target, path, secret)?;
            }
            if let Err(error) = write_config(&self.target, &text) {
                let is_written =
                    fs_err::read_to_string(&self.target.path).is_ok_and(|now| now == text);
                if let Some((path, _)) = new_file.as_ref().filter(|_| !is_written) {
                    RealDisk.remove_file(path).ok();
                }
                return Err(error);
            }
            Ok(format!("source {} is in {}", source.name, self.target.shown.display()))
        })?;
        Ok(new_file.map(|(path, _)| path))
    }

    /// Returns the text of the configuration with the source. Shows what is added to an existing
    /// one, and asks for a consent.
    fn new_text(&self, source: &NewSource, archive: Option<&str>) -> Result<String, ProgramError> {
        let Some(existing) = &self.target.existing else {
            return Ok(new_config(source, archive.unwrap_or(DEFAULT_ARCHIVE)));
        };
        let shown = self.target.shown.display();
        let text = add_source(&existing.text, source).map_err(|problem| {
            let message = format!("{shown}: {problem}; {NOTHING_WRITTEN}");
            ProgramError::new(ProgramExit::Configuration, message)
        })?;
        let lines = added_lines(&existing.text, &text);
        print_best_effort(format!("\nNew lines of {shown}:\n  {}", lines.join("\n  ")));
        let text_of_question = format!("Add them to {shown}");
        let question = DialogQuestion { text: &text_of_question, option: "--yes" };
        if self.console.confirm(question, DefaultAnswer::Yes)? {
            return Ok(text);
        }
        Err(ProgramError::new(ProgramExit::Other, NOTHING_WRITTEN))
    }
}
