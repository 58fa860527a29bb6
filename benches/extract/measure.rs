//! Resource usage of a command from its start to its end.

use std::io::Read as _;
use std::process::{Command, Stdio};

use crate::process::{ResourceUsage, sleep_poll_interval};

/// Runs a command, which must succeed, and returns its output and its resource usage.
pub(crate) fn measure(command: &mut Command) -> (String, ResourceUsage) {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().expect("the program starts");
    let mut usage = ResourceUsage::default();
    let exit_status = loop {
        // A process that has ended is sampled once more before it is reaped.
        usage.sample(process.id());
        match process.try_wait().expect("it is our child") {
            Some(exit_status) => break exit_status,
            None => sleep_poll_interval(),
        }
    };
    assert!(exit_status.success(), "{command:?} ended with {exit_status}");
    let mut output = String::new();
    let mut stdout = process.stdout.take().expect("it is piped");
    stdout.read_to_string(&mut output).expect("it is UTF-8");
    (output, usage)
}
