//! Bad input: one clear sentence, and nothing is written.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use cynosure_lab::demo::DemoKind;

use super::{
    ACCOUNT, ADDRESS, ARCHIVE, HIDDEN_PASSWORD, PASSWORD, ServedHome, assert_hidden, empty_home,
    file_names, init_command, run_init,
};
use crate::commands::test_home::{ProgramOutput, TestHome};
use crate::imap::server::{Answer, ScriptedServer, ServedFolder};
use crate::terminal::{CTRL_C, CTRL_D, TerminalSession};

/// User without rights on what root owns.
const NOBODY_UID: u32 = 65_534;

/// Questions about a mailbox at a server that does not answer, each with its answer.
const QUESTIONS: [(&str, &str); 5] = [
    (ADDRESS, ACCOUNT),
    ("User name at the server [demo@example.com]: ", ""),
    (HIDDEN_PASSWORD, PASSWORD),
    (ARCHIVE, ""),
    ("Write the configuration all the same [yes]: ", ""),
];

/// Returns `init` for a server that does not answer.
fn init_without_server(home: &TestHome) -> Command {
    init_command(home, &["init", "--server", "127.0.0.1:9", "--security", "none"])
}

#[test]
fn an_address_is_asked_for_three_times() {
    let home = empty_home();
    let mut terminal = TerminalSession::start(&init_command(&home, &["init"]));

    for address in ["me.example.com", "@example.com", "me@"] {
        terminal.answer(ADDRESS, address);
    }
    let output = terminal.finish();

    assert_eq!(output.code, Some(2), "{output:?}");
    for problem in ["has no @", "has nothing before the @", "has nothing after the @"] {
        assert_eq!(output.transcript.matches(problem).count(), 1, "{}", output.transcript);
    }
    assert_eq!(file_names(&home), ["tmp"]);
}

#[test]
fn without_a_terminal_an_error_names_the_option() {
    let home = empty_home();
    home.write("token", "secret\n");
    rustix::fs::chmod(home.path("token"), rustix::fs::Mode::RUSR).unwrap();
    let mut words = vec!["init"];
    for (option, value) in [
        ("--account", "me@fastmail.com"),
        ("--kind", "jmap"),
        ("--password-file", "token"),
        ("--archive", "downloads"),
    ] {
        let output = run_init(&home, &words);

        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(&format!("; answer with {option}\n")), "{output:?}");
        words.extend([option, value]);
    }
    assert_eq!(file_names(&home), ["tmp", "token"]);
}

#[test]
fn invalid_options_are_wrong_usage() {
    let home = TestHome::with_source_work();
    let text = home.read("config.toml");
    for (words, problem) in [
        (&["init", "--account", "me.example.com"][..], "has no @"),
        (&["init", "--account", "me@gmail.com", "--kind", "pop3"], "[possible values: jmap, imap"),
        (&["init", "--name", "My Mail"], "a source's name is"),
        (&["init", "--name", "work"], "config.toml has a source of this name"),
        (&["init", "--archive", "mail"], "for all of its sources; leave the option out"),
        (&["init", "--account", "me@gmx.net", "--server", "a b"], "is no server"),
    ] {
        let output = home.cynosure(words);

        assert_eq!(output.code, Some(2), "{words:?}: {output:?}");
        assert!(output.stderr.contains(problem), "{words:?}: {output:?}");
    }
    assert_eq!(home.read("config.toml"), text);
}

#[test]
fn an_unknown_domain_is_taken_as_the_users_own_server() {
    let home = empty_home();

    let output = run_init(&home, &["init", "--account", ACCOUNT, "--no-lookup"]);

    assert_eq!(output.code, Some(2), "{output:?}");
    let sentence = "example.com is no provider that this program knows, ";
    assert!(output.stdout.starts_with(sentence), "{output:?}");
    assert!(output.stderr.contains("; answer with --kind\n"), "{output:?}");
}

#[test]
fn a_wrong_password_is_asked_for_three_times() {
    let served = ServedHome::new(DemoKind::Imap, 3);
    let args = ["--account", ACCOUNT, "--username", ACCOUNT, "--archive", "downloads"];
    let mut terminal = TerminalSession::start(&served.init(&args));

    for guess in ["guess-one", "guess-two", "guess-three"] {
        terminal.answer(HIDDEN_PASSWORD, guess);
    }
    let output = terminal.finish();

    assert_eq!(output.code, Some(77), "{output:?}");
    assert!(!output.transcript.contains("guess-"), "{}", output.transcript);
    let refusal = "Invalid user name or password.";
    assert_eq!(output.transcript.matches(refusal).count(), 3, "{}", output.transcript);
    assert!(output.transcript.contains("; nothing was written; "), "{}", output.transcript);
    served.assert_nothing_written();
}

#[test]
fn the_right_password_after_a_wrong_one_is_written() {
    let served = ServedHome::new(DemoKind::Imap, 3);
    let args = ["--account", ACCOUNT, "--username", ACCOUNT, "--archive", "downloads"];
    let mut terminal = TerminalSession::start(&served.init(&args));

    terminal.answer(HIDDEN_PASSWORD, "guess-one");
    terminal.answer(HIDDEN_PASSWORD, PASSWORD);
    let output = terminal.finish();

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_hidden(&output);
    assert_eq!(served.home.read("example.password"), format!("{PASSWORD}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_imap_is_off_says_what_to_switch_on() {
    let server = ScriptedServer::start([ServedFolder::inbox([1])]).await;
    let refusal = "NO [AUTHENTICATIONFAILED] LOGIN invalid credentials or IMAP is disabled sc=1";
    server.answer_always("AUTHENTICATE", Answer::new().tagged(refusal));
    let home = empty_home();
    home.write("password", PASSWORD);
    rustix::fs::chmod(home.path("password"), rustix::fs::Mode::RUSR).unwrap();
    let address = format!("127.0.0.1:{}", server.port);
    let mut words = vec!["init", "--account", "me@yandex.ru", "--server", &address];
    words.extend(["--security", "none", "--password-file", "password", "--yes"]);

    let output = run_init(&home, &words);

    assert_eq!(output.code, Some(77), "{output:?}");
    assert!(output.stderr.contains("IMAP is disabled"), "{output:?}");
    assert!(output.stderr.contains("allow IMAP in the settings"), "{output:?}");
    assert!(output.stdout.contains("What to do at Yandex Mail:\n  1. "), "{output:?}");
    assert_eq!(file_names(&home), ["password", "tmp"]);
}

#[test]
fn without_a_server_the_user_decides_what_is_written() {
    let words = ["init", "--account", ACCOUNT, "--server", "127.0.0.1:9", "--security", "none"];
    let words = [&words[..], &["--username", ACCOUNT, "--archive", "downloads"]].concat();
    for (answer, code, is_written) in [("no", 1, false), ("", 0, true)] {
        let home = empty_home();
        let mut terminal = TerminalSession::start(&init_command(&home, &words));

        terminal.answer(HIDDEN_PASSWORD, PASSWORD);
        terminal.answer("Write the configuration all the same [yes]: ", answer);
        let output = terminal.finish();

        assert_eq!(output.code, Some(code), "{output:?}");
        assert_hidden(&output);
        assert_eq!(home.path("config.toml").exists(), is_written);
        assert_eq!(home.path("example.password").exists(), is_written);
        assert_eq!(file_names(&home).len(), if is_written { 3 } else { 1 });
    }
}

#[test]
fn a_server_without_tls_from_the_start_names_the_option() {
    let served = ServedHome::new(DemoKind::Imap, 3);
    let server = served.server();
    let mut words = vec!["init", "--account", ACCOUNT, "--server", &server, "--security", "tls"];
    words.extend(["--username", ACCOUNT, "--password-file", "demo-token", "--yes"]);

    let output = run_init(&served.home, &words);

    assert_eq!(output.code, Some(1), "{output:?}");
    let remedy = "does not speak TLS from the start: run `init` again with --security starttls";
    assert!(output.stderr.contains(remedy), "{output:?}");
    served.assert_nothing_written();
}

#[test]
fn a_server_that_was_not_named_is_shown_before_the_password() {
    let home = empty_home();
    let words = ["init", "--account", ACCOUNT, "--kind", "imap", "--no-lookup", "--yes"];
    let mut terminal = TerminalSession::start(&init_command(&home, &words));

    terminal.press(HIDDEN_PASSWORD, CTRL_D);
    let output = terminal.finish();

    let (before, _) = output.transcript.split_once(HIDDEN_PASSWORD).unwrap();
    assert!(before.contains("Server: imap.example.com:993\n"), "{before}");
}

#[test]
fn with_yes_a_failure_ends_the_command() {
    let home = empty_home();
    home.write("token", "secret\n");
    rustix::fs::chmod(home.path("token"), rustix::fs::Mode::RUSR).unwrap();
    let mut words = vec!["init", "--account", ACCOUNT, "--server", "http://127.0.0.1:9/"];
    words.extend(["--password-file", "token", "--yes"]);

    let output = run_init(&home, &words);

    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.ends_with("; nothing was written\n"), "{output:?}");
    assert_eq!(file_names(&home), ["tmp", "token"]);
}

#[test]
fn a_broken_configuration_is_not_added_to() {
    let home = TestHome::empty();
    home.write("config.toml", "[archive\n");

    let output = home.cynosure(&["init", "--account", "me@fastmail.com"]);

    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(output.stderr.contains("config.toml:1:"), "{output:?}");
    assert_eq!(home.read("config.toml"), "[archive\n");
}

#[test]
fn sources_in_the_folder_beside_the_configuration_are_known() {
    let home = TestHome::with_source_work();
    let text = home.read("config.toml");
    home.write("config.d/work.toml", &text);
    fs_err::remove_file(home.path("config.toml")).unwrap();
    let words = ["init", "--account", "me@example.com"];

    let missing = home.cynosure(&words);
    home.write("config.toml", "# mine\n");
    let known = home.cynosure(&words);

    assert_eq!(missing.code, Some(78), "{missing:?}");
    assert!(missing.stderr.contains("but config.d beside it has settings"), "{missing:?}");
    assert_eq!(known.code, Some(1), "{known:?}");
    assert!(known.stderr.contains("has me@example.com already, as source work"), "{known:?}");
    assert_eq!(home.read("config.toml"), "# mine\n");
    assert_eq!(home.read("config.d/work.toml"), text);
}

#[test]
fn a_link_to_nothing_is_kept() {
    let home = empty_home();
    std::os::unix::fs::symlink("nothing.toml", home.path("config.toml")).unwrap();

    let output = run_init(&home, &["init", "--account", "me@fastmail.com"]);

    assert_eq!(output.code, Some(78), "{output:?}");
    let problem = "config.toml is a link to a file that does not exist";
    assert!(output.stderr.contains(problem), "{output:?}");
    assert_eq!(file_names(&home), ["config.toml", "tmp"]);
}

/// Runs the command as a user who is not root.
fn run_as_user(home: &TestHome, command: &mut Command) -> ProgramOutput {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY_UID).gid(NOBODY_UID);
    }
    home.run_to_end(command)
}

#[test]
fn a_configuration_of_another_user_is_refused_at_once() {
    let home = empty_home();
    fs_err::set_permissions(home.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();

    let output = run_as_user(&home, &mut init_command(&home, &["init", "--config", "/etc/passwd"]));

    assert_eq!(output.code, Some(78), "{output:?}");
    let problem = "/etc/passwd belongs to another user (uid 0), and is not changed";
    assert!(output.stderr.contains(problem), "{output:?}");
}

#[test]
fn a_folder_that_is_read_only_is_refused_at_once() {
    let home = empty_home();
    fs_err::set_permissions(home.path(""), std::fs::Permissions::from_mode(0o555)).unwrap();

    let output = run_as_user(&home, &mut init_command(&home, &["init"]));

    fs_err::set_permissions(home.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(output.code, Some(78), "{output:?}");
    assert!(output.stderr.contains("cannot be written (permission denied)"), "{output:?}");
}

#[test]
fn an_interrupt_writes_nothing_and_restores_the_terminal() {
    let script = "trap : INT; \"$0\" \"$@\"; code=$?; stty -a; exit $code";
    for (count, (question, _)) in QUESTIONS.into_iter().enumerate() {
        let home = empty_home();
        let init = init_without_server(&home);
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(init.get_program()).args(init.get_args());
        shell.current_dir(home.path("")).env("TMPDIR", home.path("tmp"));
        let mut terminal = TerminalSession::start(&shell);

        for (question, answer) in QUESTIONS.into_iter().take(count) {
            terminal.answer(question, answer);
        }
        terminal.press(question, CTRL_C);
        let output = terminal.finish();

        assert_eq!(output.code, Some(130), "{output:?}");
        let shown = &output.transcript;
        assert!(shown.contains("cynosure: interrupted; nothing was written\n"), "{shown}");
        assert!(shown.contains(" icanon ") && shown.contains(" echo "), "{shown}");
        assert_hidden(&output);
        assert_eq!(file_names(&home), ["tmp"]);
    }
}

#[test]
fn the_end_of_the_input_writes_nothing() {
    for (count, (question, _)) in QUESTIONS.into_iter().enumerate() {
        let home = empty_home();
        let mut terminal = TerminalSession::start(&init_without_server(&home));

        for (question, answer) in QUESTIONS.into_iter().take(count) {
            terminal.answer(question, answer);
        }
        terminal.press(question, CTRL_D);
        let output = terminal.finish();

        assert_eq!(output.code, Some(1), "{output:?}");
        let shown = &output.transcript;
        assert!(shown.ends_with("the input has ended; nothing was written\n"), "{shown}");
        assert_hidden(&output);
        assert_eq!(file_names(&home), ["tmp"]);
    }
}

#[test]
fn a_sign_in_that_is_broken_off_leaves_the_source() {
    let home = empty_home();
    home.write("client", "secret-of-client\n");
    rustix::fs::chmod(home.path("client"), rustix::fs::Mode::RUSR).unwrap();
    let mut words = vec!["init", "--account", "me@gmail.com", "--kind", "gmail", "--yes"];
    words.extend(["--client-id", "an-id", "--client-secret-file", "client"]);
    let mut terminal = TerminalSession::start(&init_command(&home, &words));

    terminal.press("Paste the address of that page here:", CTRL_D);
    let output = terminal.finish();

    assert_eq!(output.code, Some(1), "{output:?}");
    let shown = &output.transcript;
    assert!(shown.contains("; the source is written: sign in with `"), "{shown}");
    assert!(shown.contains(" auth gmail --paste`"), "{shown}");
    assert!(!shown.contains("secret-of-client"), "{shown}");
    let check = home.cynosure(&["config", "check"]);
    assert_eq!(check.code, Some(0), "{check:?}");
}
