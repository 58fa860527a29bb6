//! Provider of a mailbox, and the way to read it: known, discovered over the network, or asked for.

use cynosure_engine::sanitize_line;

use crate::app::error::ProgramError;
use crate::app::runtime::block_on_new_runtime;
use crate::cli::commands::init::args::InitArgs;
use crate::cli::commands::init::console::{DialogConsole, DialogQuestion};
use crate::cli::print::print_best_effort;
use crate::onboarding::{
    AccessKind, AccessOption, Discovery, DiscoveryOptions, MailAddress, ProviderGuide,
    ServerAddress, SignInMethod, discover, find_guide, own_server_guide,
};

/// Document with the steps at each provider.
pub(super) const SOURCES_DOCUMENT: &str = "docs/sources.md";

/// Origin of what is known of a provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum GuideOrigin {
    /// The program knows the domain.
    BuiltIn,
    /// Records of the domain in the network, which may be forged.
    Discovered,
    /// Guesses, for a server of the user.
    Guessed,
}

/// Provider of a mailbox.
#[derive(Clone, Debug)]
pub(super) struct MailProvider {
    pub guide: ProviderGuide,
    pub origin: GuideOrigin,
}

/// Finds the provider of an address, and says what was found.
///
/// # Errors
/// If the runtime for the network cannot be created.
pub(super) fn find_provider(
    args: &InitArgs,
    address: &MailAddress,
) -> Result<MailProvider, ProgramError> {
    let domain = address.domain();
    if let Some(guide) = find_guide(address) {
        print_best_effort(format!("{domain} is {}.", guide.name));
        return Ok(MailProvider { guide, origin: GuideOrigin::BuiltIn });
    }
    let own_server =
        || MailProvider { guide: own_server_guide(address), origin: GuideOrigin::Guessed };
    if args.server.is_some() || args.kind.is_some_and(has_own_address) {
        return Ok(own_server());
    }
    if args.no_lookup {
        print_best_effort(format!(
            "{domain} is no provider that this program knows, so it is taken as your own server."
        ));
        return Ok(own_server());
    }
    let options = DiscoveryOptions::of_this_machine();
    print_best_effort(format!(
        "Looking up the mail server of {domain} in the network, for at most {} s …",
        options.time_limit.as_secs()
    ));
    match block_on_new_runtime(discover(address, &options))? {
        Discovery::Found { guide, evidence } => {
            let evidence = as_sentence(&sanitize_line(&evidence));
            print_best_effort(format!("{domain} is {}: {evidence}", sanitize_line(&guide.name)));
            Ok(MailProvider { guide, origin: GuideOrigin::Discovered })
        }
        Discovery::Unknown => {
            print_best_effort(format!(
                "Nothing in the network names the mail server of {domain}, so it is taken as your \
                 own server."
            ));
            Ok(own_server())
        }
        Discovery::NoNetwork(problem) => {
            print_best_effort(as_sentence(&sanitize_line(&problem)));
            print_best_effort(format!("So {domain} is taken as your own server."));
            Ok(own_server())
        }
    }
}

/// Selects the way to read the mailbox: the one of `--kind`, or asks.
///
/// # Errors
/// As those of a question.
pub(super) fn choose_access(
    console: DialogConsole,
    args: &InitArgs,
    provider: &MailProvider,
    address: &MailAddress,
) -> Result<AccessOption, ProgramError> {
    let mut options = provider.guide.options.clone();
    if let Some(kind) = args.kind {
        options.retain(|option| option.kind == kind);
        if options.is_empty() {
            let own_server = own_server_guide(address).options;
            options.extend(own_server.into_iter().filter(|option| option.kind == kind));
        }
        return Ok(select_by_options(args, options).unwrap_or_else(|| api_access(kind)));
    }
    if let Some(server) = args.server.as_deref().filter(|_| provider.origin == GuideOrigin::Guessed)
    {
        // Only JMAP has a URL.
        let is_url = server.contains("://");
        options.retain(|option| (option.kind == AccessKind::Jmap) == is_url);
        return Ok(select_by_options(args, options).unwrap_or_else(|| {
            api_access(if is_url { AccessKind::Jmap } else { AccessKind::Imap })
        }));
    }
    if options.len() > 1 {
        print_best_effort(options_text(&options));
        let question = DialogQuestion { text: "Which way", option: "--kind" };
        let chosen = console.choose(question, options.len())?;
        options = options.into_iter().skip(chosen).take(1).collect();
    }
    Ok(options.pop().unwrap_or_else(|| api_access(AccessKind::Imap)))
}

/// Returns what has to be done at the provider, numbered, and where it is described.
#[must_use]
pub(super) fn steps_text(provider: &str, access: &AccessOption) -> String {
    let mut text = String::new();
    if !access.steps.is_empty() {
        text.push_str(&format!("\nWhat to do at {provider}:\n"));
    }
    for (number, step) in (1_usize..).zip(access.steps) {
        text.push_str(&format!("  {number}. {}\n", as_sentence(step)));
    }
    text.push_str(&format!("More about it: {SOURCES_DOCUMENT}{}", access.anchor));
    text
}

/// Adds the full stop that a sentence lacks.
fn as_sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', '!', '?', '…']) { text.to_owned() } else { format!("{text}.") }
}

/// True for a kind whose server does not depend on the domain.
fn has_own_address(kind: AccessKind) -> bool {
    match kind {
        AccessKind::Jmap | AccessKind::Imap => false,
        AccessKind::Gmail | AccessKind::Graph | AccessKind::Mailru => true,
    }
}

/// Selects the first of the options whose credential the command line names.
fn select_by_options(args: &InitArgs, options: Vec<AccessOption>) -> Option<AccessOption> {
    let is_named = |option: &AccessOption| {
        let is_browser = matches!(option.method, SignInMethod::Browser { .. });
        if args.client_id.is_some() {
            return is_browser;
        }
        let is_password = option.method == SignInMethod::Password;
        let names_user = args.username.is_some() && option.kind == AccessKind::Jmap;
        (args.password_file.is_none() || !is_browser) && (!names_user || is_password)
    };
    let index = options.iter().position(is_named).unwrap_or_default();
    options.into_iter().nth(index)
}

fn options_text(options: &[AccessOption]) -> String {
    let mut text = "\nWays to read this mailbox:\n".to_owned();
    for (index, option) in options.iter().enumerate() {
        let recommended = if index == 0 { " (recommended)" } else { "" };
        text.push_str(&format!(
            "  {}. {}, by {}{recommended}\n     {}\n     {}\n",
            index + 1,
            option.kind.label(),
            option.credential_name,
            as_sentence(option.reason),
            as_sentence(option.duration)
        ));
    }
    text.truncate(text.trim_end().len());
    text
}

/// Returns a kind that no guide has for the provider.
fn api_access(kind: AccessKind) -> AccessOption {
    let (method, credential_name, anchor) = match kind {
        AccessKind::Jmap => (SignInMethod::Token, "API token", "#fastmail"),
        AccessKind::Imap => (SignInMethod::Password, "password", "#dovecot-cyrus-your-own-server"),
        AccessKind::Gmail => {
            (SignInMethod::Browser { needs_secret: true }, "client", "#gmail-by-its-api")
        }
        AccessKind::Graph => (
            SignInMethod::Browser { needs_secret: false },
            "client",
            "#microsoft-365-and-outlookcom-by-graph",
        ),
        AccessKind::Mailru => {
            (SignInMethod::SessionFile, "session", "#mailru-by-its-web-interface")
        }
    };
    AccessOption {
        kind,
        server: ServerAddress::Known,
        method,
        username: None,
        credential_name,
        reason: "",
        steps: &[],
        duration: "",
        anchor,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// Command line of the tests.
    #[derive(Debug, Parser)]
    struct InitTestCommand {
        #[command(flatten)]
        args: InitArgs,
    }

    fn args(words: &[&str]) -> InitArgs {
        InitTestCommand::parse_from([&["init"][..], words].concat()).args
    }

    fn option(kind: AccessKind, method: SignInMethod) -> AccessOption {
        AccessOption { method, ..api_access(kind) }
    }

    fn provider(options: Vec<AccessOption>, origin: GuideOrigin) -> MailProvider {
        MailProvider { guide: ProviderGuide { name: "a provider".to_owned(), options }, origin }
    }

    #[expect(clippy::unwrap_in_result, reason = "a helper of tests panics")]
    fn choose(words: &[&str], provider: &MailProvider) -> Result<AccessOption, ProgramError> {
        let address = MailAddress::parse("me@example.com").unwrap();
        choose_access(DialogConsole::new(true), &args(words), provider, &address)
    }

    #[test]
    fn options_of_the_command_line_select_the_credential() {
        let browser = SignInMethod::Browser { needs_secret: true };
        let ways = vec![
            option(AccessKind::Imap, SignInMethod::Password),
            option(AccessKind::Gmail, browser),
            option(AccessKind::Imap, browser),
        ];
        let provider = provider(ways, GuideOrigin::BuiltIn);
        for (words, kind, method) in [
            (&[][..], AccessKind::Imap, SignInMethod::Password),
            (&["--kind", "gmail"], AccessKind::Gmail, browser),
            (&["--kind", "imap"], AccessKind::Imap, SignInMethod::Password),
            (&["--kind", "imap", "--client-id", "x"], AccessKind::Imap, browser),
            (&["--kind", "mailru"], AccessKind::Mailru, SignInMethod::SessionFile),
        ] {
            let chosen = choose(words, &provider).unwrap();
            assert_eq!((chosen.kind, chosen.method), (kind, method), "{words:?}");
        }
    }

    #[test]
    fn the_form_of_a_server_selects_the_protocol() {
        let ways = vec![
            option(AccessKind::Jmap, SignInMethod::Token),
            option(AccessKind::Imap, SignInMethod::Password),
        ];
        let provider = provider(ways, GuideOrigin::Guessed);
        for (server, kind) in [
            ("https://mail.example.com/", AccessKind::Jmap),
            ("mail.example.com:993", AccessKind::Imap),
        ] {
            assert_eq!(choose(&["--server", server], &provider).unwrap().kind, kind);
        }
    }

    #[test]
    fn ways_and_steps_are_numbered() {
        let way = AccessOption {
            reason: "It is quick",
            duration: "An hour.",
            steps: &["Open the page", "Press the button."],
            ..api_access(AccessKind::Imap)
        };

        let (ways, steps) = (options_text(&[way.clone(), way.clone()]), steps_text("Mail", &way));

        let first = "\n  1. IMAP, by password (recommended)\n     It is quick.\n";
        assert!(ways.contains(first), "{ways}");
        let second = "\n  2. IMAP, by password\n     It is quick.\n     An hour.";
        assert!(ways.ends_with(second), "{ways}");
        assert_eq!(
            steps,
            "\nWhat to do at Mail:\n  1. Open the page.\n  2. Press the button.\n\
             More about it: docs/sources.md#dovecot-cyrus-your-own-server"
        );
    }
}
