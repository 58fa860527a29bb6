//! Routes: parsed from the path and query of a request.

use cynosure_engine::alert::Severity;
use percent_encoding::percent_decode_str;

/// Entries of a list if the query has no limit.
const LIMIT_DEFAULT: usize = 50;

/// Largest limit that a query may set, so that a response stays readable.
pub(super) const LIMIT_MAX: usize = 1000;

/// A valid request target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Route {
    Page(PageFilter),
    /// Event stream with the changes of the page.
    Events(PageFilter),
    Style,
    Script,
    Icon,
    Health,
    Metrics,
    Overview,
    Sources,
    Providers,
    Alerts {
        limit: usize,
        severity: Option<Severity>,
    },
    Degradation,
    Trends,
    Source {
        name: String,
    },
    History {
        source: String,
        limit: usize,
    },
    Failures {
        source: String,
        limit: usize,
    },
    Summary {
        source: String,
    },
    OpenApi,
}

/// Selection of the alerts and the source that the page shows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct PageFilter {
    /// Shows only alerts of this severity.
    pub(super) severity: Option<Severity>,
    /// Shows the details of this source.
    pub(super) source: Option<String>,
}

/// Error of parsing a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum RouteError {
    NotFound,
    /// A query parameter is invalid; holds the reason.
    InvalidParameter(String),
}

impl Route {
    pub(super) fn parse(path: &str, query: Option<&str>) -> Result<Self, RouteError> {
        let query = QueryParams(query.unwrap_or_default());
        Ok(match path {
            "/" => Self::Page(query.page_filter()),
            "/events" => Self::Events(query.page_filter()),
            "/style.css" => Self::Style,
            "/live.js" => Self::Script,
            "/icon.svg" => Self::Icon,
            "/health" => Self::Health,
            "/metrics" => Self::Metrics,
            "/api/health/overview" => Self::Overview,
            "/api/health/sources" => Self::Sources,
            "/api/health/providers" => Self::Providers,
            "/api/health/alerts" => {
                Self::Alerts { limit: query.limit()?, severity: query.severity()? }
            }
            "/api/health/degradation" => Self::Degradation,
            "/api/trends" => Self::Trends,
            "/api/openapi.json" => Self::OpenApi,
            _ => Self::parse_source(path, &query)?,
        })
    }

    fn parse_source(path: &str, query: &QueryParams<'_>) -> Result<Self, RouteError> {
        let rest = path.strip_prefix("/api/sources/").ok_or(RouteError::NotFound)?;
        let (name, part) = match rest.split_once('/') {
            Some((name, part)) => (name, Some(part)),
            None => (rest, None),
        };
        let name = percent_decode_str(name).decode_utf8().map_err(|_error| RouteError::NotFound)?;
        let name = name.into_owned();
        match part {
            None => Ok(Self::Source { name }),
            Some("history") => Ok(Self::History { source: name, limit: query.limit()? }),
            Some("failures") => Ok(Self::Failures { source: name, limit: query.limit()? }),
            Some("summary") => Ok(Self::Summary { source: name }),
            Some(_) => Err(RouteError::NotFound),
        }
    }
}

struct QueryParams<'q>(&'q str);

impl QueryParams<'_> {
    /// Returns the first value of a parameter. An empty value, as HTML forms send it, counts as
    /// missing.
    fn get(&self, key: &str) -> Option<String> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(name, _)| *name == key)?;
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8_lossy().into_owned();
        (!value.is_empty()).then_some(value)
    }

    fn limit(&self) -> Result<usize, RouteError> {
        let Some(text) = self.get("limit") else { return Ok(LIMIT_DEFAULT) };
        let limit = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok());
        limit.flatten().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
            RouteError::InvalidParameter(format!(
                "limit must be a whole number from 1 to {LIMIT_MAX}"
            ))
        })
    }

    fn severity(&self) -> Result<Option<Severity>, RouteError> {
        let Some(text) = self.get("severity") else { return Ok(None) };
        Severity::from_name(&text).map(Some).ok_or_else(|| {
            let names = Severity::ALL.map(Severity::name).join(", ");
            RouteError::InvalidParameter(format!("severity must be one of {names}"))
        })
    }

    /// Ignores an invalid severity, so that a mistyped address still shows the page.
    fn page_filter(&self) -> PageFilter {
        let severity = self.severity().ok().flatten();
        PageFilter { severity, source: self.get("source") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_parses_to_its_route() {
        assert_eq!(Route::parse("/", None), Ok(Route::Page(PageFilter::default())));
        assert_eq!(Route::parse("/health", Some("x=1")), Ok(Route::Health));
        assert_eq!(
            Route::parse("/api/sources/wo%2Drk/history", Some("limit=7")),
            Ok(Route::History { source: "wo-rk".to_owned(), limit: 7 })
        );
        assert_eq!(
            Route::parse("/api/sources/a", None),
            Ok(Route::Source { name: "a".to_owned() })
        );
        assert_eq!(
            Route::parse("/api/sources/a/summary", None),
            Ok(Route::Summary { source: "a".to_owned() })
        );
        for path in
            ["", "/x", "//", "/health/", "/api", "/api/sources/a/b", "/api/sources/%ff", "*"]
        {
            assert_eq!(Route::parse(path, None), Err(RouteError::NotFound), "{path}");
        }
    }

    #[test]
    fn bad_parameters_fail_in_the_api_and_not_on_the_page() {
        let alerts = |query| Route::parse("/api/health/alerts", Some(query));
        let parsed = |limit, severity| Ok(Route::Alerts { limit, severity });
        assert_eq!(alerts(""), parsed(LIMIT_DEFAULT, None));
        assert_eq!(alerts("limit=1000&severity=critical"), parsed(1000, Some(Severity::Critical)));
        assert_eq!(alerts("severity="), parsed(LIMIT_DEFAULT, None));
        for query in
            ["limit=0", "limit=1001", "limit=-1", "limit=%2B5", "limit=1e3", "severity=bad"]
        {
            assert!(matches!(alerts(query), Err(RouteError::InvalidParameter(_))), "{query}");
        }
        let filter = PageFilter { severity: None, source: Some("my work".to_owned()) };
        assert_eq!(Route::parse("/", Some("severity=bad&source=my+work")), Ok(Route::Page(filter)));
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parsing_any_target_never_panics(path: String, query: Option<String>) {
            drop(Route::parse(&path, query.as_deref()));
            drop(Route::parse(&format!("/api/sources/{path}"), query.as_deref()));
        }
    }
}
