//! Settings of a REST source.

use cynosure_engine::rate_limit::Rate;
use cynosure_engine::rest::RestProfile;
use url::Url;

use crate::config::kind::document_format::DocumentFormatSettings;

/// API of a REST source, and its description.
#[derive(Clone, Debug, PartialEq)]
pub struct RestSettings {
    /// `https`; also `http` to a loopback address, or if `allows_plaintext` is set. Without user
    /// name, password, query and fragment.
    pub base_url: Url,
    pub allows_plaintext: bool,
    /// Other hosts to which the server may redirect requests, over https. The host of `base_url`
    /// need not be listed.
    pub allowed_hosts: Vec<String>,
    pub profile: RestProfile,
    pub limits: RestLimits,
    pub format: DocumentFormatSettings,
}

/// Limits of an API, which `[provider.NAME]` may override.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RestLimits {
    /// Requests in flight at once.
    pub in_flight: Option<u32>,
    /// Highest rate, in units.
    pub cap: Option<Rate>,
}
