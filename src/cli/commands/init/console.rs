//! Questions of `init`, and their answers: from the terminal, or by default.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::app::error::ProgramError;
use crate::app::exit::ProgramExit;
use crate::cli::commands::init::interruption::NOTHING_WRITTEN;
use crate::cli::print::{print_best_effort, print_note};
use crate::config::Secret;

/// Number of times that one question is asked.
const ATTEMPTS_MAX: u32 = 3;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Longest line that a terminal of Linux gives, in bytes. It drops the rest of a longer one.
const TERMINAL_LINE_BYTES_MAX: usize = 4095;

/// Question of the dialog.
#[derive(Clone, Copy, Debug)]
pub(super) struct DialogQuestion<'a> {
    pub text: &'a str,
    /// Option of the command line that answers it.
    pub option: &'static str,
}

/// Answer to a yes/no question that is given by an empty line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DefaultAnswer {
    Yes,
    No,
}

/// Terminal of the user.
#[derive(Clone, Copy, Debug)]
pub(super) struct DialogConsole {
    is_terminal: bool,
    uses_defaults: bool,
}

/// Terminal that does not show what is typed, until this value is dropped.
struct HiddenInput(Termios);

impl DialogConsole {
    /// Creates the console of standard input and output. `uses_defaults` is true if every question
    /// that has a default is answered with it.
    #[must_use]
    pub(super) fn new(uses_defaults: bool) -> Self {
        Self { is_terminal: io::stdin().is_terminal(), uses_defaults }
    }

    /// True if a user decides what has a default.
    #[must_use]
    pub(super) fn is_interactive(self) -> bool {
        self.is_terminal && !self.uses_defaults
    }

    /// Asks until the answer is valid, at most [`ATTEMPTS_MAX`] times. The error of `parse` is one
    /// sentence, which is shown. An empty line gives the default.
    ///
    /// # Errors
    /// Wrong usage without a terminal, and after the last invalid answer; the end of the input.
    pub(super) fn ask<T>(
        self,
        question: DialogQuestion<'_>,
        default: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ProgramError> {
        let prompt = match default {
            Some(default) => format!("{} [{default}]: ", question.text),
            None => format!("{}: ", question.text),
        };
        if let Some(default) = default.filter(|_| self.uses_defaults) {
            return parse(default).map_err(|problem| usage_error(question, &problem));
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let line = self.read_line(question, &prompt)?;
            let answer = match (line.trim(), default) {
                ("", Some(default)) => default,
                (answer, _) => answer,
            };
            match parse(answer) {
                Ok(value) => return Ok(value),
                Err(problem) if attempt == ATTEMPTS_MAX => {
                    return Err(usage_error(question, &problem));
                }
                Err(problem) => print_note(problem),
            }
        }
    }

    /// Asks a yes/no question.
    ///
    /// # Errors
    /// As those of [`Self::ask`].
    pub(super) fn confirm(
        self,
        question: DialogQuestion<'_>,
        default: DefaultAnswer,
    ) -> Result<bool, ProgramError> {
        let shown = match default {
            DefaultAnswer::Yes => "yes",
            DefaultAnswer::No => "no",
        };
        self.ask(question, Some(shown), parse_yes_or_no)
    }

    /// Asks for one of the numbers from 1 to `count`; the default is 1. Returns its index from 0.
    ///
    /// # Errors
    /// As those of [`Self::ask`].
    pub(super) fn choose(
        self,
        question: DialogQuestion<'_>,
        count: usize,
    ) -> Result<usize, ProgramError> {
        self.ask(question, Some("1"), |answer| {
            let number = answer.parse::<usize>().ok().filter(|number| (1..=count).contains(number));
            number
                .and_then(|number| number.checked_sub(1))
                .ok_or_else(|| format!("write a number from 1 to {count}"))
        })
    }

    /// Asks for a secret, which is not shown while it is typed.
    ///
    /// # Errors
    /// As those of [`Self::ask`], and if the terminal cannot hide the input.
    pub(super) fn ask_secret(self, question: DialogQuestion<'_>) -> Result<Secret, ProgramError> {
        self.require_terminal(question)?;
        let prompt = format!("{} (is not shown): ", question.text);
        let mut attempt = 0;
        loop {
            attempt += 1;
            // Before the question appears, so that even an answer that is pasted at once is hidden.
            let hidden = HiddenInput::start(question)?;
            let line = self.read_line(question, &prompt)?;
            drop(hidden);
            match parse_secret(&line) {
                Ok(secret) => return Ok(secret),
                Err(problem) if attempt == ATTEMPTS_MAX => {
                    return Err(usage_error(question, problem));
                }
                Err(problem) => print_note(problem),
            }
        }
    }

    fn require_terminal(self, question: DialogQuestion<'_>) -> Result<(), ProgramError> {
        if self.is_terminal {
            return Ok(());
        }
        Err(ProgramError::Usage(format!(
            "standard input is no terminal, so nobody can be asked: {}; answer with {}",
            question.text, question.option
        )))
    }

    fn read_line(self, question: DialogQuestion<'_>, prompt: &str) -> Result<String, ProgramError> {
        self.require_terminal(question)?;
        let mut stdout = io::stdout().lock();
        write!(stdout, "{prompt}")
            .and_then(|()| stdout.flush())
            .map_err(ProgramError::StdoutFailed)?;
        drop(stdout);
        let mut line = String::new();
        let read = io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut line);
        let bytes = read.map_err(|error| {
            let message = format!("cannot read the answer: {error}; {NOTHING_WRITTEN}");
            ProgramError::new(ProgramExit::Other, message)
        })?;
        if bytes == 0 {
            // The line with the question is not complete.
            print_best_effort("");
            let message = format!("the input has ended; {NOTHING_WRITTEN}");
            return Err(ProgramError::new(ProgramExit::Other, message));
        }
        Ok(line)
    }
}

impl HiddenInput {
    fn start(question: DialogQuestion<'_>) -> Result<Self, ProgramError> {
        let hide = || -> rustix::io::Result<Self> {
            let shown = tcgetattr(io::stdin())?;
            let mut hidden = shown.clone();
            hidden.local_modes.remove(LocalModes::ECHO);
            // The end of the line is shown, so that what follows is on a line of its own.
            hidden.local_modes.insert(LocalModes::ECHONL);
            tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
            Ok(Self(shown))
        };
        hide().map_err(|error| {
            let message = format!(
                "the terminal cannot hide what is typed: {error}; write the secret into a file, \
                 and name it with {}",
                question.option
            );
            ProgramError::new(ProgramExit::Other, message)
        })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

fn usage_error(question: DialogQuestion<'_>, problem: &str) -> ProgramError {
    ProgramError::Usage(format!("{problem}; {NOTHING_WRITTEN} ({})", question.option))
}

fn parse_yes_or_no(answer: &str) -> Result<bool, String> {
    match answer.to_lowercase().as_str() {
        "y" | "yes" => Ok(true),
        "n" | "no" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

/// Reads a secret as the configuration reads it from a file. The error does not quote it.
fn parse_secret(line: &str) -> Result<Secret, &'static str> {
    let text = line.trim();
    if text.is_empty() {
        return Err("nothing was typed; type or paste it, and press Enter");
    }
    if line.len() >= TERMINAL_LINE_BYTES_MAX {
        return Err(
            "it is longer than a line of the terminal; write it into a file, and name that \
                    with --password-file",
        );
    }
    if text.chars().any(char::is_control) {
        return Err("it holds a control character; type or paste only the secret");
    }
    Ok(Secret::from(text))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    const QUESTION: DialogQuestion<'_> = DialogQuestion { text: "Number", option: "--number" };

    const WITHOUT_TERMINAL: DialogConsole =
        DialogConsole { is_terminal: false, uses_defaults: false };

    const WITH_DEFAULTS: DialogConsole = DialogConsole { is_terminal: false, uses_defaults: true };

    #[test]
    fn without_a_terminal_the_error_names_the_option() {
        let error = WITHOUT_TERMINAL.choose(QUESTION, 2).unwrap_err();

        let ProgramError::Usage(message) = error else { panic!("wrong usage") };
        assert!(message.ends_with(": Number; answer with --number"), "{message}");
        assert!(WITHOUT_TERMINAL.ask_secret(QUESTION).is_err());
    }

    #[test]
    fn a_default_needs_no_terminal() {
        assert_eq!(WITH_DEFAULTS.choose(QUESTION, 2).unwrap(), 0);
        assert!(WITH_DEFAULTS.confirm(QUESTION, DefaultAnswer::Yes).unwrap());
        assert!(!WITH_DEFAULTS.confirm(QUESTION, DefaultAnswer::No).unwrap());
        let echo = |answer: &str| Ok::<_, String>(answer.to_owned());
        assert_eq!(WITH_DEFAULTS.ask(QUESTION, Some("x"), echo).unwrap(), "x");
        assert!(WITH_DEFAULTS.ask(QUESTION, None, echo).is_err());
    }

    #[test]
    fn only_yes_and_no_are_yes_and_no() {
        for (answer, expected) in [("y", Some(true)), ("YES", Some(true)), ("No", Some(false))] {
            assert_eq!(parse_yes_or_no(answer).ok(), expected);
        }
        for answer in ["", "yesno", "1"] {
            assert!(parse_yes_or_no(answer).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_secret_is_taken_as_typed() {
        for (line, secret) in [
            ("open sesame\n", "open sesame"),
            (" tok-en \r\n", "tok-en"),
            ("open your door once\n", "open your door once"),
        ] {
            assert_eq!(parse_secret(line).unwrap().expose_secret(), secret);
        }
        for line in ["\n", "  \n", "a\u{1b}[Ab\n", "a\u{0}b", &"x".repeat(4095)] {
            assert!(parse_secret(line).is_err(), "{line:?}");
        }
    }
}
