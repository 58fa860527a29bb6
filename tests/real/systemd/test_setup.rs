//! Setup of most tests: a machine with the service installed, and a mailbox to extract.

use std::time::Duration;

use cynosure_lab::demo::{self, DemoServer};
use serde_json::Value;

use crate::systemd::install::{UNIT, configure, install, status};
use crate::systemd::machine::TestMachine;
use crate::systemd::switchable_proxy::SwitchableProxy;
use crate::wait::{timed, wait_until};

/// Password of the only account of the embedded service.
pub(crate) const PASSWORD: &str = "demo";

pub(crate) struct ServiceSetup {
    pub(crate) machine: TestMachine,
    pub(crate) demo: DemoServer,
    /// Proxy between the worker and the server.
    pub(crate) proxy: SwitchableProxy,
}

impl ServiceSetup {
    /// Creates the setup, with `items` threads in the mailbox. Nothing is started yet.
    pub(crate) fn new(items: u32) -> Option<Self> {
        Self::with_config(items, "")
    }

    /// Creates the setup, with more lines in the configuration.
    pub(crate) fn with_config(items: u32, extra_config: &str) -> Option<Self> {
        Some(Self::on_machine(TestMachine::boot()?, items, extra_config))
    }

    /// Creates the setup on an existing machine.
    pub(crate) fn on_machine(machine: TestMachine, items: u32, extra_config: &str) -> Self {
        let options = demo::DemoOptions { items, ..demo::DemoOptions::default() };
        let demo = demo::start(options).expect("loopback has ports");
        let proxy = SwitchableProxy::in_front_of(demo.address());
        install(&machine);
        configure(&machine, proxy.address(), extra_config);
        Self { machine, demo, proxy }
    }

    pub(crate) fn systemctl(&self, verb: &str) {
        self.machine.run_successfully(&["systemctl", verb, UNIT]);
    }

    /// Starts the service, and waits until its source is in this state.
    pub(crate) fn start_until(&self, state: &str) {
        self.systemctl("start");
        self.wait_for(state);
    }

    pub(crate) fn wait_for(&self, state: &str) {
        wait_until(&format!("the source is {state}"), || self.status()["status"] == state);
    }

    /// Returns the status of the source, as the program prints it.
    pub(crate) fn status(&self) -> Value {
        status(&self.machine)
    }

    pub(crate) fn property(&self, name: &str) -> String {
        self.machine.property(UNIT, name)
    }

    /// Returns the pid of the worker, on its machine.
    pub(crate) fn pid(&self) -> String {
        self.property("MainPID")
    }

    /// Returns how often systemd has restarted the service.
    pub(crate) fn restarts(&self) -> u32 {
        self.property("NRestarts").parse().expect("systemd counts restarts")
    }

    /// Sends the worker a signal, without systemd.
    pub(crate) fn signal(&self, name: &str) {
        self.machine.run_successfully(&["kill", &format!("-{name}"), &self.pid()]);
    }

    /// Ends the worker with `end`, and returns the time until another one has sent a request to the
    /// server.
    pub(crate) fn recovery_time(&self, end: impl FnOnce(&Self)) -> Duration {
        let pid = self.pid();
        let ((), took) = timed(|| {
            end(self);
            wait_until("there is another worker", || !["0", &pid].contains(&&*self.pid()));
            let before = self.proxy.connections();
            // Its first request may have arrived before its pid was known.
            wait_until("the new worker works", || {
                self.proxy.connections() > before || self.has_written_state()
            });
        });
        took
    }

    /// Returns true if the state was written by the current worker.
    pub(crate) fn has_written_state(&self) -> bool {
        self.status()["pid"].as_u64().is_some_and(|pid| pid.to_string() == self.pid())
    }
}
