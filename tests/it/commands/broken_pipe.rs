//! Closed standard output and error, and `status --watch`.

use rustix::process::Signal;

use crate::commands::test_home::{TestHome, closed_pipe};

#[test]
fn a_closed_stdout_is_no_failure() {
    let home = TestHome::after_demo();
    let commands: [&[&str]; 9] = [
        &["status"],
        &["status", "--watch"],
        &["status", "--json", "--watch"],
        &["history"],
        &["failures"],
        &["verify"],
        &["reset", "demo"],
        &["simulate", "lock-out"],
        &["completions", "bash"],
    ];
    for args in commands {
        let output = home.run_to_end(home.command(args).stdout(closed_pipe()));

        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_worker_continues_with_a_closed_stdout() {
    let home = TestHome::with_demo_server(30);

    let output = home
        .run_to_end(home.command(&["run", "--once"]).stdout(closed_pipe()).stderr(closed_pipe()));

    assert_eq!(output.code, Some(0));
    assert_eq!(home.cynosure(&["verify"]).code, Some(0));
}

#[test]
fn an_error_with_closed_stderr_keeps_its_exit_code() {
    let home = TestHome::with_source_work();

    let output = home.run_to_end(home.command(&["history", "nope"]).stderr(closed_pipe()));

    assert_eq!(output.code, Some(78));
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let home = TestHome::after_demo();
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();

    let output = home.run_to_end(home.command(&["status"]).stdout(full.into_parts().0));

    assert_eq!(output.code, Some(1));
    assert!(
        output.stderr.starts_with("cynosure: cannot print: No space left"),
        "{}",
        output.stderr
    );
}

#[test]
fn status_watch_runs_until_interrupted() {
    let home = TestHome::after_demo();
    let mut watch = home.start(&["status", "--watch"]);
    assert!(watch.first_line().starts_with("SOURCE"));

    watch.signal(Signal::INT);

    assert_eq!(watch.0.wait().unwrap().code(), Some(130));
}

#[test]
fn status_watch_as_json_is_one_line_each() {
    let home = TestHome::with_source_work();
    let mut watch = home.start(&["status", "--watch", "--json"]);

    let line: serde_json::Value = serde_json::from_str(&watch.first_line()).unwrap();

    assert_eq!(line["sources"][0]["source"], "work");
}
