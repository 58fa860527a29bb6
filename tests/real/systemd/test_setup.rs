//! What most tests begin with: a machine with the service installed, and a mailbox for it to extract.

use std::time::Duration;

use cynosure::demo::{self, DemoServer};
use serde_json::Value;

use crate::systemd::install::{UNIT, configure, install, status};
use crate::systemd::machine::TestMachine;
use crate::systemd::switchable_proxy::SwitchableProxy;
use crate::wait::{timed, wait_until};

/// Of the embedded service, for the only account it has.
pub(crate) const PASSWORD: &str = "demo";

pub(crate) struct ServiceSetup {
    pub(crate) machine: TestMachine,
    pub(crate) demo: DemoServer,
    /// What stands between the two.
    pub(crate) proxy: SwitchableProxy,
}

impl ServiceSetup {
    /// Sets it up, with so many threads in the mailbox; nothing is started yet.
    pub(crate) fn new(items: u32) -> Option<Self> {
        Self::with_config(items, "")
    }

    /// Likewise, with more lines in the configuration.
    pub(crate) fn with_config(items: u32, more: &str) -> Option<Self> {
        Some(Self::on_machine(TestMachine::boot()?, items, more))
    }

    /// Sets it up on a machine of one's own.
    pub(crate) fn on_machine(machine: TestMachine, items: u32, more: &str) -> Self {
        let options = demo::DemoOptions { items, ..demo::DemoOptions::default() };
        let demo = demo::start(options).expect("loopback has ports");
        let front = SwitchableProxy::in_front_of(demo.address());
        install(&machine);
        configure(&machine, front.address(), more);
        Self { machine, demo, proxy: front }
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

    /// What the program says of the source.
    pub(crate) fn status(&self) -> Value {
        status(&self.machine)
    }

    pub(crate) fn property(&self, name: &str) -> String {
        self.machine.property(UNIT, name)
    }

    /// The number of the worker's process, on its machine.
    pub(crate) fn pid(&self) -> String {
        self.property("MainPID")
    }

    /// How often systemd has started the service anew.
    pub(crate) fn restarts(&self) -> u32 {
        self.property("NRestarts").parse().expect("systemd counts restarts")
    }

    /// Sends the worker a signal that systemd knows nothing of.
    pub(crate) fn signal(&self, name: &str) {
        self.machine.run_successfully(&["kill", &format!("-{name}"), &self.pid()]);
    }

    /// Does what ends a worker, and says how long it took until another one asked the server for something.
    pub(crate) fn recovery_time(&self, end: impl FnOnce(&Self)) -> Duration {
        let pid = self.pid();
        let ((), took) = timed(|| {
            end(self);
            wait_until("there is another worker", || !["0", &pid].contains(&&*self.pid()));
            let before = self.proxy.connections();
            // Its first request may have come before its number did.
            wait_until("it works", || self.proxy.connections() > before || self.is_working());
        });
        took
    }

    /// Whether the state is that of the worker which is there now.
    pub(crate) fn is_working(&self) -> bool {
        self.status()["pid"].as_u64().is_some_and(|pid| pid.to_string() == self.pid())
    }
}
