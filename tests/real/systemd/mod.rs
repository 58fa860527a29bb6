//! Tests of the units on a real systemd.

mod bus;
mod install;
mod journal;
mod machine;
mod monitor;
mod newer_systemd;
mod package;
mod restart_limits;
mod secrets;
mod service_command;
mod sessions;
mod signals;
mod slow;
mod switchable_proxy;
mod test_setup;
mod units;
mod waits;
mod watchdog_escalation;
