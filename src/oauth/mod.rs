//! OAuth 2.0: signs an account in, and keeps its access token valid (RFC 6749).
//!
//! An account signs in once: in a browser on this machine ([`sign_in_by_browser`]), in a browser
//! elsewhere ([`PastedSignIn`]), or by a code that is entered elsewhere ([`sign_in_by_device`]).
//! The tokens are stored in a [`TokenFile`]. From then on, [`AccessTokens`] refreshes them. An
//! application needs no sign-in: [`ApplicationTokens`] gets its tokens by the key of a service
//! account or by a client secret, and keeps them in memory.
//!
//! A refresh token may be valid once: a new one is durable before the access token of the same
//! grant is used, and processes with the same token file refresh one after the other. Only a refusal
//! by the authorization server ends a sign-in, never a server that is down.

mod access_token;
mod application_tokens;
mod assertion;
mod authorization;
mod client;
mod device;
mod error;
mod grant;
mod in_flight;
mod loopback;
mod paste;
mod pkce;
mod task;
mod token_file;
mod token_life;
mod token_lock;

pub use self::access_token::{AccessTokens, ClientSecretFuture};
pub use self::application_tokens::{ApplicationTokens, GrantFuture};
pub use self::assertion::ServiceAccountKey;
pub use self::client::{OAuthClient, OAuthEndpoints};
pub use self::device::{DevicePrompt, sign_in_by_device};
pub use self::error::{OAuthDenial, OAuthError};
pub use self::grant::TokenGrant;
pub use self::in_flight::RefreshesInFlight;
pub use self::loopback::sign_in_by_browser;
pub use self::paste::PastedSignIn;
pub use self::token_file::{StoredToken, TokenFile, TokenFileError};
