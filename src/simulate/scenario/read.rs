//! From a table as written to a scenario.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Diagnostic, Location, Table};
use crate::engine::rate_limit::ResetMeaning;
use crate::simulate::scenario::fields::Fields;
use crate::simulate::{
    Bound, Latency, Neighbour, Outage, Renewal, Restart, Scenario, Server, Shape, Speech,
};

/// A rehearsal of so many requests takes some seconds, and nobody waits longer.
const REQUESTS_MAX: u64 = 2_000_000;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const MONTH: Duration = Duration::from_secs(31 * 86_400);

/// A server not far away.
const LATENCY: Latency =
    Latency { base: Duration::from_millis(60), spread: Duration::from_millis(40) };

const IN_FLIGHT_DEFAULT: u32 = 8;
const IN_FLIGHT_MAX: u64 = 256;
const WEIGHT_MAX: u64 = 10_000;

const RATE: &str = "a rate such as \"10/s\", \"600/min\" or \"5000/h\"";

/// How a limit counts.
#[derive(Clone, Copy)]
enum Kind {
    FixedWindow,
    SlidingLog,
    TokenBucket,
    LockOut,
}

/// The families of headers.
#[derive(Clone, Copy)]
enum Headers {
    None,
    RetryAfter,
    RateLimit,
    RateLimitOld,
    XRateLimit,
}

/// Reads the whole file; `None` where a mistake leaves nothing to rehearse.
pub(super) fn scenario(
    file: &Arc<Path>,
    table: Table,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<Scenario> {
    let mut top = Fields::new("", Location::File(Arc::clone(file)), table, mistakes);
    let about = top.text("about", "600 requests in each minute");
    let server = top.table("server", Some("it says how the server answers")).and_then(server);
    let shape = top.table("limit", Some("it says how the server counts")).and_then(limit);
    let neighbour = top.table("neighbour", None).and_then(neighbour);
    let outages = top.tables("outage", outage);
    let mailbox = top.table("mailbox", Some("it says how much there is to be had"));
    let mailbox = mailbox.and_then(mailbox_of);
    top.finish();
    let outages = in_order(outages, mistakes);
    let (latency, speech, renewal) = server?;
    let (mailbox, place) = mailbox?;
    let server = Server { shape: shape?, speech, renewal, latency, neighbour, outages };
    let Mailbox { until, workers, weight } = mailbox;
    let scenario = Scenario { about: about?, server, workers, weight, until };
    if scenario.most_requests() > REQUESTS_MAX {
        let what = format!(
            "`mailbox.lasts` is time for more than {REQUESTS_MAX} requests; shorten it, or lower the limit"
        );
        mistakes.push(Diagnostic { location: place, message: what });
    }
    Some(scenario)
}

fn server(mut fields: Fields<'_>) -> Option<(Latency, Speech, Renewal)> {
    let base = fields.or("latency", LATENCY.base, |fields, key| {
        fields.duration(key, Duration::from_millis(1)..=60 * SECOND)
    });
    let spread = fields.or("tail", LATENCY.spread, |fields, key| {
        fields.duration(key, Duration::ZERO..=60 * SECOND)
    });
    let headers = fields.choice(
        "headers",
        &[
            ("none", Headers::None),
            ("retry-after", Headers::RetryAfter),
            ("ratelimit", Headers::RateLimit),
            ("ratelimit-old", Headers::RateLimitOld),
            ("x-ratelimit", Headers::XRateLimit),
        ],
    );
    if headers.is_some() && !matches!(headers, Some(Headers::XRateLimit)) {
        fields.refuse_key("reset", "has a meaning only beside `headers = \"x-ratelimit\"`");
    }
    let reset = fields.or("reset", ResetMeaning::EpochSeconds, |fields, key| {
        fields.choice(
            key,
            &[
                ("seconds", ResetMeaning::DeltaSeconds),
                ("milliseconds", ResetMeaning::DeltaMillis),
                ("epoch_seconds", ResetMeaning::EpochSeconds),
                ("epoch_milliseconds", ResetMeaning::EpochMillis),
                ("date", ResetMeaning::Date),
            ],
        )
    });
    if let Some(Headers::None | Headers::RetryAfter) = headers {
        fields.refuse_key("renewal", "has a meaning only beside headers that name a reset");
    }
    let renewal = fields.or("renewal", Renewal::All, |fields, key| {
        fields.choice(key, &[("all", Renewal::All), ("next", Renewal::Next)])
    });
    fields.finish();
    let speech = match headers? {
        Headers::None => Speech::Nothing,
        Headers::RetryAfter => Speech::RetryAfter,
        Headers::RateLimit => Speech::RateLimit,
        Headers::RateLimitOld => Speech::RateLimitOld,
        Headers::XRateLimit => Speech::XRateLimit(reset),
    };
    Some((Latency { base, spread }, speech, renewal))
}

fn limit(mut fields: Fields<'_>) -> Option<Shape> {
    let shape = shape(&mut fields);
    fields.finish();
    shape
}

fn shape(fields: &mut Fields<'_>) -> Option<Shape> {
    let kind = fields.choice(
        "kind",
        &[
            ("fixed-window", Kind::FixedWindow),
            ("sliding-log", Kind::SlidingLog),
            ("token-bucket", Kind::TokenBucket),
            ("lock-out", Kind::LockOut),
        ],
    );
    let Some(kind) = kind else {
        // Without a kind nothing can be said of the other keys.
        fields.forget();
        return None;
    };
    match kind {
        Kind::FixedWindow => {
            let windowed = windowed(fields);
            let phase = fields.or("phase", Duration::ZERO, |fields, key| {
                fields.duration(key, Duration::ZERO..=MONTH)
            });
            windowed.map(|(quota, window)| Shape::FixedWindow { quota, window, phase })
        }
        Kind::SlidingLog => {
            windowed(fields).map(|(quota, window)| Shape::SlidingLog { quota, window })
        }
        Kind::TokenBucket => {
            let (rate, burst) = (fields.parsed("rate", RATE), quota(fields, "burst"));
            Some(Shape::TokenBucket { rate: rate?, burst: burst? })
        }
        Kind::LockOut => {
            let windowed = windowed(fields);
            let lock = fields.duration("hold", SECOND..=DAY);
            let restart = fields.or("asking", Restart::Never, |fields, key| {
                fields.choice(
                    key,
                    &[("changes-nothing", Restart::Never), ("restarts", Restart::ByAnyRequest)],
                )
            });
            let (quota, window) = windowed?;
            Some(Shape::LockOut { quota, window, lock: lock?, restart })
        }
    }
}

fn windowed(fields: &mut Fields<'_>) -> Option<(u32, Duration)> {
    let (quota, window) = (quota(fields, "quota"), fields.duration("window", SECOND..=MONTH));
    quota.zip(window)
}

fn quota(fields: &mut Fields<'_>, key: &'static str) -> Option<u32> {
    whole(fields, key, REQUESTS_MAX)
}

fn whole(fields: &mut Fields<'_>, key: &'static str, most: u64) -> Option<u32> {
    fields.count(key, 1..=most).and_then(|number| u32::try_from(number).ok())
}

fn neighbour(mut fields: Fields<'_>) -> Option<Neighbour> {
    let rate = fields.parsed("rate", RATE);
    let works = fields.or("works", DAY, |fields, key| fields.duration(key, SECOND..=MONTH));
    let rests = fields
        .or("rests", Duration::ZERO, |fields, key| fields.duration(key, Duration::ZERO..=MONTH));
    fields.finish();
    Some(Neighbour { rate: rate?, works, rests })
}

fn outage(fields: &mut Fields<'_>) -> Option<Outage> {
    let from = fields.duration("at", Duration::ZERO..=MONTH);
    let lasts = fields.duration("lasts", SECOND..=MONTH);
    Some(Outage { from: from?, lasts: lasts? })
}

/// How much there is to be had, and how it is asked for.
struct Mailbox {
    until: Bound,
    workers: u32,
    weight: u32,
}

fn mailbox_of(mut fields: Fields<'_>) -> Option<(Mailbox, Location)> {
    let until = bound(&mut fields);
    let workers =
        fields.or("in_flight", IN_FLIGHT_DEFAULT, |fields, key| whole(fields, key, IN_FLIGHT_MAX));
    let weight = fields.or("weight", 1, |fields, key| whole(fields, key, WEIGHT_MAX));
    let place = fields.place();
    fields.finish();
    until.map(|until| (Mailbox { until, workers, weight }, place))
}

fn bound(fields: &mut Fields<'_>) -> Option<Bound> {
    match (fields.has("requests"), fields.has("lasts")) {
        (true, has_both) => {
            if has_both {
                fields.refuse_key("lasts", "has no place beside `mailbox.requests`; leave one out");
            }
            fields.count("requests", 1..=REQUESTS_MAX).map(Bound::Requests)
        }
        (false, true) => fields.duration("lasts", SECOND..=MONTH).map(Bound::Lasting),
        (false, false) => {
            let what = "[mailbox] says neither `requests`, how many there are, nor `lasts`, for \
                        how long to try; write one";
            fields.refuse(what.to_owned());
            fields.known(&["requests", "lasts"]);
            None
        }
    }
}

/// Sorts the outages, and refuses one that begins before another is over.
fn in_order(mut found: Vec<(Location, Outage)>, mistakes: &mut Vec<Diagnostic>) -> Vec<Outage> {
    found.sort_by_key(|(_, outage)| outage.from);
    for pair in found.windows(2) {
        let [(_, first), (place, second)] = pair else { continue };
        if second.from < first.from + first.lasts {
            let what = "this outage begins before another is over; write them as one".to_owned();
            mistakes.push(Diagnostic { location: place.clone(), message: what });
        }
    }
    found.into_iter().map(|(_, outage)| outage).collect()
}
