//! Quota rules of a provider: the cost of HTTP requests, and the headers that report its limits.

use cynosure_engine::Timestamp;
use cynosure_engine::rate_limit::{
    HeaderNames, ReportedLimits, RouteCost, find_route, parse_headers,
};
use url::Url;

use crate::limiter::QuotaScope;
use crate::source::http::request::{QuotaUse, host};

/// Meaning of requests and response headers for the quota of a provider.
#[derive(Clone, Debug, Default)]
pub struct QuotaRules {
    pub header_names: HeaderNames,
    /// The first route whose path matches applies; a request that matches none costs one unit.
    pub routes: Vec<RouteCost>,
}

impl QuotaRules {
    /// Returns the scope of a request for `url`, and its cost in units: that of its route, or else
    /// of its `quota`.
    pub(super) fn scope_and_cost<'a>(
        &'a self,
        url: &'a Url,
        quota: Option<QuotaUse>,
    ) -> (QuotaScope<'a>, u32) {
        let route = find_route(&self.routes, url.path());
        let scope = QuotaScope { server: host(url), route: route.map(|route| &*route.path) };
        let units = quota.map_or(1, |quota| quota.units);
        (scope, route.map_or(units, |route| route.cost))
    }

    /// Returns the limits that the headers of a response report, with times by the clock of `now`.
    pub(super) fn parse_limits(&self, headers: &[(&str, &str)], now: Timestamp) -> ReportedLimits {
        parse_headers(headers, &self.header_names, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_route_gives_scope_and_cost() {
        let route = |path: &str, cost| RouteCost { path: path.to_owned(), cost, budget: None };
        let routes = vec![route("/get/*", 20), route("/get/raw/*", 50)];
        let rules = QuotaRules { routes, ..QuotaRules::default() };
        let five = Some(QuotaUse { units: 5 });
        for (path, quota, expected) in [
            ("get/raw/17", None, (Some("/get/*"), 20)),
            ("get/raw/17", five, (Some("/get/*"), 20)),
            ("list?path=/get/17", None, (None, 1)),
            ("list?path=/get/17", five, (None, 5)),
        ] {
            let url = Url::parse(&format!("https://api.example/{path}")).unwrap();

            let (scope, cost) = rules.scope_and_cost(&url, quota);

            assert_eq!((scope.server, (scope.route, cost)), ("api.example", expected));
        }
    }
}
