//! What is to be explained, from the command line or from a ledger, and by which settings.

use std::io::Read;
use std::path::Path;

use crate::cli::args::{self, CommonArgs, ExplainArgs};
use crate::cli::context::{AppContext, find_config_file};
use crate::cli::error::CliError;
use crate::cli::exit::ProgramExit;
use crate::cli::sources::{SourceRef, select_sources};
use crate::config::{self, EnvVars, Settings};
use crate::engine::rate_limit::{HeaderNames, RateLimitHeaders, RateLimitPolicy, parse_headers};
use crate::engine::{
    Backoff, Cause, ErrorRule, ItemId, ItemRetryPolicy, RequestScope, Timestamp,
    is_unsafe_for_terminal, sanitize_line,
};
use crate::ledger::StoredResponse;
use crate::worker::{download_policies, rate_limit_config, session_backoff};

/// How much of a body is read, in bytes: as much as the worker reads of a refusal.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// What is read from standard input.
const STDIN_ARG: &str = "-";

/// A reply to be explained.
#[derive(Debug)]
pub(super) struct ExplainInput {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub scopes: Vec<RequestScope>,
    /// When it came.
    pub at: Timestamp,
    /// How often the item had failed, this time included.
    pub attempt: u32,
    /// How often the item had been given up before.
    pub quarantine_count: u32,
    pub origin: Option<ReplyOrigin>,
}

/// Where a reply was recorded.
#[derive(Debug)]
pub(super) struct ReplyOrigin {
    pub source: String,
    /// None for the reply to the listing or the session.
    pub item: Option<String>,
    /// What it was judged to be then.
    pub cause: Option<Cause>,
    /// Not all of the body was kept.
    pub is_truncated: bool,
}

/// What it is judged by.
#[derive(Debug)]
pub(super) struct ExplainPolicies {
    pub settings: Settings,
    pub provider: Option<String>,
    /// The provider was not named, and there are several.
    pub is_provider_ambiguous: bool,
    pub rules: Vec<ErrorRule>,
    pub backoff: Backoff,
    pub item_policy: ItemRetryPolicy,
    pub rate_limit_policy: RateLimitPolicy,
    pub header_names: HeaderNames,
}

impl ExplainInput {
    pub(super) fn header_pairs(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// What the headers say about limits.
    pub(super) fn rate_limit_headers(&self, basis: &ExplainPolicies) -> RateLimitHeaders {
        parse_headers(&self.header_pairs(), &basis.header_names, self.at)
    }
}

/// Gathers what was typed, or recorded, and what it is judged by.
///
/// # Errors
/// A sentence that says what is wrong with what was typed, or that nothing was recorded.
pub(super) fn collect_input(
    common: &CommonArgs,
    args: &ExplainArgs,
    now: Timestamp,
) -> Result<(ExplainInput, ExplainPolicies), CliError> {
    let ground = find_context(common)?;
    match args.status {
        Some(status) => {
            let asked = input_from_args(status, args, now)?;
            let environment = EnvVars::from_process();
            let settings = match &ground {
                Some(ground) => ground.loaded.settings.clone(),
                None => {
                    let loaded = config::load_defaults(&environment);
                    loaded
                        .map_err(|why| CliError::new(ProgramExit::Configuration, why.to_string()))?
                        .settings
                }
            };
            let basis = select_policies(settings, args)?;
            Ok((asked, basis))
        }
        None => {
            let Some(ground) = ground else {
                let why = "without a configuration there is nothing recorded: name one with --config FILE, or give \
                           a reply with --status";
                return Err(CliError::new(ProgramExit::Configuration, why));
            };
            recorded_input(&ground, args)
        }
    }
}

/// Finds the configuration; none is needed for a reply that was typed.
fn find_context(common: &CommonArgs) -> Result<Option<AppContext>, CliError> {
    if common.config.is_none() && find_config_file(common).is_err() {
        return Ok(None);
    }
    let found =
        AppContext::load(common).map_err(|why| CliError::new(ProgramExit::Configuration, why))?;
    Ok(Some(found))
}

fn input_from_args(
    status: u16,
    args: &ExplainArgs,
    now: Timestamp,
) -> Result<ExplainInput, CliError> {
    let headers: Result<Vec<_>, CliError> =
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
        at: now,
        attempt: 1,
        quarantine_count: 0,
        origin: None,
    })
}

fn to_request_scope(scope: args::ScopeArg) -> RequestScope {
    match scope {
        args::ScopeArg::Item => RequestScope::Item,
        args::ScopeArg::Listing => RequestScope::Listing,
        args::ScopeArg::Session => RequestScope::Session,
    }
}

/// Reads `Name: value`.
fn parse_header(text: &str) -> Result<(String, String), CliError> {
    let refuse = |what: &str| {
        Err(CliError::Usage(format!(
            "--header '{}' {what}: write 'Name: value'",
            sanitize_line(text)
        )))
    };
    let Some((name, value)) = text.split_once(':') else { return refuse("has no colon") };
    // A token, RFC 9110 §5.6.2.
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return refuse("has a name that no header can have");
    }
    if value.chars().any(|c| is_unsafe_for_terminal(c) && c != '\t') {
        return refuse("has a control character in its value");
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn read_body(path: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new(STDIN_ARG) {
        std::io::stdin().lock().take(BODY_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        fs_err::File::open(path).and_then(|file| file.take(BODY_BYTES_MAX).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            let why = format!("cannot read the body: {}", sanitize_line(&error.to_string()));
            Err(CliError::new(ProgramExit::Other, why))
        }
    }
}

/// Finds the reply that was recorded of an item, or of the session.
fn recorded_input(
    ground: &AppContext,
    args: &ExplainArgs,
) -> Result<(ExplainInput, ExplainPolicies), CliError> {
    let sources = select_sources(ground, args.source.as_deref())?;
    let found = match &args.item {
        Some(item) => last_item_reply(&sources, item)?,
        None => last_session_reply(&sources)?,
    };
    let Some((source, mut asked)) = found else {
        let why = match &args.item {
            Some(item) => format!(
                "no reply is kept of an item {item}: it did not fail, or the server did not answer; \
                 `cynosure failures` shows what has failed",
                item = sanitize_line(item)
            ),
            None => {
                "no reply of a failed session is kept; --item explains that of an item, --status \
                     one of your own"
                    .to_owned()
            }
        };
        return Err(CliError::new(ProgramExit::Other, why));
    };
    if let Some(scope) = args.scope {
        asked.scopes = vec![to_request_scope(scope)];
    }
    let named = args.provider.clone();
    let provider = named.or_else(|| source.settings.as_ref().map(|source| source.provider.clone()));
    Ok((asked, ExplainPolicies::new(ground.loaded.settings.clone(), provider)))
}

fn last_item_reply<'s>(
    sources: &'s [SourceRef],
    item: &str,
) -> Result<Option<(&'s SourceRef, ExplainInput)>, CliError> {
    let id = ItemId::new(item);
    for source in sources {
        let Some(ledger) = source.open_ledger()? else { continue };
        let Some(row) = ledger.item_failure(&id)? else { continue };
        let Some(replied) = row.last_response else { continue };
        let recorded = ReplyOrigin {
            source: source.name.to_string(),
            item: Some(row.item.as_str().to_owned()),
            cause: row.cause,
            is_truncated: replied.response.is_truncated,
        };
        let mut asked = ExplainInput::from_recorded(replied, vec![RequestScope::Item], recorded);
        asked.attempt = row.attempts.max(1);
        asked.quarantine_count = row.quarantine_count.saturating_sub(1);
        return Ok(Some((source, asked)));
    }
    Ok(None)
}

/// Of several sources, the one that failed last.
fn last_session_reply(
    sources: &[SourceRef],
) -> Result<Option<(&SourceRef, ExplainInput)>, CliError> {
    let mut newest: Option<(&SourceRef, ExplainInput)> = None;
    for source in sources {
        let Some(ledger) = source.open_ledger()? else { continue };
        let Some(replied) = ledger.session_response()? else { continue };
        if newest.as_ref().is_none_or(|(_, newest)| newest.at < replied.at) {
            let recorded = ReplyOrigin {
                source: source.name.to_string(),
                item: None,
                cause: None,
                is_truncated: replied.response.is_truncated,
            };
            let scopes = vec![RequestScope::Listing, RequestScope::Session];
            newest = Some((source, ExplainInput::from_recorded(replied, scopes, recorded)));
        }
    }
    Ok(newest)
}

impl ExplainInput {
    fn from_recorded(
        replied: StoredResponse,
        scopes: Vec<RequestScope>,
        recorded: ReplyOrigin,
    ) -> Self {
        let StoredResponse { at, response: reply } = replied;
        Self {
            status: reply.status,
            headers: reply.headers,
            body: reply.body,
            scopes,
            at,
            attempt: 1,
            quarantine_count: 0,
            origin: Some(recorded),
        }
    }
}

/// Finds by whose rules a reply is judged: the provider named, that of the source, or the only one.
fn select_policies(settings: Settings, args: &ExplainArgs) -> Result<ExplainPolicies, CliError> {
    if let Some(source) = &args.source {
        let provider = settings.find_source(source)?.1.provider.clone();
        return Ok(ExplainPolicies::new(settings, Some(args.provider.clone().unwrap_or(provider))));
    }
    let of_sources = settings.sources.values().map(|source| &source.provider);
    let mut known: Vec<String> = of_sources.chain(settings.providers.keys()).cloned().collect();
    known.sort();
    known.dedup();
    if let Some(named) = &args.provider {
        if !known.contains(named) {
            let all = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let why = format!(
                "no provider {} is in the configuration; it has {all}",
                sanitize_line(named)
            );
            return Err(CliError::new(ProgramExit::Configuration, why));
        }
        return Ok(ExplainPolicies::new(settings, Some(named.clone())));
    }
    let has_rules = settings.providers.values().any(|provider| !provider.error_rules.is_empty());
    let only = (known.len() == 1).then(|| known.remove(0));
    let is_undecided = only.is_none() && has_rules;
    Ok(ExplainPolicies {
        is_provider_ambiguous: is_undecided,
        ..ExplainPolicies::new(settings, only)
    })
}

impl ExplainPolicies {
    pub(super) fn new(settings: Settings, provider: Option<String>) -> Self {
        let rules = provider.as_deref().map_or(&[][..], |provider| settings.error_rules(provider));
        let gate = rate_limit_config(&settings, provider.as_deref().unwrap_or_default());
        Self {
            is_provider_ambiguous: false,
            rules: rules.to_vec(),
            backoff: session_backoff(&settings),
            item_policy: download_policies(&settings).item,
            rate_limit_policy: gate.policy,
            header_names: gate.provider.headers,
            provider,
            settings,
        }
    }
}
