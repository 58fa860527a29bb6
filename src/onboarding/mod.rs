//! Mail providers and their servers, and new sources in a configuration.
//!
//! A guide says how to read a mailbox at a provider: [`find_guide`] knows the large providers by
//! the domain of the address, [`discover`] asks the network, and [`own_server_guide`] guesses.
//! [`new_config`] and [`add_source`] write the source that was chosen. A host that was found over
//! the network may be forged, so it is shown to the person before it gets a password.

mod access;
mod address;
mod autoconfig;
mod config_text;
mod discovery;
mod dns;
mod guide_steps;
mod guides;
mod host_name;
mod known_provider;
mod new_source;
mod source_name;
mod web_client;

pub use self::access::{
    AccessKind, AccessOption, ProviderGuide, ServerAddress, ServerSecurity, SignInMethod,
};
pub use self::address::MailAddress;
pub use self::config_text::{add_source, new_config};
pub use self::discovery::{Discovery, DiscoveryOptions, discover};
pub use self::guides::{find_guide, own_server_guide};
pub use self::new_source::{NewSource, NewSourceAuth};
pub use self::source_name::suggest_source_name;
