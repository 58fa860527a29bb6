//! `--record`: the responses of a server become a trace, which `simulate` replays.

use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cynosure::env::{Env as _, RealEnv};
use cynosure_engine::Timestamp;
use cynosure_engine::rate_limit::ResetMeaning;
use cynosure_lab::demo::DemoKind;
use cynosure_lab::simulate::{
    HeaderMode, LimitAlgorithm, ResetSemantics, ServerLimiter, TRACE_BYTES_MAX,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::commands::test_home::TestHome;
use crate::fake_mailbox::FakeMailbox;
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

/// Rate limit so high that no test reaches it or is slowed down.
const QUOTA: u32 = 6000;
const WINDOW: Duration = Duration::from_secs(60);

/// Mailbox behind a rate limiter that advertises its limit in headers; `names` maps their usual
/// names to other ones.
async fn rate_limited_mailbox(
    header_mode: HeaderMode,
    names: &'static [(&'static str, &'static str)],
) -> HostileServer {
    // A third of the window has passed, whatever the time: a reset in the near future would look
    // like that of a shorter window.
    let now = RealEnv.now();
    let phase = now.before(WINDOW / 3).since(Timestamp(0));
    let algorithm = LimitAlgorithm::FixedWindow { quota: QUOTA, window: WINDOW, phase };
    let limiter = ServerLimiter::new(algorithm, header_mode, ResetSemantics::FullQuota, now);
    let limiter = Mutex::new(limiter);
    let mailbox = Arc::new(Mutex::new(FakeMailbox::with_emails(30)));
    HostileServer::start(move |_, request| {
        let decision = limiter.lock().unwrap().decide(1, RealEnv.now());
        let headers = decision.headers.iter().map(|(name, text)| {
            let renamed = names.iter().find(|(usual, _)| usual == name);
            format!("{}: {text}\r\n", renamed.map_or(*name, |(_, custom)| custom))
        });
        let headers: String =
            headers.chain(["Set-Cookie: session=s3cret\r\n".to_owned()]).collect();
        let response = mailbox.lock().unwrap().respond(request);
        let start = response.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        vec![ConnectionAction::Send(
            [&response[..start], headers.as_bytes(), &response[start..]].concat(),
        )]
    })
    .await
}

/// Returns the lines of a trace, one for each response.
fn trace_lines(home: &TestHome, name: &str) -> Vec<Value> {
    let text = home.read(name);
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_trace_replays_and_reveals_the_limit() {
    for (header_mode, family) in [
        (HeaderMode::RateLimit, "RateLimit"),
        (HeaderMode::RateLimitLegacy, "RateLimit-*"),
        (HeaderMode::XRateLimit(ResetMeaning::EpochSeconds), "X-RateLimit-*"),
    ] {
        let server = rate_limited_mailbox(header_mode, &[]).await;
        let home = TestHome::with_source_at(server.url.as_str());

        let output = home.cynosure(&["run", "--once", "--record", "trace.jsonl"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        let requests = server.requests().len();
        let summary = format!(
            "recorded {requests} responses; `cynosure simulate trace.jsonl` replays them\n"
        );
        assert!(output.stderr.ends_with(&summary), "{output:?}");
        assert_eq!(trace_lines(&home, "trace.jsonl").len(), requests);

        let output = home.cynosure(&["simulate", "trace.jsonl"]);
        assert_eq!(output.code, Some(0), "{output:?}");
        let lines: Vec<&str> = output.stdout.lines().take(4).collect();
        assert!(lines[1].contains(&format!("{requests} requests, ")), "{}", output.stdout);
        assert!(lines[1].contains("The quota is 100/s"), "{}", output.stdout);
        let counts = format!("{requests} accepted, 0 throttled, 0 failed, 0 outages.");
        assert!(lines[2].ends_with(&counts), "{}", output.stdout);
        assert_eq!(lines[3], format!("Its limit is taken from {family}: 6000 in 1m."));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_headers_are_read_with_their_provider() {
    let names = &[
        ("x-ratelimit-limit", "X-Most"),
        ("x-ratelimit-remaining", "X-Left"),
        ("x-ratelimit-reset", "X-Again"),
    ];
    let server =
        rate_limited_mailbox(HeaderMode::XRateLimit(ResetMeaning::DeltaSeconds), names).await;
    let home = TestHome::with_source_at(server.url.as_str());
    let provider = "[provider.\"127.0.0.1\"]\nlimit_header = \"X-Most\"\nremaining_header = \"X-Left\"\nreset_header = \"X-Again\"\n[restart]";
    home.configure("[restart]", provider);

    let output = home.cynosure(&["run", "--once", "--record", "t.jsonl"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let output = home.cynosure(&["simulate", "t.jsonl", "--provider", "127.0.0.1"]);

    let inference = "Its limit is taken from the configured headers: 6000 in ";
    assert!(output.stdout.contains(inference), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_holds_no_identifying_data() {
    let server = rate_limited_mailbox(HeaderMode::RateLimit, &[]).await;
    let port = server.url.port().unwrap().to_string();
    let home = TestHome::with_source_at(server.url.as_str());
    let output = home.cynosure(&["run", "--once", "--record", "t.jsonl"]);
    assert_eq!(output.code, Some(0), "{output:?}");

    for line in trace_lines(&home, "t.jsonl") {
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["at", "headers", "ms", "status"]);
        let names: Vec<&String> = line["headers"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["ratelimit", "ratelimit-policy"]);
    }
    let text = home.read("t.jsonl");
    for word in ["secret", "session", "me@", "127.0.0.1", port.as_str(), "/jmap", "M1"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_trace_is_appended_to_after_dropping_a_partial_line() {
    let home = TestHome::with_demo_server(5);
    let record = ["run", "--once", "--record", "t.jsonl"];
    assert_eq!(home.cynosure(&record).code, Some(0));
    let first = home.read("t.jsonl");
    let removed_bytes = first.lines().last().unwrap().len() / 2;
    home.write("t.jsonl", &first[..first.len() - removed_bytes]);
    let replayed = home.cynosure(&["simulate", "t.jsonl"]);
    assert_eq!(replayed.code, Some(0), "a partial last line is ignored: {replayed:?}");

    let again = home.cynosure(&record);

    assert_eq!(again.code, Some(0), "{again:?}");
    let (line_count, trace) = (first.lines().count(), home.read("t.jsonl"));
    let kept: Vec<&str> = first.lines().take(line_count - 1).collect();
    assert!(trace.starts_with(&format!("{}\n", kept.join("\n"))), "{trace}");
    assert!(trace_lines(&home, "t.jsonl").len() > kept.len());
    assert_eq!(home.cynosure(&["simulate", "t.jsonl"]).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_flushed_during_waits_and_locked() {
    let request_count = AtomicUsize::new(0);
    let served = FakeMailbox::with_emails(30)
        .serve_with(move |_| {
            let is_throttled = request_count.fetch_add(1, Ordering::SeqCst) >= 10;
            let throttle = plain_response("429 Too Many Requests", "Retry-After: 3600\r\n", "");
            is_throttled.then(|| vec![ConnectionAction::Send(throttle)])
        })
        .await;
    let home = TestHome::with_source_at(served.server.url.as_str());
    let mut running = home.start(&["run", "--record", "t.jsonl"]);
    running.log_until("rate limited");
    let count_in_trace = |text: &str| home.read("t.jsonl").matches(text).count();
    let throttled = || count_in_trace("\"status\":429");
    while throttled() == 0 || count_in_trace("\n") - throttled() < 10 {
        std::thread::yield_now();
    }

    let replayed = home.cynosure(&["simulate", "t.jsonl"]);
    assert!(replayed.stdout.contains(" 10 accepted, "), "{replayed:?}");
    let second = home.cynosure(&["run", "--record", "t.jsonl"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    insta::assert_snapshot!(second.stderr, @"cynosure: another process records into t.jsonl; name another file");

    running.signal(Signal::TERM);
    assert_eq!(running.0.wait().unwrap().code(), Some(143));
    assert_eq!(trace_lines(&home, "t.jsonl").len(), served.server.requests().len());
}

#[test]
fn a_full_trace_ends_and_the_worker_continues() {
    let home = TestHome::with_demo_server(5);
    home.write("t.jsonl", "{\"at\": \"2026-11-22T06:32:09Z\", \"status\": 200}\n");
    let length = TRACE_BYTES_MAX - 1;
    let file = fs_err::OpenOptions::new().write(true).open(home.path("t.jsonl")).unwrap();
    // The file is sparse, so that it takes no space on the disk.
    file.file().write_all_at(b"\n", length - 1).unwrap();

    let output = home.cynosure(&["run", "--once", "--record", "t.jsonl"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(output.stdout, "listed 5 = stored 5 + gone 0 + quarantined 0\n");
    let logged =
        ["recording stopped, the run continues file=t.jsonl", "`simulate` reads at most 268.4 MB"];
    assert_eq!(output.stderr.matches("record").count(), 1, "{output:?}");
    assert!(logged.iter().all(|text| output.stderr.contains(text)), "{output:?}");
    assert_eq!(fs_err::metadata(home.path("t.jsonl")).unwrap().len(), length);
}

#[test]
fn the_demo_is_recorded_too() {
    let home = TestHome::empty();
    let args = ["demo", "--items", "40", "--faults", "none", "--record", "t.jsonl"];
    assert_eq!(home.cynosure(&args).code, Some(0));

    let replayed = home.cynosure(&["simulate", "t.jsonl"]);

    assert_eq!(replayed.code, Some(0), "{replayed:?}");
}

#[test]
fn a_source_without_http_is_said_to_record_nothing() {
    let home = TestHome::with_demo_server_of(DemoKind::Imap, 5);
    let record = ["run", "--once", "--record", "t.jsonl"];
    let note = "cynosure: nothing of source demo is recorded: ";

    let output = home.cynosure(&record);
    let quiet = home.cynosure(&[&record[..], &["-q"]].concat());

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.starts_with(note), "{}", output.stderr);
    assert_eq!(output.stderr.matches(note).count(), 1, "{}", output.stderr);
    assert_eq!(home.read("t.jsonl"), "");
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""), "{quiet:?}");
}

#[test]
fn several_sources_or_a_foreign_file_are_rejected() {
    let home = TestHome::with_source_work();
    let second = home.read("config.toml").replace("source.work", "source.home");
    let second = second.split("[restart]").next().unwrap();
    home.configure("[restart]", &format!("{second}[restart]"));
    home.write("other.jsonl", "{\"event\": 1}\n");
    home.write("seconds.jsonl", "{\"at\": 1, \"status\": 200}\n");

    let outputs = [
        vec!["run", "--record", "t.jsonl"],
        vec!["run", "work", "--record", "t.csv"],
        vec!["run", "work", "--record", "other.jsonl"],
        vec!["run", "work", "--record", "seconds.jsonl"],
        vec!["run", "work", "--record", "nowhere/t.jsonl"],
        vec!["demo", "--serve", "--record", "t.jsonl"],
    ]
    .map(|args| {
        let output = home.cynosure(&args);
        format!("{:?} {}{}", output.code, output.stdout, output.stderr)
    });

    insta::assert_snapshot!(outputs.join("\n"), @r"
    Some(2) error: a trace records one source, but 2 would run; name one, such as `cynosure run home --record t.jsonl`

    Usage: cynosure [OPTIONS] <COMMAND>

    For more information, try '--help'.

    Some(2) error: invalid value 't.csv' for '--record <FILE.jsonl>': `simulate` requires that the name of a trace ends in .jsonl

    For more information, try '--help'.

    Some(1) cynosure: other.jsonl contains something other than a trace; name another file

    Some(1) cynosure: seconds.jsonl contains something other than a trace; name another file

    Some(1) cynosure: cannot record into nowhere/t.jsonl: No such file or directory (os error 2); name a file that can be written

    Some(2) error: the argument '--serve' cannot be used with '--record <FILE.jsonl>'

    Usage: cynosure demo --serve

    For more information, try '--help'.
    ");
    assert!(!home.path("t.jsonl").exists());
    assert_eq!(home.read("other.jsonl"), "{\"event\": 1}\n");
}
