//! Request, decoded for the APIs.

use std::str::FromStr;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Uri};
use percent_encoding::percent_decode_str;

/// Maximum bytes of a form.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Request with its form, if it has one.
#[derive(Debug)]
pub(super) struct DemoRequest {
    method: Method,
    raw_path: String,
    segments: Vec<String>,
    query: Vec<(String, String)>,
    form: Vec<(String, String)>,
    headers: HeaderMap,
}

impl DemoRequest {
    /// Receives the rest of a request. A body that is cut or too long counts as empty, and the API
    /// then misses its fields.
    pub(super) async fn read(request: Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, FORM_BYTES_MAX).collect().await;
        let form = body.map(|body| body.to_bytes()).unwrap_or_default();
        Self::new(head.method, &head.uri, head.headers, &form)
    }

    fn new(method: Method, uri: &Uri, headers: HeaderMap, form: &[u8]) -> Self {
        Self {
            method,
            raw_path: uri.path().to_owned(),
            segments: uri.path().split('/').skip(1).map(decode).collect(),
            query: parse_pairs(uri.query().unwrap_or_default()),
            form: parse_pairs(&String::from_utf8_lossy(form)),
            headers,
        }
    }

    pub(super) fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    pub(super) fn is_post(&self) -> bool {
        self.method == Method::POST
    }

    /// Returns the path as it was sent.
    pub(super) fn raw_path(&self) -> &str {
        &self.raw_path
    }

    /// Returns the decoded segments of the path.
    pub(super) fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    /// Returns the first parameter of the query with this name.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// Returns every parameter of the query with this name.
    pub(super) fn queries<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.query.iter().filter(move |(key, _)| key == name);
        pairs.map(|(_, value)| value.as_str())
    }

    /// Returns a parameter of the query as a number: `Ok(None)` without one, and an error with its
    /// text if it is none.
    pub(super) fn query_number<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        match self.query(name) {
            None => Ok(None),
            Some(text) => text.parse().ok().map(Some).ok_or_else(|| text.to_owned()),
        }
    }

    /// Returns the first field of the form with this name.
    pub(super) fn form(&self, name: &str) -> Option<&str> {
        find(&self.form, name)
    }

    /// Returns a header; all of this name, with commas between them.
    pub(super) fn header(&self, name: HeaderName) -> String {
        let values = self.headers.get_all(name);
        let texts: Vec<&str> = values.iter().filter_map(|value| value.to_str().ok()).collect();
        texts.join(", ")
    }

    /// Returns the value of a cookie (RFC 6265 §5.4).
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let cookies = self.headers.get(header::COOKIE).map(HeaderValue::to_str)?.ok()?;
        let pairs = cookies.split(';').filter_map(|cookie| cookie.trim().split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

#[cfg(test)]
impl DemoRequest {
    pub(super) fn get(uri: &str) -> Self {
        Self::new(Method::GET, &uri.parse().unwrap(), HeaderMap::new(), b"")
    }

    pub(super) fn post(uri: &str, form: &str) -> Self {
        Self::new(Method::POST, &uri.parse().unwrap(), HeaderMap::new(), form.as_bytes())
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }
}

/// Parses `application/x-www-form-urlencoded`, the form of queries too.
fn parse_pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let pair = pair.replace('+', " ");
            let (name, value) = pair.split_once('=').unwrap_or((pair.as_str(), ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_query_and_cookies_are_decoded() {
        let request = DemoRequest::get("/a%2Fb/c?$top=5&x=1+2%2B&x=%7B%7D&flag")
            .with_header(header::COOKIE, "Mpop=1:a@b; sdcs=x=; ssdc=");

        assert_eq!(request.path(), ["a/b", "c"]);
        assert_eq!(request.raw_path(), "/a%2Fb/c");
        assert_eq!(request.queries("x").collect::<Vec<_>>(), ["1 2+", "{}"]);
        assert_eq!(request.query_number::<u32>("$top"), Ok(Some(5)));
        assert_eq!(request.query_number::<u32>("x"), Err("1 2+".to_owned()));
        assert_eq!((request.query("flag"), request.query("y")), (Some(""), None));
        let cookies = ["Mpop", "sdcs", "ssdc", "other"].map(|name| request.cookie(name));
        assert_eq!(cookies, [Some("1:a@b"), Some("x="), Some(""), None]);
    }

    #[test]
    fn a_form_is_read_as_a_query_is() {
        let request = DemoRequest::post("/x", "id=1%3A2&mark_read=false");

        assert_eq!((request.form("id"), request.form("mark_read")), (Some("1:2"), Some("false")));
        assert!(request.is_post() && !request.is_get());
    }
}
