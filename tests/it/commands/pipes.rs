//! Readers that leave early, and `status --watch`.

use rustix::process::Signal;

use crate::commands::home::{Home, deaf};

#[test]
fn nobody_reading_is_no_failure() {
    let home = Home::after_demo();
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
        let ran = home.end(home.command(args).stdout(deaf()));

        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_worker_works_on_when_nobody_reads() {
    let home = Home::served(30);

    let ran = home.end(home.command(&["run", "--once"]).stdout(deaf()).stderr(deaf()));

    assert_eq!(ran.code, Some(0));
    assert_eq!(home.cynosure(&["verify"]).code, Some(0));
}

#[test]
fn trouble_that_nobody_reads_keeps_its_exit_code() {
    let home = Home::of_work();

    let ran = home.end(home.command(&["history", "nope"]).stderr(deaf()));

    assert_eq!(ran.code, Some(78));
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let home = Home::after_demo();
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap();

    let ran = home.end(home.command(&["status"]).stdout(full.into_parts().0));

    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("cynosure: cannot print: No space left"), "{}", ran.err);
}

#[test]
fn watching_goes_on_until_it_is_interrupted() {
    let home = Home::after_demo();
    let mut watch = home.start(&["status", "--watch"]);
    assert!(watch.first_line().starts_with("SOURCE"));

    watch.signal(Signal::INT);

    assert_eq!(watch.0.wait().unwrap().code(), Some(130));
}

#[test]
fn watching_as_json_is_a_line_each_time() {
    let home = Home::of_work();
    let mut watch = home.start(&["status", "--watch", "--json"]);

    let line: serde_json::Value = serde_json::from_str(&watch.first_line()).unwrap();

    assert_eq!(line["sources"][0]["source"], "work");
}
