//! Runs a program in a pseudo terminal, and answers its questions.
//!
//! `script` of util-linux makes the terminal. What is typed appears in the transcript as on a
//! screen: shown by the terminal, unless the program switches that off.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Ctrl-C and Ctrl-D, as a terminal takes them.
pub(crate) const CTRL_C: &str = "\u{3}";
pub(crate) const CTRL_D: &str = "\u{4}";

/// Program in a pseudo terminal, killed when dropped.
pub(crate) struct TerminalSession {
    script: Child,
    /// Kept open until the end of the program, because its end is a Ctrl-D.
    input: ChildStdin,
    output: ChildStdout,
    transcript: Vec<u8>,
    /// Number of bytes of the transcript that were searched for a question.
    searched: usize,
}

/// Exit code of a program, and all that its terminal has shown, with `\n` at the end of lines.
#[derive(Debug)]
pub(crate) struct TerminalOutput {
    pub(crate) code: Option<i32>,
    pub(crate) transcript: String,
}

impl TerminalSession {
    /// Starts a command in a terminal, with its arguments, environment and folder.
    pub(crate) fn start(command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line: Vec<String> = words.map(|word| quote(&word.to_string_lossy())).collect();
        let mut script = Command::new("script");
        script.args(["-qefc", &format!("exec {}", line.join(" ")), "/dev/null"]);
        script.env("SHELL", "/bin/sh");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            script.current_dir(folder);
        }
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut script = script
            .spawn()
            .unwrap_or_else(|error| panic!("`script` of util-linux is needed: {error}"));
        let (input, output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        Self { script, input, output, transcript: Vec::new(), searched: 0 }
    }

    /// Waits until a question with this text appears, and types the answer and Enter.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        self.wait_for(question);
        self.write(&format!("{answer}\n"));
    }

    /// Waits until a question with this text appears, and presses a key such as [`CTRL_C`].
    pub(crate) fn press(&mut self, question: &str, key: &str) {
        self.wait_for(question);
        self.write(key);
    }

    /// Waits for the end of the program.
    pub(crate) fn finish(mut self) -> TerminalOutput {
        // A terminal whose program has ended may report that as an error.
        self.output.read_to_end(&mut self.transcript).ok();
        let code = self.script.wait().unwrap().code();
        let transcript = String::from_utf8_lossy(&self.transcript).replace("\r\n", "\n");
        TerminalOutput { code, transcript }
    }

    fn write(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    fn wait_for(&mut self, text: &str) {
        let mut bytes = [0; 4096];
        loop {
            let unsearched = &self.transcript[self.searched..];
            let found = unsearched.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(position) = found {
                self.searched += position + text.len();
                return;
            }
            let count = self.output.read(&mut bytes).unwrap_or_default();
            let shown = String::from_utf8_lossy(&self.transcript);
            assert_ne!(count, 0, "{text:?} was not asked: {shown}");
            self.transcript.extend_from_slice(&bytes[..count]);
        }
    }
}

impl Drop for TerminalSession {
    fn drop(&mut self) {
        // The terminal ends with `script`, and the program with its terminal.
        self.script.kill().ok();
        self.script.wait().ok();
    }
}

/// Quotes a word for the shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
