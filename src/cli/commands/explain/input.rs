//! Input of `explain`: a response from the command line or a ledger, and the policies for it.

use std::io::Read;
use std::path::Path;

use cynosure_engine::rate_limit::{HeaderNames, RateLimitPolicy, ReportedLimits, parse_headers};
use cynosure_engine::rest::TableName;
use cynosure_engine::{
    Cause, ErrorRule, ItemId, RequestScope, Timestamp, is_unsafe_for_terminal, sanitize_line,
};

use super::args::{ExplainArgs, ScopeArg};
use super::profile::{ExplainedProfile, default_table, has_profile_rules, scope_of};
use crate::app::context::AppContext;
use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::app::sources::{SourceRef, select_sources};
use crate::cli::args::CommonArgs;
use crate::config::{self, EnvVars, Settings};
use crate::ledger::StoredResponse;

/// Maximum size of a body, in bytes: the worker reads as much of an error response.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// Path that stands for standard input.
const STDIN_ARG: &str = "-";

/// Response to explain.
#[derive(Debug)]
pub(super) struct ExplainInput {
    pub status: u16,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub scopes: Vec<RequestScope>,
    /// Table of the profile whose request was answered; if `None`, the one that the scope implies.
    pub table: Option<TableName>,
    /// Time at which it arrived.
    pub at: Timestamp,
    /// Number of failed attempts at the item, this one included.
    pub attempt: u32,
    /// Number of earlier quarantines of the item.
    pub quarantine_count: u32,
    pub origin: Option<ResponseOrigin>,
}

/// Origin of a recorded response.
#[derive(Debug)]
pub(super) struct ResponseOrigin {
    pub source: String,
    /// `None` for a response to the listing or the session.
    pub item: Option<String>,
    /// Cause determined when it was recorded.
    pub cause: Option<Cause>,
    /// True if only the beginning of the body was stored.
    pub is_truncated: bool,
}

/// Settings and policies that determine the classification and its consequences.
#[derive(Debug)]
pub(super) struct ExplainPolicies {
    pub settings: Settings,
    pub provider: Option<String>,
    /// True if several providers could apply, none was named, and some have error rules.
    pub is_provider_ambiguous: bool,
    pub rules: Vec<ErrorRule>,
    pub profile: Option<ExplainedProfile>,
    /// True if no profile is selected, and some sources have profiles with rules.
    pub is_profile_ambiguous: bool,
    pub rate_limit_policy: RateLimitPolicy,
    pub header_names: HeaderNames,
}

impl ExplainInput {
    pub(super) fn header_pairs(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Returns the table whose request was answered, if its scope was this one.
    pub(super) fn table_for(&self, scope: RequestScope) -> TableName {
        self.table.unwrap_or_else(|| default_table(scope))
    }

    /// Parses the rate-limit headers.
    pub(super) fn rate_limit_headers(&self, policies: &ExplainPolicies) -> ReportedLimits {
        parse_headers(&self.header_pairs(), &policies.header_names, self.at)
    }
}

/// Returns the response from the command line or the ledger, and the policies for it.
///
/// # Errors
/// An invalid argument or configuration, or no recorded response.
pub(super) fn collect_input(
    common: &CommonArgs,
    args: &ExplainArgs,
    now: Timestamp,
) -> Result<(ExplainInput, ExplainPolicies), ProgramError> {
    let context = find_context(common)?;
    let (mut input, policies) = match args.status {
        Some(status) => {
            let input = input_from_args(status, args, now)?;
            (input, select_policies(settings_of(context.as_ref())?, args)?)
        }
        None => {
            let Some(context) = context else {
                let message = "there is no configuration, and so no recorded response: name one \
                               with --config FILE, or give a response with --status";
                return Err(ProgramError::new(ProgramExit::Configuration, message));
            };
            recorded_input(&context, args)?
        }
    };
    if let Some(table) = args.table {
        if policies.profile.is_none() {
            let message = "--table names a table of a profile, and no profile is selected: add \
                           --profile NAME, or --source NAME for a source with a profile";
            return Err(ProgramError::Usage(message.to_owned()));
        }
        (input.table, input.scopes) = (Some(table), vec![scope_of(table)]);
    }
    Ok((input, policies))
}

/// Returns the policies for a response from the command line.
///
/// # Errors
/// An invalid configuration, or a provider or source that is not in it.
pub(super) fn collect_policies(
    common: &CommonArgs,
    args: &ExplainArgs,
) -> Result<ExplainPolicies, ProgramError> {
    let context = find_context(common)?;
    select_policies(settings_of(context.as_ref())?, args)
}

/// Returns the settings of the configuration, or the defaults if there is none.
fn settings_of(context: Option<&AppContext>) -> Result<Settings, ProgramError> {
    match context {
        Some(context) => Ok(context.loaded.settings.clone()),
        None => config::load_defaults(&EnvVars::from_process())
            .map(|loaded| loaded.settings)
            .map_err(|error| ProgramError::new(ProgramExit::Configuration, error.to_string())),
    }
}

/// Loads the configuration. `None` if there is none: a response from the command line needs none.
fn find_context(common: &CommonArgs) -> Result<Option<AppContext>, ProgramError> {
    let location = common.config_location();
    if location.config_file.is_none() && location.find_config_file().is_err() {
        return Ok(None);
    }
    AppContext::load(&location).map(Some)
}

fn input_from_args(
    status: u16,
    args: &ExplainArgs,
    now: Timestamp,
) -> Result<ExplainInput, ProgramError> {
    let headers: Result<Vec<_>, ProgramError> =
        args.headers.iter().map(|text| parse_header(text)).collect();
    let body = args.body.as_deref().map(read_body).transpose()?.unwrap_or_default();
    let scopes = match args.scope {
        None => vec![RequestScope::Item, RequestScope::Listing, RequestScope::Session],
        Some(scope) => vec![to_request_scope(scope)],
    };
    Ok(ExplainInput {
        status,
        headers: headers?,
        body,
        scopes,
        table: None,
        at: now,
        attempt: 1,
        quarantine_count: 0,
        origin: None,
    })
}

fn to_request_scope(scope: ScopeArg) -> RequestScope {
    match scope {
        ScopeArg::Item => RequestScope::Item,
        ScopeArg::Listing => RequestScope::Listing,
        ScopeArg::Session => RequestScope::Session,
    }
}

/// Parses `Name: value`.
fn parse_header(text: &str) -> Result<(String, String), ProgramError> {
    let usage_error = |problem: &str| {
        Err(ProgramError::Usage(format!(
            "--header '{}' {problem}: write 'Name: value'",
            sanitize_line(text)
        )))
    };
    let Some((name, value)) = text.split_once(':') else { return usage_error("has no colon") };
    // A token, RFC 9110 §5.6.2.
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return usage_error("has an invalid header name");
    }
    if value.chars().any(|c| is_unsafe_for_terminal(c) && c != '\t') {
        return usage_error("has a control character in its value");
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn read_body(path: &Path) -> Result<String, ProgramError> {
    let mut bytes = Vec::new();
    let result = if path == Path::new(STDIN_ARG) {
        std::io::stdin().lock().take(BODY_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        fs_err::File::open(path).and_then(|file| file.take(BODY_BYTES_MAX).read_to_end(&mut bytes))
    };
    match result {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            let message = format!("cannot read the body: {}", sanitize_line(&error.to_string()));
            Err(ProgramError::new(ProgramExit::Other, message))
        }
    }
}

/// Returns the recorded response of an item, or of the session.
fn recorded_input(
    context: &AppContext,
    args: &ExplainArgs,
) -> Result<(ExplainInput, ExplainPolicies), ProgramError> {
    let sources = select_sources(context, args.source.as_deref())?;
    let found = match &args.item {
        Some(item) => last_item_response(&sources, item)?,
        None => last_session_response(&sources)?,
    };
    let Some((source, mut input)) = found else {
        let message = match &args.item {
            Some(item) => format!(
                "no response is stored for item {item}: it did not fail, or the server did not \
                 respond; `cynosure failures` shows what has failed",
                item = sanitize_line(item)
            ),
            None => "no response of a failed session is stored; use --item to explain that of an \
                     item, or --status to give one"
                .to_owned(),
        };
        return Err(ProgramError::new(ProgramExit::Other, message));
    };
    if let Some(scope) = args.scope {
        input.scopes = vec![to_request_scope(scope)];
    }
    let named = args.provider.clone();
    let provider = named.or_else(|| source.settings.as_ref().map(|source| source.provider.clone()));
    let profile = match &args.profile {
        Some(name) => Some(ExplainedProfile::named(name)?),
        None => source.settings.as_ref().and_then(ExplainedProfile::of_source),
    };
    Ok((input, ExplainPolicies::new(context.loaded.settings.clone(), provider, profile)))
}

fn last_item_response<'s>(
    sources: &'s [SourceRef],
    item: &str,
) -> Result<Option<(&'s SourceRef, ExplainInput)>, ProgramError> {
    let id = ItemId::new(item);
    for source in sources {
        let Some(ledger) = source.open_ledger()? else { continue };
        let Some(row) = ledger.item_report(&id)? else { continue };
        let Some(stored) = row.last_response else { continue };
        let origin = ResponseOrigin {
            source: source.name.to_string(),
            item: Some(row.item.as_str().to_owned()),
            cause: row.cause,
            is_truncated: stored.response.is_truncated,
        };
        let mut input = ExplainInput::from_recorded(stored, vec![RequestScope::Item], origin);
        input.attempt = row.attempts.max(1);
        input.quarantine_count = row.quarantine_count.saturating_sub(1);
        return Ok(Some((source, input)));
    }
    Ok(None)
}

/// Returns the newest response of a failed session, of any of the sources.
fn last_session_response(
    sources: &[SourceRef],
) -> Result<Option<(&SourceRef, ExplainInput)>, ProgramError> {
    let mut newest: Option<(&SourceRef, ExplainInput)> = None;
    for source in sources {
        let Some(ledger) = source.open_ledger()? else { continue };
        let Some(stored) = ledger.session_response()? else { continue };
        if newest.as_ref().is_none_or(|(_, newest)| newest.at < stored.at) {
            let origin = ResponseOrigin {
                source: source.name.to_string(),
                item: None,
                cause: None,
                is_truncated: stored.response.is_truncated,
            };
            let scopes = vec![RequestScope::Listing, RequestScope::Session];
            newest = Some((source, ExplainInput::from_recorded(stored, scopes, origin)));
        }
    }
    Ok(newest)
}

impl ExplainInput {
    fn from_recorded(
        stored: StoredResponse,
        scopes: Vec<RequestScope>,
        origin: ResponseOrigin,
    ) -> Self {
        let StoredResponse { at, response } = stored;
        Self {
            status: response.status,
            headers: response.headers,
            body: response.body,
            scopes,
            table: None,
            at,
            attempt: 1,
            quarantine_count: 0,
            origin: Some(origin),
        }
    }
}

/// Selects the provider and the profile whose rules apply: the named ones, those of the source, or
/// the only ones.
fn select_policies(
    settings: Settings,
    args: &ExplainArgs,
) -> Result<ExplainPolicies, ProgramError> {
    let named_profile = args.profile.as_deref().map(ExplainedProfile::named).transpose()?;
    if let Some(source) = &args.source {
        let source = settings.find_source(source)?.1;
        let provider = args.provider.clone().unwrap_or_else(|| source.provider.clone());
        let profile = named_profile.or_else(|| ExplainedProfile::of_source(source));
        return Ok(ExplainPolicies::new(settings, Some(provider), profile));
    }
    let mut known = known_providers(&settings);
    let provider = match (&args.provider, &named_profile) {
        (Some(named), _) if known.contains(named) => Some(named.clone()),
        (Some(named), _) => {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!(
                "there is no provider {} in the configuration; known providers: {known}",
                sanitize_line(named)
            );
            return Err(ProgramError::new(ProgramExit::Configuration, message));
        }
        // The rules of another provider say nothing about the responses of this one.
        (None, Some(profile)) => profile.provider(&settings),
        (None, None) => (known.len() == 1).then(|| known.remove(0)),
    };
    let is_unselected = provider.is_none() && named_profile.is_none();
    let has_rules = settings.providers.values().any(|provider| !provider.error_rules.is_empty());
    let profile =
        named_profile.or_else(|| ExplainedProfile::of_provider(&settings, provider.as_deref()?));
    Ok(ExplainPolicies {
        is_provider_ambiguous: is_unselected && has_rules,
        is_profile_ambiguous: profile.is_none()
            && has_profile_rules(&settings, provider.as_deref()),
        ..ExplainPolicies::new(settings, provider, profile)
    })
}

/// Returns the providers of the sources and of the configuration, sorted.
fn known_providers(settings: &Settings) -> Vec<String> {
    let source_providers = settings.sources.values().map(|source| &source.provider);
    let mut known: Vec<String> =
        source_providers.chain(settings.providers.keys()).cloned().collect();
    known.sort();
    known.dedup();
    known
}

impl ExplainPolicies {
    pub(super) fn new(
        settings: Settings,
        provider: Option<String>,
        profile: Option<ExplainedProfile>,
    ) -> Self {
        let rules = provider.as_deref().map_or(&[][..], |provider| settings.error_rules(provider));
        let provider_name = provider.as_deref().unwrap_or_default();
        Self {
            is_provider_ambiguous: false,
            rules: rules.to_vec(),
            profile,
            is_profile_ambiguous: false,
            rate_limit_policy: settings.rate_limit_policy(provider_name),
            header_names: settings.provider_or_default(provider_name).headers,
            provider,
            settings,
        }
    }
}
