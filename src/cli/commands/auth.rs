//! `auth`: signs in to a source with OAuth 2.0, and logs in once with the new token. A source that
//! needs no sign-in only logs in.

use std::io::{self, BufRead, IsTerminal, Read};
use std::process::{Command, Stdio};

use cynosure_engine::{format_duration, sanitize_line};
use url::Url;

use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::log;
use crate::app::progress::{ProgressBars, ShowProgress};
use crate::app::sign_in::{SourceSignIn, TokenRenewal};
use crate::cli::args::{AuthArgs, CommonArgs};
use crate::cli::commands::config_probe::log_in_once;
use crate::cli::commands::run_summary::APPLICATION_REMEDY;
use crate::cli::print::print_best_effort;
use crate::config::{ApplicationGrantSettings, EnvVars, SourceAuth, SourceName, SourceSettings};

/// Program that opens an address in the browser of the desktop.
const BROWSER_OPENER: &str = "xdg-open";

/// Variables that are set on a desktop.
const DISPLAY_VARS: [&str; 2] = ["DISPLAY", "WAYLAND_DISPLAY"];

/// Longest pasted address, in bytes. A code has a few kilobytes at most.
const PASTED_BYTES_MAX: u64 = 64 << 10;

pub(super) fn auth(common: &CommonArgs, args: &AuthArgs) -> Result<ProgramExit, ProgramError> {
    let context = AppContext::load(&common.config_location())?;
    log::start(common.log_options(), &context.environment, &ProgressBars::new(ShowProgress::No));
    sign_in_and_log_in(&context, args)
}

/// Signs in to a source and logs in once, for a command that has started the log.
///
/// # Errors
/// If there is no such source, if the sign-in or the login fails, or if the token cannot be stored.
pub(super) fn sign_in_and_log_in(
    context: &AppContext,
    args: &AuthArgs,
) -> Result<ProgramExit, ProgramError> {
    let source = context.loaded.settings.find_source(&args.source)?;
    if let SourceAuth::Application { client, .. } = &source.1.auth {
        return test_application(context, source, &client.grant);
    }
    let sign_in = SourceSignIn::new(context, &args.source)?;
    let renewal = sign_in_to(&sign_in, context, args)?;
    let path = sign_in.token_path().display();
    let future = match renewal {
        TokenRenewal::Automatic => "refreshes itself",
        TokenRenewal::NewSignIn => {
            "has no refresh token: sign in again when the provider no longer accepts it"
        }
    };
    print_best_effort(format!("signed in; the token is in {path}, and {future}"));
    log_in_with_token(context, source, &sign_in)
}

/// Signs in as the arguments say, and stores the token.
fn sign_in_to(
    sign_in: &SourceSignIn,
    context: &AppContext,
    args: &AuthArgs,
) -> Result<TokenRenewal, ProgramError> {
    let account = sanitize_line(sign_in.username());
    if args.device {
        sign_in.by_device(|prompt| {
            let (address, code) =
                (sanitize_line(&prompt.verification_uri), sanitize_line(&prompt.user_code));
            let valid_for = format_duration(prompt.expires_in);
            print_best_effort(format!(
                "Open this address in a browser, sign in as {account}, and enter the code {code} \
                 (valid for {valid_for}):\n\n{address}\n"
            ));
        })
    } else if args.paste {
        sign_in.by_paste(|url| {
            print_best_effort(format!(
                "Open this address in a browser, and sign in as {account}:\n\n{url}\n\nThe browser \
                 then cannot open a page of 127.0.0.1. Paste the address of that page here:"
            ));
            read_pasted_line()
        })
    } else {
        sign_in.by_browser(|url| {
            print_best_effort(format!(
                "Open this address in a browser on this machine, and sign in as {account}:\n\n\
                 {url}\n\nIf it has no browser, press Ctrl-C and add --paste."
            ));
            if !args.no_browser && is_on_desktop(&context.environment) {
                open_browser(url);
            }
        })
    }
}

/// Logs in with a token that the application of a source gets by itself.
fn test_application(
    context: &AppContext,
    source: (&SourceName, &SourceSettings),
    grant: &ApplicationGrantSettings,
) -> Result<ProgramExit, ProgramError> {
    let secret = match grant {
        ApplicationGrantSettings::ServiceAccount { .. } => "the key of its service account",
        ApplicationGrantSettings::ClientCredentials { .. } => "its client secret",
    };
    let name = source.0;
    print_best_effort(format!(
        "source {name} needs no sign-in, because it gets access tokens by {secret}"
    ));
    let account = log_in_once(context, source, APPLICATION_REMEDY)?;
    print_best_effort(format!("login ok, account {}", sanitize_line(account.as_str())));
    Ok(ProgramExit::Success)
}

/// Logs in with the token that was stored. The server may refuse a token that is valid: for another
/// account, or if the account does not allow this protocol.
fn log_in_with_token(
    context: &AppContext,
    source: (&SourceName, &SourceSettings),
    sign_in: &SourceSignIn,
) -> Result<ProgramExit, ProgramError> {
    if sign_in.is_for_another_user() {
        // This process would leave files in the state folder that the worker cannot write.
        print_best_effort("not logged in: the token belongs to another user, whose worker logs in");
        return Ok(ProgramExit::Success);
    }
    let refused_remedy = format!(
        "the token is stored, but does not open the mailbox: allow mail programs in the settings \
         of the account, and sign in as {}",
        sign_in.username()
    );
    let account = log_in_once(context, source, &refused_remedy)?;
    print_best_effort(format!("login ok, account {}", sanitize_line(account.as_str())));
    Ok(ProgramExit::Success)
}

/// Reads one line from standard input.
fn read_pasted_line() -> Result<String, ProgramError> {
    let mut line = String::new();
    io::stdin().lock().take(PASTED_BYTES_MAX).read_line(&mut line).map_err(|error| {
        let message = format!("cannot read the address from standard input: {error}");
        ProgramError::new(ProgramExit::Other, message)
    })?;
    match line.trim() {
        "" => Err(ProgramError::new(
            ProgramExit::Other,
            "no address was pasted; sign in again, and paste that of the page that cannot be opened",
        )),
        pasted => Ok(pasted.to_owned()),
    }
}

/// True if a user sits in front of this process, on a desktop.
#[must_use]
pub(super) fn is_on_desktop(environment: &EnvVars) -> bool {
    let is_set = |name: &&str| environment.get(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && DISPLAY_VARS.iter().any(is_set)
}

/// Opens the address in a browser. The user can still do that where it fails.
fn open_browser(url: &Url) {
    let mut command = Command::new(BROWSER_OPENER);
    command.arg(url.as_str());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().ok();
}
