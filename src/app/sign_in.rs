//! Sign-in to a source with OAuth 2.0: from its settings to its token file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use url::Url;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::runtime::block_on_new_runtime;
use crate::config::SourceName;
use crate::disk::{ensure_owned_folder, parent_folder, storage_failure};
use crate::env::{Env, RealEnv};
use crate::oauth::{
    DevicePrompt, OAuthClient, PastedSignIn, StoredToken, TokenFile, TokenGrant,
    sign_in_by_browser, sign_in_by_device,
};
use crate::worker::{oauth_client, token_file};

/// Way in which a stored token stays valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TokenRenewal {
    /// The program refreshes it.
    Automatic,
    /// The provider gave no refresh token: the account signs in again once its token ends.
    NewSignIn,
}

/// Sign-in to one source. Each method waits for the user, stores the token, and blocks.
#[derive(Debug)]
pub(crate) struct SourceSignIn {
    username: String,
    client: OAuthClient,
    token_file: TokenFile,
}

impl SourceSignIn {
    /// Prepares the sign-in to the source with this name.
    ///
    /// # Errors
    /// A message, if there is no such source, if it does not sign in, or if its client secret is
    /// unusable.
    pub(crate) fn new(context: &AppContext, name: &str) -> Result<Self, ProgramError> {
        let (name, source) = context.loaded.settings.find_source(name)?;
        let settings = source.auth.sign_in_client().ok_or_else(|| no_sign_in_error(name))?;
        let folder = context.state_folder().source(name.as_str());
        Ok(Self {
            username: source.auth.username().unwrap_or(&source.account).to_owned(),
            client: oauth_client(settings, name.as_str(), &context.environment)?,
            token_file: token_file(settings, folder.path()),
        })
    }

    /// Returns the account that the user must sign in as.
    pub(crate) fn username(&self) -> &str {
        &self.username
    }

    pub(crate) fn token_path(&self) -> &Path {
        self.token_file.path()
    }

    /// True if the token belongs to another user than that of this process, as where root signs in
    /// for the user of a service.
    pub(crate) fn is_for_another_user(&self) -> bool {
        let own_uid = rustix::process::geteuid().as_raw();
        fs::metadata(self.token_path()).is_ok_and(|metadata| metadata.uid() != own_uid)
    }

    /// Signs in with a browser on this machine, which is redirected to this process. `show_url` is
    /// called with the address to open.
    ///
    /// # Errors
    /// If the sign-in is refused or fails, or if the token cannot be stored.
    pub(crate) fn by_browser(
        &self,
        show_url: impl FnOnce(&Url),
    ) -> Result<TokenRenewal, ProgramError> {
        let sign_in = sign_in_by_browser(&self.client, &self.username, show_url);
        self.store(block_on_new_runtime(sign_in)??)
    }

    /// Signs in with a browser on any machine. `ask` is called with the address to open, and returns
    /// the address of the page that the browser then fails to open.
    ///
    /// # Errors
    /// That of `ask`; if the sign-in is refused or fails, or if the token cannot be stored.
    pub(crate) fn by_paste(
        &self,
        ask: impl FnOnce(&Url) -> Result<String, ProgramError>,
    ) -> Result<TokenRenewal, ProgramError> {
        let sign_in = PastedSignIn::new(&self.client, &self.username)?;
        let pasted = ask(&sign_in.url)?;
        self.store(block_on_new_runtime(sign_in.finish(&pasted))??)
    }

    /// Signs in with a code that the user enters in a browser on any machine. `show` is called with
    /// the code.
    ///
    /// # Errors
    /// If the sign-in is refused or fails, or if the token cannot be stored.
    pub(crate) fn by_device(
        &self,
        show: impl FnOnce(&DevicePrompt),
    ) -> Result<TokenRenewal, ProgramError> {
        self.store(block_on_new_runtime(sign_in_by_device(&self.client, show))??)
    }

    /// Stores the token durably. The worker reads it from there.
    fn store(&self, grant: TokenGrant) -> Result<TokenRenewal, ProgramError> {
        if grant.refresh_token.is_none() && grant.expires_in.is_some() {
            return Err(configuration_error(
                "the provider granted access for a short time and no refresh token, so nothing is \
                 stored; add the scope that grants one, such as \"offline_access\", to `scopes` in \
                 `auth` of the source",
            ));
        }
        let folder = parent_folder(self.token_path());
        ensure_owned_folder(folder)
            .map_err(|error| storage_failure("create the folder", folder, &error))?;
        let token = StoredToken::from_grant(&self.client, grant, RealEnv.now());
        let renewal = if token.refresh_token.is_some() {
            TokenRenewal::Automatic
        } else {
            TokenRenewal::NewSignIn
        };
        block_on_new_runtime(self.token_file.replace(token))??;
        Ok(renewal)
    }
}

fn no_sign_in_error(name: &SourceName) -> ProgramError {
    configuration_error(format!(
        "source {name} does not sign in; write auth = {{ type = \"oauth2\", client_id = \"…\" }} \
         in [source.{name}], with the id of your application at the provider (docs/sources.md)"
    ))
}

fn configuration_error(message: impl Into<String>) -> ProgramError {
    ProgramError::new(ProgramExit::Configuration, message)
}
