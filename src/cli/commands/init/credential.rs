//! Credential of a new source: typed, or in a file of the user.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::init::args::InitArgs;
use crate::cli::commands::init::console::{DialogConsole, DialogQuestion};
use crate::cli::commands::init::provider::MailProvider;
use crate::config::{CredentialRef, EnvVars, Secret};
use crate::onboarding::{AccessKind, AccessOption, MailAddress, NewSourceAuth, SignInMethod};

/// Name of a credential that Google and others show in groups.
const APP_PASSWORD: &str = "app password";

/// Authentication of a new source.
#[derive(Debug)]
pub(super) struct NewAuth {
    pub form: AuthForm,
    /// `None` only for a sign-in whose client has no secret.
    pub secret: Option<SecretInput>,
}

/// Form of the authentication, without the secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum AuthForm {
    /// `username` only if it is not the account.
    Password {
        username: Option<String>,
    },
    Token,
    Browser {
        client_id: String,
    },
    SessionFile,
}

/// Questions about the credential of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct CredentialDialog<'a> {
    pub console: DialogConsole,
    pub args: &'a InitArgs,
    pub environment: &'a EnvVars,
    pub provider: &'a MailProvider,
    pub access: &'a AccessOption,
}

/// Secret of a new source.
#[derive(Debug)]
pub(super) enum SecretInput {
    /// Typed by the user. It becomes a file beside the configuration.
    Typed(Secret),
    /// Absolute path of a file of the user. It is used where it is, so that there is one copy to
    /// replace.
    File(PathBuf),
}

impl NewAuth {
    /// Returns the authentication to write, with the secret in `file`.
    #[must_use]
    pub(super) fn written_auth(&self, file: Option<String>) -> NewSourceAuth {
        match &self.form {
            AuthForm::Password { username } => NewSourceAuth::Password {
                username: username.clone(),
                file: file.unwrap_or_default(),
            },
            AuthForm::Token => NewSourceAuth::Token { file: file.unwrap_or_default() },
            AuthForm::Browser { client_id } => {
                NewSourceAuth::Browser { client_id: client_id.clone(), client_secret_file: file }
            }
            AuthForm::SessionFile => NewSourceAuth::SessionFile { file: file.unwrap_or_default() },
        }
    }

    /// Returns the ending of the name of a file with the secret.
    #[must_use]
    pub(super) fn file_ending(&self) -> &'static str {
        match self.form {
            AuthForm::Password { .. } => "password",
            AuthForm::Token => "token",
            AuthForm::Browser { .. } => "client-secret",
            AuthForm::SessionFile => "session",
        }
    }

    #[must_use]
    pub(super) fn typed_secret(&self) -> Option<&Secret> {
        match &self.secret {
            Some(SecretInput::Typed(secret)) => Some(secret),
            Some(SecretInput::File(_)) | None => None,
        }
    }
}

impl CredentialDialog<'_> {
    /// Selects the credential: by the command line, the guide or a question.
    ///
    /// # Errors
    /// As those of a question.
    pub(super) fn choose_method(self) -> Result<SignInMethod, ProgramError> {
        let Self { args, access, .. } = self;
        if args.client_id.is_some() {
            return Ok(match access.method {
                SignInMethod::Browser { .. } => access.method,
                SignInMethod::Password | SignInMethod::Token | SignInMethod::SessionFile => {
                    SignInMethod::Browser { needs_secret: args.client_secret_file.is_some() }
                }
            });
        }
        // What the network says of the credential is known only if it is a token.
        let is_own_jmap = access.kind == AccessKind::Jmap && access.username.is_some();
        if args.password_file.is_some() {
            return Ok(match access.kind {
                AccessKind::Imap => SignInMethod::Password,
                AccessKind::Mailru => SignInMethod::SessionFile,
                AccessKind::Gmail | AccessKind::Graph => SignInMethod::Token,
                AccessKind::Jmap if args.username.is_some() => SignInMethod::Password,
                AccessKind::Jmap if is_own_jmap => SignInMethod::Token,
                AccessKind::Jmap => access.method,
            });
        }
        let options = self.provider.guide.options.iter();
        let jmap_options = options.filter(|option| option.kind == AccessKind::Jmap);
        if !is_own_jmap || access.method == SignInMethod::Token || jmap_options.count() > 1 {
            return Ok(access.method);
        }
        if args.username.is_some() {
            return Ok(SignInMethod::Password);
        }
        let question = DialogQuestion {
            text: "Sign in by 1 user name and password, or 2 API token",
            option: "--username or --password-file",
        };
        match self.console.choose(question, 2)? {
            0 => Ok(SignInMethod::Password),
            _ => Ok(SignInMethod::Token),
        }
    }

    /// Asks for what the command line leaves out of the credential.
    ///
    /// # Errors
    /// As those of a question, and if a file cannot be used as a credential.
    pub(super) fn read_auth(
        self,
        method: SignInMethod,
        address: &MailAddress,
    ) -> Result<NewAuth, ProgramError> {
        match method {
            SignInMethod::Password => {
                let username = self.choose_username(address)?;
                let secret = Some(self.read_secret(method)?);
                Ok(NewAuth { form: AuthForm::Password { username }, secret })
            }
            SignInMethod::Token => {
                let secret = Some(self.read_secret(method)?);
                Ok(NewAuth { form: AuthForm::Token, secret })
            }
            SignInMethod::Browser { needs_secret } => self.read_client(needs_secret),
            SignInMethod::SessionFile => {
                let path = self.read_session_path()?;
                let secret = Some(SecretInput::File(path));
                Ok(NewAuth { form: AuthForm::SessionFile, secret })
            }
        }
    }

    /// Asks for the secret again, after the server has refused it.
    ///
    /// # Errors
    /// As those of a question.
    pub(super) fn ask_again(self, method: SignInMethod) -> Result<SecretInput, ProgramError> {
        let name = if method == self.access.method {
            self.access.credential_name
        } else {
            match method {
                SignInMethod::Token => "API token",
                SignInMethod::Password
                | SignInMethod::Browser { .. }
                | SignInMethod::SessionFile => "password",
            }
        };
        let text = capitalize(name);
        let question = DialogQuestion { text: &text, option: "--password-file" };
        let secret = self.console.ask_secret(question)?;
        let joined = Some(&secret).filter(|_| name == APP_PASSWORD).and_then(join_groups);
        Ok(SecretInput::Typed(joined.unwrap_or(secret)))
    }

    fn choose_username(self, address: &MailAddress) -> Result<Option<String>, ProgramError> {
        let username = match (&self.args.username, &self.access.username) {
            (Some(username), _) => username.clone(),
            (None, None) => return Ok(None),
            (None, Some(default)) => {
                let question =
                    DialogQuestion { text: "User name at the server", option: "--username" };
                let as_typed = |answer: &str| Ok(answer.to_owned());
                self.console.ask(question, Some(default.as_str()), as_typed)?
            }
        };
        Ok(Some(username).filter(|username| username != address.as_str()))
    }

    fn read_secret(self, method: SignInMethod) -> Result<SecretInput, ProgramError> {
        match &self.args.password_file {
            Some(path) => self.use_file(path),
            None => self.ask_again(method),
        }
    }

    fn read_session_path(self) -> Result<PathBuf, ProgramError> {
        if let Some(path) = &self.args.password_file {
            let path = absolute_file(path)?;
            return check_file(&path, self.environment)
                .map(|()| path)
                .map_err(|problem| ProgramError::new(ProgramExit::Configuration, problem));
        }
        let question = DialogQuestion { text: "File with the session", option: "--password-file" };
        self.console.ask(question, None, |answer| {
            let path = typed_path(answer, self.environment)?;
            check_file(&path, self.environment).map(|()| path)
        })
    }

    fn read_client(self, needs_secret: bool) -> Result<NewAuth, ProgramError> {
        let client_id = match &self.args.client_id {
            Some(client_id) => client_id.clone(),
            None => {
                let question = DialogQuestion { text: "Client id", option: "--client-id" };
                self.console.ask(question, None, |answer| match answer {
                    "" => Err("nothing was typed; the steps say where the client id is".to_owned()),
                    client_id => Ok(client_id.to_owned()),
                })?
            }
        };
        let secret = match &self.args.client_secret_file {
            Some(path) => Some(self.use_file(path)?),
            None if needs_secret => {
                let question =
                    DialogQuestion { text: "Client secret", option: "--client-secret-file" };
                Some(SecretInput::Typed(self.console.ask_secret(question)?))
            }
            None => None,
        };
        Ok(NewAuth { form: AuthForm::Browser { client_id }, secret })
    }

    fn use_file(self, path: &Path) -> Result<SecretInput, ProgramError> {
        let path = absolute_file(path)?;
        let credential = CredentialRef::File(path.clone());
        credential
            .read(self.environment)
            .map_err(|error| ProgramError::new(ProgramExit::Configuration, error.to_string()))?;
        Ok(SecretInput::File(path))
    }
}

/// Returns the absolute path of a file that the user types, where `~` is the home folder.
///
/// # Errors
/// One sentence, if nothing was typed.
pub(super) fn typed_path(text: &str, environment: &EnvVars) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("nothing was typed; write a path".to_owned());
    }
    let home = environment.get("HOME").map(PathBuf::from);
    let path = match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        (Some(_), None) | (None, _) => PathBuf::from(text),
    };
    std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns the absolute path of a file that the command line names.
///
/// # Errors
/// If the working directory does not exist.
pub(super) fn absolute_file(path: &Path) -> Result<PathBuf, ProgramError> {
    std::path::absolute(path).map_err(|error| {
        ProgramError::new(ProgramExit::Other, format!("{}: {error}", path.display()))
    })
}

/// Reads the file of a session as a source does, with the same checks of its mode.
fn check_file(path: &Path, environment: &EnvVars) -> Result<(), String> {
    let credential = CredentialRef::File(path.to_owned());
    credential.read_multiline(environment).map(drop).map_err(|error| error.to_string())
}

/// Returns an app password that is shown in four groups of four letters without its spaces, which
/// are not part of it. `None` for any other secret.
fn join_groups(secret: &Secret) -> Option<Secret> {
    let groups: Vec<&str> = secret.expose_secret().split(' ').collect();
    let is_group =
        |group: &&str| group.len() == 4 && group.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_grouped = groups.len() == 4 && groups.iter().all(is_group);
    is_grouped.then(|| Secret::from(groups.concat().as_str()))
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_path_in_the_home_folder_is_expanded() {
        let environment = EnvVars::from_iter([("HOME", "/home/me")]);

        assert_eq!(typed_path("~/mail", &environment), Ok("/home/me/mail".into()));
        assert_eq!(typed_path("/srv/mail", &environment), Ok("/srv/mail".into()));
        assert!(typed_path("mail", &environment).unwrap().is_absolute());
        assert!(typed_path("", &environment).is_err());
    }

    #[test]
    fn a_file_that_others_can_read_is_no_credential() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("password");
        crate::disk::write_durable(&crate::disk::RealDisk, &path, b"hunter2\n").unwrap();
        assert_eq!(check_file(&path, &EnvVars::default()), Ok(()));

        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();

        let problem = check_file(&path, &EnvVars::default()).unwrap_err();
        assert!(problem.contains("chmod 600") && !problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn each_form_is_written_with_its_file() {
        let auth = |form| NewAuth { form, secret: None };
        let file = || Some("secret".to_owned());
        let password = auth(AuthForm::Password { username: None });
        let client = auth(AuthForm::Browser { client_id: "id".to_owned() });

        assert_eq!(
            password.written_auth(file()),
            NewSourceAuth::Password { username: None, file: "secret".to_owned() }
        );
        let client_id = "id".to_owned();
        assert_eq!(
            client.written_auth(None),
            NewSourceAuth::Browser { client_id, client_secret_file: None }
        );
        assert_eq!((password.file_ending(), client.file_ending()), ("password", "client-secret"));
    }

    #[test]
    fn only_the_groups_of_an_app_password_are_joined() {
        let joined = join_groups(&Secret::from("abcd efgh ijkl mnop")).unwrap();

        assert_eq!(joined.expose_secret(), "abcdefghijklmnop");
        for typed in ["abcd efgh ijkl", "ABCD efgh ijkl mnop", "abcdefghijklmnop"] {
            assert!(join_groups(&Secret::from(typed)).is_none(), "{typed}");
        }
    }

    #[test]
    fn a_question_begins_with_a_capital() {
        assert_eq!(capitalize("app password"), "App password");
        assert_eq!(capitalize(""), "");
    }
}
