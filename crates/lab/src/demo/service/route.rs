//! Routes of the service.

use hyper::Method;

use super::session::{API_PATH, DOWNLOAD_PATH, SESSION_PATH};

/// Route that a method and a path select.
#[derive(Debug)]
pub(super) enum DemoRoute<'a> {
    Discovery,
    Session,
    Api,
    Download { account: &'a str, blob: &'a str },
    NotFound,
}

impl<'a> DemoRoute<'a> {
    pub(super) fn parse(method: &Method, path: &'a str) -> Self {
        match (method, path) {
            (&Method::GET, "/.well-known/jmap") => Self::Discovery,
            (&Method::GET, SESSION_PATH) => Self::Session,
            (&Method::POST, API_PATH) => Self::Api,
            (&Method::GET, _) => path
                .strip_prefix(DOWNLOAD_PATH)
                .and_then(|rest| rest.split_once('/'))
                .and_then(|(account, rest)| Some((account, rest.split_once('/')?.0)))
                .map_or(Self::NotFound, |(account, blob)| Self::Download { account, blob }),
            _ => Self::NotFound,
        }
    }
}
