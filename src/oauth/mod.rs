//! OAuth 2.0: signs an account in, and keeps its access token valid (RFC 6749).
//!
//! An account signs in once: in a browser on this machine ([`sign_in_by_browser`]), in a browser
//! elsewhere ([`PastedSignIn`]), or by a code that is entered elsewhere ([`sign_in_by_device`]).
//! The tokens are stored in a [`TokenFile`]. From then on, [`AccessTokens`] refreshes them.
//!
//! A refresh token may be valid once: a new one is durable before the access token of the same
//! grant is used. Only a refusal by the authorization server ends a sign-in, never a server that is
//! down.

mod access_token;
mod authorization;
mod client;
mod device;
mod error;
mod grant;
mod loopback;
mod paste;
mod pkce;
mod token_file;

pub use self::access_token::AccessTokens;
pub use self::client::{OAuthClient, OAuthEndpoints};
pub use self::device::{DevicePrompt, sign_in_by_device};
pub use self::error::{OAuthDenial, OAuthError};
pub use self::grant::TokenGrant;
pub use self::loopback::sign_in_by_browser;
pub use self::paste::PastedSignIn;
pub use self::token_file::{StoredToken, TokenFile, TokenFileError};
