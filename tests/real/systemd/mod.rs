//! The units on a real systemd.

mod bounds;
mod bus;
mod front;
mod installed;
mod journal;
mod ladder;
mod machine;
mod newer;
mod package;
mod scene;
mod secrets;
mod sessions;
mod signals;
mod slow;
mod units;
mod waits;
mod watching;
