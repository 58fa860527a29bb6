//! `init`: from a mail address to a configuration whose source works.

mod bad_input;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use cynosure_lab::demo::{DemoKind, DemoOptions, DemoServer, start};

use crate::commands::test_home::{ProgramOutput, TestHome};
use crate::terminal::{TerminalOutput, TerminalSession};

const GETTING_STARTED: &str = include_str!("../../../../docs/getting-started.md");

const ACCOUNT: &str = "demo@example.com";
const PASSWORD: &str = "correct-horse-battery";

/// Questions of the dialog.
const ADDRESS: &str = "Mail address: ";
const HIDDEN_PASSWORD: &str = "Password (is not shown): ";
const ARCHIVE: &str = "Folder of the archive [downloads]: ";

/// Empty home, and an embedded service with a mailbox.
struct ServedHome {
    home: TestHome,
    service: DemoServer,
    kind: DemoKind,
}

impl ServedHome {
    fn new(kind: DemoKind, items: u32) -> Self {
        let home = empty_home();
        let token_file = Some(home.path("demo-token"));
        let password = PASSWORD.to_owned();
        let options = DemoOptions { kind, items, token_file, password, ..DemoOptions::default() };
        Self { home, service: start(options).unwrap(), kind }
    }

    /// Returns the value of `--server`.
    fn server(&self) -> String {
        let address = self.service.address();
        match self.kind {
            DemoKind::Jmap => format!("http://{address}/.well-known/jmap"),
            DemoKind::Imap | DemoKind::PlainImap => address.to_string(),
            DemoKind::Gmail => format!("http://{address}/gmail/v1/users/me"),
            DemoKind::Graph => format!("http://{address}/v1.0"),
            DemoKind::Mailru => format!("http://{address}/api/v1"),
        }
    }

    /// Returns `init` with the server and these arguments.
    fn init(&self, args: &[&str]) -> Command {
        let server = self.server();
        let mut words = vec!["init", "--server", &server];
        if self.kind == DemoKind::Imap {
            words.extend(["--security", "none"]);
        }
        words.extend(args);
        init_command(&self.home, &words)
    }

    /// Asserts that a run stores the whole mailbox.
    fn assert_complete(&self) {
        let run = self.home.cynosure(&["run", "--once"]);
        assert_eq!(run.code, Some(0), "{run:?}");
        let verify = self.home.cynosure(&["verify"]);
        assert_eq!(verify.code, Some(0), "{verify:?}");
        let messages = self.service.lock_mailbox().message_count();
        assert_eq!(self.home.messages().len(), usize::try_from(messages).unwrap());
    }

    fn assert_nothing_written(&self) {
        assert_eq!(file_names(&self.home), ["demo-token", "tmp"]);
    }
}

/// Returns a home with a folder for temporary files.
fn empty_home() -> TestHome {
    let home = TestHome::empty();
    fs_err::create_dir(home.path("tmp")).unwrap();
    home
}

fn init_command(home: &TestHome, words: &[&str]) -> Command {
    let mut command = home.command(words);
    command.env("TMPDIR", home.path("tmp"));
    // The next steps are shown as outside of cargo, and a sign-in as without a desktop.
    for name in ["CARGO", "DISPLAY", "WAYLAND_DISPLAY"] {
        command.env_remove(name);
    }
    command
}

/// Returns the names in the home, sorted. Fails if temporary files are left.
fn file_names(home: &TestHome) -> Vec<String> {
    let names = |folder: &str| {
        let entries = fs_err::read_dir(home.path(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    assert_eq!(names("tmp"), [""; 0], "temporary files are left");
    names("")
}

fn assert_hidden(output: &TerminalOutput) {
    assert!(!output.transcript.contains(PASSWORD), "{}", output.transcript);
}

fn run_init(home: &TestHome, words: &[&str]) -> ProgramOutput {
    home.run_to_end(&mut init_command(home, words))
}

#[test]
fn an_imap_mailbox_is_configured_in_a_terminal() {
    let served = ServedHome::new(DemoKind::Imap, 10);
    let mut terminal = TerminalSession::start(&served.init(&["--name", "mail"]));

    terminal.answer(ADDRESS, ACCOUNT);
    terminal.answer("User name at the server [demo@example.com]: ", "");
    terminal.answer(HIDDEN_PASSWORD, PASSWORD);
    terminal.answer(ARCHIVE, "");
    let output = terminal.finish();

    assert_eq!(output.code, Some(0), "{output:?}");
    assert_hidden(&output);
    assert_eq!(file_names(&served.home), ["config.toml", "demo-token", "mail.password", "tmp"]);
    assert_eq!(served.home.read("mail.password"), format!("{PASSWORD}\n"));
    let mode = fs_err::metadata(served.home.path("mail.password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    served.assert_complete();
}

#[test]
fn a_jmap_mailbox_takes_a_password_or_a_token() {
    for is_token in [false, true] {
        let served = ServedHome::new(DemoKind::Jmap, 10);
        let token = served.home.read("demo-token").trim().to_owned();
        let args = ["--account", ACCOUNT, "--name", "mail", "--archive", "mail"];
        let mut terminal = TerminalSession::start(&served.init(&args));

        let way = "Sign in by 1 user name and password, or 2 API token [1]: ";
        if is_token {
            terminal.answer(way, "2");
            terminal.answer("API token (is not shown): ", &token);
        } else {
            terminal.answer(way, "");
            terminal.answer("User name at the server [demo@example.com]: ", "");
            terminal.answer(HIDDEN_PASSWORD, PASSWORD);
        }
        let output = terminal.finish();

        assert_eq!(output.code, Some(0), "{output:?}");
        assert_hidden(&output);
        assert!(!output.transcript.contains(&token), "{}", output.transcript);
        served.home.configure("\"mail\"", "\"downloads\"");
        served.assert_complete();
    }
}

#[test]
fn options_alone_are_enough() {
    let served = ServedHome::new(DemoKind::Graph, 4);
    let mut words = vec!["--account", ACCOUNT, "--kind", "graph", "--name", "mail"];
    words.extend(["--password-file", "demo-token", "--archive", "downloads", "--yes"]);

    let output = served.home.run_to_end(&mut served.init(&words));

    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output:?}");
    served.assert_complete();
}

#[test]
fn each_api_is_configured_in_a_terminal() {
    for (kind, name, limits) in [
        (DemoKind::Gmail, "gmail", "quota = { per_second = 100000 }"),
        (DemoKind::Graph, "graph", "quota = { per_second = 10000 }"),
        (DemoKind::Mailru, "mailru", "pace = { in_flight = 4 }"),
    ] {
        let served = ServedHome::new(kind, 4);
        let words = ["--kind", name, "--name", "mail", "--password-file", "demo-token"];
        let mut terminal = TerminalSession::start(&served.init(&words));

        terminal.answer(ADDRESS, ACCOUNT);
        terminal.answer(ARCHIVE, "");
        let output = terminal.finish();

        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!(file_names(&served.home), ["config.toml", "demo-token", "tmp"]);
        assert!(served.home.read("config.toml").contains("file = \"demo-token\""));
        // The limits of the real services would slow the test down.
        let table = "[source.mail]\n";
        served.home.configure(table, &format!("{table}{limits}\n"));
        served.assert_complete();
    }
}

#[test]
fn the_documented_transcript_is_that_of_the_program() {
    let served = ServedHome::new(DemoKind::Jmap, 40);
    let token = served.home.read("demo-token").trim().to_owned();
    let command = served.init(&[]);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut terminal = TerminalSession::start(&command);

    terminal.answer(ADDRESS, "me@fastmail.com");
    terminal.answer("Which way [1]: ", "");
    terminal.answer("API token (is not shown): ", &token);
    terminal.answer(ARCHIVE, "");
    let output = terminal.finish();

    assert_eq!(output.code, Some(0), "{output:?}");
    let shown = output.transcript.replace(&program, "cynosure");
    let shown = shown.replace(&served.server(), "https://api.fastmail.com/.well-known/jmap");
    let shown = shown.replace("jmap at 127.0.0.1", "jmap at api.fastmail.com");
    let fixed_line = |line: &str| {
        let line = line.trim_end();
        match line {
            _ if line.starts_with("login ok, ") => "login ok, account u1234567".to_owned(),
            _ if line.starts_with("fetched one message: ") => {
                "fetched one message: 4,321 bytes in 0.2 s, not stored".to_owned()
            }
            _ if line.starts_with("would be stored as ") => {
                "would be stored as Tabc/Mdef.eml in the session folder".to_owned()
            }
            line => line.to_owned(),
        }
    };
    let shown: Vec<String> = shown.trim_end().lines().map(fixed_line).collect();
    let (_, block) = GETTING_STARTED.split_once("$ cynosure init\n").unwrap();
    let (documented, _) = block.split_once("\n```").unwrap();
    assert_eq!(shown.join("\n"), documented);
    assert_summary_is_documented(&served.home.cynosure(&["run", "--once"]));
}

/// Asserts that the document shows the output of `run --once`, except for host, folder and times.
fn assert_summary_is_documented(output: &ProgramOutput) {
    let summary = output.stderr.lines().skip_while(|line| !line.starts_with("account "));
    let fixed_line = |line: &str| {
        let line = line.replace(" at 127.0.0.1 ", " at api.fastmail.com ");
        match line.split_once(", in ") {
            Some((new, _)) if line.starts_with("new ") => format!("{new}, in 0.4 s, 160.0/s"),
            _ if line.starts_with("archive ") => {
                "archive   /srv/backup/downloads, complete until 2026-03-01 09:05".to_owned()
            }
            _ => match line.split_once(" take about ") {
                Some((start, end)) => {
                    let (_, end) = end.split_once("; ").unwrap();
                    format!("{start} take about 1 s; {end}")
                }
                None => line,
            },
        }
    };
    let shown: Vec<String> = summary.chain(output.stdout.lines()).map(fixed_line).collect();
    let (_, block) = GETTING_STARTED.split_once("$ cynosure run --once\n").unwrap();
    let (documented, _) = block.split_once("\n```").unwrap();
    assert_eq!(shown.join("\n"), documented);
}

#[test]
fn a_linked_configuration_stays_a_link() {
    let served = ServedHome::new(DemoKind::Imap, 3);
    served.home.write("dotfiles/mail.toml", "# mine\n");
    let link = served.home.path("config.toml");
    std::os::unix::fs::symlink("dotfiles/mail.toml", &link).unwrap();
    let args = ["--account", ACCOUNT, "--username", ACCOUNT];
    let mut terminal = TerminalSession::start(&served.init(&args));

    terminal.answer(HIDDEN_PASSWORD, PASSWORD);
    terminal.answer("Add them to config.toml [yes]: ", "");
    let output = terminal.finish();

    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(fs_err::symlink_metadata(&link).unwrap().is_symlink());
    let text = served.home.read("dotfiles/mail.toml");
    assert!(text.starts_with("# mine\n\n[source.example]\n"), "{text}");
    assert_eq!(served.home.read("example.password"), format!("{PASSWORD}\n"));
    let check = served.home.cynosure(&["config", "check", "--probe"]);
    assert_eq!(check.code, Some(0), "{check:?}");
}

#[test]
fn a_second_source_changes_nothing_else() {
    let served = ServedHome::new(DemoKind::Imap, 3);
    let old = "# My notes.\n[archive]\ndir   =   \"downloads\"   # on the large disk\n\n\
               [source.work]\nkind = \"jmap\"\nurl = \"http://127.0.0.1:9/\"\n\
               account = \"me@example.com\"\n\
               auth = { type = \"bearer\", token = { file = \"token\" } }\n";
    served.home.write("config.toml", old);
    let args = ["--account", ACCOUNT, "--username", ACCOUNT];
    for (answer, code) in [("no", 1), ("yes", 0)] {
        let mut terminal = TerminalSession::start(&served.init(&args));
        terminal.answer(HIDDEN_PASSWORD, PASSWORD);
        terminal.answer("Add them to config.toml [yes]: ", answer);
        let output = terminal.finish();

        assert_eq!(output.code, Some(code), "{output:?}");
        assert_hidden(&output);
        assert!(output.transcript.contains("\n  [source.example]\n"), "{}", output.transcript);
        assert!(!output.transcript.contains("My notes"), "{}", output.transcript);
        let text = served.home.read("config.toml");
        assert_eq!(text == old, code == 1);
        assert!(text.starts_with(old), "{text}");
        assert_eq!(served.home.path("example.password").exists(), code == 0);
    }
    let check = served.home.cynosure(&["config", "check"]);
    assert!(check.stdout.ends_with(" is valid: 2 sources\n"), "{check:?}");
}

#[test]
fn another_source_of_the_same_account_is_asked_about() {
    let home = TestHome::with_source_work();
    let text = home.read("config.toml");
    let command = home.command(&["init", "--account", "Me@Example.com"]);
    let mut terminal = TerminalSession::start(&command);

    terminal.answer("; add another source of it [no]: ", "");
    let output = terminal.finish();

    assert_eq!(output.code, Some(1), "{output:?}");
    let problem = "config.toml has Me@Example.com already, as source work; nothing was written";
    assert!(output.transcript.contains(problem), "{}", output.transcript);
    assert_eq!(home.read("config.toml"), text);
}
