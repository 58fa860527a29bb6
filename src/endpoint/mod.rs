//! Shows what is, to people and programs, over HTTP: read only, from snapshots, and never at the cost of
//! whoever makes them.
//!
//! ```text
//! Lookout ──Snapshot, once a second at most──▶ Service ──▶ page, JSON, metrics
//!                                                ▲
//!             limiter, guard, time limits ───────┘ a thread and a runtime of its own
//! ```
//!
//! [`view`] says what there is to show; whoever serves it implements [`view::DashboardData`]. Each of
//! the limits has a name where it holds: connections, heads and time in `server`, requests in
//! `limiter`, streams and ledgers in `service`.

mod api;
mod events;
mod page;
mod response;
mod route;
mod server;
pub mod view;

pub use self::server::{BindError, EndpointConfig, HttpServer, Listeners, Token};
