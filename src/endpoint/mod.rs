//! Read-only HTTP server: dashboard, JSON and metrics, all rendered from snapshots. A slow or busy
//! client never delays the monitor.
//!
//! ```text
//! DashboardData ──Snapshot, at most once a second──▶ EndpointService ──▶ page, JSON, metrics
//!                                                         ▲
//!                  auth, limiter, timeouts ───────────────┘ with its own thread and runtime
//! ```
//!
//! [`view`] holds the data to show; the caller implements [`view::DashboardData`]. Each limit is a
//! constant next to the code that enforces it: connections, request headers and timeouts in
//! `server`, requests in `limiter`, reads in `data_reader`, event streams in `service`.
//!
//! Routing is our own. A trial with axum 0.8 had 5,096 lines instead of 5,095 and three crates
//! more. A dozen answers differed, among them 405 with `Allow`, `HEAD`, `application/problem+json`
//! for bad requests, and those of limits that apply before routing.

mod api;
mod events;
mod page;
mod response;
mod route;
mod server;
pub mod view;

pub use self::server::{BindError, EndpointConfig, HttpServer, Listeners, Token};
