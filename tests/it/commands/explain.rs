//! `explain`: classification of a response with its reason, and stored responses.

use std::io::Write as _;
use std::process::Stdio;

use chrono::{DateTime, TimeDelta};
use cynosure::env::{Env as _, RealEnv};
use serde_json::Value;

use crate::commands::test_home::{ProgramOutput, TestHome, fixed_response_server};
use crate::fake_mailbox::FakeMailbox;
use crate::hostile_server::plain_response;

const RULES_CONFIG: &str = "
[[provider.strict.error]]
status = 403
body = { pointer = \"/error/code\", value = 7 }
class = \"rate_limit\"
wait = \"1h\"
scope = \"item\"
note = \"their soft limit\"

[[provider.strict.error]]
header = { name = \"X-Error\", contains = \"gone\" }
class = \"not_found\"
";

/// Response with terminal control sequences, which also repeats the token.
fn hostile_response() -> Vec<u8> {
    let headers = "Content-Type: text/plain\r\nX-RateLimit-Remaining: 7\r\nSet-Cookie: id=stolen\r\n\
                   Server: evil\u{9b}31m\r\nX-Odd: kept-out\r\nX-Error: disk\r\n";
    let body = "\u{1b}[2Jno\r\nthe token secret is \u{202e}unwelcome\nsecond\u{7} line";
    plain_response("403 No", headers, body)
}

fn explain_response(args: &[&str]) -> ProgramOutput {
    let output = TestHome::empty().cynosure(&[&["explain"], args].concat());
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    output
}

/// Returns true if the text has no bidi controls, and no control characters except line feeds.
fn is_terminal_safe(text: &str) -> bool {
    !text.chars().any(|c| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c))
}

#[test]
fn a_reset_years_ahead_is_reported() {
    let output = explain_response(&[
        "--status",
        "403",
        "--header",
        "X-RateLimit-Remaining: 0",
        "--header",
        "X-RateLimit-Reset: 4000000000",
    ]);

    let remaining = output.stdout.split("(in ").nth(1).unwrap().split(')').next().unwrap();
    let text = output.stdout.replace(remaining, "SPAN");
    insta::assert_snapshot!(text, @r"
    response  403, 2 headers, no body
              classified by the built-in rules
    rule      refused_with_rate_limit_hint (built in): 403 or 503 with a Retry-After, or with an exhausted quota
    cause     rate_limit (TEMPORARY)
    action    no request is sent to the provider until the wait ends; it costs no attempt, except from the third 429 of one item while other requests succeed
    delay     1 s
              the reset is too far away: the first wait is short, since most limits end soon
              each further 429 makes it longer, up to 1 h
    quota     X-RateLimit-*: 0 requests left
              reset 4000000000, read as seconds since 1970: 2096-10-02 07:06:40 UTC (in SPAN)
              no known window is that long: the reset is ignored
    ");
}

#[test]
fn a_403_differs_between_item_and_listing() {
    insta::assert_snapshot!(explain_response(&["--status", "403"]).stdout, @r"
    response  403, no header, no body
              classified by the built-in rules
    rule      forbidden (built in): 403 without a sign of a rate limit
    cause     forbidden (PERMANENT)
    action    an item: quarantined at once; ten different items in a row count as a refused credential
    delay     1 d, then 2 d, 4 d
              item.recheck, 1 d, doubling up to item.max_recheck, 7 d
    action    the listing and the session: the credential is reloaded; if it is refused again, an alert is sent and all requests wait for another credential
    delay     5 min
              restart.restart_delay_auth, unless the credential changes sooner
    quota     the headers contain no limit
    ");
}

#[test]
fn a_server_error_shows_the_delays_and_their_formula() {
    let output = explain_response(&["--status", "503", "--scope", "listing"]);
    insta::assert_snapshot!(output.stdout, @r"
    response  503, no header, no body
              classified by the built-in rules
    rule      server_error (built in): 408, 425 or 5xx
    cause     server (TEMPORARY)
    action    after 3 quick tries, the session waits and retries, up to 3 times, then restarts
    delay     42 s to 1 min 18 s, then 1 min 42 s to 2 min 18 s, 3 min 42 s to 4 min 18 s
              1 min × 2^0, jitter ± 30 % of 1 min, at most 1 h
    quota     the headers contain no limit
    ");
    let output =
        explain_response(&["--status", "500", "--header", "retry-after: 30", "--scope", "item"]);
    insta::assert_snapshot!(output.stdout, @r"
    response  500, 1 header, no body
              classified by the built-in rules
    rule      server_error (built in): 408, 425 or 5xx
    cause     server (TEMPORARY)
    action    attempt 1 of 3 failed; after the last it is quarantined; 5 different items in a row fail the session, unless a stored document can still be fetched
    delay     30 s, then 10 s to 20 s
              item.retry_delay, 10 s × 2^0, at most 5 min, jitter over the upper half
              never sooner than the server's Retry-After, 30 s
    block     all requests are blocked for 31 s to 32 s
              the server's Retry-After, 30 s, + 1 s margin, + up to 1 s jitter
    quota     Retry-After: 30 s
    ");
}

#[test]
fn an_invalid_retry_after_is_reported() {
    for junk in ["0", "-1", "1e30", "soon"] {
        let header = format!("Retry-After: {junk}");
        let stdout = explain_response(&["--status", "429", "--header", &header]).stdout;
        assert!(
            stdout.contains(&format!("Retry-After: \"{junk}\" is not a valid delay")),
            "{stdout}"
        );
        assert!(stdout.contains("no retry time is given: the first wait is short"), "{stdout}");
    }
}

#[test]
fn a_retry_after_date_counts_from_now_without_a_date_header() {
    let soon = DateTime::from_timestamp_millis(RealEnv.now().0).unwrap() + TimeDelta::minutes(90);
    let header = format!("Retry-After: {}", soon.format("%a, %d %b %Y %H:%M:%S GMT"));

    let stdout = explain_response(&["--status", "429", "--header", &header]).stdout;

    assert!(stdout.contains("Retry-After: 1 h 29 min"), "{stdout}");
    assert!(stdout.contains("the server's Retry-After, 1 h 29 min, + 1 s margin"), "{stdout}");
    assert!(
        stdout.contains("longer than max_wait, 1 h: manual intervention is required"),
        "{stdout}"
    );
}

#[test]
fn a_configured_block_is_shown_as_configured() {
    let home = TestHome::empty();
    home.write("config.toml", "[restart]\nrate_limit_duration = \"20m\"\n");

    let output = home.cynosure(&["explain", "--status", "429"]);

    let delay = "delay     20 min\n          \
                 no retry time is given: restart.rate_limit_duration\n          \
                 doubles with each further 429, up to 1 h\n";
    assert!(output.stdout.contains(delay), "{output:?}");
}

#[test]
fn user_rules_are_shown_with_location_and_note() {
    let home = TestHome::empty();
    home.write("config.toml", RULES_CONFIG);
    home.write("body.json", r#"{"error": {"code": 7}}"#);

    let by_body = home.cynosure(&["explain", "--status", "403", "--body", "body.json"]);
    let header = ["explain", "--status", "500", "--header", "X-ERROR: it is Gone now"];
    let by_header = home.cynosure(&header);

    insta::assert_snapshot!(by_body.stdout, @r"
    response  403, no header, a body of 22 bytes
              classified by 2 rules of provider strict, then by the built-in rules
    for       an item
    rule      your rule at config.toml:2:1: their soft limit
    cause     rate_limit (TEMPORARY)
    action    no request is sent to the provider until the wait ends; it costs no attempt, except from the third 429 of one item while other requests succeed
    delay     1 h
              the wait of your rule, 1 h, + 1 s margin, + up to 1 s jitter
    for       the listing and the session
    rule      forbidden (built in): 403 without a sign of a rate limit
    cause     forbidden (PERMANENT)
    action    the credential is reloaded; if it is refused again, an alert is sent and all requests wait for another credential
    delay     5 min
              restart.restart_delay_auth, unless the credential changes sooner
    quota     the headers contain no limit
    ");
    assert!(
        by_header.stdout.contains("rule      your rule at config.toml:10:1\ncause     not_found"),
        "{by_header:?}"
    );
}

#[test]
fn a_body_is_read_from_stdin_and_json_is_printed() {
    let home = TestHome::empty();
    let mut command = home.command(&["explain", "--status", "403", "--body", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Quota exceeded for user").unwrap();
    let output = child.wait_with_output().unwrap();

    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["body_bytes"], 23);
    assert_eq!(json["judged"][0]["rule"]["name"], "rate_limit_phrase");
    assert_eq!(json["judged"][0]["cause"], "rate_limit");
    assert_eq!(json["judged"][0]["outlooks"][0]["verdict"], "wait_for_rate_limit");
    assert!(json["judged"][0]["outlooks"][0]["delay"]["shortest_seconds"].is_number());
}

/// FAULTS 50: a body that only mentions limits blocks nothing.
#[test]
fn text_that_mentions_limits_is_no_limit() {
    let home = TestHome::empty();
    let session =
        r#"{"capabilities": {"urn:ietf:params:jmap:core": {"maxConcurrentRequests": 4}}}"#;
    let problem =
        r#"{"type": "urn:ietf:params:jmap:error:limit", "limit": "maxConcurrentRequests"}"#;
    let explain = |status, body: &str| {
        home.write("body", body);
        let args = ["explain", "--status", status, "--scope", "item", "--body", "body"];
        let output = home.cynosure(&args);
        assert_eq!(output.code, Some(0), "{output:?}");
        let lines = output
            .stdout
            .lines()
            .filter(|line| ["rule", "cause", "action"].iter().any(|label| line.starts_with(label)));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };

    insta::assert_snapshot!(
        [
            explain("429", ""),
            explain("500", "message has too many MIME parts"),
            explain("200", "<html>rate limit</html>"),
            explain("200", session),
            explain("400", problem),
            explain("503", "Too Many Requests"),
        ]
        .join("\n"),
        @r"
    rule      too_many_requests (built in): 429
    cause     rate_limit (TEMPORARY)
    action    no request is sent to the provider until the wait ends; it costs no attempt, except from the third 429 of one item while other requests succeed

    rule      server_error (built in): 408, 425 or 5xx
    cause     server (TEMPORARY)
    action    after 3 quick tries, attempt 1 of 3 failed; after the last it is quarantined; 5 different items in a row fail the session, unless a stored document can still be fetched

    rule      unexpected_success (built in): 2xx or 3xx without the requested content
    cause     challenge (TEMPORARY)
    action    attempt 1 of 3 failed; after the last it is quarantined; three such responses in a row fail the session, unless a stored document can still be fetched

    rule      unexpected_success (built in): 2xx or 3xx without the requested content
    cause     challenge (TEMPORARY)
    action    attempt 1 of 3 failed; after the last it is quarantined; three such responses in a row fail the session, unless a stored document can still be fetched

    rule      rate_limit_problem (built in): 4xx or 5xx with a problem document whose type is a request limit
    cause     rate_limit (TEMPORARY)
    action    no request is sent to the provider until the wait ends; it costs no attempt, except from the third 429 of one item while other requests succeed

    rule      rate_limit_phrase (built in): 403 or 503 whose body mentions too many requests, or 401 whose body mentions a login limit
    cause     rate_limit (TEMPORARY)
    action    no request is sent to the provider until the wait ends; it costs no attempt, except from the third 429 of one item while other requests succeed
    "
    );
}

/// FAULTS 55.
#[test]
fn an_imap_reply_with_a_limit_is_explained() {
    let reply = "NO [OVERQUOTA] Account exceeded command or bandwidth limits.";
    insta::assert_snapshot!(explain_response(&["--imap", reply]).stdout, @r"
    reply   NO [OVERQUOTA] Account exceeded command or bandwidth limits.
    rule    over_quota (built in): [OVERQUOTA], or text about limits of commands or bandwidth
    cause   rate_limit (TEMPORARY)
    action  no request is sent to the provider until the wait ends; it costs no attempt, except from the third refusal of one item while other requests succeed
    delay   1 h
            the wait of this rule, 1 h, + 1 s margin, + up to 1 s jitter
            doubles with each further refusal before a message arrives, up to 1 d
    advice  a daily limit: Gmail allows 2,500 MB, then locks IMAP for up to a day; set bytes_per_day of the provider below it
    ");
    let reply = "* BAD Request is throttled. Suggested Backoff Time: 89117 milliseconds";
    insta::assert_snapshot!(explain_response(&["--imap", reply]).stdout, @r"
    reply   BAD Request is throttled. Suggested Backoff Time: 89117 milliseconds
    rule    suggested_backoff (built in): text with a suggested backoff time
    cause   rate_limit (TEMPORARY)
    action  no request is sent to the provider until the wait ends; it costs no attempt, except from the third refusal of one item while other requests succeed
    delay   1 min 30 s to 1 min 31 s
            the server's backoff time, 1 min 29 s, + 1 s margin, + up to 1 s jitter
    ");
}

#[test]
fn an_imap_reply_to_several_messages_differs_from_one_to_one() {
    let reply = "A7 NO Some messages could not be fetched";
    insta::assert_snapshot!(explain_response(&["--imap", reply, "--phase", "fetch"]).stdout, @r"
    reply   NO Some messages could not be fetched
    for     the fetch of several messages
    rule    set_refused (built in): NO or BAD to a FETCH of several messages, without a code or text about all of them
    cause   server (TEMPORARY)
    action  the messages that were not sent are fetched one by one, so that one bad message fails alone
    for     the fetch of one message
    rule    message_refused (built in): NO or BAD to a FETCH of one message, without another known code or text
    cause   server (TEMPORARY)
    action  after 3 quick tries, attempt 1 of 3 failed; after the last it is quarantined; 5 different items in a row fail the session, unless a stored document can still be fetched
    delay   5 s to 10 s, then 10 s to 20 s
            item.retry_delay, 10 s × 2^0, at most 5 min, jitter over the upper half
    ");
}

#[test]
fn a_refused_imap_login_comes_with_advice() {
    let args = ["--imap", "NO LOGIN failed.", "--phase", "login"];
    let text = explain_response(&args).stdout;
    assert!(text.contains("cause   unauthorized (AUTHENTICATION)\n"), "{text}");
    assert!(text.contains("advice  if this is Microsoft 365 or outlook.com, "), "{text}");

    let output = explain_response(&[&args[..], &["--json"]].concat());
    let json = &output.json_lines()[0];
    assert_eq!(json["reply"]["text"], "LOGIN failed.");
    let judged = json["judged"].as_array().unwrap();
    assert_eq!(judged.len(), 1);
    assert_eq!(judged[0]["phases"], serde_json::json!(["login"]));
    assert_eq!(judged[0]["rule"]["name"], "login_refused");
    assert_eq!(judged[0]["outlooks"][0]["verdict"], "refresh_credential");
    assert!(judged[0]["advice"].is_string());
}

#[test]
fn a_successful_imap_reply_has_no_consequence() {
    let text = explain_response(&["--imap", "OK Success [THROTTLED]"]).stdout;
    insta::assert_snapshot!(text, @r"
    reply  OK [THROTTLED] Success
    rule   throttled_success (built in): OK with [THROTTLED]
    cause  none: the command succeeded
    also   the next requests are sent at a lower rate
    ");
}

#[test]
fn usage_errors_say_what_to_type() {
    let home = TestHome::empty();
    let first_error_line = |args: &[&str], code: i32| {
        let output = home.cynosure(&[&["explain"], args].concat());
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(is_terminal_safe(&output.stderr), "{output:?}");
        output.stderr.lines().next().unwrap_or_default().to_owned()
    };

    insta::assert_snapshot!(
        [
            first_error_line(&["--status", "403", "--header", "X-Foo"], 2),
            first_error_line(&["--status", "403", "--header", "X Foo: 1"], 2),
            first_error_line(&["--status", "403", "--header", "X-Foo: a\u{1b}[2J"], 2),
            first_error_line(&["--status", "42"], 2),
            first_error_line(&["--imap", "Server\u{1b} Unavailable"], 2),
            first_error_line(&["--imap", "NO", "--status", "403"], 2),
            first_error_line(&["--status", "403", "--body", "nowhere"], 1),
            first_error_line(&["--status", "403", "--provider", "nobody"], 78),
            first_error_line(&[], 78),
        ]
        .join("\n"),
        @r"
    error: --header 'X-Foo' has no colon: write 'Name: value'
    error: --header 'X Foo: 1' has an invalid header name: write 'Name: value'
    error: --header 'X-Foo: a\u{1b}[2J' has a control character in its value: write 'Name: value'
    error: invalid value '42' for '--status <N>': 42 is not in 100..=999
    error: --imap 'Server\u{1b} Unavailable' is no status reply of an IMAP server: it begins with OK, NO, BAD, BYE or PREAUTH, such as 'NO [OVERQUOTA] Account exceeded bandwidth limits'
    error: the argument '--imap <REPLY>' cannot be used with '--status <N>'
    cynosure: cannot read the body: failed to open file `nowhere`: No such file or directory (os error 2)
    cynosure: there is no provider nobody in the configuration; known providers: none
    cynosure: there is no configuration, and so no recorded response: name one with --config FILE, or give a response with --status
    "
    );
}

/// Returns true if a text is in the ledger or the state file of the source.
fn is_stored(home: &TestHome, text: &str) -> bool {
    let files = ["ledger.sqlite", "ledger.sqlite-wal", "execution_state.json"];
    files.iter().any(|name| {
        let bytes = fs_err::read(home.path("state/work").join(name)).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn the_last_response_of_a_session_is_stored_and_explained() {
    let home = TestHome::with_source_at(&format!(
        "http://{}/.well-known/jmap",
        fixed_response_server(hostile_response().leak())
    ));
    let output = home.cynosure(&["run", "--once"]);
    assert_ne!(output.code, Some(0), "{output:?}");

    let output = home.cynosure(&["explain", "--source", "work"]);

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(is_terminal_safe(&output.stdout), "{output:?}");
    let lines: Vec<_> = output.stdout.lines().collect();
    assert!(lines[0].starts_with("response  403, 4 headers, a body of "), "{output:?}");
    assert!(lines[1].contains("recorded for the session of work, 20"), "{output:?}");
    assert!(output.stdout.contains("rule      forbidden (built in)"), "{output:?}");
    assert!(output.stdout.contains("X-RateLimit-*: 7 requests left"), "{output:?}");
    assert!(is_stored(&home, "evil"));
    for unwanted in ["token secret", "stolen", "kept-out"] {
        assert!(!is_stored(&home, unwanted), "{unwanted}");
    }
}

/// Home whose server delivers two of three mails, and rejects the third with a hostile response.
async fn home_with_a_rejected_message(rules: &str) -> (TestHome, ProgramOutput) {
    let mut mailbox = FakeMailbox::with_emails(3);
    mailbox.request_override = Some(("/get/alice/BM1", hostile_response()));
    let mailbox = mailbox.serve().await;
    let home = TestHome::with_source_at(mailbox.server.url.as_str());
    home.write("config.toml", &(home.read("config.toml") + rules));
    let home_and_output = run_async(home, &["run", "--once"]).await;
    drop(mailbox);
    home_and_output
}

/// Runs the program while the servers of the test keep serving.
async fn run_async(home: TestHome, args: &'static [&'static str]) -> (TestHome, ProgramOutput) {
    let run = move || {
        let output = home.cynosure(args);
        (home, output)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn the_last_response_of_a_quarantined_item_is_explained() {
    let (home, output) = home_with_a_rejected_message("").await;
    assert_eq!(output.code, Some(3), "{output:?}");

    let shown = home.cynosure(&["failures", "--item", "TM1"]);
    let explained = home.cynosure(&["explain", "--item", "TM1"]);
    let json = home.cynosure(&["failures", "--item", "TM1", "--json"]);

    assert!(
        is_terminal_safe(&shown.stdout)
            && is_terminal_safe(&explained.stdout)
            && is_terminal_safe(&json.stdout)
    );
    insta::assert_snapshot!(shown.cells(), @r#"
    item | TM1 of work
    state | quarantined after 1 failed attempt
    failed | TIME
    next attempt | TIME (in WAIT)
    cause | forbidden (PERMANENT)
    message | 403 from 127.0.0.1: "\u{1b}[2Jno"
    response | 403, on TIME
    content-type: text/plain
    x-ratelimit-remaining: 7
    server: evil\u{9b}31m
    content-length: 53

    \u{1b}[2Jno
    the token [secret] is \u{202e}unwelcome
    second\u{7} line
    "#);
    insta::assert_snapshot!(explained.cells(), @r"
    response | 403, 4 headers, a body of 55 bytes
    recorded for the item TM1 of work, TIME UTC
    classified by the built-in rules: provider 127.0.0.1 has no error rules
    rule | forbidden (built in): 403 without a sign of a rate limit
    cause | forbidden (PERMANENT)
    action | quarantined at once; ten different items in a row count as a refused credential
    delay | 1 d, then 2 d, 4 d
    item.recheck, 1 d, doubling up to item.max_recheck, 7 d
    quota | X-RateLimit-*: 7 requests left
    ");
    let json = &json.json_lines()[0];
    assert_eq!(
        json["reply"]["body"],
        "\u{1b}[2Jno\r\nthe token [secret] is \u{202e}unwelcome\nsecond\u{7} line"
    );
    assert_eq!((&json["quarantined_in_a_row"], &json["attempts"]), (&1.into(), &1.into()));
    for unwanted in ["token secret", "stolen", "kept-out"] {
        assert!(!is_stored(&home, unwanted), "{unwanted}");
    }
}

#[tokio::test]
async fn a_user_rule_applies_in_the_worker_too() {
    let rule = "[[provider.\"127.0.0.1\".error]]\nheader = { name = \"X-Error\", equals = \"disk\" }\n\
                class = \"too_large\"\nscope = \"item\"\n";
    let (home, output) = home_with_a_rejected_message(rule).await;

    assert_eq!(output.code, Some(3), "{output:?}");
    let line = &home.cynosure(&["failures", "--json"]).json_lines()[0];
    assert_eq!(line["cause"], "too_large");
    let names: Vec<_> =
        line["reply"]["headers"].as_array().unwrap().iter().map(|pair| &pair[0]).collect();
    assert!(
        names.contains(&&Value::from("x-error")),
        "headers that a rule reads are stored: {line}"
    );
    let text = home.cynosure(&["explain", "--item", "TM1"]).stdout;
    assert!(text.contains("rule      your rule at config.toml:"), "{text}");
    // Without the rule, the built-in rule applies.
    home.configure(rule, "");
    let text = home.cynosure(&["explain", "--item", "TM1"]).stdout;
    assert!(text.contains("rule      forbidden (built in)"), "{text}");
    assert!(text.contains("earlier   failed as too_large"), "{text}");
}

#[test]
fn an_unknown_item_refers_to_the_failures_command() {
    let home = TestHome::with_source_work();
    for args in [["failures", "--item", "no\u{1b}pe"], ["explain", "--item", "no\u{1b}pe"]] {
        let output = home.cynosure(&args);
        assert_eq!((output.code, is_terminal_safe(&output.stderr)), (Some(1), true), "{output:?}");
        assert!(output.stderr.contains("`cynosure failures` shows "), "{output:?}");
    }
}
